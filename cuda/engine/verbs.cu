// The verbs of one State, with what they are given and give back on the host.

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/engine.hpp"
#include "engine/kept_operators.hpp"
#include "engine/numbers.hpp"
#include "engine/state.hpp"
#include "layer/grams.hpp"

namespace redunet::cuda {
namespace {

template <class N>
class VerbsOf : public Verbs<Real<N>> {
  using T = Real<N>;

 public:
  VerbsOf(const Problem& problem, const Sizes& sizes, bool fused)
      : problem_(&problem), state_(problem, sizes, fused, {}) {
    start();
  }
  VerbsOf(const OperatorLayout& layout, const double* alphas, const double* freq_weights, bool fused)
      : state_(layout, alphas, freq_weights, fused, {}) {
    start();
  }

  void read(const T* V) override { features().read(as<N>(V)); }
  void write(T* V) const override { state_.features().write(as<N>(V)); }
  void copy(const Verbs<T>& other) override {
    features().copy_from(static_cast<const VerbsOf&>(other).state_.features());
    end();
  }

  void grams(double* sums) override {
    const auto [m, C, F, P] = state_.layout().sizes;
    const DeviceArray<InDouble<N>> all((problem_->n_classes() + 1) * F * C * C);
    sum_grams(features(), *problem_, all.get());
    all.download(reinterpret_cast<InDouble<N>*>(sums));
  }

  void look(const LayerOperators<T>& out, double* rates) override {
    make_room();
    state_.look({dense_.get(), factors_.get()});
    state_.builder().rates(rates);
    dense_.download(as<N>(out.dense));
    factors_.download(as<N>(out.factors));
  }

  void response_norms(const LayerOperators<T>& ops, double* squares) override {
    const DeviceArray<T> found(k_ * m_);
    state_.sweep().response_norms(features(), there(ops), found.get());
    download(found, k_, squares);
    end();
  }

  void step(const LayerRequest<T>& request, double* squares) override {
    const Layer layer(*this, request);
    const DeviceArray<T> found(m_);
    state_.sweep().step(features(), there(request.ops), layer.step, found.get());
    download(found, 1, squares);
    end();
  }

  void scale(const double* by) override {
    const DeviceArray<T> there = uploaded(by, 1);
    state_.scale(there.get());
    end();
  }

  void advance(const LayerRequest<T>& layer, const Taken& taken) override {
    LayerRequest<T> given = layer;
    if (layer.pi == nullptr) {
      response_norms(layer.ops, taken.squares);
      softmax(taken.squares, layer.lam, taken.pi);
      given.pi = taken.pi;
    } else {
      std::copy_n(layer.pi, m_ * k_, taken.pi);
    }
    step(given, taken.scale);
    for (index_t i = 0; i < m_; ++i) taken.scale[i] = 1 / std::max(std::sqrt(taken.scale[i]), kSmallestNorm);
    scale(taken.scale);
  }

  void extrapolate(Verbs<T>& before, double beta) override {
    state_.sweep().extrapolate(features(), static_cast<VerbsOf&>(before).features().get(), beta);
    end();
  }

  void pullback(const LayerRequest<T>& layer, const PullbackRequest<T>& request) override {
    const auto [m, C, F, P] = state_.layout().sizes;
    Spectrum<N> g(state_.layout(), features().order()), z(state_.layout(), features().order());
    g.read(as<N>(request.upstream)), z.read(as<N>(request.after));
    const Operators<N> ops = there(layer.ops);
    state_.sweep().project(g, z, uploaded(request.taken.scale, 1).get());
    std::vector<double> a(as_size(m * k_)), b(as_size(m * k_), 0.0);
    for (index_t i = 0; i < m; ++i)
      for (index_t j = 0; j < k_; ++j) at(a, i * k_ + j) = -layer.gammas[j] * request.taken.pi[i * k_ + j];
    double to_lam = 0;
    if (request.taken.squares != nullptr) {
      const DeviceArray<T> products(k_ * m);
      state_.sweep().inner_products(features(), g, ops, products.get());
      download(products, k_, b.data());
      to_lam = through_gates(layer, request.taken, a, b);
    }
    const DeviceArray<N> E(F * C * C), Cs(k_ * F * C * C);
    state_.sweep().pullback(features(), g, z, ops, layer.eta, uploaded(a.data(), k_).get(),
                            uploaded(b.data(), k_).get(), {E.get(), Cs.get()});
    z.write(as<N>(request.features));
    E.download(as<N>(request.E));
    Cs.download(as<N>(request.Cs));
    // Made without eta; sum_ij b_ij rho_ij^2 is lambda times the gradient to lambda, and no part of that to eta.
    const index_t size = F * C * C * P;
    const T* operators = layer.ops.dense;
    std::vector<T> on_host;
    if (Device::number_of(operators) >= 0) {
      on_host.resize(as_size((k_ + 1) * size));
      Device::get().download(on_host.data(), operators, on_host.size() * sizeof(T));
      operators = on_host.data();
    }
    const double along = take_step(operators, size, layer.eta, request.E) +
                         take_step(operators + size, k_ * size, layer.eta, request.Cs);
    *request.to_eta = along - layer.lam * to_lam;
    *request.to_lam = layer.eta * to_lam;
    end();
  }

 private:
  // What a layer applies beside its operators, on the device.
  struct Layer {
    Layer(const VerbsOf& verbs, const LayerRequest<T>& request)
        : eta(std::vector<double>{request.eta}),
          gammas(rounded<T>(request.gammas, verbs.k_)),
          pi(request.pi == nullptr ? DeviceArray<T>() : verbs.uploaded(request.pi, verbs.k_)),
          step{.eta = eta.get(), .gammas = gammas.get(), .lam = request.lam, .given = pi.get()} {}

    DeviceArray<double> eta;
    DeviceArray<T> gammas, pi;
    Step<N> step;
  };

  // pi (m, k) of the squares rho_j^2, as ascent.py has it.
  void softmax(const double* squares, double lam, double* pi) const {
    for (index_t i = 0; i < m_; ++i, squares += k_, pi += k_) {
      const double least = std::sqrt(*std::min_element(squares, squares + k_));
      double sum = 0;
      for (index_t j = 0; j < k_; ++j) sum += pi[j] = std::exp(lam * (least - std::sqrt(squares[j])));
      for (index_t j = 0; j < k_; ++j) pi[j] /= sum;
    }
  }

  // b <- the coefficient of the response, from b = Re <g, C^j v>; returns the gradient to lambda. All without eta.
  double through_gates(const LayerRequest<T>& layer, const Taken& taken, const std::vector<double>& a,
                       std::vector<double>& b) const {
    double to_lam = 0;
    for (index_t i = 0; i < m_; ++i) {
      double mean = 0;
      for (index_t at_ij = i * k_; at_ij < (i + 1) * k_; ++at_ij) mean += at(a, at_ij) * at(b, at_ij);
      for (index_t j = 0; j < k_; ++j) {
        const index_t at_ij = i * k_ + j;
        const double pi = taken.pi[at_ij], rho = pi > 0 ? std::sqrt(taken.squares[at_ij]) : 0.0;
        const double score = pi * (-layer.gammas[j] * at(b, at_ij) - mean);
        to_lam -= score * rho;
        at(b, at_ij) = rho > 0 ? -layer.lam * score / rho : 0.0;
      }
    }
    return to_lam;
  }

  // G <- eta G; returns <A, G> before.
  static double take_step(const T* A, index_t size, double eta, T* G) {
    double sum = 0;
    for (index_t e = 0; e < size; ++e) {
      sum += static_cast<double>(A[e]) * static_cast<double>(G[e]);
      G[e] *= static_cast<T>(eta);
    }
    return sum;
  }

  void start() {
    const OperatorLayout& layout = state_.layout();
    m_ = layout.sizes.m, k_ = static_cast<index_t>(layout.ranks.size()) - 1;
  }
  void make_room() {
    const OperatorLayout& layout = state_.layout();
    if (dense_.size() + factors_.size() > 0) return;
    dense_ = DeviceArray<N>(layout.dense_size() / layout.sizes.planes);
    factors_ = DeviceArray<N>(layout.factors_size() / layout.sizes.planes);
  }

  Spectrum<N>& features() { return state_.features(); }

  Operators<N> there(const LayerOperators<T>& ops) {
    const Operators<N> found = if_there(as<N>(ops.dense), as<N>(ops.factors));
    if (found) return found;
    make_room();
    dense_.upload(as<N>(ops.dense));
    factors_.upload(as<N>(ops.factors));
    return {dense_.get(), factors_.get()};
  }

  // numbers (m, n) of the host <-> [n][m] of the device, samples in its order.
  DeviceArray<T> uploaded(const double* numbers, index_t n) const {
    std::vector<T> by_number(as_size(n * m_));
    for (index_t position = 0; position < m_; ++position)
      for (index_t j = 0; j < n; ++j)
        at(by_number, j * m_ + position) = static_cast<T>(numbers[at(state_.features().order(), position) * n + j]);
    return DeviceArray<T>(std::move(by_number));
  }
  void download(const DeviceArray<T>& from, index_t n, double* numbers) const {
    std::vector<T> by_number(as_size(n * m_));
    from.download(by_number.data());
    for (index_t position = 0; position < m_; ++position)
      for (index_t j = 0; j < n; ++j)
        numbers[at(state_.features().order(), position) * n + j] = double(at(by_number, j * m_ + position));
  }

  // A state that waits for its next verb leaves the memory to others.
  void end() {
    Device::get().synchronise();
    state_.sweep().release();
  }

  const Problem* problem_ = nullptr;
  State<N> state_;
  index_t m_ = 0, k_ = 0;
  DeviceArray<N> dense_, factors_;  // of a layer that a verb makes, or is given on the host
};

template <class N>
void from_grams(const Problem& problem, const Sizes& sizes, const N* grams, N* dense, double* rates) {
  const OperatorLayout layout(sizes, problem.ranks);
  OperatorBuilder<N> builder(problem, layout, {});
  const DeviceArray<N> sums(layout.dense_size() / sizes.planes), operators(sums.size());
  sums.upload(grams);
  builder.run(sums.get(), operators.get());
  builder.rates(rates);
  operators.download(dense);
}

}  // namespace

template <class T>
std::unique_ptr<Verbs<T>> make_state(const Problem& problem, const Sizes& sizes, const Shortcuts& shortcuts) {
  return with_numbers<T>(sizes.planes, [&]<class N>(N) -> std::unique_ptr<Verbs<T>> {
    return std::make_unique<VerbsOf<N>>(problem, sizes, shortcuts.fused);
  });
}

template <class T>
std::unique_ptr<Verbs<T>> make_state(const OperatorLayout& layout, const double* alphas, const double* freq_weights,
                                     const Shortcuts& shortcuts) {
  return with_numbers<T>(layout.sizes.planes, [&]<class N>(N) -> std::unique_ptr<Verbs<T>> {
    return std::make_unique<VerbsOf<N>>(layout, alphas, freq_weights, shortcuts.fused);
  });
}

void operators_of_grams(const Problem& problem, const Sizes& sizes, const double* grams, double* dense, double* rates) {
  with_numbers<double>(sizes.planes,
                       [&]<class N>(N) { from_grams<N>(problem, sizes, as<N>(grams), as<N>(dense), rates); });
}

#define REDUNET_INSTANTIATE(T)                                                                   \
  template std::unique_ptr<Verbs<T>> make_state(const Problem&, const Sizes&, const Shortcuts&); \
  template std::unique_ptr<Verbs<T>> make_state(const OperatorLayout&, const double*, const double*, const Shortcuts&);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)

}  // namespace redunet::cuda
