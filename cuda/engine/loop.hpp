// What both loops over layers need.
#pragma once

#include <string>

#include "engine/kept_operators.hpp"
#include "engine/numbers.hpp"
#include "kernels/progress.hpp"
#include "layer/sweep.hpp"

namespace redunet::cuda {

// Layers between two looks at whether the work shall go on.
constexpr index_t kLayersBetweenPolls = 64;

template <class N>
void check_room(const Problem& problem, const OperatorLayout& layout, int n_spectra) {
  const auto [m, C, F, P] = layout.sizes;
  const std::size_t need = as_size(n_spectra * m * C * F) * sizeof(N) + OperatorBuilder<N>::bytes(problem, layout) +
                           2 * as_size((layout.dense_size() + layout.factors_size()) / P) * sizeof(N);
  const std::size_t free = Device::get().free_bytes();
  if (need > free)
    throw CudaError("a network on " + std::to_string(m) + " samples of " + std::to_string(C) + " x " +
                    std::to_string(F) + " numbers needs at least " + in_gib(need) + " of device memory, and " +
                    in_gib(free) + " are free");
}

// Which layer and slot the kernels of few channels are at; with `etas`, its step too.
inline void set_progress(const DeviceArray<Progress>& progress, index_t layer, index_t slot, double* etas, double eta) {
  launch(set_progress_kernel, dim3(1), dim3(1), 0, Device::get().stream(), progress.get(), static_cast<int>(layer),
         static_cast<int>(slot), etas, eta);
  REDUNET_CHECK(cudaGetLastError());
}

}  // namespace redunet::cuda
