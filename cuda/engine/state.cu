#include <algorithm>
#include <numeric>
#include <string>

#include "engine/state.hpp"
#include "kernels/places.hpp"
#include "layer/samples.hpp"

namespace redunet::cuda {
namespace {

std::vector<int> as_they_come(index_t m) {
  std::vector<int> order(as_size(m));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

// The layout of a network that there is room for: of a spectrum, its copies, and one on the way in or out; of the
// builder, and operators of some layers.
template <class N>
OperatorLayout checked_layout(const Problem& problem, const Sizes& sizes, const Copies& copies) {
  const OperatorLayout layout(sizes, problem.ranks, problem.d);
  const auto [m, C, F, P] = sizes;
  const index_t n_spectra = 2 + copies.saved + copies.kept + copies.remembered;
  const std::size_t need = as_size(n_spectra * m * C * F) * sizeof(N) + OperatorBuilder<N>::bytes(problem, layout) +
                           as_size(copies.operators * (layout.dense_size() + layout.factors_size()) / P) * sizeof(N);
  const std::size_t free = Device::get().free_bytes();
  if (need > free)
    throw CudaError("a network on " + std::to_string(m) + " samples of " + std::to_string(C) + " x " +
                    std::to_string(F) + " numbers needs at least " + in_gib(need) + " of device memory, and " +
                    Device::get().what_is_free());
  return layout;
}

}  // namespace

template <class N>
State<N>::State(const Problem& problem, const Sizes& sizes, bool fused, const Copies& copies)
    : layout_(checked_layout<N>(problem, sizes, copies)),
      features_(layout_, class_order(problem, sizes.m)),
      builder_(std::in_place, problem, layout_, features_.order()),
      sweep_(layout_, problem.alphas.data(), problem.freq_weights),
      fused_(fused && problem.labels != nullptr && Sweep<N>::fused_fits(layout_)) {
  make_room(copies);
}

template <class N>
State<N>::State(const OperatorLayout& layout, const double* alphas, const double* freq_weights, bool fused,
                const Copies& copies)
    : layout_(layout),
      features_(layout_, as_they_come(layout.sizes.m)),
      sweep_(layout_, alphas, freq_weights),
      fused_(fused && Sweep<N>::fused_fits(layout_)) {
  make_room(copies);
}

template <class N>
void State<N>::make_room(const Copies& copies) {
  if (copies.saved) saved_ = DeviceArray<N>(features_.numbers());
  if (copies.kept) kept_ = DeviceArray<N>(features_.numbers());
  if (!copies.remembered) return;
  remembered_ = DeviceArray<N>(features_.numbers());
  sweep_.make_room_ahead();
}

template <class N>
void State<N>::look(const Operators<N>& out, const When& when) {
  if (fused_)
    builder_->run_fused(features_, out.dense, when);
  else
    builder_->run(features_, out, when);
}

template <class N>
void State<N>::move(const Operators<N>& ops, const Step<N>& step, Real<N>* pi, const When& when) {
  if (fused_)
    sweep_.move_fused(features_, ops.dense, step, pi, when);
  else
    sweep_.move(features_, ops, step, pi, when);
}

template <class N>
void State<N>::carry(const When& when) {
  const index_t numbers = features_.numbers();
  if (numbers == 0) return;
  launch(carry_kernel<N>, dim3(place_blocks(numbers)), dim3(kPlaceThreads), 0, Device::get().stream(), features_.get(),
         saved_.get(), kept_.get(), remembered_.get(), numbers, when);
  REDUNET_CHECK(cudaGetLastError());
}

template <class N>
void State<N>::scale(const Real<N>* by) {
  const auto [n, C, F, P] = features_.sizes();
  if (n == 0) return;
  constexpr unsigned kRows = 8, kMostBlocks = 4096;
  launch(weigh_kernel<N, N>, dim3(blocks_of(n, kWarp), std::min(blocks_of(F * C, kRows), kMostBlocks)),
         dim3(kWarp, kRows), 0, Device::get().stream(), features_.get(), n, features_.get(), n, F * C, by, layout_.d);
  REDUNET_CHECK(cudaGetLastError());
}

template class State<float>;
template class State<double>;
template class State<Complex<float>>;
template class State<Complex<double>>;

}  // namespace redunet::cuda
