// x* A^-1 x of many vectors, and log det A, of Hermitian positive definite matrices: ||y||^2 with L y = x, A = L L*.
#pragma once

#include "base/parallel.hpp"

namespace redunet {

// Of `count` matrices A (n, n), interleaved row-major, with m vectors each, X (m, n): forms (count, m) and logdets
// (count). The first matrix that is not positive definite is a NotPositiveDefinite that names it.
template <class T>
void quadratic_forms(const KernelSet& kernels, Parallel& parallel, const T* A, index_t count, index_t n, index_t planes,
                     const T* X, index_t m, T* forms, T* logdets);

}  // namespace redunet
