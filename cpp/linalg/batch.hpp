// The public batched functions of redunet.linalg: many Hermitian positive definite matrices, side by side in vector
// lanes or one at a time.
#pragma once

#include "base/parallel.hpp"
#include "linalg/blocked_matrix.hpp"
#include "shared/problem.hpp"

namespace redunet {

// One of the tasks for `count` matrices A (n, n), interleaved row-major. out: like A, or one number each (kLogdet), or
// in place on B (n, n_rhs) (kSolve). A matrix that is not positive definite in single precision is tried again in
// double; one that isn't there either is a NotPositiveDefinite that names the first.
template <class T>
void batched(Task task, const KernelSet& kernels, Parallel& parallel, const T* A, index_t count, index_t n,
             index_t planes, T* out, index_t n_rhs);

// Whether `count` matrices of size n go side by side in lanes: when they fill them, or are small enough that it
// doesn't matter; kLaneBytes keeps a set of them in the L2 cache.
constexpr index_t kLaneBytes = 1 << 20;
template <class T>
bool interleaves(index_t count, index_t n, index_t planes) {
  return n * n * planes * kCacheLine <= kLaneBytes && (n <= 8 || count >= kPanel<T> / 4);
}

}  // namespace redunet
