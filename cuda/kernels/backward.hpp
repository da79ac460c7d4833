// What the pullback of a layer needs beside matrix products and the kernels of samples.hpp.
#pragma once

#include "kernels/samples.hpp"

namespace redunet::cuda {

// partial = sums of Re g* (response of class j); g has q.ld numbers a row. Block (chunk, class, 32 columns).
template <class N>
__global__ void __launch_bounds__(kWarp* kSampleRows, 4)
    inner_products_kernel(Responses<N> q, const N* g, Partial<Real<N>> partial) {
  using T = Real<N>;
  SharedMemory shared;
  T* sums = shared.array<T>(kWarp * kSampleRows);
  const int i = static_cast<int>(blockIdx.x) * kWarp + static_cast<int>(threadIdx.x), j = static_cast<int>(blockIdx.z);
  const index_t chunk = blockIdx.y, begin = chunk * q.rows_per_chunk;
  const index_t end = begin + q.rows_per_chunk < q.rows ? begin + q.rows_per_chunk : q.rows;
  T sum = 0;
  if (i < q.m)
    for (index_t row = begin + threadIdx.y; row < end; row += kSampleRows)
      sum += real_product(g[row * q.ld + i], response(q, j + 1, row, i));
  sum = sum_over_y(sum, sums);
  if (threadIdx.y == 0 && i < q.m) partial.at(chunk, j, i) = sum;
}

}  // namespace redunet::cuda
