// Factor, inverse and solution of one Hermitian matrix in blocks of kPanel rows and columns: the small block on the
// diagonal in plain scalars, everything else by the product of kernels.hpp. Only the lower triangle is kept up to date.

#include "blocked_matrix.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>

namespace redunet {
namespace {

// Column panels of one block product: as many as there are coefficients of -1 for it.
constexpr index_t kMostColumns = 4096;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Scalars of one small block: real or complex, interleaved row-major.
template <class T, index_t P>
struct Block {
  using Scalar = std::conditional_t<P == 1, T, std::complex<T>>;
  static T norm(T z) { return z * z; }
  static T norm(std::complex<T> z) { return z.real() * z.real() + z.imag() * z.imag(); }
  static T conj(T z) { return z; }
  static std::complex<T> conj(std::complex<T> z) { return std::conj(z); }
  static Scalar times(T a, T b) { return a * b; }
  static std::complex<T> times(std::complex<T> a, std::complex<T> b) {  // no special cases for infinities
    return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
  }

  // L of an n x n block in place and W = L^-1 beside it; false if not positive definite.
  static bool cholesky(Scalar* L, Scalar* W, index_t n, T* pivots) {
    for (index_t j = 0; j < n; ++j) {
      for (index_t i = j; i < n; ++i)
        for (index_t k = 0; k < j; ++k) L[i * n + j] -= times(L[i * n + k], conj(L[j * n + k]));
      const T pivot = std::real(L[j * n + j]);
      pivots[j] = pivot;
      if (!(pivot > 0) || !std::isfinite(pivot)) return false;
      const T scale = 1 / std::sqrt(pivot);
      for (index_t i = j; i < n; ++i) L[i * n + j] *= scale;
      L[j * n + j] = std::sqrt(pivot);
      std::fill(L + j * n + j + 1, L + j * n + n, Scalar(0));
    }
    std::fill(W, W + n * n, Scalar(0));
    for (index_t i = 0; i < n; ++i) {
      const T scale = 1 / std::real(L[i * n + i]);
      for (index_t k = 0; k < i; ++k)
        for (index_t j = 0; j <= k; ++j) W[i * n + j] -= times(L[i * n + k], W[k * n + j]);
      for (index_t j = 0; j < i; ++j) W[i * n + j] *= scale;
      W[i * n + i] = scale;
    }
    return true;
  }

  // W* W of a lower triangular W.
  static void square(const Scalar* W, Scalar* out, index_t n) {
    std::fill(out, out + n * n, Scalar(0));
    for (index_t k = 0; k < n; ++k)
      for (index_t i = 0; i <= k; ++i)
        for (index_t j = 0; j <= k; ++j) out[i * n + j] += times(conj(W[k * n + i]), W[k * n + j]);
  }
};

}  // namespace

template <class T>
double log_of_product(const T* pivots, index_t n, index_t stride) {
  double log = 0;
  for (index_t i = 0; i < n; i += 4) {  // four single or double pivots of any size the experiments meet don't overflow
    double product = 1;
    for (index_t j = i; j < std::min(i + 4, n); ++j) {
      const double next = product * static_cast<double>(pivots[j * stride]);
      if (next > 1e280 || next < 1e-280) {
        log += std::log(product);
        product = static_cast<double>(pivots[j * stride]);
      } else {
        product = next;
      }
    }
    log += std::log(product);
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
      S_(padded_ * kPanel<T> * planes),
      small_(kPanel<T> * kPanel<T> * planes),
      inverse_(kPanel<T> * kPanel<T> * planes) {}

template <class T>
void BlockedMatrix<T>::read(const T* A, index_t row_stride, index_t col_stride, index_t imag_offset, T scale, T shift) {
  for (index_t i = 0; i < padded_; ++i)
    for (index_t j = 0; j <= i; ++j) {
      T* to = at(i, j);
      if (i >= n_) {
        to[0] = i == j ? T(1) : T(0);
        if (planes_ == 2) to[kPanel<T>] = 0;
        continue;
      }
      const T* from = A + i * row_stride + j * col_stride;
      to[0] = scale * from[0] + (i == j ? shift : T(0));
      if (planes_ == 2) to[kPanel<T>] = i == j ? T(0) : scale * from[imag_offset];
    }
}

template <class T>
void BlockedMatrix<T>::write(T* out, index_t row_stride, T scale, bool hermitian) {
  for (index_t i = 0; i < n_; ++i)
    for (index_t j = 0; j <= i; ++j) {
      const T* from = at(i, j);
      T* lower = out + i * row_stride + j * planes_;
      T* upper = out + j * row_stride + i * planes_;
      const T re = scale * from[0], im = planes_ == 2 ? scale * from[kPanel<T>] : T(0);
      upper[0] = hermitian ? re : T(0);
      if (planes_ == 2) upper[1] = hermitian ? -im : T(0);
      lower[0] = re;
      if (planes_ == 2) lower[1] = i == j ? T(0) : im;
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

// S <- inverse_ R, then M -= R* S (all: the inversion) or M -= S* S (the factorisation), on and below the diagonal.
template <class T>
void BlockedMatrix<T>::update(index_t block, bool all) {
  constexpr index_t B = kPanel<T>;
  const index_t size = B * planes_ * B;
  const index_t first = all ? 0 : block;
  Product<T> q{};
  q.A = inverse_.get();
  q.row_stride = B * planes_, q.col_stride = planes_, q.imag_offset = 1;
  q.row_begin = 0, q.row_end = B, q.n_in = B, q.planes = planes_;
  q.x = R_.get() + first * size, q.x_stride = size, q.n_panels = n_blocks_ - first;
  q.epilogue = Epilogue::kStore;
  q.out = S_.get() + first * size, q.out_stride = size;
  kernels_.product(q);

  static const auto minus_ones = [] {
    Buffer<T> ones(kMostColumns * B);
    for (index_t i = 0; i < kMostColumns * B; ++i) ones[i] = -1;
    return ones;
  }();
  const T* coefficients = all ? R_.get() : S_.get();
  for (index_t row = all ? 0 : block + 1; row < n_blocks_; ++row) {
    if (row == block) continue;
    const index_t begin = all ? 0 : block + 1;
    for (index_t t = begin; t <= row;) {  // columns up to the diagonal, without the block's own
      const index_t end = t < block ? std::min(block, row + 1) : row + 1;
      if (t == block) {
        ++t;
        continue;
      }
      q.A = coefficients + row * size;
      q.row_stride = 1, q.col_stride = planes_ * B, q.imag_offset = B, q.conj = true;
      q.x = S_.get() + t * size, q.x_stride = size, q.n_panels = std::min(end - t, kMostColumns);
      q.epilogue = Epilogue::kAxpy;
      q.coefficient = minus_ones.get();
      q.out = at(row * B, t * B), q.out_stride = padded_ * planes_ * B;
      kernels_.product(q);
      t += q.n_panels;
    }
  }
}

template <class T>
double BlockedMatrix<T>::cholesky() {
  constexpr index_t B = kPanel<T>;
  const index_t size = B * planes_ * B;
  double logdet = 0;
  T pivots[B];
  for (index_t block = 0; block < n_blocks_; ++block) {
    gather_rows(block, false);
    const T* D = R_.get() + block * size;
    for (index_t i = 0; i < B; ++i)
      for (index_t j = 0; j < B; ++j)
        for (index_t plane = 0; plane < planes_; ++plane)
          small_[(i * B + j) * planes_ + plane] = D[(i * planes_ + plane) * B + j];
    const bool good = planes_ == 1
                          ? Block<T, 1>::cholesky(small_.get(), inverse_.get(), B, pivots)
                          : Block<T, 2>::cholesky(reinterpret_cast<std::complex<T>*>(small_.get()),
                                                  reinterpret_cast<std::complex<T>*>(inverse_.get()), B, pivots);
    if (!good) return kNaN;
    logdet += log_of_product(pivots, B, 1);
    update(block, false);
    for (index_t i = 0; i < B; ++i)
      for (index_t j = 0; j <= i; ++j)
        for (index_t plane = 0; plane < planes_; ++plane)
          at(block * B + i, block * B + j)[plane * B] = small_[(i * B + j) * planes_ + plane];
    for (index_t row = (block + 1) * B; row < padded_; ++row)  // L[row, block] = (L^-1 R)*
      for (index_t j = 0; j < B; ++j) {
        const T* from = S_.get() + row / B * size + j * planes_ * B + row % B;
        T* to = at(row, block * B + j);
        to[0] = from[0];
        if (planes_ == 2) to[B] = -from[B];
      }
  }
  return logdet;
}

// Block by block the symmetric sweep (Gauss-Jordan): with D the block, R its rows and S = D^-1 R, M <- M - R* S
// elsewhere, the block's rows become S and the block -D^-1. After all blocks M holds minus the inverse.
template <class T>
double BlockedMatrix<T>::invert() {
  constexpr index_t B = kPanel<T>;
  const index_t size = B * planes_ * B;
  double logdet = 0;
  T pivots[B];
  Buffer<T> W(B * B * planes_);
  for (index_t block = 0; block < n_blocks_; ++block) {
    gather_rows(block, true);
    const T* D = R_.get() + block * size;
    for (index_t i = 0; i < B; ++i)
      for (index_t j = 0; j < B; ++j)
        for (index_t plane = 0; plane < planes_; ++plane)
          small_[(i * B + j) * planes_ + plane] = D[(i * planes_ + plane) * B + j];
    bool good;
    if (planes_ == 1) {
      good = Block<T, 1>::cholesky(small_.get(), W.get(), B, pivots);
      if (good) Block<T, 1>::square(W.get(), inverse_.get(), B);
    } else {
      using Complex = std::complex<T>;
      auto* w = reinterpret_cast<Complex*>(W.get());
      good = Block<T, 2>::cholesky(reinterpret_cast<Complex*>(small_.get()), w, B, pivots);
      if (good) Block<T, 2>::square(w, reinterpret_cast<Complex*>(inverse_.get()), B);
    }
    if (!good) return kNaN;
    logdet += log_of_product(pivots, B, 1);
    update(block, true);
    for (index_t t = 0; t < block; ++t)
      std::memcpy(at(block * B, t * B), S_.get() + t * size, static_cast<std::size_t>(size) * sizeof(T));
    for (index_t i = 0; i < B; ++i)
      for (index_t j = 0; j < B; ++j)
        for (index_t plane = 0; plane < planes_; ++plane)
          at(block * B + i, block * B + j)[plane * B] = -inverse_[(i * B + j) * planes_ + plane];
    for (index_t row = (block + 1) * B; row < padded_; ++row)
      for (index_t j = 0; j < B; ++j) {
        const T* from = S_.get() + row / B * size + j * planes_ * B + row % B;
        T* to = at(row, block * B + j);
        to[0] = from[0];
        if (planes_ == 2) to[B] = -from[B];
      }
  }
  for (index_t t = 0; t < n_blocks_; ++t) {
    T* panel = at(t * B, t * B);
    for (index_t i = 0; i < (padded_ - t * B) * planes_ * B; ++i) panel[i] = -panel[i];
  }
  return logdet;
}

// x <- L^-1 x, then x <- L^-* x, for one matrix L and n_rhs columns, interleaved row-major.
template <class T>
template <index_t P>
void BlockedMatrix<T>::solve_with_factor(T* b, index_t n_rhs) {
  using Arithmetic = Block<T, P>;
  using Scalar = typename Arithmetic::Scalar;
  auto* x = reinterpret_cast<Scalar*>(b);
  const auto element = [&](index_t i, index_t j) {
    const T* p = at(i, j);
    if constexpr (P == 1)
      return p[0];
    else
      return Scalar(p[0], p[kPanel<T>]);
  };
  for (index_t i = 0; i < n_; ++i) {
    for (index_t k = 0; k < i; ++k) {
      const Scalar a = element(i, k);
      for (index_t r = 0; r < n_rhs; ++r) x[i * n_rhs + r] -= Arithmetic::times(a, x[k * n_rhs + r]);
    }
    const T scale = 1 / std::real(element(i, i));
    for (index_t r = 0; r < n_rhs; ++r) x[i * n_rhs + r] *= scale;
  }
  for (index_t i = n_ - 1; i >= 0; --i) {
    const T scale = 1 / std::real(element(i, i));
    for (index_t r = 0; r < n_rhs; ++r) x[i * n_rhs + r] *= scale;
    for (index_t k = 0; k < i; ++k) {
      const Scalar a = Arithmetic::conj(element(i, k));
      for (index_t r = 0; r < n_rhs; ++r) x[k * n_rhs + r] -= Arithmetic::times(a, x[i * n_rhs + r]);
    }
  }
}

template <class T>
void BlockedMatrix<T>::solve(T* b, index_t n_rhs) {
  planes_ == 1 ? solve_with_factor<1>(b, n_rhs) : solve_with_factor<2>(b, n_rhs);
}

template double log_of_product<float>(const float*, index_t, index_t);
template double log_of_product<double>(const double*, index_t, index_t);
template class BlockedMatrix<float>;
template class BlockedMatrix<double>;

}  // namespace redunet
