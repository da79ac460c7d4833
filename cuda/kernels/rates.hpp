// From log dets to rates, and what they decide. For one file to include: not a template.
#pragma once

#include "kernels/number.hpp"
#include "kernels/progress.hpp"

namespace redunet::cuda {

// rates[number] = sum_p w_p logdets[place[number]][p] * by; where one is not finite and nothing was noted yet, notes
// (row, number, frequency), row 0 without progress. With progress the first thread then decides. One block, whose warps
// take turns at the numbers.
constexpr int kRatesWarps = 8;

static __global__ void __launch_bounds__(kWarp* kRatesWarps, 1)
    rates_kernel(const double* logdets, const int* place, int numbers, int F, const double* weights, double by,
                 double* rates, When when, int* noted) {
  Progress* const progress = when.progress;
  if (!when.now()) {
    if (threadIdx.x == 0 && threadIdx.y == 0) progress->installs = false;  // of a turn that was not next
    return;
  }
  SharedMemory shared;
  index_t* first = shared.array<index_t>(kRatesWarps);
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
  const index_t none = index_t{numbers} * F;
  index_t bad = none;  // number and frequency of the first that is not finite, as one
  for (int number = warp; number < numbers; number += kRatesWarps) {
    double sum = 0;
    for (int p = lane; p < F; p += kWarp) {
      const double logdet = logdets[index_t{place[number]} * F + p];
      sum += weights[p] * logdet;
      const index_t here = index_t{number} * F + p;
      if (!is_finite(logdet) && here < bad) bad = here;
    }
    for (int distance = kWarp / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(kAllLanes, sum, distance);
    if (lane == 0) rates[number] = sum * by;
  }
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const index_t other = __shfl_xor_sync(kAllLanes, bad, distance);
    bad = other < bad ? other : bad;
  }
  if (lane == 0) first[warp] = bad;
  __syncthreads();
  const bool leads = lane == 0 && warp == 0;
  if (leads) {
    for (int other = 1; other < kRatesWarps; ++other) bad = first[other] < bad ? first[other] : bad;
    if (bad < none && noted[0] < 0) {
      noted[0] = progress == nullptr ? 0 : progress->row;
      noted[1] = static_cast<int>(bad / F), noted[2] = static_cast<int>(bad % F);
    }
  }
  if (progress == nullptr) return;
  if (leads) {
    Progress now = *progress;  // read at once, so that it lies in registers
    now.decide(rates, noted);
    *progress = now;
  }
  __syncthreads();
  progress->move_rows(rates);
}

}  // namespace redunet::cuda
