// G = sum of weight * v v*, or u v*, over the samples of panels: tiles of G in registers, samples in lanes, one sum
// over the lanes at the end of a run. Part of kernels.cpp.
#pragma once

#include "kernels/simd.hpp"

namespace redunet {
namespace REDUNET_ISA {
namespace {

// Rows x columns of a tile of G held in registers: as many sums as have room, and a multiple of the lanes, which are
// added up together at the end. 4 x 4 real or 4 x 2 complex of 32 registers, 4 x 2 or 2 x 2 of 16.
template <index_t P>
constexpr index_t kGramTileRows = kManyRegisters || P == 1 ? 4 : 2;
template <index_t P>
constexpr index_t kGramTileColumns = kManyRegisters && P == 1 ? 4 : 2;

static_assert(kGramRows % kGramTileRows<1> == 0 && kGramRows % kGramTileRows<2> == 0);

// Rows a.. and columns b.. of G. Past the last row or column the last is taken again, and not written.
template <class T, index_t P, bool Cross>
void gram_tile(const Gram<T>& g, index_t a, index_t b) {
  constexpr index_t M = kGramTileRows<P>, N = kGramTileColumns<P>;
  static_assert(M * N * P % kLanes<T> == 0);
  index_t row[M], column[N];
  const index_t n_columns = Cross ? g.n_columns : g.row_end;
  for (index_t i = 0; i < M; ++i) row[i] = (a + i < g.row_end ? a + i : g.row_end - 1) * P * kPanel<T>;
  for (index_t j = 0; j < N; ++j) column[j] = (b + j < n_columns ? b + j : n_columns - 1) * P * kPanel<T>;
  vec<T> G[M * N * P] = {};
  for (index_t t = 0; t < g.n_panels; ++t) {
    const T* v = g.v + t * g.panel_stride;
    const T* u = Cross ? g.u + t * g.u_stride : v;
    for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>) {
      vec<T> y[N][P];
      for (index_t j = 0; j < N; ++j)
        for (index_t plane = 0; plane < P; ++plane) y[j][plane] = load(v + column[j] + plane * kPanel<T> + lane);
      if (g.weights != nullptr) {
        const vec<T> w = load(g.weights + t * kPanel<T> + lane);
        for (index_t j = 0; j < N; ++j)
          for (index_t plane = 0; plane < P; ++plane) y[j][plane] *= w;
      }
      for (index_t i = 0; i < M; ++i) {
        const vec<T> re = load(u + row[i] + lane);
        for (index_t j = 0; j < N; ++j) G[(i * N + j) * P] += re * y[j][0];
        if constexpr (P == 2) {
          const vec<T> im = load(u + row[i] + kPanel<T> + lane);
          for (index_t j = 0; j < N; ++j) {
            G[(i * N + j) * 2] += im * y[j][1];
            G[(i * N + j) * 2 + 1] += im * y[j][0];
            G[(i * N + j) * 2 + 1] -= re * y[j][1];
          }
        }
      }
    }
  }
  T sums[M * N * P];
  for (index_t e = 0; e < M * N * P; e += kLanes<T>) store_unaligned<T>(sums + e, sum_lanes<T>(G + e));
  for (index_t i = 0; i < M && a + i < g.row_end; ++i)
    for (index_t j = 0; j < N && (Cross ? b + j < n_columns : b + j <= a + i); ++j) {
      T* out = g.G + (a + i) * g.row_stride + (b + j) * g.col_stride;
      const T* sum = sums + (i * N + j) * P;
      out[0] = sum[0] + (g.accumulate ? out[0] : T(0));
      if constexpr (P == 2) out[g.imag_offset] = sum[1] + (g.accumulate ? out[g.imag_offset] : T(0));
    }
}

template <class T, index_t P, bool Cross>
void gram_of(const Gram<T>& g) {
  constexpr index_t M = kGramTileRows<P>, N = kGramTileColumns<P>;
  const index_t run = gram_run(g.row_end, P);
  for (index_t t = 0; t < g.n_panels; t += run) {
    Gram<T> part = g;
    part.v += t * g.panel_stride;
    if constexpr (Cross) part.u += t * g.u_stride;
    part.accumulate = g.accumulate || t > 0;
    if (g.weights != nullptr) part.weights += t * kPanel<T>;
    if (t + run < g.n_panels)
      part.n_panels = run;
    else
      part.n_panels = g.n_panels - t;
    for (index_t a = g.row_begin; a < g.row_end; a += M)
      for (index_t b = 0; Cross ? b < g.n_columns : b < a + M && b < g.row_end; b += N)
        gram_tile<T, P, Cross>(part, a, b);
  }
}

template <class T>
void gram(const Gram<T>& g) {
  const auto of = [&]<bool Cross>() { g.planes == 1 ? gram_of<T, 1, Cross>(g) : gram_of<T, 2, Cross>(g); };
  g.u == nullptr ? of.template operator()<false>() : of.template operator()<true>();
}

}  // namespace
}  // namespace REDUNET_ISA
}  // namespace redunet
