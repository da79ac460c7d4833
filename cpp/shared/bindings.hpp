// The contract of python/redunet/_backends/contract.py as Python functions, for any engine: each checks dtype, order,
// alignment and shape without converting, releases the GIL, calls, and returns. Included by every module.cpp.
//
// An Engine is made for one call, without the GIL, from the number of threads and the place of its data, and has
//   build(problem, sizes, V, request) -> layers, apply(...), layer_operators(...), rates_and_gradient(...),
//   hermitian(...),
// and derives from HostFeatures, or says by the same functions where else features and operators may lie.
#pragma once

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <complex>
#include <cstring>
#include <functional>
#include <numeric>
#include <optional>

#include "shared/gil.hpp"
#include "shared/problem.hpp"
#include "shared/rate_gradient.hpp"

namespace redunet::bindings {

namespace py = pybind11;

// Kernels read numbers where they lie: in C order, each at a multiple of its size.
constexpr int kPlain = int{py::array::c_style} | int{py::detail::npy_api::NPY_ARRAY_ALIGNED_};
inline bool is_plain(const py::array& array) { return (array.flags() & kPlain) == kPlain; }

using Doubles = py::array_t<double, kPlain>;

// Data of an array that must be plain and have this dtype; null for None.
template <class T>
const T* data_of(const py::object& object, const char* name) {
  if (object.is_none()) return nullptr;
  if (!py::isinstance<py::array_t<T, py::array::c_style>>(object) || !is_plain(py::cast<py::array>(object)))
    throw py::type_error(std::string(name) + " is not a C-contiguous and aligned array of the expected dtype");
  return static_cast<const T*>(py::cast<py::array>(object).data());
}

// A Problem with the Python object that keeps its arrays alive.
inline Problem problem_of(const py::object& from) {
  Problem problem;
  problem.labels = data_of<std::int64_t>(from.attr("labels"), "labels");
  problem.membership = data_of<double>(from.attr("membership"), "membership");
  problem.weights = data_of<double>(from.attr("weights"), "weights");
  problem.freq_weights = data_of<double>(from.attr("freq_weights"), "freq_weights");
  problem.n_points = from.attr("n_points").cast<double>();
  problem.inner = from.attr("inner").cast<double>();
  problem.alphas = from.attr("alphas").cast<std::vector<double>>();
  problem.gammas = from.attr("gammas").cast<std::vector<double>>();
  problem.counts = from.attr("counts").cast<std::vector<index_t>>();
  problem.ranks = from.attr("ranks").cast<std::vector<index_t>>();
  problem.d = from.attr("n_columns").cast<index_t>();
  return problem;
}

// What set_shortcuts left on: for tests. Read and written with the GIL.
inline Shortcuts shortcuts;

// Checks for signals (Ctrl-C) from the engine, which runs without the GIL.
inline void check_signals() {
  const WithGil gil;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

// Numbers in C order: features V, or matrices.
struct Numbers {
  py::dtype dtype;
  std::vector<index_t> shape;
  void* data;
};

inline std::vector<index_t> shape_of(const py::array& array) { return {array.shape(), array.shape() + array.ndim()}; }

inline Numbers numbers_of(const py::object& object, const char* name) {
  if (!py::isinstance<py::array>(object)) throw py::type_error(std::string(name) + " is not an array");
  const auto array = py::reinterpret_borrow<py::array>(object);
  if (!is_plain(array)) throw py::type_error(std::string(name) + " is not C-contiguous and aligned");
  return {array.dtype(), shape_of(array), const_cast<void*>(array.data())};
}

// The operators of layers, in the arrays of an Operators object.
struct OperatorNumbers {
  Numbers dense, factors;

  bool fit(const py::dtype& dtype, const std::vector<index_t>& dense_sizes,
           const std::vector<index_t>& factors_sizes) const {
    return dense.dtype.equal(dtype) && factors.dtype.equal(dtype) && dense.shape == dense_sizes &&
           factors.shape == factors_sizes;
  }
};

// Features, operators and matrices in arrays of NumPy.
struct HostFeatures {
  static Numbers features(const py::object& V, const char* name = "V") { return numbers_of(V, name); }
  // The same, that may be written to.
  static Numbers writable(const py::object& V, const char* name = "V") {
    Numbers numbers = numbers_of(V, name);
    if (!py::reinterpret_borrow<py::array>(V).writeable()) throw py::value_error(std::string(name) + " is read-only");
    return numbers;
  }
  // Of Operators, which live as long as what is found.
  static OperatorNumbers operators(const py::object& of) {
    const auto found = [&](const char* name) {
      const auto array = of.attr(name).cast<py::array>();
      // What is not plain is nothing, and fits nothing.
      return is_plain(array) ? numbers_of(array, name) : Numbers{array.dtype(), {}, nullptr};
    };
    return {found("dense"), found("factors")};
  }
  static OperatorNumbers writable_operators(const py::object& of) {
    return {writable(of.attr("dense"), "dense"), writable(of.attr("factors"), "factors")};
  }
  // New ones; of the same dtype and shape, beside these.
  static py::object room(const py::dtype& dtype, const std::vector<index_t>& shape, bool /*on_host*/, int /*place*/) {
    return py::array(dtype, shape);
  }
  static py::object like(const py::object& V, const char* name = "V") {
    const Numbers numbers = features(V, name);
    return py::array(numbers.dtype, numbers.shape);
  }
  static py::object copy_of(const py::object& V) {
    py::object copy = like(V);
    const auto from = py::reinterpret_borrow<py::array>(V);
    std::memcpy(features(copy).data, from.data(), as_size(from.nbytes()));
    return copy;
  }
  // Where what works on these numbers works: of several devices one, or `of_host`.
  static int place_of(const void* /*data*/, int of_host = 0) { return of_host; }
};

// Calls f(T{}, planes) for the scalar type and planes of a dtype.
template <class F>
auto with_type(const py::dtype& dtype, const char* name, const F& f) {
  switch (dtype.char_()) {
    case 'f':
      return f(float{}, index_t{1});
    case 'd':
      return f(double{}, index_t{1});
    case 'F':
      return f(float{}, index_t{2});
    case 'D':
      return f(double{}, index_t{2});
    default:
      throw py::type_error(std::string(name) + " has an unexpected dtype");
  }
}

inline Sizes sizes_of(const Numbers& V, index_t planes) {
  if (V.shape.size() != 3) throw py::value_error("V is not an (m, C, F) array");
  return {V.shape[0], V.shape[1], V.shape[2], planes};
}

// Where the operators of a Problem or of Operators lie, for features of these sizes.
inline OperatorLayout layout_of(const Sizes& features, const py::object& from) {
  const auto ranks = from.attr("ranks").cast<std::vector<index_t>>();
  const auto d = from.attr("n_columns").cast<index_t>();
  if (d < 1 || features.F % d != 0) throw py::value_error("V has not n_columns columns at every frequency");
  if (d > 1 && std::any_of(ranks.begin(), ranks.end(), [](index_t rank) { return rank != 0; }))
    throw py::value_error("operators of several columns are dense, and ranks are not zero");
  return {features, ranks, d};
}

inline std::vector<index_t> dense_shape(const OperatorLayout& layout, index_t n_layers) {
  return {n_layers, layout.n_dense, layout.sizes.F, layout.sizes.C, layout.sizes.C};
}
inline std::vector<index_t> factors_shape(const OperatorLayout& layout, index_t n_layers) {
  return {n_layers, layout.sizes.F, layout.sizes.C, layout.n_columns};
}

template <class T>
T* mutable_data(py::array& array) {
  return static_cast<T*>(array.mutable_data());
}

inline py::object contract(const char* name) { return py::module_::import("redunet._backends.contract").attr(name); }

// Data of one of the arrays of a BuildResult, which must be plain and have this dtype and shape.
template <class T>
T* room_in(const py::object& result, const char* name, const py::dtype& dtype, const std::vector<index_t>& shape) {
  const auto array = result.attr(name).cast<py::array>();
  if (!array.dtype().equal(dtype) || !is_plain(array) || shape_of(array) != shape || !array.writeable())
    throw py::value_error(std::string(name) + " of the result has not the dtype and shape expected");
  return static_cast<T*>(const_cast<void*>(array.data()));
}

template <class Engine>
void build_network(const py::object& into, const py::object& from, const py::object& asked, const py::object& result,
                   int n_threads) {
  const Problem problem = problem_of(from);
  const Numbers V = Engine::writable(into);
  const auto n_layers = asked.attr("n_layers").cast<index_t>();
  const auto is = [&](const char* name) { return asked.attr(name).cast<bool>(); };
  const py::object on_layer = asked.attr("on_layer"), operators = result.attr("operators");
  with_type(V.dtype, "V", [&]<class T>(T, index_t planes) {
    const Sizes sizes = sizes_of(V, planes);
    const OperatorLayout layout = layout_of(sizes, from);
    const index_t k1 = problem.n_classes() + 1;
    const py::dtype doubles = py::dtype::of<double>();
    BuildRequest<T> request{.n_layers = n_layers,
                            .etas = data_of<double>(asked.attr("etas"), "etas"),
                            .lam = asked.attr("lam").cast<double>(),
                            .search = is("search"),
                            .momentum = is("momentum"),
                            .given = is("given"),
                            .rates = room_in<double>(result, "rates", doubles, {n_layers + 1, k1}),
                            .taken = room_in<double>(result, "etas", doubles, {n_layers}),
                            .betas = room_in<double>(result, "betas", doubles, {n_layers}),
                            .done = room_in<std::int64_t>(result, "done", py::dtype::of<std::int64_t>(), {1}),
                            .every = asked.attr("every").cast<index_t>(),
                            .shortcuts = shortcuts};
    if (!operators.is_none()) {
      const OperatorNumbers room = Engine::writable_operators(operators);
      if (!room.fit(V.dtype, dense_shape(layout, n_layers), factors_shape(layout, n_layers)))
        throw py::value_error("the operators of the result have not the dtype and shapes expected");
      request.dense = static_cast<T*>(room.dense.data), request.factors = static_cast<T*>(room.factors.data);
    }
    if (!on_layer.is_none())
      request.on_layer = [&](index_t layer, const double* row) {
        const WithGil gil;
        return call(on_layer, py::make_tuple(layer, Doubles(k1, row))).cast<bool>();
      };
    T* features = static_cast<T*>(V.data);
    const WithoutGil without;
    Engine(n_threads, Engine::place_of(features)).template build<T>(problem, sizes, features, request);
  });
}

template <class Engine>
Doubles apply_network(const py::object& into, const py::object& operators, int n_threads) {
  const Numbers V = Engine::writable(into);
  return with_type(V.dtype, "V", [&]<class T>(T, index_t planes) {
    const Sizes sizes = sizes_of(V, planes);
    const OperatorLayout layout = layout_of(sizes, operators);
    const OperatorNumbers numbers = Engine::operators(operators);
    const auto doubles = [&](const char* name) { return operators.attr(name).cast<Doubles>(); };
    const Doubles etas = doubles("etas"), betas = doubles("betas");
    const index_t n_layers = etas.shape(0);
    if (!numbers.fit(V.dtype, dense_shape(layout, n_layers), factors_shape(layout, n_layers)))
      throw py::value_error("the operators do not fit V");
    const Doubles alphas = doubles("alphas"), gammas = doubles("gammas"), freq_weights = doubles("freq_weights");
    Doubles assignments({sizes.m, gammas.shape(0)});
    std::fill_n(assignments.mutable_data(), assignments.size(), 0.0);
    const ApplyRequest<T> request{.n_layers = n_layers,
                                  .dense = static_cast<const T*>(numbers.dense.data),
                                  .factors = static_cast<const T*>(numbers.factors.data),
                                  .alphas = alphas.data(),
                                  .gammas = gammas.data(),
                                  .etas = etas.data(),
                                  .betas = betas.data(),
                                  .lam = operators.attr("lam").cast<double>(),
                                  .freq_weights = freq_weights.data(),
                                  .assignments = assignments.mutable_data(),
                                  .shortcuts = shortcuts};
    T* features = static_cast<T*>(V.data);
    {
      const WithoutGil without;
      Engine(n_threads, Engine::place_of(features)).template apply<T>(layout, features, request);
    }
    return assignments;
  });
}

template <class Engine>
py::tuple operators_of_layer(const py::object& at, const py::object& from, bool keep, int n_threads) {
  const Problem problem = problem_of(from);
  const Numbers V = Engine::features(at);
  return with_type(V.dtype, "V", [&]<class T>(T, index_t planes) -> py::tuple {
    const Sizes sizes = sizes_of(V, planes);
    const OperatorLayout layout = layout_of(sizes, from);
    std::vector<index_t> dense_sizes = dense_shape(layout, keep), factor_sizes = factors_shape(layout, keep);
    py::array dense(V.dtype, dense_sizes), factors(V.dtype, factor_sizes);
    Doubles rates(problem.n_classes() + 1);
    std::optional<LayerOperators<T>> out;
    if (keep) out = LayerOperators<T>{mutable_data<T>(dense), mutable_data<T>(factors)};
    {
      const T* features = static_cast<const T*>(V.data);
      double* row = rates.mutable_data();
      const WithoutGil without;
      Engine(n_threads, Engine::place_of(features)).template layer_operators<T>(problem, sizes, features, out, row);
    }
    if (!keep) return py::make_tuple(py::none(), py::none(), rates);
    return py::make_tuple(py::object(dense[py::int_(0)]), py::object(factors[py::int_(0)]), rates);
  });
}

template <class Engine>
py::object gradient_of(const py::object& at, const py::object& from, bool to_membership, int n_threads) {
  const Problem problem = problem_of(from);
  const Numbers V = Engine::features(at);
  py::object gradient = Engine::like(at);
  Doubles rates(problem.n_classes() + 1);
  py::object membership = py::none();
  with_type(V.dtype, "V", [&]<class T>(T, index_t planes) {
    const Sizes sizes = sizes_of(V, planes);
    layout_of(sizes, from);  // a check
    const T* features = static_cast<const T*>(V.data);
    RateGradient<T> out{rates.mutable_data(), static_cast<T*>(Engine::writable(gradient).data), nullptr};
    if (to_membership) {
      Doubles room({sizes.m, problem.n_classes()});
      out.membership = room.mutable_data();
      membership = room;
    }
    const WithoutGil without;
    Engine(n_threads, Engine::place_of(features)).template rates_and_gradient<T>(problem, sizes, features, out);
  });
  return contract("RatesAndGradient")(rates, gradient, membership);
}

// One of the tasks of redunet.linalg; A is (..., n, n), `out` is written, where A lies but for log dets.
template <class Engine>
void hermitian(Task task, const py::object& A, const py::object& out, index_t n_rhs, int n_threads) {
  const Numbers matrices = Engine::features(A, "A");
  with_type(matrices.dtype, "A", [&]<class T>(T, index_t planes) {
    const std::vector<index_t>& shape = matrices.shape;
    const index_t n = shape.back();
    const index_t count =
        n == 0 ? 0 : std::accumulate(shape.begin(), shape.end() - 2, index_t{1}, std::multiplies<index_t>());
    const T* from = static_cast<const T*>(matrices.data);
    T* to = static_cast<T*>(Engine::features(out).data);
    const WithoutGil without;
    Engine(n_threads, Engine::place_of(from)).template hermitian<T>(task, from, count, n, planes, to, n_rhs);
  });
}

// NumPy keeps one state for all interpreters of a process, and so do these bindings.
constexpr const char* kOnlyMain = "it runs in the main interpreter of a process only, and this is a sub-interpreter";
inline bool in_main_interpreter() { return PyInterpreterState_Get() == PyInterpreterState_Main(); }

// The entry point of a module whose PYBIND11_MODULE is called `engine`. Up to Python 3.12 the interpreter that imports
// it calls this, and pybind11 would wait for ever for the main one; later ones call this in the main interpreter, and
// define_backend in their own.
#define REDUNET_ENTRY_POINT(name)                        \
  extern "C" PYBIND11_EXPORT PyObject* PyInit_##name() { \
    using namespace redunet::bindings;                   \
    if (in_main_interpreter()) return PyInit_engine();   \
    PyErr_SetString(PyExc_ImportError, kOnlyMain);       \
    return nullptr;                                      \
  }

// Defines the functions of redunet.linalg.
template <class Engine>
void define_linalg(py::module_& m) {
  m.def(
      "cholesky",
      [](const py::object& A, int n_threads) {
        py::object L = Engine::like(A, "A");
        hermitian<Engine>(Task::kCholesky, A, L, 0, n_threads);
        return L;
      },
      py::arg("A"), py::kw_only(), py::arg("n_threads"));
  m.def(
      "inv",
      [](const py::object& A, int n_threads) {
        py::object inverse = Engine::like(A, "A");
        hermitian<Engine>(Task::kInverse, A, inverse, 0, n_threads);
        return inverse;
      },
      py::arg("A"), py::kw_only(), py::arg("n_threads"));
  m.def(
      "solve",
      [](const py::object& A, const py::object& B, int n_threads) {
        const py::dtype dtype = Engine::features(A, "A").dtype;
        if ((py::isinstance<py::array>(B) && !is_plain(B.cast<py::array>())) ||
            !Engine::features(B, "B").dtype.equal(dtype))
          throw py::type_error("B is not plain numbers of A's dtype");
        py::object X = Engine::copy_of(B);
        hermitian<Engine>(Task::kSolve, A, X, Engine::features(X, "B").shape.back(), n_threads);
        return X;
      },
      py::arg("A"), py::arg("B"), py::kw_only(), py::arg("n_threads"));
  m.def(
      "logdet",
      [](const py::object& A, int n_threads) {
        const Numbers matrices = Engine::features(A, "A");
        const std::vector<index_t>& shape = matrices.shape;
        const char kind = matrices.dtype.char_();
        const bool single = kind == 'f' || kind == 'F';
        const py::dtype real = single ? py::dtype::of<float>() : py::dtype::of<double>();
        py::array logdets(real, std::vector<index_t>(shape.begin(), shape.end() - 2));
        if (shape.back() == 0) logdets[py::ellipsis()] = 0;
        hermitian<Engine>(Task::kLogdet, A, logdets, 0, n_threads);
        return logdets;
      },
      py::arg("A"), py::kw_only(), py::arg("n_threads"));
}

// Defines the functions of the contract, and set_shortcuts for tests.
template <class Engine>
void define_backend(py::module_& m) {
  if (!in_main_interpreter()) throw py::import_error(kOnlyMain);
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const NotPositiveDefinite& error) {
      py::set_error(py::module_::import("numpy.linalg").attr("LinAlgError"), error.what());
    }
  });
  m.attr("constants") = py::dict(py::arg("NATURAL_STEP") = kNaturalStep, py::arg("MAX_HALVINGS") = kMaxHalvings,
                                 py::arg("FALL_ROUNDING_UNITS") = kFallRoundingUnits,
                                 py::arg("SMALLEST_NORM") = kSmallestNorm, py::arg("SEARCH_FACTOR") = kSearchFactor,
                                 py::arg("SHORTEST_STEP") = kShortestStep, py::arg("LONGEST_STEP") = kLongestStep);
  m.def("build", build_network<Engine>, py::arg("V"), py::arg("problem"), py::arg("request"), py::arg("result"),
        py::kw_only(), py::arg("n_threads"));
  m.def("apply", apply_network<Engine>, py::arg("V"), py::arg("operators"), py::kw_only(), py::arg("n_threads"));
  m.def(
      "layer_operators",
      [](const py::object& V, const py::object& problem, int n_threads) {
        return operators_of_layer<Engine>(V, problem, true, n_threads);
      },
      py::arg("V"), py::arg("problem"), py::kw_only(), py::arg("n_threads"));
  m.def(
      "rates",
      [](const py::object& V, const py::object& problem, int n_threads) {
        return py::object(operators_of_layer<Engine>(V, problem, false, n_threads)[2]);
      },
      py::arg("V"), py::arg("problem"), py::kw_only(), py::arg("n_threads"));
  m.def("rates_and_gradient", gradient_of<Engine>, py::arg("V"), py::arg("problem"), py::kw_only(),
        py::arg("membership"), py::arg("n_threads"));
  define_linalg<Engine>(m);
  m.def(
      "set_shortcuts",
      [](bool fused, bool early_stop, bool sketches) { shortcuts = Shortcuts{fused, early_stop, sketches}; },
      py::kw_only(), py::arg("fused") = true, py::arg("early_stop") = true, py::arg("sketches") = true);
}

}  // namespace redunet::bindings
