#include <algorithm>
#include <cmath>

#include "layer/grams.hpp"

namespace redunet::cuda {
namespace {

// Neighbouring positions, in the order of the device, of all samples of an operator; roots of their weights.
struct Share {
  index_t begin = 0;
  std::vector<double> roots;
};

Share share_of(const Problem& problem, const std::vector<int>& order, index_t number) {
  Share share;
  const index_t k = problem.n_classes();
  for (std::size_t position = 0; position < order.size(); ++position) {
    const index_t i = order[position];
    if (!problem.takes_part(i, number)) continue;  // of a class that is hard: a run
    if (share.roots.empty()) share.begin = static_cast<index_t>(position);
    share.roots.resize(position - as_size(share.begin), 0.0);
    const double belongs = number == 0 || problem.labels != nullptr ? 1.0 : problem.membership[i * k + number - 1];
    share.roots.push_back(std::sqrt(belongs * (problem.weights == nullptr ? 1.0 : problem.weights[i])));
  }
  return share;
}

}  // namespace

template <class N>
void sum_grams(const Spectrum<N>& features, const Problem& problem, InDouble<N>* sums) {
  using M = InDouble<N>;
  const auto [n, C, F, P] = features.sizes();
  const index_t d = problem.d, rows = F * C;
  const cudaStream_t stream = Device::get().stream();
  const DeviceArray<M> weighted(n * rows);
  M* const first = sums;
  constexpr unsigned kRows = 8, kMostBlocks = 4096;
  for (index_t number = 0; number <= problem.n_classes(); ++number, sums += rows * C) {
    const Share share = share_of(problem, features.order(), number);
    const index_t count = static_cast<index_t>(share.roots.size()) * d;  // columns
    if (count == 0) {
      REDUNET_CHECK(cudaMemsetAsync(sums, 0, as_size(rows * C) * sizeof(M), stream));
      continue;
    }
    const DeviceArray<double> roots(share.roots);
    launch(weigh_kernel<N, M>, dim3(blocks_of(count, kWarp), std::min(blocks_of(rows, kRows), kMostBlocks)),
           dim3(kWarp, kRows), 0, stream, features.get() + share.begin * d, n, weighted.get(), count, rows, roots.get(),
           d);
    REDUNET_CHECK(cudaGetLastError());
    const Matrices<const M> columns{weighted.get(), count, C * count};
    gemm<M>(Op::kNone, Op::kAdjoint, C, C, count, 1, columns, columns, 0, {sums, C, C * C}, F);
  }
  make_hermitian<M>(first, (problem.n_classes() + 1) * F, 1, 0, C, nullptr, first);
}

template void sum_grams<float>(const Spectrum<float>&, const Problem&, double*);
template void sum_grams<double>(const Spectrum<double>&, const Problem&, double*);
template void sum_grams<Complex<float>>(const Spectrum<Complex<float>>&, const Problem&, Complex<double>*);
template void sum_grams<Complex<double>>(const Spectrum<Complex<double>>&, const Problem&, Complex<double>*);

}  // namespace redunet::cuda
