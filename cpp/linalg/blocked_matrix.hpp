// One Hermitian positive definite matrix in blocks, for those too large or too few to be put side by side in lanes.
//
// kPanel columns make a column panel, [panel][row][planes][kPanel], so that the products of kernels.hpp serve as its
// block products. Sizes are padded to a multiple of kPanel with the identity.
#pragma once

#include "base/buffer.hpp"

namespace redunet {

// The log of the product of n pivots, each with the shift added, few logarithms at a time; NaN where one is not a
// positive finite number.
template <class T>
double log_of_product(const T* pivots, index_t n, index_t stride, T shift);

// Work space for one matrix of size n in blocks.
template <class T>
class BlockedMatrix {
 public:
  BlockedMatrix(const Kernels<T>& kernels, index_t n, index_t planes);

  index_t padded() const { return padded_; }
  // Element (i, j): real part; the imaginary part is kPanel further.
  T* at(index_t i, index_t j) { return M_.get() + (j / kPanel<T> * padded_ + i) * planes_ * kPanel<T> + j % kPanel<T>; }
  // Reads the lower triangle of scale * A, A (n, n) with the given strides. What is factored, and inverted, is that +
  // shift * I.
  void read(const T* A, index_t row_stride, index_t col_stride, index_t imag_offset, T scale, T shift);
  // L, zero above the diagonal when written. Returns log det, or NaN if not positive definite.
  double cholesky();
  // The inverse. Returns log det of the matrix, or NaN if not positive definite.
  double invert();
  // b (n, n_rhs), interleaved row-major, becomes (L L*)^-1 b, after cholesky().
  void solve(T* b, index_t n_rhs);
  // Writes scale * the lower triangle, interleaved row-major; hermitian: and its mirror image, else zeros above.
  void write(T* out, index_t row_stride, T scale, bool hermitian);

 private:
  void gather_rows(index_t block);
  double factor(index_t block);
  void update(index_t block);
  void invert_factor(T* V);
  Product<T> minus_product() const;

  const Kernels<T>& kernels_;
  index_t n_, planes_, padded_, n_blocks_;
  T shift_ = 0;                           // not yet part of M_ on the diagonal of what is still to be factored
  Buffer<T> M_, R_, small_, minus_ones_;  // R: one block row of the whole matrix; small: L* of one block
  Buffer<T> X_;                           // for invert: V, and then the inverse
  Buffer<T> dense_, x_;                   // for solve: L row-major, and right-hand sides in panels
  index_t x_size_ = 0;
};

}  // namespace redunet
