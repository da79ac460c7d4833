// New samples through the layers of a network; operators, rates and their gradient at given features.

#include <numeric>

#include "engine/engine.hpp"
#include "engine/loop.hpp"
#include "layer/samples.hpp"

namespace redunet::cuda {
namespace {

template <class N>
void apply_network(const OperatorLayout& layout, N* V, const ApplyRequest<Real<N>>& request, const Poll& poll) {
  const index_t n_layers = request.n_layers;
  const N *dense = reinterpret_cast<const N*>(request.dense), *factors = reinterpret_cast<const N*>(request.factors);
  if (n_layers == 0 || layout.sizes.m == 0) return;
  const index_t m = layout.sizes.m, k = static_cast<index_t>(layout.ranks.size()) - 1;
  std::vector<int> order(as_size(m));
  std::iota(order.begin(), order.end(), 0);
  Spectrum<N> features(layout.sizes, order);
  features.read(V);
  Sweep<N> sweep(layout, request.alphas, request.gammas, request.freq_weights);
  const KeptOperators<N> kept(layout, n_layers, true);
  const bool few = request.shortcuts.one_sweep && Sweep<N>::few_channels_fit(layout);
  const DeviceArray<Progress> progress(1);
  const DeviceArray<double> steps(std::vector<double>(request.etas, request.etas + n_layers));
  const DeviceArray<Real<N>> pi(k * m);
  if (kept.all()) kept.upload(0, n_layers, dense, factors);
  for (index_t layer = 0; layer < n_layers; ++layer) {
    if (!kept.all()) kept.upload(layer, layer + 1, dense, factors);
    Real<N>* out = layer + 1 == n_layers ? pi.get() : nullptr;
    if (few) {
      set_progress(progress, layer, kept.slot(layer), nullptr, 0);
      sweep.move_few(features, kept.dense(), progress.get(), steps.get(), request.lam, nullptr, out);
    } else {
      sweep.move(features, kept.of(layer), {.eta = steps.get() + layer, .lam = request.lam, .given = nullptr}, out);
    }
    if ((layer + 1) % kLayersBetweenPolls == 0) {
      Device::get().synchronise();
      poll();
    }
  }
  std::vector<Real<N>> found(as_size(k * m));
  pi.download(found.data());
  features.write(V);
  for (index_t i = 0; i < m; ++i)
    for (index_t j = 0; j < k; ++j) request.assignments[i * k + j] = double(at(found, j * m + i));
}

template <class N>
void operators_of_layer(const Problem& problem, const Sizes& sizes, const N* V, N* dense, N* factors, double* rates) {
  const OperatorLayout layout(sizes, problem.ranks);
  check_room<N>(problem, layout, 2);
  const std::vector<int> order = class_order(problem, sizes.m);
  Spectrum<N> features(sizes, order);
  features.read(V);
  OperatorBuilder<N> builder(problem, layout, order, 1);
  const KeptOperators<N> kept(layout, 1, true);
  const bool wanted = dense != nullptr || factors != nullptr;
  builder.run(features, wanted ? kept.of(0) : Operators<N>{}, 0);
  builder.rates(0, 1, rates, false);
  if (wanted) kept.download(0, 1, dense, factors);
  Device::get().synchronise();
}

template <class N>
void gradient_of(const Problem& problem, const Sizes& sizes, const N* V, N* gradient) {
  const OperatorLayout layout(sizes, problem.ranks);
  check_room<N>(problem, layout, 3);
  const std::vector<int> order = class_order(problem, sizes.m);
  Spectrum<N> features(sizes, order), out(sizes, order);
  features.read(V);
  OperatorBuilder<N> builder(problem, layout, order, 1);
  const KeptOperators<N> kept(layout, 1, true);
  builder.run(features, kept.of(0), 0);
  std::vector<double> rates(problem.alphas.size());
  builder.rates(0, 1, rates.data(), false);
  std::vector<Real<N>> by;
  for (const int i : order)
    by.push_back(static_cast<Real<N>>((problem.weights == nullptr ? 1.0 : problem.weights[i]) * problem.inner /
                                      problem.n_points));
  const DeviceArray<Real<N>> factor(by), pi(membership_of<Real<N>>(problem, order));
  Sweep<N> sweep(layout, problem.alphas.data(), problem.gammas.data(), problem.freq_weights);
  sweep.gradient(features, kept.of(0), pi.get(), factor.get(), out.get());
  out.write(gradient);
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
void rate_gradient(const Problem& problem, const Sizes& sizes, const T* V, T* gradient) {
  with_numbers<T>(sizes.planes, [&]<class N>(N) { gradient_of<N>(problem, sizes, as<N>(V), as<N>(gradient)); });
}

#define REDUNET_INSTANTIATE(T)                                                                                      \
  template void apply<T>(const OperatorLayout&, T*, const ApplyRequest<T>&, const Poll&);                           \
  template void layer_operators<T>(const Problem&, const Sizes&, const T*, const std::optional<LayerOperators<T>>&, \
                                   double*);                                                                        \
  template void rate_gradient<T>(const Problem&, const Sizes&, const T*, T*);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)

}  // namespace redunet::cuda
