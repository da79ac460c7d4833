// Factor, inverse and solution of one Hermitian matrix in blocks of kPanel rows and columns: the block on the diagonal
// row by row, everything else by the product of kernels.hpp. Only the lower triangle is kept up to date.

#include "blocked_matrix.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "parts.hpp"
#include "problem.hpp"

namespace redunet {
namespace {

// Column panels of one block product: as many as there are coefficients of -1 for it.
constexpr index_t kMostColumns = 4096;

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
      small_(kPanel<T> * kPanel<T> * planes) {}

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

// R <- the rows of a block of the whole Hermitian matrix, in panels over its columns; only the columns from the block
// on if not all. Left of the block they are stored; right of it they are the mirror image of the block's columns.
template <class T>
void BlockedMatrix<T>::gather_rows(index_t block, bool all) {
  constexpr index_t B = kPanel<T>;
  const index_t size = B * planes_ * B;
  for (index_t t = all ? 0 : block; t < n_blocks_; ++t) {
    T* R = R_.get() + t * size;
    if (t < block) {
      std::memcpy(R, at(block * B, t * B), static_cast<std::size_t>(size) * sizeof(T));
      continue;
    }
    for (index_t column = 0; column < B; ++column)
      for (index_t row = 0; row < B; ++row) {
        const bool stored = t == block && row >= column;
        const T* from = stored ? at(block * B + row, t * B + column) : at(t * B + column, block * B + row);
        R[row * planes_ * B + column] = from[0];
        if (planes_ == 2) R[(row * 2 + 1) * B + column] = stored ? from[B] : -from[B];
      }
  }
}

// R <- L^-1 R, and L^-* R, for the factor of the block on the diagonal, whose L* small_ holds. By substitution and not
// by the block's inverse: its condition would be lost twice.
template <class T>
void BlockedMatrix<T>::substitute(index_t first) {
  constexpr index_t B = kPanel<T>;
  kernels_.substitute({small_.get(), 1, planes_ * B, B, true, B, planes_, R_.get() + first * B * planes_ * B, 1,
                       B * planes_ * B, n_blocks_ - first});
}

template <class T>
void BlockedMatrix<T>::substitute_adjoint() {
  constexpr index_t B = kPanel<T>;
  const index_t last = (B - 1) * planes_ * B;
  kernels_.substitute({small_.get() + last + B - 1, -planes_ * B, -1, B, false, B, planes_, R_.get() + last, -1,
                       B * planes_ * B, n_blocks_});
}

// With S = R: M -= S* S on and below the diagonal, without the block's own rows and columns; only what comes after them
// if not all.
template <class T>
void BlockedMatrix<T>::update(index_t block, bool all) {
  constexpr index_t B = kPanel<T>;
  const index_t size = B * planes_ * B;
  // Never freed: at the end of the process a thread may still be at work.
  static const Buffer<T>& minus_ones = *[] {
    auto* ones = new Buffer<T>(kMostColumns * B);
    for (index_t i = 0; i < kMostColumns * B; ++i) (*ones)[i] = -1;
    return ones;
  }();
  Product<T> q{};
  q.row_stride = 1, q.col_stride = planes_ * B, q.imag_offset = B, q.conj = true;
  q.row_begin = 0, q.row_end = B, q.n_in = B, q.planes = planes_;
  q.x_stride = size;
  q.epilogue = Epilogue::kAxpy;
  q.coefficient = minus_ones.get();
  q.out_stride = padded_ * planes_ * B;
  index_t since_checkpoint = 0;
  for (index_t row = all ? 0 : block + 1; row < n_blocks_; ++row) {
    if (row == block) continue;
    const index_t begin = all ? 0 : block + 1;
    checkpoint((row + 1 - begin) * size * B * planes_, since_checkpoint);
    for (index_t t = begin; t <= row;) {  // columns up to the diagonal, without the block's own
      const index_t end = t < block ? std::min(block, row + 1) : row + 1;
      if (t == block) {
        ++t;
        continue;
      }
      q.A = R_.get() + row * size;
      q.x = R_.get() + t * size, q.n_panels = std::min(end - t, kMostColumns);
      q.out = at(row * B, t * B);
      kernels_.product(q);
      t += q.n_panels;
    }
  }
}

// small_ <- L* of a block on the diagonal, which R holds; its log det, or NaN if it is not positive definite.
template <class T>
double BlockedMatrix<T>::factor(index_t block) {
  constexpr index_t B = kPanel<T>;
  const index_t size = B * planes_ * B;
  T pivots[B];
  std::memcpy(small_.get(), R_.get() + block * size, static_cast<std::size_t>(size) * sizeof(T));
  (planes_ == 1 ? kernels_.factor_block : kernels_.factor_complex_block)(small_.get(), pivots, shift_);
  return log_of_product(pivots, B, 1, shift_);
}

// The columns of a block below it <- the block's rows, R.
template <class T>
void BlockedMatrix<T>::scatter_columns(index_t block) {
  constexpr index_t B = kPanel<T>;
  const index_t size = B * planes_ * B;
  for (index_t row = (block + 1) * B; row < padded_; ++row)
    for (index_t j = 0; j < B; ++j) {
      const T* from = R_.get() + row / B * size + j * planes_ * B + row % B;
      T* to = at(row, block * B + j);
      to[0] = from[0];
      if (planes_ == 2) to[B] = -from[B];
    }
}

template <class T>
double BlockedMatrix<T>::cholesky() {
  constexpr index_t B = kPanel<T>;
  double logdet = 0;
  for (index_t block = 0; block < n_blocks_; ++block) {
    gather_rows(block, false);
    logdet += factor(block);
    if (std::isnan(logdet)) return kNaN;
    if (block + 1 < n_blocks_) {
      substitute(block + 1);  // L[row, block] = (L^-1 R)*
      update(block, false);
      scatter_columns(block);
    }
    for (index_t i = 0; i < B; ++i)
      for (index_t j = 0; j <= i; ++j)
        for (index_t plane = 0; plane < planes_; ++plane)
          at(block * B + i, block * B + j)[plane * B] =
              (plane == 0 ? T(1) : T(-1)) * small_[(j * planes_ + plane) * B + i];  // small_ is L*
  }
  return logdet;
}

// Block by block the symmetric sweep (Gauss-Jordan): with D = L L* the block, R its rows and S = L^-1 R, M <- M - S* S
// elsewhere, the block's rows become L^-* S and the block -D^-1. After all blocks M holds minus the inverse.
template <class T>
double BlockedMatrix<T>::invert() {
  constexpr index_t B = kPanel<T>;
  const index_t size = B * planes_ * B;
  double logdet = 0;
  for (index_t block = 0; block < n_blocks_; ++block) {
    gather_rows(block, true);
    logdet += factor(block);
    if (std::isnan(logdet)) return kNaN;
    T* own = R_.get() + block * size;  // minus the identity: it comes out as -D^-1
    std::fill_n(own, size, T(0));
    for (index_t i = 0; i < B; ++i) own[i * planes_ * B + i] = -1;
    substitute(0);
    update(block, true);
    substitute_adjoint();
    for (index_t t = 0; t <= block; ++t)
      std::memcpy(at(block * B, t * B), R_.get() + t * size, static_cast<std::size_t>(size) * sizeof(T));
    scatter_columns(block);
  }
  for (index_t t = 0; t < n_blocks_; ++t) {
    T* panel = at(t * B, t * B);
    for (index_t i = 0; i < (padded_ - t * B) * planes_ * B; ++i) panel[i] = -panel[i];
  }
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
  substitute_in_parts<T>(kernels_, {dense_.get(), row, planes_, 1, false, n_, planes_, x_.get(), 1, panel, n_panels});
  substitute_in_parts<T>(kernels_, {dense_.get() + (n_ * n_ - 1) * planes_, -planes_, -row, 1, true, n_, planes_,
                                    x_.get() + (n_ - 1) * planes_ * B, -1, panel, n_panels});
  each([](T& to, T from) { to = from; });
}

template double log_of_product<float>(const float*, index_t, index_t, float);
template double log_of_product<double>(const double*, index_t, index_t, double);
template class BlockedMatrix<float>;
template class BlockedMatrix<double>;

}  // namespace redunet
