// One construction on the device: operators and rates, then the layer, again and again.

#include <limits>

#include "engine/engine.hpp"
#include "engine/graph.hpp"
#include "engine/loop.hpp"
#include "layer/samples.hpp"

namespace redunet::cuda {
namespace {

template <class N>
class Construction {
 public:
  Construction(const Problem& problem, const Sizes& sizes, N* V, const BuildRequest<Real<N>>& request, const Poll& poll)
      : problem_(problem),
        request_(request),
        poll_(poll),
        layout_(sizes, problem.ranks),
        search_(request.etas == nullptr),
        order_(checked_order(problem, layout_, search_)),
        features_(sizes, order_),
        builder_(problem, layout_, order_, request.n_layers + 1),
        sweep_(layout_, problem.alphas.data(), problem.gammas.data(), problem.freq_weights),
        kept_(layout_, request.n_layers, request.keep),
        few_(request.shortcuts.one_sweep && problem.labels != nullptr && Sweep<N>::few_channels_fit(layout_)),
        progress_(1),
        etas_(std::max<index_t>(1, request.n_layers)) {
    features_.read(V);
    if (!search_ && request.n_layers > 0) etas_.upload(request.etas);
    if (request.given) membership_ = DeviceArray<Real<N>>(membership_of<Real<N>>(problem, order_));
    Device::get().synchronise();
  }

  // Returns the number of layers; V receives the features.
  index_t run(N* V) {
    const bool uninterrupted = few_ && !search_ && !request_.on_layer && (kept_.all() || !request_.keep);
    const index_t built = uninterrupted && request_.n_layers > 0 ? run_graph() : run_layers();
    if (request_.keep && kept_.all()) kept_.download(0, built, dense(), factors());
    features_.write(V);
    return built;
  }

 private:
  static std::vector<int> checked_order(const Problem& problem, const OperatorLayout& layout, bool search) {
    check_room<N>(problem, layout, search ? 3 : 2);
    return class_order(problem, layout.sizes.m);
  }

  N* dense() const { return reinterpret_cast<N*>(request_.dense); }
  N* factors() const { return reinterpret_cast<N*>(request_.factors); }
  double* row(index_t layer) const { return request_.rates + layer * (problem_.n_classes() + 1); }

  void move(index_t layer) {
    if (few_)
      sweep_.move_few(features_, kept_.dense(), progress_.get(), etas_.get(), request_.lam, membership_.get(), nullptr);
    else
      sweep_.move(features_, kept_.of(layer),
                  {.eta = etas_.get() + layer, .lam = request_.lam, .given = membership_.get()}, nullptr);
  }

  // Operators and rates at the features as they are, the input of `layer`.
  void look(index_t layer) {
    const bool wanted = layer < request_.n_layers;
    if (few_) {
      set_progress(progress_, layer, kept_.slot(layer), nullptr, 0);
      builder_.run_few(features_, wanted ? kept_.dense() : nullptr, progress_.get());
    } else {
      builder_.run(features_, wanted ? kept_.of(layer) : Operators<N>{}, static_cast<int>(layer));
    }
    if (request_.keep && !kept_.all() && wanted) kept_.download(layer, layer + 1, dense(), factors());
  }

  void read_rates(index_t begin, index_t end) {
    builder_.rates(static_cast<int>(begin), static_cast<int>(end), row(begin), true);
  }

  void wait_and_poll() const {
    Device::get().synchronise();
    poll_();
  }

  // Nothing returns to the host before the end: every layer is the same launches.
  index_t run_graph() {
    const index_t n_layers = request_.n_layers;
    set_progress(progress_, -1, kept_.n_slots() - 1, nullptr, 0);
    const Graph graph([&] {
      launch(advance_kernel, dim3(1), dim3(1), 0, Device::get().stream(), progress_.get(),
             static_cast<int>(kept_.n_slots()));
      REDUNET_CHECK(cudaGetLastError());
      builder_.run_few(features_, kept_.dense(), progress_.get());
      move(0);
    });
    for (index_t layer = 0; layer < n_layers; ++layer) {
      graph.run();
      if ((layer + 1) % kLayersBetweenPolls == 0) wait_and_poll();
    }
    look(n_layers);
    read_rates(0, n_layers + 1);
    std::copy_n(request_.etas, n_layers, request_.taken);
    return n_layers;
  }

  index_t run_layers() {
    look(0);
    index_t layer = 0, rates_read = 0;
    const auto catch_up = [&](index_t end) {
      read_rates(rates_read, end);
      rates_read = end;
    };
    for (; layer < request_.n_layers; ++layer) {
      if (search_ || request_.on_layer) catch_up(layer + 1);
      if (search_ || request_.on_layer || layer % kLayersBetweenPolls == 0) wait_and_poll();
      if (request_.on_layer && request_.on_layer(layer, row(layer)) && layer > 0) break;
      if (search_) {
        request_.taken[layer] = natural_step(layer);
        continue;
      }
      move(layer);
      look(layer + 1);
      request_.taken[layer] = request_.etas[layer];
    }
    if (rates_read <= layer) catch_up(layer + 1);
    if (layer == request_.n_layers && request_.on_layer) request_.on_layer(layer, row(layer));
    return layer;
  }

  // One layer by the natural step, halved while the rate reduction would fall; returns the step.
  double natural_step(index_t layer) {
    constexpr double kUnit = std::numeric_limits<Real<N>>::epsilon();
    double eta = kNaturalStep / problem_.alphas[0];
    features_.save();
    for (int halvings = settled_ ? kMaxHalvings : 0;; ++halvings, eta /= 2) {
      if (halvings == kMaxHalvings) eta = 0, settled_ = true;
      features_.restore();
      set_progress(progress_, layer, kept_.slot(layer), etas_.get(), eta);
      move(layer);
      look(layer + 1);
      read_rates(layer + 1, layer + 2);
      if (settled_) return eta;
      const double before = problem_.reduction(row(layer)), after = problem_.reduction(row(layer + 1));
      if (!falls(before, after, row(layer)[0], kUnit)) return eta;
    }
  }

  const Problem& problem_;
  const BuildRequest<Real<N>>& request_;
  const Poll& poll_;
  OperatorLayout layout_;
  bool search_;
  std::vector<int> order_;
  Spectrum<N> features_;
  OperatorBuilder<N> builder_;
  Sweep<N> sweep_;
  KeptOperators<N> kept_;
  bool few_;
  DeviceArray<Progress> progress_;
  DeviceArray<double> etas_;
  DeviceArray<Real<N>> membership_;
  bool settled_ = false;  // no step raised the rate reduction: every later layer is the same
};

}  // namespace

template <class T>
index_t build(const Problem& problem, const Sizes& sizes, T* V, const BuildRequest<T>& request, const Poll& poll) {
  return with_numbers<T>(
      sizes.planes, [&]<class N>(N) { return Construction<N>(problem, sizes, as<N>(V), request, poll).run(as<N>(V)); });
}

#define REDUNET_INSTANTIATE(T) \
  template index_t build<T>(const Problem&, const Sizes&, T*, const BuildRequest<T>&, const Poll&);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)

}  // namespace redunet::cuda
