// New samples through the layers of a network; operators, rates and their gradient at given features.

#include "engine/engine.hpp"
#include "engine/kept_operators.hpp"
#include "engine/numbers.hpp"
#include "engine/state.hpp"
#include "layer/samples.hpp"

namespace redunet::cuda {
namespace {

template <class N>
void apply_network(const OperatorLayout& layout, N* V, const ApplyRequest<Real<N>>& request, const Poll& poll) {
  const index_t n_layers = request.n_layers;
  const N *dense = as<N>(request.dense), *factors = as<N>(request.factors);
  if (n_layers == 0 || layout.sizes.m == 0) return;
  const index_t m = layout.sizes.m, k = static_cast<index_t>(layout.ranks.size()) - 1;
  const bool momentum = request.momentum();
  State<N> state(layout, request.alphas, request.freq_weights, request.shortcuts.fused, {.remembered = momentum});
  state.features().read(V);
  const Operators<N> there = if_there(const_cast<N*>(dense), const_cast<N*>(factors));
  const KeptOperators<N> kept(layout, n_layers, true, false, there);
  const DeviceArray<double> etas(std::vector<double>(request.etas, request.etas + n_layers));
  const DeviceArray<Real<N>> gammas(rounded<Real<N>>(request.gammas, k));
  const DeviceArray<Real<N>> pi(k * m);
  if (kept.all()) kept.upload(0, n_layers, dense, factors);
  for (index_t layer = 0; layer < n_layers; ++layer) {
    if (!kept.all()) kept.upload(layer, layer + 1, dense, factors);
    if (momentum) state.go_ahead(request.betas[layer]);
    const Step<N> step{.eta = etas.get() + layer, .gammas = gammas.get(), .lam = request.lam, .given = nullptr};
    state.move(kept.of(layer), step, layer + 1 == n_layers ? pi.get() : nullptr);
    if ((layer + 1) % kLayersBetweenPolls == 0) {
      Device::get().synchronise();
      poll();
    }
  }
  std::vector<Real<N>> found(as_size(k * m));
  pi.download(found.data());
  state.features().write(V);
  for (index_t i = 0; i < m; ++i)
    for (index_t j = 0; j < k; ++j) request.assignments[i * k + j] = double(at(found, j * m + i));
}

template <class N>
void operators_of_layer(const Problem& problem, const Sizes& sizes, const N* V, N* dense, N* factors, double* rates) {
  State<N> state(problem, sizes, false, {});
  state.features().read(V);
  const KeptOperators<N> kept(state.layout(), 1, true);
  const bool wanted = dense != nullptr || factors != nullptr;
  state.look(wanted ? kept.of(0) : Operators<N>{});
  state.builder().rates(rates);
  if (wanted) kept.download(0, 1, dense, factors);
  Device::get().synchronise();
}

template <class N>
void gradient_of(const Problem& problem, const Sizes& sizes, const N* V, const RateGradient<Real<N>>& out) {
  State<N> state(problem, sizes, false, {});
  Spectrum<N>& features = state.features();
  features.read(V);
  const KeptOperators<N> kept(state.layout(), 1, true);
  state.look(kept.of(0));
  state.builder().rates(out.rates);
  std::vector<Real<N>> by;
  for (const int i : features.order())
    by.push_back(static_cast<Real<N>>((problem.weights == nullptr ? 1.0 : problem.weights[i]) *
                                      static_cast<double>(problem.d) * problem.inner / problem.n_points));
  const DeviceArray<Real<N>> factor(by), pi(membership_of<Real<N>>(problem, features.order()));
  const index_t m = sizes.m, k = problem.n_classes();
  const DeviceArray<Real<N>> gammas(rounded<Real<N>>(problem.gammas.data(), k));
  const DeviceArray<Real<N>> products(out.membership == nullptr ? 0 : k * m);
  if (out.membership != nullptr) state.sweep().inner_products(features, features, kept.of(0), products.get(), true);
  state.sweep().gradient(features, kept.of(0), gammas.get(), pi.get(), factor.get());
  features.write(as<N>(out.features));
  if (out.membership == nullptr) return;
  std::vector<Real<N>> found(as_size(k * m));
  products.download(found.data());
  for (index_t position = 0; position < m; ++position)
    for (index_t j = 0; j < k; ++j)
      out.membership[at(features.order(), position) * k + j] =
          static_cast<double>(problem.d) * double(at(found, j * m + position));
  const OperatorLayout& layout = state.layout();
  std::vector<Real<N>> dense(as_size(layout.dense_size())), factors(as_size(layout.factors_size()));
  kept.download(0, 1, as<N>(dense.data()), as<N>(factors.data()));
  Device::get().synchronise();
  finish_membership_gradient<Real<N>>(problem, layout, {dense.data(), factors.data()}, out.rates, out.membership);
}

}  // namespace

void open_libraries() {
  cublas();
  cufft();
}

template <class T>
void apply(const OperatorLayout& layout, T* V, const ApplyRequest<T>& request, const Poll& poll) {
  with_numbers<T>(layout.sizes.planes, [&]<class N>(N) { apply_network<N>(layout, as<N>(V), request, poll); });
}

template <class T>
void layer_operators(const Problem& problem, const Sizes& sizes, const T* V,
                     const std::optional<LayerOperators<T>>& out, double* rates) {
  with_numbers<T>(sizes.planes, [&]<class N>(N) {
    operators_of_layer<N>(problem, sizes, as<N>(V), out ? as<N>(out->dense) : nullptr,
                          out ? as<N>(out->factors) : nullptr, rates);
  });
}

template <class T>
void rates_and_gradient(const Problem& problem, const Sizes& sizes, const T* V, const RateGradient<T>& out) {
  with_numbers<T>(sizes.planes, [&]<class N>(N) { gradient_of<N>(problem, sizes, as<N>(V), out); });
}

#define REDUNET_INSTANTIATE(T)                                                                                      \
  template void apply<T>(const OperatorLayout&, T*, const ApplyRequest<T>&, const Poll&);                           \
  template void layer_operators<T>(const Problem&, const Sizes&, const T*, const std::optional<LayerOperators<T>>&, \
                                   double*);                                                                        \
  template void rates_and_gradient<T>(const Problem&, const Sizes&, const T*, const RateGradient<T>&);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)

}  // namespace redunet::cuda
