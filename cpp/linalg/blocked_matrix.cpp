// Factor, inverse and solution of one Hermitian matrix in blocks of kPanel rows and columns: the block on the diagonal
// row by row, everything else by the product of kernels.hpp. Only the lower triangle is kept up to date.

#include "linalg/blocked_matrix.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/parts.hpp"
#include "shared/problem.hpp"

namespace redunet {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

}  // namespace

// With a shift of one the product is carried as 1 + e: what pivots have beside the one is not rounded away.
template <class T>
double log_of_product(const T* pivots, index_t n, index_t stride, T shift) {
  constexpr index_t kTogether = 8;
  constexpr double kLargest = 1e280, kSmallest = 1e-280;
  double log = 0;
  for (index_t i = 0; i < n; i += kTogether) {
    double product = 1, excess = 0;
    for (index_t j = i; j < std::min(i + kTogether, n); ++j) {
      const auto pivot = static_cast<double>(pivots[j * stride]);
      if (!(pivot + double(shift) > 0) || !std::isfinite(pivot)) return kNaN;
      if (shift == 0) {
        if (const double next = product * pivot; next < kSmallest || next > kLargest)
          log += std::log(product), product = pivot;
        else
          product = next;
      } else {
        if (const double next = excess + pivot + excess * pivot; next < -0.5 || next > kLargest)
          log += std::log1p(excess), excess = pivot;
        else
          excess = next;
      }
    }
    log += shift == 0 ? std::log(product) : std::log1p(excess);
  }
  return log;
}

template <class T>
BlockedMatrix<T>::BlockedMatrix(const Kernels<T>& kernels, index_t n, index_t planes)
    : kernels_(kernels),
      n_(n),
      planes_(planes),
      padded_((n + kPanel<T> - 1) / kPanel<T> * kPanel<T>),
      n_blocks_(padded_ / kPanel<T>),
      M_(padded_ * padded_ * planes),
      R_(padded_ * kPanel<T> * planes),
      small_(kPanel<T> * kPanel<T> * planes),
      minus_ones_(padded_) {
  std::fill_n(minus_ones_.get(), padded_, T(-1));
}

template <class T>
void BlockedMatrix<T>::read(const T* A, index_t row_stride, index_t col_stride, index_t imag_offset, T scale, T shift) {
  constexpr index_t B = kPanel<T>;
  shift_ = shift;
  for (index_t i = 0; i < padded_; ++i) {
    const T* from = A + i * row_stride;
    for (index_t first = 0; first <= i; first += B) {
      T* to = at(i, first);
      const index_t n = std::min(B, i + 1 - first);
      if (i >= n_) {
        std::fill_n(to, B * planes_, T(0));
      } else {
        for (index_t lane = 0; lane < n; ++lane) to[lane] = scale * from[(first + lane) * col_stride];
        for (index_t lane = 0; lane < n && planes_ == 2; ++lane)
          to[B + lane] = scale * from[(first + lane) * col_stride + imag_offset];
      }
    }
    T* diagonal = at(i, i);
    if (i >= n_) diagonal[0] = T(1) - shift;
    if (planes_ == 2) diagonal[B] = 0;
  }
}

template <class T>
void BlockedMatrix<T>::write(T* out, index_t row_stride, T scale, bool hermitian) {
  constexpr index_t B = kPanel<T>;
  for (index_t first = 0; first < n_; first += B)  // column panels
    for (index_t i = first; i < n_; ++i) {
      const T* from = at(i, first);
      T* to = out + i * row_stride + first * planes_;
      const index_t n = std::min(B, i + 1 - first);
      if (planes_ == 1) {
        for (index_t lane = 0; lane < n; ++lane) to[lane] = scale * from[lane];
      } else {
        for (index_t lane = 0; lane < n; ++lane) {
          to[2 * lane] = scale * from[lane];
          to[2 * lane + 1] = first + lane == i ? T(0) : scale * from[B + lane];
        }
      }
    }
  for (index_t i = 0; i < n_; ++i) {
    T* row = out + i * row_stride;
    if (!hermitian) std::fill(row + (i + 1) * planes_, row + n_ * planes_, T(0));
  }
  if (!hermitian) return;
  for (index_t first = 0; first < n_; first += B)  // a block of rows above the diagonal from the columns below it
    for (index_t j = first + 1; j < n_; ++j) {
      const T* from = at(j, first);
      T* to = out + first * row_stride + j * planes_;
      for (index_t lane = 0; lane < std::min(B, j - first); ++lane) {
        to[lane * row_stride] = scale * from[lane];
        if (planes_ == 2) to[lane * row_stride + 1] = -scale * from[B + lane];
      }
    }
}

// R <- the rows of a block, in panels over the columns from the block on: the mirror image of the block's columns.
template <class T>
void BlockedMatrix<T>::gather_rows(index_t block) {
  constexpr index_t B = kPanel<T>;
  const index_t size = B * planes_ * B;
  for (index_t t = block; t < n_blocks_; ++t) {
    T* R = R_.get() + t * size;
    for (index_t column = 0; column < B; ++column)
      for (index_t row = 0; row < B; ++row) {
        const bool stored = t == block && row >= column;
        const T* from = stored ? at(block * B + row, t * B + column) : at(t * B + column, block * B + row);
        R[row * planes_ * B + column] = from[0];
        if (planes_ == 2) R[(row * 2 + 1) * B + column] = stored ? from[B] : -from[B];
      }
  }
}

// With L* of a block in small_: R <- L^-1 R behind the block, and M -= R* R on and below the diagonal there. By
// substitution, not by the block's inverse: its condition would be lost once more.
template <class T>
void BlockedMatrix<T>::update(index_t block) {
  constexpr index_t B = kPanel<T>;
  const index_t size = B * planes_ * B;
  kernels_.substitute({.L = small_.get(),
                       .row_stride = 1,
                       .col_stride = planes_ * B,
                       .imag_offset = B,
                       .conj = true,
                       .n = B,
                       .planes = planes_,
                       .x = R_.get() + (block + 1) * size,
                       .row_step = 1,
                       .x_stride = size,
                       .n_panels = n_blocks_ - block - 1});
  Product<T> q = minus_product();
  q.x = R_.get() + (block + 1) * size, q.x_stride = size, q.n_in = B;
  index_t since_checkpoint = 0;
  for (index_t row = block + 1; row < n_blocks_; ++row) {
    checkpoint((row - block) * size * B * planes_, since_checkpoint);
    q.A = R_.get() + row * size, q.n_panels = row - block;
    q.out = at(row * B, (block + 1) * B);
    kernels_.product(q);
  }
}

// out -= A* x: A a block column, out a block row of a matrix in column panels.
template <class T>
Product<T> BlockedMatrix<T>::minus_product() const {
  constexpr index_t B = kPanel<T>;
  Product<T> q{};
  q.row_stride = 1, q.col_stride = planes_ * B, q.imag_offset = B, q.conj = true;
  q.row_begin = 0, q.row_end = B, q.planes = planes_;
  q.out_stride = padded_ * planes_ * B;
  q.epilogue = Epilogue::kAxpy;
  q.coefficient = minus_ones_.get();
  return q;
}

// small_ <- L* of a block on the diagonal, which R holds; its log det, or NaN if it is not positive definite.
template <class T>
double BlockedMatrix<T>::factor(index_t block) {
  constexpr index_t B = kPanel<T>;
  const index_t size = B * planes_ * B;
  T pivots[B];
  std::memcpy(small_.get(), R_.get() + block * size, as_size(size) * sizeof(T));
  (planes_ == 1 ? kernels_.factor_block : kernels_.factor_complex_block)(small_.get(), pivots, shift_);
  return log_of_product(pivots, B, 1, shift_);
}

template <class T>
double BlockedMatrix<T>::cholesky() {
  constexpr index_t B = kPanel<T>;
  const index_t size = B * planes_ * B;
  double logdet = 0;
  for (index_t block = 0; block < n_blocks_; ++block) {
    gather_rows(block);
    logdet += factor(block);
    if (std::isnan(logdet)) return kNaN;
    if (block + 1 < n_blocks_) update(block);
    for (index_t i = 0; i < B; ++i)
      for (index_t j = 0; j <= i; ++j)
        for (index_t plane = 0; plane < planes_; ++plane)
          at(block * B + i, block * B + j)[plane * B] =
              (plane == 0 ? T(1) : T(-1)) * small_[(j * planes_ + plane) * B + i];  // small_ is L*
    for (index_t row = (block + 1) * B; row < padded_; ++row)                       // L[row, block] = (L^-1 R)*
      for (index_t j = 0; j < B; ++j) {
        const T* from = R_.get() + row / B * size + j * planes_ * B + row % B;
        T* to = at(row, block * B + j);
        to[0] = from[0];
        if (planes_ == 2) to[B] = -from[B];
      }
  }
  return logdet;
}

// V <- L^-* of the factor in M, on and above the diagonal, a block row at a time from the last: L* V = I.
template <class T>
void BlockedMatrix<T>::invert_factor(T* V) {
  constexpr index_t B = kPanel<T>, kTogether = 4;  // panels: of those on the diagonal a half is zeros
  const index_t size = B * planes_ * B, column = padded_ * planes_ * B, last = (B - 1) * (planes_ * B + 1);
  std::fill_n(V, padded_ * padded_ * planes_, T(0));
  Product<T> q = minus_product();
  q.x_stride = column;
  index_t since_checkpoint = 0;
  for (index_t block = n_blocks_ - 1; block >= 0; --block) {
    T* own = V + block * (size + column);
    for (index_t i = 0; i < B; ++i) own[i * planes_ * B + i] = 1;
    q.A = at((block + 1) * B, block * B);
    for (index_t t = block + 1; t < n_blocks_; t += kTogether) {
      q.n_panels = std::min(kTogether, n_blocks_ - t), q.n_in = (t + q.n_panels - block - 1) * B;
      checkpoint(q.n_panels * size * planes_ * q.n_in, since_checkpoint);
      q.x = V + t * column + (block + 1) * size, q.out = V + t * column + block * size;
      kernels_.product(q);
    }
    kernels_.substitute({.L = at(block * B, block * B) + last,
                         .row_stride = -1,
                         .col_stride = -planes_ * B,
                         .imag_offset = B,
                         .conj = true,
                         .n = B,
                         .planes = planes_,
                         .x = own + (B - 1) * planes_ * B,
                         .row_step = -1,
                         .x_stride = column,
                         .n_panels = n_blocks_ - block});
  }
}

// W* W with W = V*. V solves L* V = I, and so W L = I and not L W = I: then W* W is as accurate as two substitutions,
// where the other's error, like a Gauss-Jordan sweep's, would grow by the root of the condition.
template <class T>
double BlockedMatrix<T>::invert() {
  constexpr index_t B = kPanel<T>;
  const index_t size = B * planes_ * B, column = padded_ * planes_ * B;
  const double logdet = cholesky();
  if (std::isnan(logdet)) return kNaN;
  if (X_.get() == nullptr) X_ = Buffer<T>(padded_ * padded_ * planes_);
  invert_factor(X_.get());
  for (index_t t = 0; t < n_blocks_; ++t)  // M <- W
    for (index_t row = t * B; row < padded_; ++row)
      for (index_t lane = 0; lane < B; ++lane) {
        const T* from = X_.get() + row / B * column + (t * B + lane) * planes_ * B + row % B;
        T* to = at(row, t * B + lane);
        to[0] = from[0];
        if (planes_ == 2) to[B] = -from[B];
      }
  Product<T> q = minus_product();
  q.epilogue = Epilogue::kStore;
  q.x_stride = column;
  index_t since_checkpoint = 0;
  for (index_t block = 0; block < n_blocks_; ++block) {
    q.A = at(block * B, block * B), q.n_in = padded_ - block * B;
    q.x = at(block * B, 0), q.n_panels = block + 1;
    q.out = X_.get() + block * size;
    checkpoint(q.n_panels * size * planes_ * q.n_in, since_checkpoint);
    kernels_.product(q);
  }
  std::swap(M_, X_);
  return logdet;
}

// x <- L^-1 x, then x <- L^-* x, right-hand sides in lanes; L dense, in work_.
template <class T>
void BlockedMatrix<T>::solve(T* b, index_t n_rhs) {
  constexpr index_t B = kPanel<T>;
  const index_t n_panels = divide_up(n_rhs, B), panel = n_ * planes_ * B, row = n_ * planes_;
  if (dense_.get() == nullptr) dense_ = Buffer<T>(n_ * row);
  if (n_panels * panel > x_size_) x_size_ = n_panels * panel, x_ = Buffer<T>(x_size_);
  write(dense_.get(), row, T(1), false);
  const auto each = [&](const auto& f) {
    for (index_t r = 0; r < n_rhs; ++r)
      for (index_t e = 0; e < row; ++e)
        f(b[(e / planes_ * n_rhs + r) * planes_ + e % planes_], x_[r / B * panel + e * B + r % B]);
  };
  each([](T from, T& to) { to = from; });
  substitute_in_parts<T>(kernels_, {.L = dense_.get(),
                                    .row_stride = row,
                                    .col_stride = planes_,
                                    .imag_offset = 1,
                                    .conj = false,
                                    .n = n_,
                                    .planes = planes_,
                                    .x = x_.get(),
                                    .row_step = 1,
                                    .x_stride = panel,
                                    .n_panels = n_panels});
  substitute_in_parts<T>(kernels_, {dense_.get() + (n_ * n_ - 1) * planes_, -planes_, -row, 1, true, n_, planes_,
                                    x_.get() + (n_ - 1) * planes_ * B, -1, panel, n_panels});
  each([](T& to, T from) { to = from; });
}

template double log_of_product<float>(const float*, index_t, index_t, float);
template double log_of_product<double>(const double*, index_t, index_t, double);
template class BlockedMatrix<float>;
template class BlockedMatrix<double>;

}  // namespace redunet
