// Whole tiles of few channels, all frequencies in one call: gates, update and Gram matrices of the fused layer. The
// number of channels is known when this is compiled, so a column of features stays in registers while every operator
// of its frequency is applied to it. Part of kernels.cpp.
#pragma once

#include "kernels/simd.hpp"

namespace redunet {
namespace REDUNET_ISA {
namespace {

// Columns of vectors taken together: they share every operator element that is read.
template <index_t C, index_t P>
constexpr index_t kTogetherInTile = kManyRegisters && C * P <= 10 ? 2 : 1;

// The features of N columns at one frequency, and where they came from.
template <class T, index_t C, index_t P, index_t N>
struct TileColumns {
  index_t offset[N];      // of the column in the features, without the frequency
  index_t lane_begin[N];  // of the column in rows of lanes
  vec<T> x[C][P][N];

  [[gnu::always_inline]] void place(index_t first, index_t tile_stride) {
    for (index_t n = 0; n < N; ++n) {
      const index_t tile = (first + n) / kVectors<T>, lane = (first + n) % kVectors<T> * kLanes<T>;
      offset[n] = tile * tile_stride + lane;
      lane_begin[n] = tile * kPanel<T> + lane;
    }
  }
  [[gnu::always_inline]] void read(const T* v, index_t p) {
#pragma GCC unroll 16
    for (index_t row = 0; row < C * P; ++row)
      for (index_t n = 0; n < N; ++n) x[row / P][row % P][n] = load(v + offset[n] + (p * C * P + row) * kPanel<T>);
  }
  // y = row i of A x.
  [[gnu::always_inline]] void multiply(const T* A, vec<T> (&y)[P][N]) const {
    for (index_t n = 0; n < N; ++n)
      for (index_t plane = 0; plane < P; ++plane) y[plane][n] = vec<T>{};
#pragma GCC unroll 16
    for (index_t d = 0; d < C; ++d)
      for (index_t n = 0; n < N; ++n) {
        for (index_t plane = 0; plane < P; ++plane) y[plane][n] += A[d * P] * x[d][plane][n];
        if constexpr (P == 2) {
          y[0][n] -= A[d * P + 1] * x[d][1][n];
          y[1][n] += A[d * P + 1] * x[d][0][n];
        }
      }
  }
};

// f.operator()<N>(first column) over all columns of n_tiles tiles.
template <class T, index_t C, index_t P, class F>
inline void each_columns(index_t n_tiles, const F& f) {
  constexpr index_t N = kTogetherInTile<C, P>;
  index_t c = 0;
  for (; c + N <= n_tiles * kVectors<T>; c += N) f.template operator()<N>(c);
  if constexpr (N > 1)
    for (; c < n_tiles * kVectors<T>; ++c) f.template operator()<1>(c);
}

template <class T, index_t C, index_t P>
void tile_gates_of(const TileGates<T>& q) {
  each_columns<T, C, P>(q.n_tiles, [&]<index_t N>(index_t first) {
    TileColumns<T, C, P, N> columns;
    columns.place(first, q.tile_stride);
    for (index_t p = q.p_begin; p < q.p_end; ++p) {
      columns.read(q.v, p);
      for (index_t l = 0; l < q.n_classes; ++l) {
        const T* A = q.operators + q.classes[l] * q.class_stride + p * C * C * P;
        vec<T> s[N] = {};
#pragma GCC unroll 8
        for (index_t i = 0; i < C; ++i) {
          vec<T> y[P][N];
          columns.multiply(A + i * C * P, y);
          for (index_t n = 0; n < N; ++n)
            for (index_t plane = 0; plane < P; ++plane) s[n] += y[plane][n] * y[plane][n];
        }
        for (index_t n = 0; n < N; ++n) {
          T* squares = q.squares + q.classes[l] * q.stride + columns.lane_begin[n];
          store<T>(squares, (p > 0 ? load(squares) : vec<T>{}) + q.freq_weights[p] * s[n]);
        }
      }
    }
  });
}

// Classes, at most Most of them, or as many as there are (0).
template <class T, index_t C, index_t P, index_t N, index_t Most>
[[gnu::always_inline]] inline void tile_move_columns(const TileMove<T>& q, index_t first) {
  const index_t n_classes = Most > 0 ? Most : q.n_classes;
  TileColumns<T, C, P, N> columns;
  columns.place(first, q.tile_stride);
  vec<T> s[N] = {};
  for (index_t p = 0; p < q.F; ++p) {
    columns.read(q.v, p);
    vec<T> at_p[N] = {};
#pragma GCC unroll 8
    for (index_t i = 0; i < C; ++i) {
      vec<T> z[P][N] = {};
      for (index_t l = 0; l < n_classes; ++l) {
        const T* A = q.operators + q.classes[l] * q.class_stride + (p * C + i) * C * P;
        vec<T> y[P][N];
        columns.multiply(A, y);
        for (index_t n = 0; n < N; ++n) {
          const vec<T> pi = load(q.pi + q.classes[l] * q.stride + columns.lane_begin[n]);
          for (index_t plane = 0; plane < P; ++plane) z[plane][n] += pi * y[plane][n];
        }
      }
      for (index_t n = 0; n < N; ++n)
        for (index_t plane = 0; plane < P; ++plane) {
          at_p[n] += z[plane][n] * z[plane][n];
          store<T>(q.v + columns.offset[n] + ((p * C + i) * P + plane) * kPanel<T>, z[plane][n]);
        }
    }
    for (index_t n = 0; n < N; ++n) s[n] += q.freq_weights[p] * at_p[n];
  }
  for (index_t n = 0; n < N; ++n) store<T>(q.scale + columns.lane_begin[n], reciprocal_norm<T>(s[n], q.smallest_norm));
}

template <class T, index_t C, index_t P>
void tile_move_of(const TileMove<T>& q) {
  each_columns<T, C, P>(q.n_tiles, [&]<index_t N>(index_t first) {
    if (q.n_classes == 1)
      tile_move_columns<T, C, P, N, 1>(q, first);
    else if (q.n_classes == 2)
      tile_move_columns<T, C, P, N, 2>(q, first);
    else
      tile_move_columns<T, C, P, N, 0>(q, first);
  });
}

// Entries of a Gram matrix, row by row to the diagonal: real part, and imaginary part below the diagonal.
template <index_t P>
constexpr index_t gram_row_begin(index_t i) {
  return P == 2 ? i * i : i * (i + 1) / 2;
}
// The rows whose entries are held in registers together.
template <index_t P>
constexpr index_t gram_rows_end(index_t begin, index_t C) {
  index_t end = begin + 1;
  while (end < C && gram_row_begin<P>(end + 1) - gram_row_begin<P>(begin) <= (kManyRegisters ? 26 : 10)) ++end;
  return end;
}

// G at one frequency, rows from Begin on.
template <class T, index_t C, index_t P, bool Weighted, index_t Begin = 0>
inline void tile_gram_rows(const TileGram<T>& q, const T* v, T* G) {
  constexpr index_t End = gram_rows_end<P>(Begin, C), first = gram_row_begin<P>(Begin);
  constexpr index_t n_entries = gram_row_begin<P>(End) - first;
  constexpr index_t n_padded = (n_entries + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
  vec<T> s[n_padded];
#pragma GCC unroll 32
  for (index_t e = 0; e < n_padded; ++e) s[e] = vec<T>{};
  for (index_t tile = 0; tile < q.n_tiles; ++tile)
    for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>) {
      const T* x = v + tile * q.tile_stride + lane;
      [[maybe_unused]] vec<T> w{};
      if constexpr (Weighted) w = load(q.weights + tile * kPanel<T> + lane);
#pragma GCC unroll 8
      for (index_t i = Begin; i < End; ++i) {
        vec<T> re = load(x + i * P * kPanel<T>);
        [[maybe_unused]] vec<T> im{};
        if constexpr (P == 2) im = load(x + (i * P + 1) * kPanel<T>);
        if constexpr (Weighted) re *= w, im *= w;
#pragma GCC unroll 16
        for (index_t j = 0; j <= i; ++j) {
          const index_t e = gram_row_begin<P>(i) + j * P - first;
          const vec<T> to_re = load(x + j * P * kPanel<T>);
          s[e] += re * to_re;
          if constexpr (P == 2) {
            const vec<T> to_im = load(x + (j * P + 1) * kPanel<T>);
            s[e] += im * to_im;
            if (j < i) {
              s[e + 1] += im * to_re;
              s[e + 1] -= re * to_im;
            }
          }
        }
      }
    }
#pragma GCC unroll 8
  for (index_t e = 0; e < n_padded; e += kLanes<T>) {  // past the last entry zeros are added
    T* at = G + first + e;
    store_unaligned<T>(at, load_unaligned(at) + sum_lanes<T>(s + e));
  }
  if constexpr (End < C) tile_gram_rows<T, C, P, Weighted, End>(q, v, G);
}

template <class T, index_t C, index_t P>
void tile_gram_of(const TileGram<T>& q) {
  for (index_t p = 0; p < q.F; ++p) {
    T* v = q.v + p * C * P * kPanel<T>;
    if (q.scale != nullptr)
      for (index_t tile = 0; tile < q.n_tiles; ++tile)
        for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>) {
          const vec<T> by = load(q.scale + tile * kPanel<T> + lane);
          T* x = v + tile * q.tile_stride + lane;
#pragma GCC unroll 16
          for (index_t row = 0; row < C * P; ++row) store<T>(x + row * kPanel<T>, by * load(x + row * kPanel<T>));
        }
    if (q.G == nullptr) continue;
    T* G = q.G + p * gram_entries<T>(C, P);
    q.weights == nullptr ? tile_gram_rows<T, C, P, false>(q, v, G) : tile_gram_rows<T, C, P, true>(q, v, G);
  }
}

// f.operator()<C, P>() for C channels of that many planes.
template <class F>
inline void with_few_channels(index_t C, index_t planes, const F& f) {
  if (planes == 1)
    with_constant<few_channels(1)>(C, [&]<index_t N>() { f.template operator()<N, 1>(); });
  else
    with_constant<few_channels(2)>(C, [&]<index_t N>() { f.template operator()<N, 2>(); });
}

template <class T>
void tile_gates(const TileGates<T>& q) {
  with_few_channels(q.C, q.planes, [&]<index_t C, index_t P>() { tile_gates_of<T, C, P>(q); });
}

template <class T>
void tile_move(const TileMove<T>& q) {
  with_few_channels(q.C, q.planes, [&]<index_t C, index_t P>() { tile_move_of<T, C, P>(q); });
}

template <class T>
void tile_gram(const TileGram<T>& q) {
  with_few_channels(q.C, q.planes, [&]<index_t C, index_t P>() { tile_gram_of<T, C, P>(q); });
}

}  // namespace
}  // namespace REDUNET_ISA
}  // namespace redunet
