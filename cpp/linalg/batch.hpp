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

// log det(A[first[i]] + A[second[i]]), i < count: sums are made where they are factored, kPanel at a time.
template <class T>
void logdet_of_sums(const KernelSet& kernels, Parallel& parallel, const T* A, const std::int64_t* first,
                    const std::int64_t* second, index_t count, index_t n, index_t planes, T* logdets);

// Whether `count` matrices of size n go side by side in lanes: where they are so small that it doesn't matter, or fill
// enough of them. Lanes that are not in use cost as much as those that are, and a set of lanes is one task: a full one
// of 48 < n <= 96 is only about twice as fast as blocks (float, AVX-512: 9.5 and 17 us a matrix at n = 64, 23 and 50 at
// 96; 1.1 and 5.5 at 32). kLaneBytes keeps a set in the L2 cache.
constexpr index_t kLaneBytes = 1 << 20;
template <class T>
bool interleaves(index_t count, index_t n, index_t planes) {
  if (n * n * planes * kCacheLine > kLaneBytes) return false;
  if (n <= 8) return true;
  if (n <= 48) return count >= kPanel<T> / (n <= 32 ? 4 : 2);
  const index_t sets = divide_up(count, kPanel<T>);
  return sets > 1 && 8 * count >= 5 * sets * kPanel<T>;
}

}  // namespace redunet
