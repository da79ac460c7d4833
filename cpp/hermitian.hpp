// Hermitian positive definite matrices, one at a time: blocked algorithms for those too large or too few to be put side
// by side in vector lanes, and the public batched functions that choose between the two.
//
// A matrix in blocks: kPanel columns make a column panel, [panel][row][planes][kPanel], so that the products of
// kernels.hpp serve as its block products. Sizes are padded to a multiple of kPanel with the identity.
#pragma once

#include "buffer.hpp"
#include "parallel.hpp"
#include "problem.hpp"

namespace redunet {

// Work space for one matrix of size n in blocks.
template <class T>
class BlockedMatrix {
 public:
  BlockedMatrix(const Kernels<T>& kernels, index_t n, index_t planes);

  index_t padded() const { return padded_; }
  // Element (i, j): real part; the imaginary part is kPanel further.
  T* at(index_t i, index_t j) { return M_.get() + (j / kPanel<T> * padded_ + i) * planes_ * kPanel<T> + j % kPanel<T>; }
  // Reads the lower triangle of scale * A + shift * I, A (n, n) with the given strides.
  void read(const T* A, index_t row_stride, index_t col_stride, index_t imag_offset, T scale, T shift);
  // L, zero above the diagonal when written. Returns log det, or NaN if not positive definite.
  double cholesky();
  // The inverse. Returns log det of the matrix, or NaN if not positive definite.
  double invert();
  // Writes scale * the lower triangle, interleaved row-major; hermitian: and its mirror image, else zeros above.
  void write(T* out, index_t row_stride, T scale, bool hermitian);

 private:
  void gather_rows(index_t block, bool all);
  void update(index_t block, bool all);

  const Kernels<T>& kernels_;
  index_t n_, planes_, padded_, n_blocks_;
  Buffer<T> M_, R_, S_;        // R: one block row of the whole matrix; S: D^-1 R or L^-1 R
  Buffer<T> small_, inverse_;  // one kPanel x kPanel block, interleaved row-major
};

enum class Task { kCholesky, kInverse, kSolve, kLogdet };

// One of the tasks for `count` matrices A (n, n), interleaved row-major. out: like A, or one number each (kLogdet), or
// in place on B (n, n_rhs) (kSolve). Throws NotPositiveDefinite naming the first matrix that fails.
template <class T>
void batched(Task task, const Kernels<T>& kernels, Parallel& parallel, const T* A, index_t count, index_t n,
             index_t planes, T* out, index_t n_rhs);

// log of a product of pivots, few logarithms at a time.
template <class T>
double log_of_product(const T* pivots, index_t n, index_t stride);

// Whether `count` matrices of size n go side by side in lanes: when they fill them, or are small enough that it
// doesn't matter; kLaneBytes keeps a set of them in the L2 cache.
constexpr index_t kLaneBytes = 1 << 20;
template <class T>
bool in_lanes(index_t count, index_t n, index_t planes) {
  return n * n * planes * kCacheLine <= kLaneBytes && (n <= 8 || count >= kPanel<T> / 4);
}

}  // namespace redunet
