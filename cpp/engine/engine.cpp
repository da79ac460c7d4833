// The loops over layers: build, apply, and one layer of each.

#include "engine/engine.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "layer/fused.hpp"
#include "layer/wide.hpp"

namespace redunet {
namespace {

// Samples sorted by class, as they come within one; empty for soft membership.
std::vector<index_t> class_order(const Problem& problem, index_t m) {
  std::vector<index_t> order;
  if (problem.labels == nullptr) return order;
  order.resize(as_size(m));
  std::iota(order.begin(), order.end(), index_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](index_t a, index_t b) { return problem.labels[a] < problem.labels[b]; });
  return order;
}

// The given membership, (k, lanes of all tiles).
template <class T>
std::vector<T> membership_in_lanes(const Problem& problem, const Features<T>& features) {
  const index_t k = problem.n_classes(), lanes = features.n_tiles() * kPanel<T>;
  std::vector<T> membership(as_size(k * lanes), T(0));
  for (index_t position = 0; position < features.sizes().m; ++position)
    for (index_t j = 0; j < k; ++j) {
      const index_t i = features.sample(position);
      at(membership, j * lanes + position) =
          problem.labels != nullptr ? T(problem.labels[i] == j) : static_cast<T>(problem.membership[i * k + j]);
    }
  return membership;
}

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

template <class T>
void apply(const KernelSet& set, Parallel& parallel, const OperatorLayout& layout, T* V,
           const ApplyRequest<T>& request) {
  const index_t n_layers = request.n_layers;
  const Kernels<T>& kernels = kernels_of<T>(set);
  Features<T> features(layout.sizes, {});
  features.read(V, parallel);
  const auto through = [&](auto& sweep, index_t layer) {
    const LayerOperators<T> ops{.dense = const_cast<T*>(request.dense) + layer * layout.dense_size(),
                                .factors = const_cast<T*>(request.factors) + layer * layout.factors_size()};
    const Step<T> step{
        .eta = request.etas[layer], .lam = request.lam, .gammas = request.gammas, .shortcuts = request.shortcuts};
    sweep.move(features, ops, step, layer + 1 == n_layers ? request.assignments : nullptr);
  };
  if (request.shortcuts.one_sweep && OneSweep<T>::fits(layout)) {
    OneSweep<T> sweep(kernels, parallel, layout, request.alphas, request.freq_weights, features, nullptr);
    for (index_t layer = 0; layer < n_layers; ++layer) through(sweep, layer);
  } else {
    Sweep<T> sweep(kernels, parallel, layout, request.alphas, request.freq_weights, features, nullptr);
    for (index_t layer = 0; layer < n_layers; ++layer) {
      through(sweep, layer);
      if (layer == 0 && n_layers > 2 && layout.ranks.size() > 3 && features.n_tiles() > 1) sweep.regroup(features);
    }
  }
  features.write(V, parallel);
}

template <class T>
void layer_operators(const KernelSet& set, Parallel& parallel, const Problem& problem, const Sizes& sizes, const T* V,
                     const std::optional<LayerOperators<T>>& out, double* rates) {
  Features<T> features(sizes, class_order(problem, sizes.m));
  features.read(V, parallel);
  OperatorBuilder<T>(set, parallel, problem, features).run(features, out, rates);
}

template <class T>
void rate_gradient(const KernelSet& set, Parallel& parallel, const Problem& problem, const Sizes& sizes, const T* V,
                   T* gradient) {
  Features<T> features(sizes, class_order(problem, sizes.m));
  features.read(V, parallel);
  OperatorBuilder<T> builder(set, parallel, problem, features);
  const OperatorLayout& layout = builder.layout();
  Buffer<T> dense(layout.dense_size()), factors(layout.factors_size());
  std::vector<double> rates(problem.alphas.size());
  const LayerOperators<T> ops{dense.get(), factors.get()};
  builder.run(features, ops, rates.data());
  const std::vector<T> membership = membership_in_lanes(problem, features);
  std::vector<T> factor(as_size(features.n_tiles() * kPanel<T>), T(0));
  for (index_t position = 0; position < sizes.m; ++position) {
    const double weight = problem.weights == nullptr ? 1.0 : problem.weights[features.sample(position)];
    at(factor, position) = static_cast<T>(weight * problem.inner / problem.n_points);
  }
  Sweep<T> sweep(kernels_of<T>(set), parallel, layout, problem.alphas.data(), problem.freq_weights, features, nullptr);
  const Step<T> step{.eta = 0, .lam = 0, .gammas = problem.gammas.data(), .membership = membership.data()};
  sweep.gradient(features, ops, step, factor);
  features.write(gradient, parallel);
}

#define REDUNET_INSTANTIATE(T)                                                                                      \
  template index_t build<T>(const KernelSet&, Parallel&, const Problem&, const Sizes&, T*, const BuildRequest<T>&); \
  template void apply<T>(const KernelSet&, Parallel&, const OperatorLayout&, T*, const ApplyRequest<T>&);           \
  template void layer_operators<T>(const KernelSet&, Parallel&, const Problem&, const Sizes&, const T*,             \
                                   const std::optional<LayerOperators<T>>&, double*);                               \
  template void rate_gradient<T>(const KernelSet&, Parallel&, const Problem&, const Sizes&, const T*, T*);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)

}  // namespace redunet
