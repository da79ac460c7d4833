// The product for one sample: a panel whose other lanes hold nothing would do sixteen times the work. Vectors run along
// the rows or columns of A instead, and A is read once, which is then what takes the time. Part of kernels.cpp.
#pragma once

#include "kernels/product.hpp"

namespace redunet {
namespace REDUNET_ISA {
namespace {

// Rows of A whose sums are added up over the lanes in one go. They are read one after the other, as they lie: memory is
// faster so than where eight rows are read side by side, whatever is asked for before.
template <class T, index_t P>
constexpr index_t kSingleRows = kLanes<T> / P;
constexpr index_t kSingleVectors = 4;  // vectors of neighbouring rows, where columns of A are contiguous
constexpr index_t kSingleChunk = 256;  // numbers of x at a time
// A is read once, from memory, and columns come faster where they are asked for so many before. What lies behind A is
// the next frequency's.
constexpr index_t kColumnsAhead = 16;
// Sums of columns that wait for one another: with so few vectors there are two of each, of every other column.
constexpr index_t kFewVectors = 4;

// The endings of a product, for rows whose sums are interleaved in `sums`.
template <class T, index_t P>
inline void finish_single(const Product<T>& q, index_t row, index_t n_rows, const T* sums) {
  const Column<T> at[1] = {column(q, 0)};
  const auto rows = [&]<index_t M>(index_t begin) {
    vec<T> y[M][P][1] = {};
    for (index_t i = 0; i < M; ++i)
      for (index_t plane = 0; plane < P; ++plane) y[i][plane][0][0] = sums[(begin + i) * P + plane];
    finish<T, P, M, 1>(q, row + begin, at, y);
  };
  index_t begin = 0;
  for (; begin + 4 <= n_rows; begin += 4) rows.template operator()<4>(begin);
  for (; begin < n_rows; ++begin) rows.template operator()<1>(begin);
}

// x against a row of A as it lies: the sums of a * w[0] and a * w[1] are the real and the imaginary part.
template <class T, index_t P>
struct SingleWeights {
  alignas(kCacheLine) T w[P][kSingleChunk * P];
  alignas(kCacheLine) T last[P][kLanes<T>];  // of the last vector of the row, zero where whole vectors were before

  void set(const Product<T>& q, index_t begin, index_t n) {
    const T sign = q.conj ? T(-1) : T(1);
    for (index_t d = 0; d < n; ++d) {
      const T* x = q.x + (begin + d) * P * kPanel<T>;
      w[0][d * P] = x[0];
      if constexpr (P == 2) {
        w[0][d * 2 + 1] = -sign * x[kPanel<T>];
        w[1][d * 2] = x[kPanel<T>];
        w[1][d * 2 + 1] = sign * x[0];
      }
    }
    const index_t rest = n * P % kLanes<T>;
    for (index_t part = 0; part < P; ++part)
      for (index_t lane = 0; lane < kLanes<T>; ++lane)
        last[part][lane] = lane < kLanes<T> - rest ? T(0) : w[part][n * P - kLanes<T> + lane];
  }
};

// Rows of A that are contiguous, of at least a vector: dot products. What whole vectors leave of a row is read with the
// numbers before it.
template <class T, index_t P>
void single_rows(const Product<T>& q) {
  SingleWeights<T, P> weights;
  const bool one_chunk = q.n_in <= kSingleChunk;
  if (one_chunk) weights.set(q, 0, q.n_in);
  constexpr index_t M = kSingleRows<T, P>;
  for (index_t row = q.row_begin; row < q.row_end; row += M) {
    const index_t n_rows = q.row_end - row < M ? q.row_end - row : M;
    T sums[M * P] = {};
    for (index_t begin = 0; begin < q.n_in; begin += kSingleChunk) {
      const index_t n = q.n_in - begin < kSingleChunk ? q.n_in - begin : kSingleChunk;
      if (!one_chunk) weights.set(q, begin, n);
      vec<T> s[M * P] = {};
      for (index_t i = 0; i < n_rows; ++i) {
        const T* a = q.A + (row + i) * q.row_stride + begin * P;
        vec<T> y[2][P] = {};  // of every other vector: neither waits for the other
        const auto add = [&](vec<T>(&sum)[P], vec<T> z, const T(*w)[kSingleChunk* P], index_t e) {
          for (index_t part = 0; part < P; ++part) sum[part] += z * load(w[part] + e);
        };
        index_t e = 0;
        for (; e + 2 * kLanes<T> <= n * P; e += 2 * kLanes<T>) {
          add(y[0], load_unaligned(a + e), weights.w, e);
          add(y[1], load_unaligned(a + e + kLanes<T>), weights.w, e + kLanes<T>);
        }
        if (e + kLanes<T> <= n * P) add(y[0], load_unaligned(a + e), weights.w, e), e += kLanes<T>;
        if (e < n * P)
          for (index_t part = 0; part < P; ++part)
            y[1][part] += load_unaligned(a + n * P - kLanes<T>) * load(weights.last[part]);
        for (index_t part = 0; part < P; ++part) s[i * P + part] = y[0][part] + y[1][part];
      }
      const vec<T> total = sum_lanes<T>(s);
      store_unaligned<T>(sums, load_unaligned(sums) + total);
    }
    finish_single<T, P>(q, row, n_rows, sums);
  }
}

// Columns of A that are contiguous: sums of columns. The last vector of rows begins early.
template <class T, index_t P>
void single_columns(const Product<T>& q) {
  constexpr index_t kRows = kLanes<T> / P, kMost = kSingleVectors * kRows;
  const T sign = q.conj ? T(-1) : T(1);
  for (index_t row = q.row_begin; row < q.row_end; row += kMost) {
    const index_t n_rows = q.row_end - row < kMost ? q.row_end - row : kMost;
    T room[(kRows + kMost) * P];  // the last vector may begin before the first row of this round
    T* sums = room + kRows * P;
    with_constant<kSingleVectors>((n_rows + kRows - 1) / kRows, [&]<index_t V>() {
      constexpr index_t kChains = V * P <= kFewVectors ? 2 : 1;
      const auto first = [&](index_t v) { return v + 1 < V ? v * kRows : n_rows - kRows; };
      vec<T> s[V][P] = {}, other[V][P] = {};
      const auto add = [&](vec<T>(&sum)[V][P], index_t d) {
        const T* a = q.A + row * P + d * q.col_stride;
        const T* x = q.x + d * P * kPanel<T>;
        for (index_t v = 0; v < V; ++v) {
          const vec<T> z = load_unaligned(a + first(v) * P);
          __builtin_prefetch(a + first(v) * P + kColumnsAhead * q.col_stride);
          for (index_t plane = 0; plane < P; ++plane) sum[v][plane] += x[plane * kPanel<T>] * z;
        }
      };
      index_t d = 0;
      for (; kChains == 2 && d + 2 <= q.n_in; d += 2) add(s, d), add(other, d + 1);
      for (; d < q.n_in; ++d) add(s, d);
      for (index_t v = 0; v < V; ++v)
        for (index_t plane = 0; plane < P; ++plane) s[v][plane] += other[v][plane];
      for (index_t v = 0; v < V; ++v)
        for (index_t i = 0; i < kRows; ++i) {
          T* to = sums + (first(v) + i) * P;
          if constexpr (P == 1) {
            to[0] = s[v][0][i];
          } else {
            to[0] = s[v][0][2 * i] - sign * s[v][1][2 * i + 1];
            to[1] = s[v][1][2 * i] + sign * s[v][0][2 * i + 1];
          }
        }
    });
    finish_single<T, P>(q, row, n_rows, sums);
  }
}

// Whether the product was done here.
template <class T, index_t P>
bool single_product(const Product<T>& q) {
  if (!q.single || q.n_panels != 1) return false;
  if (q.col_stride == P && (P == 1 || q.imag_offset == 1) && q.n_in * P >= kLanes<T>) {
    single_rows<T, P>(q);
    return true;
  }
  const index_t n_rows = q.row_end - q.row_begin;
  if (q.row_stride == P && (P == 1 || q.imag_offset == 1) && n_rows >= kLanes<T> / P) {
    single_columns<T, P>(q);
    return true;
  }
  return false;
}

template <class T>
void product(const Product<T>& q) {
  if (q.planes == 1 ? single_product<T, 1>(q) : single_product<T, 2>(q)) return;
  product_panels(q);
}

}  // namespace
}  // namespace REDUNET_ISA
}  // namespace redunet
