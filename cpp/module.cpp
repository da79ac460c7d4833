// The Python module redunet._cpu: the contract on the C++ engine.

#include <algorithm>

#include "classifiers/local.hpp"
#include "clustering/merging.hpp"
#include "engine/engine.hpp"
#include "engine/state.hpp"
#include "kernels/dispatch.hpp"
#include "linalg/batch.hpp"
#include "linalg/forms.hpp"
#include "segmentation/moments.hpp"
#include "shared/state_bindings.hpp"

namespace py = pybind11;
using namespace redunet;

namespace {

Parallel for_layers(int n_threads) { return Parallel(n_threads, bindings::check_signals, Subnormals::kFlush); }

struct OwnThreads {
  Parallel parallel;
};

// With the threads that it runs on.
template <class T>
class CpuState : private OwnThreads, public redunet::State<T> {
 public:
  template <class... From>
  CpuState(int n_threads, const From&... from)
      : OwnThreads{for_layers(n_threads)}, redunet::State<T>(selected_kernels(), parallel, from...) {}
};

class CpuEngine : public bindings::HostFeatures {
 public:
  CpuEngine(int n_threads, int /*place*/) : n_threads_(n_threads) {}

  template <class T>
  void build(const Problem& problem, const Sizes& sizes, T* V, const BuildRequest<T>& request) const {
    Parallel parallel = layers();
    redunet::build(selected_kernels(), parallel, problem, sizes, V, request);
  }
  template <class T>
  void apply(const OperatorLayout& layout, T* V, const ApplyRequest<T>& request) const {
    Parallel parallel = layers();
    redunet::apply(selected_kernels(), parallel, layout, V, request);
  }
  template <class T>
  void layer_operators(const Problem& problem, const Sizes& sizes, const T* V,
                       const std::optional<LayerOperators<T>>& out, double* rates) const {
    Parallel parallel = layers();
    redunet::layer_operators(selected_kernels(), parallel, problem, sizes, V, out, rates);
  }
  template <class T>
  void rates_and_gradient(const Problem& problem, const Sizes& sizes, const T* V, const RateGradient<T>& out) const {
    Parallel parallel = layers();
    redunet::rates_and_gradient(selected_kernels(), parallel, problem, sizes, V, out);
  }
  template <class T>
  using State = CpuState<T>;
  template <class T, class... From>
  std::unique_ptr<State<T>> make_state(const From&... from) const {
    return std::make_unique<State<T>>(n_threads_, from...);
  }
  void operators_of_grams(const Problem& problem, const Sizes& sizes, const double* grams, double* dense,
                          double* rates) const {
    Parallel parallel = layers();
    redunet::operators_of_grams(selected_kernels(), parallel, problem, sizes, grams, dense, rates);
  }
  template <class T>
  void hermitian(Task task, const T* A, index_t count, index_t n, index_t planes, T* out, index_t n_rhs) const {
    Parallel parallel(n_threads_, bindings::check_signals);
    batched(task, selected_kernels(), parallel, A, count, n, planes, out, n_rhs);
  }

 private:
  Parallel layers() const { return for_layers(n_threads_); }

  int n_threads_;
};

using Shape = std::vector<index_t>;
using bindings::shape_of;

// Who may merge with whom, and what that saves.
void read_neighbours(const py::object& asked, MergeRequest& request) {
  const py::object neighbours = asked.attr("neighbours"), saved = asked.attr("saved");
  request.restricted = !neighbours.is_none();
  if (!request.restricted) return;
  const auto ids = neighbours.cast<std::vector<std::vector<std::int64_t>>>();
  std::vector<std::vector<double>> nats(ids.size());
  if (!saved.is_none()) nats = saved.cast<std::vector<std::vector<double>>>();
  request.neighbours.resize(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (nats.size() != ids.size() || (!saved.is_none() && nats[i].size() != ids[i].size()))
      throw py::value_error("saved is not as long as neighbours");
    for (std::size_t k = 0; k < ids[i].size(); ++k)
      request.neighbours[i].push_back({ids[i][k], saved.is_none() ? 0 : nats[i][k]});
  }
}

// HostBackend.merge_path of the contract.
py::tuple merge_path_of(const py::array& X, const py::object& asked, int n_threads) {
  if (X.ndim() != 2 || X.size() == 0 || !bindings::is_plain(X)) throw py::value_error("X is not a plain (N, D) array");
  const auto number = [&](const char* name) { return asked.attr(name).cast<double>(); };
  MergeRequest request{.n_samples = X.shape(0),
                       .D = X.shape(1),
                       .epsilon_sq = number("epsilon_sq"),
                       .centred = asked.attr("centred").cast<bool>(),
                       .full = asked.attr("full").cast<bool>(),
                       .clusters = bindings::data_of<std::int64_t>(asked.attr("clusters"), "clusters")};
  const py::object moments = asked.attr("moments"), on_merge = asked.attr("on_merge");
  if (!moments.is_none()) {
    const auto [sizes, scatters] = moments.cast<std::pair<py::array, py::array>>();
    if (shape_of(sizes) != Shape{X.shape(0)} || shape_of(scatters) != Shape{X.shape(0), X.shape(1), X.shape(1)})
      throw py::value_error("moments are not (N,) and (N, D, D)");
    request.sizes = bindings::data_of<double>(sizes, "sizes");
    request.scatters = bindings::data_of<double>(scatters, "scatters");
  }
  read_neighbours(asked, request);
  if (!on_merge.is_none())
    request.on_merge = [&](index_t done, double gain) {
      const bindings::WithGil gil;
      bindings::call(on_merge, py::make_tuple(done, gain));
    };
  const MergePath path = bindings::with_type(X.dtype(), "X", [&]<class T>(T, index_t planes) {
    if (planes != 1) throw py::type_error("X is complex");
    const bindings::WithoutGil without;
    Parallel parallel(n_threads, bindings::check_signals);
    return merge_path(selected_kernels(), parallel, static_cast<const T*>(X.data()), request);
  });
  const auto merges = static_cast<index_t>(path.gains.size());
  return py::make_tuple(py::array_t<std::int64_t>({merges, index_t{2}}, path.children.data()),
                        py::array_t<double>(merges, path.gains.data()));
}

// The real dtype beside another, and an array of it.
py::array reals(const py::dtype& dtype, const std::vector<index_t>& shape) {
  const bool single = dtype.char_() == 'f' || dtype.char_() == 'F';
  return py::array(single ? py::dtype::of<float>() : py::dtype::of<double>(), shape);
}

// HostBackend.quadratic_forms of the contract.
py::tuple quadratic_forms_of(const py::array& A, const py::array& X, int n_threads) {
  const py::ssize_t axes = A.ndim();
  if (axes < 2 || X.ndim() != axes || A.shape(axes - 1) != A.shape(axes - 2) ||
      X.shape(axes - 1) != A.shape(axes - 1) || !std::equal(A.shape(), A.shape() + axes - 2, X.shape()))
    throw py::value_error("A and X are not (..., n, n) and (..., m, n)");
  if (!bindings::is_plain(A) || !bindings::is_plain(X) || !X.dtype().equal(A.dtype()))
    throw py::type_error("A and X are not plain arrays of one dtype");
  std::vector<index_t> shape(A.shape(), A.shape() + axes - 2);
  py::array logdets = reals(A.dtype(), shape);
  shape.push_back(X.shape(axes - 2));
  py::array forms = reals(A.dtype(), shape);
  bindings::with_type(A.dtype(), "A", [&]<class T>(T, index_t planes) {
    const auto *matrices = static_cast<const T*>(A.data()), *vectors = static_cast<const T*>(X.data());
    T *of_vectors = bindings::mutable_data<T>(forms), *of_matrices = bindings::mutable_data<T>(logdets);
    const index_t count = logdets.size(), n = A.shape(axes - 1), m = X.shape(axes - 2);
    const bindings::WithoutGil without;
    Parallel parallel(n_threads, bindings::check_signals);
    quadratic_forms(selected_kernels(), parallel, matrices, count, n, planes, vectors, m, of_vectors, of_matrices);
  });
  return py::make_tuple(forms, logdets);
}

// HostBackend.logdet_of_sums of the contract.
py::array logdet_of_sums_of(const py::array& A, const py::array& first, const py::array& second, int n_threads) {
  if (A.ndim() != 3 || A.shape(1) != A.shape(2) || !bindings::is_plain(A))
    throw py::value_error("A is not a plain (N, n, n) array");
  if (bindings::shape_of(first) != bindings::shape_of(second))
    throw py::value_error("first and second are not of one shape");
  const auto *i = bindings::data_of<std::int64_t>(first, "first"),
             *j = bindings::data_of<std::int64_t>(second, "second");
  const index_t count = first.size(), n = A.shape(1), N = A.shape(0);
  const auto inside = [N](std::int64_t index) { return 0 <= index && index < N; };
  if (!std::all_of(i, i + count, inside) || !std::all_of(j, j + count, inside))
    throw py::value_error("first or second holds what is no index of A");
  py::array logdets = reals(A.dtype(), bindings::shape_of(first));
  if (n == 0) logdets[py::ellipsis()] = 0;
  bindings::with_type(A.dtype(), "A", [&]<class T>(T, index_t planes) {
    const auto* matrices = static_cast<const T*>(A.data());
    T* out = bindings::mutable_data<T>(logdets);
    const bindings::WithoutGil without;
    Parallel parallel(n_threads, bindings::check_signals);
    logdet_of_sums(selected_kernels(), parallel, matrices, i, j, count, n, planes, out);
  });
  return logdets;
}

// HostBackend.local_increments of the contract.
py::array_t<double> local_increments_of(const py::array& X, const py::array& Z, const py::object& asked,
                                        int n_threads) {
  const py::array origin = asked.attr("origin"), offsets = asked.attr("offsets"), epsilons = asked.attr("epsilons");
  for (const py::array& array : {X, Z, origin})
    if (!bindings::is_plain(array) || !array.dtype().equal(X.dtype()))
      throw py::type_error("X, Z and the origin are not plain arrays of one dtype");
  if (X.ndim() != 2 || Z.ndim() != 2 || X.shape(1) != Z.shape(1) || origin.size() != X.shape(1))
    throw py::value_error("X, Z and the origin are not (m, D), (N, D) and (D,) arrays");
  const LocalRequest request{.m = X.shape(0),
                             .D = X.shape(1),
                             .offsets = bindings::data_of<std::int64_t>(offsets, "offsets"),
                             .k = offsets.size() - 1,
                             .n_neighbors = asked.attr("n_neighbors").cast<index_t>(),
                             .centred = asked.attr("centred").cast<bool>(),
                             .epsilons = bindings::data_of<double>(epsilons, "epsilons"),
                             .n_epsilons = epsilons.size()};
  if (request.k < 1 || request.offsets[0] != 0 || request.offsets[request.k] != Z.shape(0) ||
      !std::is_sorted(request.offsets, request.offsets + request.k + 1))
    throw py::value_error("offsets do not divide Z into classes");
  py::array_t<double> lengths({request.n_epsilons, request.m, request.k});
  bindings::with_type(X.dtype(), "X", [&]<class T>(T, index_t planes) {
    if (planes != 1) throw py::type_error("X is complex");
    const auto of = [](const py::array& array) { return static_cast<const T*>(array.data()); };
    const T *samples = of(X), *trained = of(Z), *about = of(origin);
    double* out = lengths.mutable_data();
    const bindings::WithoutGil without;
    Parallel parallel(n_threads, bindings::check_signals);
    local_increments(selected_kernels(), parallel, samples, trained, about, request, out);
  });
  return lengths;
}

// HostBackend.region_moments of the contract.
py::tuple region_moments_of(const py::array& image, const py::object& filters, const py::array& labels,
                            index_t n_regions, int n_threads) {
  if (image.ndim() != 3 || labels.ndim() != 2 || !bindings::is_plain(image))
    throw py::value_error("image is not a plain array of three axes, or labels not one of two");
  const index_t H = labels.shape(0), W = labels.shape(1);
  const auto* of = bindings::data_of<std::int64_t>(labels, "labels");
  index_t D = image.shape(2);
  Shape expected{H, W, D};
  py::array weights;
  if (!filters.is_none()) {
    weights = filters.cast<py::array>();
    if (weights.ndim() != 4 || !bindings::is_plain(weights) || !weights.dtype().equal(image.dtype()))
      throw py::type_error("filters are not a plain array of four axes and the image's dtype");
    const index_t window = weights.shape(1);
    D = weights.shape(3);
    expected = {weights.shape(0), H + window - 1, W + window - 1};
    if (weights.shape(2) != window) throw py::value_error("filters are not square");
  }
  if (shape_of(image) != expected) throw py::value_error("image has another shape than labels and filters say");
  if (labels.size() == 0 || std::any_of(of, of + labels.size(), [&](std::int64_t l) { return l >= n_regions; }))
    throw py::value_error("labels are none, or not below n_regions");
  bindings::Doubles sizes(n_regions), means({n_regions, D}), scatters({n_regions, D, D});
  bindings::with_type(image.dtype(), "image", [&]<class T>(T, index_t planes) {
    if (planes != 1) throw py::type_error("image is complex");
    Pixels<T> pixels{.H = H, .W = W, .D = D, .image = static_cast<const T*>(image.data())};
    if (!filters.is_none()) {
      pixels.filters = static_cast<const T*>(weights.data());
      pixels.channels = weights.shape(0), pixels.window = weights.shape(1);
    }
    double *const to_sizes = sizes.mutable_data(), *const to_means = means.mutable_data();
    double* const to_scatters = scatters.mutable_data();
    const bindings::WithoutGil without;
    Parallel parallel(n_threads, bindings::check_signals);
    region_moments(selected_kernels(), parallel, pixels, of, n_regions, to_sizes, to_means, to_scatters);
  });
  return py::make_tuple(sizes, means, scatters);
}

}  // namespace

PYBIND11_MODULE(engine, m) {
  m.doc() = "The C++ engine; use it through the functions of redunet.";
  bindings::define_backend<CpuEngine>(m);
  bindings::define_state<CpuEngine>(m);
  m.def("merge_path", merge_path_of, py::arg("X"), py::arg("request"), py::kw_only(), py::arg("n_threads"));
  m.def("quadratic_forms", quadratic_forms_of, py::arg("A"), py::arg("X"), py::kw_only(), py::arg("n_threads"));
  m.def("logdet_of_sums", logdet_of_sums_of, py::arg("A"), py::arg("first"), py::arg("second"), py::kw_only(),
        py::arg("n_threads"));
  m.def("local_increments", local_increments_of, py::arg("X"), py::arg("Z"), py::arg("request"), py::kw_only(),
        py::arg("n_threads"));
  m.def("region_moments", region_moments_of, py::arg("image"), py::arg("filters"), py::arg("labels"),
        py::arg("n_regions"), py::kw_only(), py::arg("n_threads"));
  m.def("simd_level", [] { return selected_kernels().name; });
  m.def("simd_levels", [] {
    std::vector<std::string> names;
    for (const KernelSet* set : usable_kernel_sets()) names.emplace_back(set->name);
    return names;
  });
  m.def("set_simd", select_kernels, py::arg("level"));
}

REDUNET_ENTRY_POINT(_cpu)
