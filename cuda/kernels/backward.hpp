// What the pullback of a layer needs beside matrix products and the kernels of samples.hpp.
#pragma once

#include "kernels/samples.hpp"

namespace redunet::cuda {

// partial = sums of Re a* b of every column; both have ld numbers a row. Three blocks a multiprocessor: with the
// registers of four the loop, which the compiler unrolls, spills some of complex numbers in double precision.
template <class N>
__global__ void __launch_bounds__(kWarp* kSampleRows, 3)
    column_products_kernel(const N* a, const N* b, index_t ld, index_t rows, index_t rows_per_chunk,
                           Partial<Real<N>> partial) {
  sum_rows(rows, rows_per_chunk, partial.m, partial,
           [&](index_t row, int i) { return real_product(a[row * ld + i], b[row * ld + i]); });
}

// partial = sums of w_p Re g* (response of class j); g has q.ld numbers a row; weights: of rows, or null: ones.
template <class N>
__global__ void __launch_bounds__(kWarp* kSampleRows, 4)
    inner_products_kernel(Responses<N> q, const N* g, const Real<N>* weights, Partial<Real<N>> partial) {
  const int number = static_cast<int>(blockIdx.z) + 1;
  sum_rows(q.rows, q.rows_per_chunk, q.m, partial, [&](index_t row, int i) {
    const Real<N> product = real_product(g[row * q.ld + i], response(q, number, row, i));
    return weights == nullptr ? product : weights[row] * product;
  });
}

// g, z <- scale (g - w <z, g> z), <z, g> from `partial`; not of samples whose norm was below the floor.
template <class N>
__global__ void __launch_bounds__(kWarp* kSampleRows, 4)
    project_kernel(N* g, N* z, index_t ld, index_t rows, index_t rows_per_chunk, const Real<N>* weights,
                   const Real<N>* scale, Real<N> floor, Partial<Real<N>> partial) {
  using T = Real<N>;
  const int i = static_cast<int>(blockIdx.x) * kWarp + static_cast<int>(threadIdx.x);
  if (i >= partial.m) return;
  const int sample = i / partial.d;
  const T by = scale[sample], along = by < floor ? partial.of_sample(0, sample) : T(0);
  const index_t begin = index_t{blockIdx.y} * rows_per_chunk;
  const index_t end = begin + rows_per_chunk < rows ? begin + rows_per_chunk : rows;
  for (index_t row = begin + threadIdx.y; row < end; row += kSampleRows) {
    const index_t at = row * ld + i;
    g[at] = z[at] = scaled(by, add_scaled(g[at], -along * weights[row], z[at]));
  }
}

// responses of class j <- a_j g + w b_j (response): the gradient to it. a, b: [sample] of the class.
template <class N>
__global__ void __launch_bounds__(kWarp* kSampleRows, 4)
    response_gradient_kernel(N* responses, const N* g, index_t ld, index_t rows, index_t rows_per_chunk, int m, int d,
                             const Real<N>* weights, const Real<N>* a, const Real<N>* b) {
  const int i = static_cast<int>(blockIdx.x) * kWarp + static_cast<int>(threadIdx.x);
  if (i >= m) return;
  const Real<N> by_g = a[i / d], by_response = b[i / d];
  const index_t begin = index_t{blockIdx.y} * rows_per_chunk;
  const index_t end = begin + rows_per_chunk < rows ? begin + rows_per_chunk : rows;
  for (index_t row = begin + threadIdx.y; row < end; row += kSampleRows) {
    N& response = responses[row * m + i];
    response = add_scaled(scaled(by_g, g[row * ld + i]), by_response * weights[row], response);
  }
}

}  // namespace redunet::cuda
