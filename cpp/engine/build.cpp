// One construction: Gram matrices -> operators and rates -> sweep over the samples, layer after layer.

#include <limits>

#include "engine/engine.hpp"
#include "layer/fused.hpp"
#include "layer/wide.hpp"

namespace redunet {
namespace {

// Runs f and puts the layer before the message of an error.
template <class F>
void in_layer(index_t layer, const F& f) {
  try {
    f();
  } catch (const NotPositiveDefinite& error) {
    throw NotPositiveDefinite("layer " + std::to_string(layer) + ", " + error.what());
  }
}

template <class T>
class Construction {
 public:
  Construction(const KernelSet& set, Parallel& parallel, const Problem& problem, const Sizes& sizes, T* V,
               const BuildRequest<T>& request)
      : parallel_(parallel),
        problem_(problem),
        request_(request),
        V_(V),
        features_(sizes, class_order(problem, sizes.m)),
        builder_(set, parallel, problem, features_),
        layout_(builder_.layout()),
        search_(request.etas == nullptr) {
    features_.read(V, parallel);
    const Kernels<T>& kernels = kernels_of<T>(set);
    const double *alphas = problem.alphas.data(), *weights = problem.freq_weights;
    if (request.shortcuts.one_sweep && OneSweep<T>::fits(layout_))
      fused_.emplace(kernels, parallel, layout_, alphas, weights, features_, &builder_);
    else
      wide_.emplace(kernels, parallel, layout_, alphas, weights, features_, problem.labels);
    if (search_) last_tile_ = Buffer<T>(features_.tile_stride());
    if (request.given) membership_ = membership_in_lanes(problem, features_);
    step_ = {.eta = 0,
             .lam = request.lam,
             .gammas = problem.gammas.data(),
             .membership = request.given ? membership_.data() : nullptr,
             .shortcuts = request.shortcuts};
    if (!request.keep) {
      spare_dense_ = Buffer<T>(layout_.dense_size());
      spare_factors_ = Buffer<T>(layout_.factors_size());
    }
  }

  // Returns the number of layers; V receives the features.
  index_t run() {
    in_layer(0, [&] { builder_.run(features_, operators_of(0), row(0)); });
    index_t layer = 0;
    for (; layer < request_.n_layers; ++layer) {
      if (request_.on_layer && request_.on_layer(layer, row(layer)) && layer > 0) break;
      if (search_)
        take_natural_step(layer);
      else
        move(layer, request_.etas[layer]);
      request_.taken[layer] = step_.eta;
    }
    if (layer == request_.n_layers && request_.on_layer) request_.on_layer(layer, row(layer));
    features_.write(V_, parallel_);
    return layer;
  }

 private:
  double* row(index_t layer) const { return request_.rates + layer * (problem_.n_classes() + 1); }

  // A trial step overwrites the operators of the layer after: with room for one layer only, there are two in turn.
  LayerOperators<T> operators_of(index_t layer) {
    if (request_.keep)
      return {.dense = request_.dense + layer * layout_.dense_size(),
              .factors = request_.factors + layer * layout_.factors_size()};
    if (layer % 2 == 0) return {.dense = request_.dense, .factors = request_.factors};
    return {.dense = spare_dense_.get(), .factors = spare_factors_.get()};
  }

  // The features through a layer, and the operators and rates after it.
  void move(index_t layer, double eta) {
    step_.eta = eta;
    std::optional<LayerOperators<T>> following;
    if (layer + 1 < request_.n_layers) following = operators_of(layer + 1);
    if (fused_)
      fused_->move(features_, operators_of(layer), step_, nullptr);
    else
      wide_->move(features_, operators_of(layer), step_, nullptr);
    in_layer(layer + 1, [&] {
      fused_ ? builder_.run(fused_->sums(), fused_->longest_sum(), features_, following, row(layer + 1))
             : builder_.run(features_, following, row(layer + 1));
    });
  }

  // A trial step begins at the features as they were, which V, not needed until the end, holds meanwhile.
  void take_natural_step(index_t layer) {
    if (settled_) return move(layer, 0.0);
    features_.save(V_, last_tile_.get(), parallel_);
    double eta = kNaturalStep / problem_.alphas[0];
    for (int halvings = 0;; ++halvings, eta /= 2) {
      if (halvings > 0) features_.restore(V_, last_tile_.get(), parallel_);
      settled_ = halvings == kMaxHalvings;
      move(layer, settled_ ? 0.0 : eta);
      if (settled_) return;
      const double before = problem_.reduction(row(layer)), after = problem_.reduction(row(layer + 1));
      if (!falls(before, after, row(layer)[0], std::numeric_limits<T>::epsilon())) return;
    }
  }

  Parallel& parallel_;
  const Problem& problem_;
  const BuildRequest<T>& request_;
  T* V_;
  Features<T> features_;
  OperatorBuilder<T> builder_;
  const OperatorLayout& layout_;
  std::optional<OneSweep<T>> fused_;
  std::optional<Sweep<T>> wide_;
  bool search_;
  Buffer<T> last_tile_, spare_dense_, spare_factors_;
  std::vector<T> membership_;
  Step<T> step_{};
  bool settled_ = false;  // no step raised the rate reduction: every later layer is the same
};

}  // namespace

template <class T>
index_t build(const KernelSet& set, Parallel& parallel, const Problem& problem, const Sizes& sizes, T* V,
              const BuildRequest<T>& request) {
  return Construction<T>(set, parallel, problem, sizes, V, request).run();
}

template index_t build<float>(const KernelSet&, Parallel&, const Problem&, const Sizes&, float*,
                              const BuildRequest<float>&);
template index_t build<double>(const KernelSet&, Parallel&, const Problem&, const Sizes&, double*,
                               const BuildRequest<double>&);

}  // namespace redunet
