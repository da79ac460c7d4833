// Around the products of the blocked factorisation (factoriser.cu), for matrices that don't fit shared memory.
#pragma once

#include "kernels/number.hpp"

namespace redunet::cuda {

// to[q] (n, n) = scale[s] * M[q], the whole Hermitian matrix from the lower triangle, with sums as in
// Factorise.
template <class N>
__global__ void prepare_kernel(const N* M, index_t group, int terms, int n, const double* scale, N* to) {
  using T = Real<N>;
  const index_t matrix = blockIdx.x, s = matrix / group, size = index_t{n} * n;
  const T by = scale == nullptr ? T(1) : static_cast<T>(scale[s]);
  for (index_t e = threadIdx.x; e < size; e += blockDim.x) {
    const index_t i = e / n, j = e % n, at = i >= j ? e : j * n + i;
    N sum = number<N>(0);
    if (s == 0 && terms > 0)
      for (int t = 1; t <= terms; ++t) sum = add_scaled(sum, T(1), M[(matrix + t * group) * size + at]);
    else
      sum = M[matrix * size + at];
    sum = scaled(by, sum);
    if (i == j) sum = number<N>(real_part(sum));
    to[matrix * size + e] = i >= j ? sum : conjugate(sum);
  }
}

// inverse[q] <- by[s] times the Hermitian matrix of its lower triangle.
template <class N>
__global__ void hermitian_kernel(N* inverse, index_t group, int n, const double* by) {
  const index_t matrix = blockIdx.x, size = index_t{n} * n;
  const Real<N> scale = by == nullptr ? Real<N>(1) : static_cast<Real<N>>(by[matrix / group]);
  N* A = inverse + matrix * size;
  for (index_t e = threadIdx.x; e < size; e += blockDim.x) {
    const index_t i = e / n, j = e % n;
    if (j > i) continue;
    N z = scaled(scale, A[e]);
    if (i == j) z = number<N>(real_part(z));
    A[e] = z;
    if (j < i) A[j * n + i] = conjugate(z);
  }
}

}  // namespace redunet::cuda
