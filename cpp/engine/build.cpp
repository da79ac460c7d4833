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

}  // namespace

template <class T>
index_t build(const KernelSet& set, Parallel& parallel, const Problem& problem, const Sizes& sizes, T* V,
              const BuildRequest<T>& request) {
  const Kernels<T>& kernels = kernels_of<T>(set);
  Features<T> features(sizes, class_order(problem, sizes.m));
  features.read(V, parallel);
  OperatorBuilder<T> builder(set, parallel, problem, features);
  const OperatorLayout& layout = builder.layout();
  std::optional<OneSweep<T>> one_sweep;
  std::optional<Sweep<T>> sweep;
  if (request.shortcuts.one_sweep && OneSweep<T>::fits(layout))
    one_sweep.emplace(kernels, parallel, layout, problem.alphas.data(), problem.freq_weights, features, &builder);
  else
    sweep.emplace(kernels, parallel, layout, problem.alphas.data(), problem.freq_weights, features, problem.labels);
  const bool search = request.etas == nullptr;
  // A trial step begins at the features as they were, which V, not needed until the end, holds meanwhile.
  Buffer<T> last_tile;
  if (search) last_tile = Buffer<T>(features.tile_stride());
  std::vector<T> membership;
  if (request.given) membership = membership_in_lanes(problem, features);
  Step<T> step{.eta = 0,
               .lam = request.lam,
               .gammas = problem.gammas.data(),
               .membership = request.given ? membership.data() : nullptr,
               .shortcuts = request.shortcuts};

  const index_t k1 = problem.n_classes() + 1;
  // A trial step overwrites the operators of the layer after: with room for one layer only, there are two in turn.
  Buffer<T> spare_dense, spare_factors;
  if (!request.keep) {
    spare_dense = Buffer<T>(layout.dense_size());
    spare_factors = Buffer<T>(layout.factors_size());
  }
  const auto operators_of = [&](index_t layer) -> LayerOperators<T> {
    if (request.keep)
      return {request.dense + layer * layout.dense_size(), request.factors + layer * layout.factors_size()};
    if (layer % 2 == 0) return {request.dense, request.factors};
    return {spare_dense.get(), spare_factors.get()};
  };

  in_layer(0, [&] { builder.run(features, operators_of(0), request.rates); });
  index_t layer = 0;
  bool settled = false;  // no step raised the rate reduction: every later layer is the same
  for (; layer < request.n_layers; ++layer) {
    const double* rates = request.rates + layer * k1;
    double* next = request.rates + (layer + 1) * k1;
    if (request.on_layer && request.on_layer(layer, rates) && layer > 0) break;
    const LayerOperators<T> ops = operators_of(layer);
    const auto move = [&](double eta) {
      step.eta = eta;
      std::optional<LayerOperators<T>> following;
      if (layer + 1 < request.n_layers) following = operators_of(layer + 1);
      if (one_sweep)
        one_sweep->move(features, ops, step, nullptr);
      else
        sweep->move(features, ops, step, nullptr);
      in_layer(layer + 1, [&] {
        one_sweep ? builder.run(one_sweep->sums(), one_sweep->longest_sum(), features, following, next)
                  : builder.run(features, following, next);
      });
    };
    if (!search || settled) {
      move(settled ? 0.0 : request.etas[layer]);
    } else {
      features.save(V, last_tile.get(), parallel);
      double eta = kNaturalStep / problem.alphas[0];
      for (int halvings = 0;; ++halvings, eta /= 2) {
        if (halvings > 0) features.restore(V, last_tile.get(), parallel);
        move(halvings < kMaxHalvings ? eta : 0.0);
        settled = halvings == kMaxHalvings;
        if (settled) break;
        if (!falls(problem.reduction(rates), problem.reduction(next), rates[0], std::numeric_limits<T>::epsilon()))
          break;
      }
    }
    request.taken[layer] = step.eta;
  }
  if (layer == request.n_layers && request.on_layer) request.on_layer(layer, request.rates + layer * k1);
  features.write(V, parallel);
  return layer;
}

template index_t build<float>(const KernelSet&, Parallel&, const Problem&, const Sizes&, float*,
                              const BuildRequest<float>&);
template index_t build<double>(const KernelSet&, Parallel&, const Problem&, const Sizes&, double*,
                               const BuildRequest<double>&);

}  // namespace redunet
