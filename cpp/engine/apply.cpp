// New samples through the layers of a network; operators, rates and their gradient at given features.

#include "engine/engine.hpp"
#include "engine/state.hpp"
#include "layer/gradient.hpp"
#include "layer/inner_products.hpp"

namespace redunet {

template <class T>
void apply(const KernelSet& set, Parallel& parallel, const OperatorLayout& layout, T* V,
           const ApplyRequest<T>& request) {
  const index_t n_layers = request.n_layers;
  State<T> state(set, parallel, layout, request.alphas, request.freq_weights, {}, request.shortcuts);
  state.read(V);
  const bool momentum = request.momentum();
  for (index_t layer = 0; layer < n_layers; ++layer) {
    const LayerOperators<T> ops{.dense = const_cast<T*>(request.dense) + layer * layout.dense_size(),
                                .factors = const_cast<T*>(request.factors) + layer * layout.factors_size()};
    const Step<T> step{
        .eta = request.etas[layer], .lam = request.lam, .gammas = request.gammas, .shortcuts = request.shortcuts};
    if (momentum) state.go_ahead(request.betas[layer]);
    state.move(ops, step, {.pi = layer + 1 == n_layers ? request.assignments : nullptr});
    if (layer == 0 && n_layers > 2 && !momentum) state.regroup();
  }
  state.write(V);
}

template <class T>
void layer_operators(const KernelSet& set, Parallel& parallel, const Problem& problem, const Sizes& sizes, const T* V,
                     const std::optional<LayerOperators<T>>& out, double* rates) {
  Features<T> features(sizes, class_order(problem.labels, sizes.m));
  features.read(V, parallel);
  OperatorBuilder<T>(set, parallel, problem, features).run(features, out, rates);
}

void operators_of_grams(const KernelSet& set, Parallel& parallel, const Problem& problem, const Sizes& sizes,
                        const double* grams, double* dense, double* rates) {
  const Features<double> none(sizes, {});
  OperatorBuilder<double>(set, parallel, problem, none).run(grams, none, {dense, nullptr}, rates);
}

template <class T>
void rates_and_gradient(const KernelSet& set, Parallel& parallel, const Problem& problem, const Sizes& sizes,
                        const T* V, const RateGradient<T>& out) {
  Features<T> features(sizes, class_order(problem.labels, sizes.m));
  features.read(V, parallel);
  OperatorBuilder<T> builder(set, parallel, problem, features);
  const OperatorLayout& layout = builder.layout();
  // The gradient to the membership takes all classes' operators, and E has all samples' responses.
  const bool responses = problem.labels != nullptr && problem.ranks[0] == 0 && out.membership == nullptr;
  Buffer<T> dense(layout.dense_size()), factors(responses ? 0 : layout.factors_size());
  const LayerOperators<T> ops{dense.get(), factors.get(), responses ? out.features : nullptr};
  builder.run(features, ops, out.rates);
  const Kernels<T>& kernels = kernels_of<T>(set);
  if (out.membership != nullptr) {
    inner_products(kernels, parallel, layout, problem.alphas.data(), problem.freq_weights, ops, features,
                   out.membership);
    finish_membership_gradient(problem, layout, ops, out.rates, out.membership);
  }
  gradient_to_features(kernels, parallel, problem, layout, ops, features, out.features);
}

#define REDUNET_INSTANTIATE(T)                                                                             \
  template void apply<T>(const KernelSet&, Parallel&, const OperatorLayout&, T*, const ApplyRequest<T>&);  \
  template void layer_operators<T>(const KernelSet&, Parallel&, const Problem&, const Sizes&, const T*,    \
                                   const std::optional<LayerOperators<T>>&, double*);                      \
  template void rates_and_gradient<T>(const KernelSet&, Parallel&, const Problem&, const Sizes&, const T*, \
                                      const RateGradient<T>&);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)

}  // namespace redunet
