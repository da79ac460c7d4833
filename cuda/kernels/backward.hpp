// What the pullback of a layer needs beside matrix products and the kernels of samples.hpp.
#pragma once

#include "kernels/samples.hpp"

namespace redunet::cuda {

// partial = sums of w_p Re g* (response of class j); g has q.ld numbers a row; weights: of frequencies, or null: ones.
template <class N>
__global__ void __launch_bounds__(kWarp* kSampleRows, 4)
    inner_products_kernel(Responses<N> q, const N* g, const Real<N>* weights, Partial<Real<N>> partial) {
  const int number = static_cast<int>(blockIdx.z) + 1;
  sum_rows(q.rows, q.rows_per_chunk, q.m, partial, [&](index_t row, int i) {
    const Real<N> product = real_product(g[row * q.ld + i], response(q, number, row, i));
    return weights == nullptr ? product : weights[row / q.C] * product;
  });
}

}  // namespace redunet::cuda
