// Samples on their way to the spectrum and back.
#pragma once

#include "kernels/number.hpp"

namespace redunet::cuda {

constexpr int kNormThreads = 256;

// The value of all threads of a block, combined in a fixed order, in each of them.
template <class T, class F>
__device__ inline T combined(T value, T* shared, const F& combine) {
  const int t = static_cast<int>(threadIdx.x);
  __syncthreads();  // `shared` may still be read
  shared[t] = value;
  for (int half = kNormThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (t < half) shared[t] = combine(shared[t], shared[t + half]);
  }
  __syncthreads();
  return shared[0];
}

// Multiplies the n numbers of sample blockIdx.x by `scale`, after scaling them to unit norm if asked: by the largest
// first, so that squares neither overflow nor vanish in any unit of the samples; only an exact zero stays zero.
// bad[sample] tells whether one is NaN or infinite.
template <class T>
__global__ void __launch_bounds__(kNormThreads, 2)
    unit_norm_kernel(T* X, index_t n, bool normalize, T scale, int* bad) {
  SharedMemory memory;
  T* shared = memory.array<T>(kNormThreads);
  T* x = X + index_t{blockIdx.x} * n;
  const auto larger = [](T a, T b) { return a > b ? a : b; };
  T peak = 0, not_finite = 0;
  for (index_t i = threadIdx.x; i < n; i += kNormThreads) {
    const T size = x[i] < 0 ? -x[i] : x[i];
    peak = larger(peak, size);
    if (!is_finite(size)) not_finite = 1;
  }
  peak = combined(peak, shared, larger);
  not_finite = combined(not_finite, shared, larger);
  if (threadIdx.x == 0) bad[blockIdx.x] = not_finite > 0;
  if (normalize && peak > 0) {
    T sum = 0;
    for (index_t i = threadIdx.x; i < n; i += kNormThreads) sum += x[i] / peak * (x[i] / peak);
    scale /= square_root(combined(sum, shared, [](T a, T b) { return a + b; }));
  } else {
    peak = 1;
  }
  for (index_t i = threadIdx.x; i < n; i += kNormThreads) x[i] = x[i] / peak * scale;
}

template <class T>
__global__ void scale_kernel(T* x, index_t n, T by) {
  for (index_t i = index_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += index_t{gridDim.x} * blockDim.x)
    x[i] *= by;
}

}  // namespace redunet::cuda
