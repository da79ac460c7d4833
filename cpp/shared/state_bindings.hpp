// The State of python/redunet/_backends/contract.py as a Python class, for any engine.
//
// An Engine has State<T>, made by make_state<T>(problem, sizes, shortcuts) or make_state<T>(layout, alphas,
// freq_weights, nearest, shortcuts), with
//   read(V), write(V), copy(other), grams(out), look(operators, rates), response_norms(ops, squares),
//   step(request, squares), scale(by), advance(request, taken), extrapolate(before, beta) (which may change
//   `before`), pullback(layer, request),
// and operators_of_grams(problem, sizes, grams, dense, rates).
#pragma once

#include <memory>
#include <mutex>

#include "shared/bindings.hpp"

namespace redunet::bindings {

// Data of a C-contiguous argument of this dtype and shape.
template <class T>
const T* plain_in(const py::array& array, const char* name, const py::dtype& dtype, const std::vector<index_t>& shape) {
  if (!array.dtype().equal(dtype) || !is_plain(array) || shape_of(array) != shape)
    throw py::value_error(std::string(name) + " does not fit the features");
  return static_cast<const T*>(array.data());
}

// The features of some samples, whatever their type; a class of its own for each engine, so that Python can have both.
template <class Engine>
class AnyState {
 public:
  virtual ~AnyState() = default;
  virtual index_t n_samples() const = 0;
  virtual std::unique_ptr<AnyState> copy() const = 0;
  virtual py::object features() const = 0;
  virtual py::array grams() = 0;
  virtual py::tuple operators(const py::object& layer) = 0;
  virtual Doubles response_norms(const py::object& operators) = 0;
  virtual Doubles step(const py::object& operators, const Doubles& pi, double eta) = 0;
  virtual void scale(const Doubles& by) = 0;
  virtual py::object advance(const py::object& operators, double eta, const std::optional<Doubles>& pi) = 0;
  virtual void extrapolate(const AnyState& before, double beta) = 0;
  virtual py::object pullback(const py::object& operators, double eta, const py::object& taken, const py::object& after,
                              const py::object& upstream) = 0;
};

template <class Engine, class T>
class StateOf : public AnyState<Engine> {
 public:
  using Made = typename Engine::template State<T>;

  // of: a Problem or Operators, kept alive. V: features, or null: none yet.
  StateOf(const py::object& of, const Numbers& V, const Sizes& sizes, std::vector<std::int64_t> nearest, bool on_host,
          int n_threads, int place)
      : of_(of),
        nearest_(std::move(nearest)),
        building_(!py::hasattr(of, "etas")),
        on_host_(on_host),
        n_threads_(n_threads),
        place_(place),
        dtype_(V.dtype),
        ranks_(of.attr("ranks").cast<std::vector<index_t>>()),
        alphas_(of.attr("alphas").cast<std::vector<double>>()),
        layout_(layout_of(sizes, of)) {
    if (building_) problem_ = problem_of(of);
    const double* freq_weights = data_of<double>(of.attr("freq_weights"), "freq_weights");
    const Shortcuts taken = shortcuts;
    const WithoutGil without;
    const Engine engine(n_threads, place);
    state_ = building_ ? engine.template make_state<T>(problem_, sizes, taken)
                       : engine.template make_state<T>(layout_, alphas_.data(), freq_weights, nearest_, taken);
    if (V.data != nullptr) state_->read(static_cast<const T*>(V.data));
  }
  ~StateOf() override {
    const WithoutGil without;
    try {
      const Engine engine(n_threads_, place_);
      state_.reset();
    } catch (...) {  // a device that answers no more, or a forked child: memory goes back without it
      state_.reset();
    }
  }

  index_t n_samples() const override { return layout_.sizes.m; }

  std::unique_ptr<AnyState<Engine>> copy() const override {
    auto other = std::make_unique<StateOf>(of_, Numbers{dtype_, {}, nullptr}, layout_.features(), nearest_, on_host_,
                                           n_threads_, place_);
    run([&] { other->state_->copy(*state_); });
    return other;
  }

  py::object features() const override {
    py::object V = room_for_features();
    T* out = static_cast<T*>(Engine::writable(V).data);
    run([&] { state_->write(out); });
    return V;
  }

  py::array grams() override {
    expect_classes();
    const auto [m, C, F, P] = layout_.sizes;
    py::array sums(P == 2 ? py::dtype::of<std::complex<double>>() : py::dtype::of<double>(),
                   std::vector<index_t>{problem_.n_classes() + 1, F, C, C});
    double* out = mutable_data<double>(sums);
    run([&] { state_->grams(out); });
    return sums;
  }

  py::tuple operators(const py::object& layer) override {
    expect_classes();
    py::array dense(dtype_, dense_shape(layout_, 1)), factors(dtype_, factors_shape(layout_, 1));
    Doubles rates(problem_.n_classes() + 1);
    const LayerOperators<T> out{mutable_data<T>(dense), mutable_data<T>(factors)};
    double* row = rates.mutable_data();
    const auto number = layer.is_none() ? index_t{-1} : layer.cast<index_t>();
    run([&] { in_layer(number, [&] { state_->look(out, row); }); });
    return py::make_tuple(py::object(dense[py::int_(0)]), py::object(factors[py::int_(0)]), rates);
  }

  Doubles response_norms(const py::object& operators) override {
    const Layer layer(*this, operators);
    Doubles squares({n_samples(), layer.n_classes()});
    double* out = squares.mutable_data();
    run([&] { state_->response_norms(layer.request.ops, out); });
    return squares;
  }

  Doubles step(const py::object& operators, const Doubles& pi, double eta) override {
    Layer layer(*this, operators);
    layer.take(pi, eta);
    Doubles squares(n_samples());
    double* out = squares.mutable_data();
    run([&] { state_->step(layer.request, out); });
    return squares;
  }

  void scale(const Doubles& by) override {
    const double* numbers = plain_in<double>(by, "by", py::dtype::of<double>(), {n_samples()});
    run([&] { state_->scale(numbers); });
  }

  py::object advance(const py::object& operators, double eta, const std::optional<Doubles>& given) override {
    Layer layer(*this, operators);
    layer.request.eta = eta;
    if (given) layer.take(*given, eta);
    const std::vector<index_t> shape{n_samples(), layer.n_classes()};
    Doubles pi(shape), squares(given ? std::vector<index_t>{0, 0} : shape), scale(n_samples());
    const Taken taken{pi.mutable_data(), given ? nullptr : squares.mutable_data(), scale.mutable_data()};
    run([&] { state_->advance(layer.request, taken); });
    return contract("Taken")(pi, given ? py::object(py::none()) : py::object(squares), scale);
  }

  void extrapolate(const AnyState<Engine>& before, double beta) override {
    const auto* other = dynamic_cast<const StateOf*>(&before);
    const auto shape = [](const StateOf& state) {
      const auto [m, C, F, P] = state.layout_.features();
      return std::vector<index_t>{m, C, F, P};
    };
    if (other == nullptr || shape(*other) != shape(*this)) throw py::value_error("before does not fit the features");
    expect_here("before", other->place_);
    const std::unique_ptr<AnyState<Engine>> alone =
        before.copy();  // a state may go beyond itself, and another thread use it
    auto& remembered = *static_cast<StateOf&>(*alone).state_;
    run([&] { state_->extrapolate(remembered, beta); });
  }

  py::object pullback(const py::object& operators, double eta, const py::object& taken, const py::object& after,
                      const py::object& upstream) override {
    Layer layer(*this, operators);
    if (layout_.n_columns > 0)
      throw py::value_error("the operators have ranks " +
                            py::str(operators.attr("ranks").attr("tolist")()).cast<std::string>() +
                            "; a pullback is of dense ones");
    const auto [m, C, F, P] = layout_.sizes;
    const index_t k = layer.n_classes();
    const auto pi = taken.attr("pi").cast<Doubles>(), scale = taken.attr("scale").cast<Doubles>();
    const auto squares = taken.attr("squares").cast<std::optional<Doubles>>();
    layer.take(pi, eta);
    const auto numbers = [](const Doubles& array, const char* name, const std::vector<index_t>& shape) {
      return const_cast<double*>(plain_in<double>(array, name, py::dtype::of<double>(), shape));
    };
    const Numbers z = like_features(after, "after"), g = like_features(upstream, "upstream");
    py::object to_features = Engine::like(upstream);
    py::array E(dtype_, std::vector<index_t>{F, C, C}), Cs(dtype_, std::vector<index_t>{k, F, C, C});
    double to_eta = 0, to_lam = 0;
    const PullbackRequest<T> request{
        .taken = {.pi = numbers(pi, "taken.pi", {m, k}),
                  .squares = squares ? numbers(*squares, "taken.squares", {m, k}) : nullptr,
                  .scale = numbers(scale, "taken.scale", {m})},
        .after = static_cast<const T*>(z.data),
        .upstream = static_cast<const T*>(g.data),
        .features = static_cast<T*>(Engine::writable(to_features).data),
        .E = mutable_data<T>(E),
        .Cs = mutable_data<T>(Cs),
        .to_eta = &to_eta,
        .to_lam = &to_lam};
    run([&] { state_->pullback(layer.request, request); });
    return contract("Pullback")(to_features, E, Cs, to_eta, to_lam);
  }

 private:
  // The one layer of Operators that a verb is given, which are those that the state was made for.
  struct Layer {
    Layer(const StateOf& state, const py::object& operators) : state(state) {
      const OperatorLayout& layout = state.layout_;
      if (operators.attr("ranks").cast<std::vector<index_t>>() != state.ranks_ ||
          operators.attr("alphas").cast<std::vector<double>>() != state.alphas_)
        throw py::value_error("the operators have other ranks or alphas than what the state was made of");
      gammas = operators.attr("gammas").cast<Doubles>();
      const OperatorNumbers numbers = Engine::operators(operators);
      if (!numbers.fit(state.dtype_, dense_shape(layout, 1), factors_shape(layout, 1)))
        throw py::value_error("the operators, of one layer, do not fit the features");
      request.ops = {static_cast<T*>(numbers.dense.data), static_cast<T*>(numbers.factors.data)};
      request.gammas = gammas.data();
      request.lam = operators.attr("lam").cast<double>();
    }
    index_t n_classes() const { return gammas.shape(0); }
    void take(const Doubles& pi, double eta) {
      request.pi = plain_in<double>(pi, "pi", py::dtype::of<double>(), {state.n_samples(), n_classes()});
      request.eta = eta;
    }

    const StateOf& state;
    Doubles gammas;
    LayerRequest<T> request{};
  };

  template <class F>
  void run(const F& f) const {
    const WithoutGil without;
    const std::lock_guard alone(in_use_);
    const Engine engine(n_threads_, place_);
    f();
  }
  void expect_classes() const {
    if (!building_)
      throw py::type_error("this state is one of samples that operators are applied to: it knows no classes");
  }
  py::object room_for_features() const {
    const auto [m, C, F, P] = layout_.features();
    return Engine::room(dtype_, {m, C, F}, on_host_, place_);
  }

  // An array of as many numbers as the features.
  Numbers like_features(const py::object& array, const char* name) const {
    const auto [m, C, F, P] = layout_.features();
    const Numbers numbers = Engine::features(array);
    if (!numbers.dtype.equal(dtype_) || numbers.shape != std::vector<index_t>{m, C, F})
      throw py::value_error(std::string(name) + " does not fit the features");
    expect_here(name, Engine::place_of(numbers.data, place_));
    return numbers;
  }
  void expect_here(const char* name, int place) const {
    if (place != place_)
      throw py::value_error(std::string(name) + " lies on device " + std::to_string(place) +
                            "; expected that of the state, " + std::to_string(place_));
  }

  py::object of_;
  std::vector<std::int64_t> nearest_;  // or empty
  bool building_, on_host_;
  int n_threads_, place_;
  py::dtype dtype_;
  std::vector<index_t> ranks_;
  std::vector<double> alphas_;
  OperatorLayout layout_;
  Problem problem_;
  std::unique_ptr<Made> state_;
  mutable std::mutex in_use_;
};

template <class Engine>
std::unique_ptr<AnyState<Engine>> state_of(const py::object& from, const py::object& of, const py::object& nearest,
                                           int n_threads) {
  const Numbers V = Engine::features(from);
  const bool on_host = py::isinstance<py::array>(from);
  std::vector<std::int64_t> classes;
  if (!nearest.is_none()) {
    classes = nearest.cast<std::vector<std::int64_t>>();
    const auto k = static_cast<std::int64_t>(py::len(of.attr("gammas")));
    const auto fits = [&](std::int64_t j) { return j >= 0 && j < k; };
    if (classes.size() != as_size(V.shape[0]) || !std::all_of(classes.begin(), classes.end(), fits))
      throw py::value_error("nearest is not one class for every sample");
  }
  return with_type(V.dtype, "V", [&]<class T>(T, index_t planes) -> std::unique_ptr<AnyState<Engine>> {
    return std::make_unique<StateOf<Engine, T>>(of, V, sizes_of(V, planes), classes, on_host, n_threads,
                                                Engine::place_of(V.data));
  });
}

// Operators from Gram matrices, all in double precision.
template <class Engine>
py::tuple operators_of_grams(const py::array& grams, const py::object& from, int n_threads) {
  Problem problem = problem_of(from);
  const index_t k1 = problem.n_classes() + 1;
  // Of no samples, of whom nothing but the Gram matrices is left.
  problem.labels = nullptr, problem.membership = nullptr, problem.weights = nullptr;
  problem.ranks.assign(as_size(k1), 0);
  problem.d = 1;
  if (grams.ndim() != 4 || grams.shape(0) != k1 || grams.shape(2) != grams.shape(3) || !is_plain(grams))
    throw py::value_error("grams is not a plain (k + 1, F, C, C) array");
  return with_type(grams.dtype(), "grams", [&]<class T>(T, index_t planes) -> py::tuple {
    if constexpr (!std::is_same_v<T, double>) {
      throw py::type_error("grams is not in double precision");
    } else {
      const Sizes sizes{0, grams.shape(2), grams.shape(1), planes};
      py::array dense(grams.dtype(), shape_of(grams));
      Doubles rates(k1);
      const double* sums = static_cast<const double*>(grams.data());
      double *out = mutable_data<double>(dense), *row = rates.mutable_data();
      {
        const WithoutGil without;
        Engine(n_threads, Engine::place_of(sums)).operators_of_grams(problem, sizes, sums, out, row);
      }
      return py::make_tuple(dense, rates);
    }
  });
}

template <class Engine>
void define_state(py::module_& m) {
  using Any = AnyState<Engine>;
  py::class_<Any>(m, "State",
                  py::metaclass(reinterpret_cast<PyObject*>(&PyType_Type)),  // of no subclasses
                  "Features in the engine's own layout; see redunet._backends.contract.State.")
      .def_property_readonly("n_samples", &Any::n_samples)
      .def("copy", &Any::copy)
      .def("features", &Any::features)
      .def("grams", &Any::grams)
      .def("operators", &Any::operators, py::arg("layer") = py::none())
      .def("response_norms", &Any::response_norms, py::arg("operators"))
      .def("step", &Any::step, py::arg("operators"), py::arg("pi"), py::arg("eta"))
      .def("scale", &Any::scale, py::arg("by"))
      .def("advance", &Any::advance, py::arg("operators"), py::arg("eta"), py::arg("pi") = py::none())
      .def("extrapolate", &Any::extrapolate, py::arg("before"), py::arg("beta"))
      .def("pullback", &Any::pullback, py::arg("operators"), py::arg("eta"), py::arg("taken"), py::arg("after"),
           py::arg("upstream"));
  m.def("state", state_of<Engine>, py::arg("V"), py::arg("of"), py::kw_only(), py::arg("nearest") = py::none(),
        py::arg("n_threads"));
  m.def("operators_of_grams", operators_of_grams<Engine>, py::arg("grams"), py::arg("problem"), py::kw_only(),
        py::arg("n_threads"));
}

}  // namespace redunet::bindings
