// The verbs of one State, with what they are given and give back on the host.

#include "engine/engine.hpp"
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
      : problem_(&problem), state_(problem, sizes, 1, fused, {}) {
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
    state_.look({dense_.get(), factors_.get()}, 0);
    state_.builder().rates(0, 1, rates, false);
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

  void advance(const LayerRequest<T>& request, double* assignments) override {
    const Layer layer(*this, request);
    const DeviceArray<T> found(request.pi == nullptr ? k_ * m_ : 0);
    state_.move(there(request.ops), layer.step, found.get());
    if (request.pi == nullptr)
      download(found, k_, assignments);
    else
      std::copy_n(request.pi, m_ * k_, assignments);
    end();
  }

  void extrapolate(Verbs<T>& before, double beta) override {
    state_.sweep().extrapolate(features(), static_cast<VerbsOf&>(before).features().get(), beta);
    end();
  }

  void pullback(const LayerRequest<T>& request, const T* upstream, const PullbackRoom<T>& room) override {
    const auto [m, C, F, P] = state_.layout().sizes;
    const Layer layer(*this, request);
    std::vector<double> by{request.eta};
    for (index_t j = 0; j < k_; ++j) by.push_back(-request.eta * request.gammas[j]);
    Spectrum<N> g(state_.layout(), features().order());
    g.read(as<N>(upstream));
    const DeviceArray<N> E(F * C * C), Cs(k_ * F * C * C);
    const DeviceArray<T> pi(k_ * m);
    const Gradients<N> to{.E = E.get(), .Cs = Cs.get(), .pi = pi.get()};
    state_.sweep().pullback(features(), g, there(request.ops), layer.step, by, to);
    g.write(as<N>(room.features));
    E.download(as<N>(room.E));
    Cs.download(as<N>(room.Cs));
    download(pi, k_, room.pi);
    for (index_t i = 0; i < m; ++i)
      for (index_t j = 0; j < k_; ++j) room.pi[i * k_ + j] *= at(by, j + 1);
    end();
  }

 private:
  // What a layer applies beside its operators, on the device.
  struct Layer {
    Layer(const VerbsOf& verbs, const LayerRequest<T>& request)
        : eta(std::vector<double>{request.eta}),
          gammas(std::vector<double>(request.gammas, request.gammas + verbs.k_)),
          pi(request.pi == nullptr ? DeviceArray<T>() : verbs.uploaded(request.pi, verbs.k_)),
          step{.eta = eta.get(), .gammas = gammas.get(), .lam = request.lam, .given = pi.get()} {}

    DeviceArray<double> eta, gammas;
    DeviceArray<T> pi;
    Step<N> step;
  };

  void start() {
    const OperatorLayout& layout = state_.layout();
    m_ = layout.sizes.m, k_ = static_cast<index_t>(layout.ranks.size()) - 1;
    dense_ = DeviceArray<N>(layout.dense_size() / layout.sizes.planes);
    factors_ = DeviceArray<N>(layout.factors_size() / layout.sizes.planes);
  }

  Spectrum<N>& features() { return state_.features(); }

  Operators<N> there(const LayerOperators<T>& ops) const {
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
    return DeviceArray<T>(by_number);
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
  DeviceArray<N> dense_, factors_;  // of the layer that a verb is given, or makes
};

template <class N>
void from_grams(const Problem& problem, const Sizes& sizes, const N* grams, N* dense, double* rates) {
  const OperatorLayout layout(sizes, problem.ranks);
  OperatorBuilder<N> builder(problem, layout, {}, 1);
  const DeviceArray<N> sums(layout.dense_size() / sizes.planes), operators(sums.size());
  sums.upload(grams);
  builder.run(sums.get(), operators.get());
  builder.rates(0, 1, rates, false);
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
