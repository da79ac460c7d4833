// New samples through the layers of a network; operators, rates and their gradient at given features.

#include "engine/engine.hpp"
#include "engine/state.hpp"

namespace redunet {

template <class T>
void apply(const KernelSet& set, Parallel& parallel, const OperatorLayout& layout, T* V,
           const ApplyRequest<T>& request) {
  const index_t n_layers = request.n_layers;
  State<T> state(set, parallel, layout, request.alphas, request.freq_weights, request.shortcuts);
  state.read(V);
  const bool momentum = request.momentum();
  for (index_t layer = 0; layer < n_layers; ++layer) {
    const LayerOperators<T> ops{.dense = const_cast<T*>(request.dense) + layer * layout.dense_size(),
                                .factors = const_cast<T*>(request.factors) + layer * layout.factors_size()};
    const Step<T> step{
        .eta = request.etas[layer], .lam = request.lam, .gammas = request.gammas, .shortcuts = request.shortcuts};
    if (momentum) state.go_ahead(request.betas[layer]);
    state.move(ops, step, layer + 1 == n_layers ? request.assignments : nullptr);
    if (layer == 0 && n_layers > 2 && !momentum) state.regroup();
  }
  state.write(V);
}

template <class T>
void layer_operators(const KernelSet& set, Parallel& parallel, const Problem& problem, const Sizes& sizes, const T* V,
                     const std::optional<LayerOperators<T>>& out, double* rates) {
  Features<T> features(sizes, class_order(problem, sizes.m));
  features.read(V, parallel);
  OperatorBuilder<T>(set, parallel, problem, features).run(features, out, rates);
}

void operators_of_grams(const KernelSet& set, Parallel& parallel, const Problem& problem, const Sizes& sizes,
                        const double* grams, double* dense, double* rates) {
  const Features<double> none(sizes, {});
  OperatorBuilder<double>(set, parallel, problem, none).run(grams, {dense, nullptr}, rates);
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
    at(factor, position) = static_cast<T>(weight * static_cast<double>(problem.d) * problem.inner / problem.n_points);
  }
  WideLayer<T> wide(kernels_of<T>(set), parallel, layout, problem.alphas.data(), problem.freq_weights, features,
                    nullptr);
  const Step<T> step{.eta = 0, .lam = 0, .gammas = problem.gammas.data(), .membership = membership.data()};
  wide.gradient(features, ops, step, factor);
  features.write(gradient, parallel);
}

#define REDUNET_INSTANTIATE(T)                                                                            \
  template void apply<T>(const KernelSet&, Parallel&, const OperatorLayout&, T*, const ApplyRequest<T>&); \
  template void layer_operators<T>(const KernelSet&, Parallel&, const Problem&, const Sizes&, const T*,   \
                                   const std::optional<LayerOperators<T>>&, double*);                     \
  template void rate_gradient<T>(const KernelSet&, Parallel&, const Problem&, const Sizes&, const T*, T*);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)

}  // namespace redunet
