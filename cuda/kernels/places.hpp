// Features and operators from one place to another, as a Progress says.
#pragma once

#include "kernels/progress.hpp"

namespace redunet::cuda {

constexpr int kPlaceThreads = 256;

// Enough to fill a device; threads then take several numbers in turn.
inline unsigned place_blocks(index_t numbers) {
  constexpr index_t kMost = 2048;
  const index_t blocks = (numbers + kPlaceThreads - 1) / kPlaceThreads;
  return static_cast<unsigned>(blocks < kMost ? blocks : kMost);
}

// The features to where a turn begins: those that were here are kept, those that it begins with saved, if it says so.
template <class N>
__global__ void __launch_bounds__(kPlaceThreads)
    carry_kernel(N* V, N* saved, N* kept, const N* remembered, index_t numbers, When when) {
  if (!when.now()) return;
  const bool keeps = when.progress->keeps, saves = when.progress->saves;
  const Place place = when.progress->from;
  const N* from = place == Place::kSaved ? saved : place == Place::kKept ? kept : remembered;
  const bool here = place == Place::kHere;
  if (here && !keeps && !saves) return;
  for (index_t i = index_t{blockIdx.x} * kPlaceThreads + threadIdx.x; i < numbers;
       i += index_t{gridDim.x} * kPlaceThreads) {
    const N before = V[i], begun = here ? before : from[i];
    if (keeps) kept[i] = before;
    if (!here) V[i] = begun;
    if (saves) saved[i] = begun;
  }
}

// The operators that the last turn made become the layer's: in `current`, and in its slot unless there are none.
template <class N>
__global__ void __launch_bounds__(kPlaceThreads)
    install_kernel(const N* made, N* current, N* slots, index_t numbers, const Progress* progress) {
  if (!progress->installs) return;
  N* slot = slots == nullptr ? nullptr : slots + progress->layer % progress->n_slots * numbers;
  for (index_t i = index_t{blockIdx.x} * kPlaceThreads + threadIdx.x; i < numbers;
       i += index_t{gridDim.x} * kPlaceThreads) {
    const N number = made[i];
    current[i] = number;
    if (slot != nullptr) slot[i] = number;
  }
}

}  // namespace redunet::cuda
