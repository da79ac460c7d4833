// y = A x on panels: M rows times N columns of vectors at a time, the sum over the columns of A in registers, then one
// of the endings of Epilogue. Part of kernels.cpp.
#pragma once

#include "kernels/simd.hpp"

namespace redunet {
namespace REDUNET_ISA {
namespace {

// Register tiles: rows x columns of vectors held as accumulators. With 32 registers 6 complex rows x 2 columns take 24
// and leave 4 for x and the rest for broadcasts; with 16 registers 2 x 2 take 8. Real rows count half.
template <index_t P>
constexpr index_t kTileRows = (kManyRegisters ? 12 : 4) / P;
constexpr index_t kTileColumns = 2;

template <class T>
struct Column {
  const T* x;
  index_t panel, lane;  // where this column of vectors lies
};

template <class T>
inline Column<T> column(const Product<T>& q, index_t v) {
  const index_t panel = v / kVectors<T>, lane = v % kVectors<T> * kLanes<T>;
  return {q.x + panel * q.x_stride + lane, panel, lane};
}

// Always inlined: y lives in registers.
template <class T, index_t P, index_t M, index_t N>
[[gnu::always_inline]] inline void finish(const Product<T>& q, index_t row, const Column<T> (&at)[N],
                                          const vec<T> (&y)[M][P][N]) {
  for (index_t c = 0; c < N; ++c) {
    const index_t panel = at[c].panel, offset = row * P * kPanel<T> + at[c].lane;
    T* squares = q.squares + panel * kPanel<T> + at[c].lane;
    T* out = q.out + panel * q.out_stride + offset;
    const T* x0 = q.x0 + panel * q.x0_stride + offset;
    const auto each_row = [&](const auto& f) {
      for (index_t i = 0; i < M; ++i)
        for (index_t plane = 0; plane < P; ++plane) f((i * P + plane) * kPanel<T>, y[i][plane][c]);
    };
    vec<T> s{};
    switch (q.epilogue) {
      case Epilogue::kStore:
        each_row([&](index_t row_at, vec<T> z) { store<T>(out + row_at, z); });
        break;
      case Epilogue::kAxpy: {
        const vec<T> by = load(q.coefficient + panel * kPanel<T> + at[c].lane);
        each_row([&](index_t row_at, vec<T> z) { store<T>(out + row_at, load(out + row_at) + by * z); });
        break;
      }
      case Epilogue::kCombine: {
        const vec<T> by = load(q.coefficient + panel * kPanel<T> + at[c].lane);
        const vec<T> base = load(q.base + panel * kPanel<T> + at[c].lane);
        each_row([&](index_t row_at, vec<T> z) { store<T>(out + row_at, base * load(x0 + row_at) + by * z); });
        break;
      }
      case Epilogue::kStoreSquaredNorm:
        each_row([&](index_t row_at, vec<T> z) { store<T>(out + row_at, z); });
        [[fallthrough]];
      case Epilogue::kSquaredNorm:
        each_row([&](index_t, vec<T> z) { s += z * z; });
        store<T>(squares, load(squares) + q.weight * s);
        break;
      case Epilogue::kResidualNorm:
        each_row([&](index_t row_at, vec<T> z) {
          const vec<T> r = load(x0 + row_at) - z;
          s += r * r;
        });
        store<T>(squares, load(squares) + q.weight * s);
        break;
      case Epilogue::kDot:
        each_row([&](index_t row_at, vec<T> z) { s += load(x0 + row_at) * z; });
        store<T>(squares, load(squares) + q.weight * s);
        break;
    }
  }
}

// M rows times N columns of vectors, the sum over d in registers.
template <class T, index_t P, bool Conj, index_t M, index_t N>
inline void product_tile(const Product<T>& q, index_t row, index_t first_column) {
  Column<T> at[N];
  for (index_t c = 0; c < N; ++c) at[c] = column(q, first_column + c);
  vec<T> y[M][P][N] = {};
  const T* A = q.A + row * q.row_stride;
  const index_t rs = q.row_stride;
  for (index_t d = 0; d < q.n_in; ++d, A += q.col_stride) {
    vec<T> x[P][N];
    for (index_t c = 0; c < N; ++c)
      for (index_t plane = 0; plane < P; ++plane) x[plane][c] = load(at[c].x + (d * P + plane) * kPanel<T>);
    for (index_t i = 0; i < M; ++i) {
      const T re = A[i * rs];
      for (index_t c = 0; c < N; ++c)
        for (index_t plane = 0; plane < P; ++plane) y[i][plane][c] += re * x[plane][c];
      if constexpr (P == 2) {
        const T im = A[i * rs + q.imag_offset];
        for (index_t c = 0; c < N; ++c) {
          if constexpr (Conj) {
            y[i][0][c] += im * x[1][c];
            y[i][1][c] -= im * x[0][c];
          } else {
            y[i][0][c] -= im * x[1][c];
            y[i][1][c] += im * x[0][c];
          }
        }
      }
    }
  }
  finish<T, P, M, N>(q, row, at, y);
}

template <class T, index_t P, bool Conj>
void product_of(const Product<T>& q) {
  const index_t n_rows = q.row_end - q.row_begin, n_columns = q.n_panels * kVectors<T>;
  const index_t n_blocks = (n_rows + kTileRows<P> - 1) / kTileRows<P>;
  for (index_t b = 0; b < n_blocks; ++b) {  // blocks of nearly equal height
    const index_t begin = q.row_begin + n_rows * b / n_blocks, end = q.row_begin + n_rows * (b + 1) / n_blocks;
    with_constant<kTileRows<P>>(end - begin, [&]<index_t M>() {
      index_t c = 0;
      for (; c + kTileColumns <= n_columns; c += kTileColumns) product_tile<T, P, Conj, M, kTileColumns>(q, begin, c);
      for (; c < n_columns; ++c) product_tile<T, P, Conj, M, 1>(q, begin, c);
    });
  }
}

template <class T>
void product_panels(const Product<T>& q) {
  if (q.planes == 1)
    product_of<T, 1, false>(q);
  else if (q.conj)
    product_of<T, 2, true>(q);
  else
    product_of<T, 2, false>(q);
}

}  // namespace
}  // namespace REDUNET_ISA
}  // namespace redunet
