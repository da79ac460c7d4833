// From log dets to rates, and what they decide. For one file to include: not a template.
#pragma once

#include "kernels/number.hpp"
#include "kernels/progress.hpp"

namespace redunet::cuda {

// rates[number] = sum_p w_p logdets[place[number]][p] * by; where one is not finite and nothing was noted yet, notes
// (row, number, frequency), row 0 without progress. With progress the first thread then decides. One block.
constexpr int kRatesThreads = 128;

static __global__ void __launch_bounds__(kRatesThreads, 1)
    rates_kernel(const double* logdets, const int* place, int numbers, int F, const double* weights, double by,
                 double* rates, When when, int* noted) {
  Progress* const progress = when.progress;
  if (!when.now()) {
    if (threadIdx.x == 0) progress->installs = false;  // of a turn that was not next
    return;
  }
  SharedMemory shared;
  double* sums = shared.array<double>(kRatesThreads);
  int* first = shared.array<int>(kRatesThreads);
  const int t = static_cast<int>(threadIdx.x), at = progress == nullptr ? 0 : progress->row;
  for (int number = 0; number < numbers; ++number) {
    double sum = 0;
    int bad = F;
    for (int p = t; p < F; p += kRatesThreads) {
      const double logdet = logdets[index_t{place[number]} * F + p];
      sum += weights[p] * logdet;
      if (!is_finite(logdet) && p < bad) bad = p;
    }
    sums[t] = sum, first[t] = bad;
    for (int half = kRatesThreads / 2; half > 0; half /= 2) {
      __syncthreads();
      if (t < half) {
        sums[t] += sums[t + half];
        first[t] = first[t] < first[t + half] ? first[t] : first[t + half];
      }
    }
    if (t == 0) {
      rates[number] = sums[0] * by;
      if (first[0] < F && noted[0] < 0) noted[0] = at, noted[1] = number, noted[2] = first[0];
    }
    __syncthreads();
  }
  if (progress == nullptr) return;
  if (t == 0) {
    Progress now = *progress;  // read at once, so that it lies in registers
    now.decide(rates, noted);
    *progress = now;
  }
  __syncthreads();
  progress->move_rows(rates);
}

}  // namespace redunet::cuda
