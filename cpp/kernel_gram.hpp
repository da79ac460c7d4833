// G = sum of weight * v v* over the samples of panels: tiles of G in registers, samples in lanes, one sum over the
// lanes at the end of a run. Part of kernels.cpp.
#pragma once

#include "simd.hpp"

namespace redunet {
namespace REDUNET_ISA {
namespace {

// Gram tiles are square: 3 x 3 complex or 4 x 4 real accumulators of 32 registers; 2 x 2 or 3 x 3 of 16.
template <index_t P>
constexpr index_t kGramTile = kManyRegisters ? (P == 2 ? 3 : 4) : (P == 2 ? 2 : 3);

static_assert(kGramRows % kGramTile<1> == 0 && kGramRows % kGramTile<2> == 0);

template <class T, index_t P, index_t M, index_t N>
inline void gram_tile(const Gram<T>& g, index_t a, index_t b) {
  vec<T> G[M][N][P] = {};
  for (index_t t = 0; t < g.n_panels; ++t) {
    const T* va = g.v + t * g.panel_stride + a * P * kPanel<T>;
    const T* vb = g.v + t * g.panel_stride + b * P * kPanel<T>;
    for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>) {
      vec<T> y[N][P];
      for (index_t j = 0; j < N; ++j)
        for (index_t plane = 0; plane < P; ++plane) y[j][plane] = load(vb + (j * P + plane) * kPanel<T> + lane);
      if (g.weights != nullptr) {
        const vec<T> w = load(g.weights + t * kPanel<T> + lane);
        for (index_t j = 0; j < N; ++j)
          for (index_t plane = 0; plane < P; ++plane) y[j][plane] *= w;
      }
      for (index_t i = 0; i < M; ++i) {
        const vec<T> re = load(va + i * P * kPanel<T> + lane);
        for (index_t j = 0; j < N; ++j) G[i][j][0] += re * y[j][0];
        if constexpr (P == 2) {
          const vec<T> im = load(va + (i * P + 1) * kPanel<T> + lane);
          for (index_t j = 0; j < N; ++j) {
            G[i][j][0] += im * y[j][1];
            G[i][j][1] += im * y[j][0];
            G[i][j][1] -= re * y[j][1];
          }
        }
      }
    }
  }
  for (index_t i = 0; i < M; ++i)
    for (index_t j = 0; j < N && b + j <= a + i; ++j) {
      T* out = g.G + (a + i) * g.row_stride + (b + j) * g.col_stride;
      out[0] = sum<T>(G[i][j][0]) + (g.accumulate ? out[0] : T(0));
      if constexpr (P == 2) out[g.imag_offset] = sum<T>(G[i][j][1]) + (g.accumulate ? out[g.imag_offset] : T(0));
    }
}

// Panels are taken in runs that keep the rows of a run in the L2 cache.
constexpr index_t kGramRunBytes = 1 << 19;

template <class T, index_t P>
void gram_of(const Gram<T>& g) {
  constexpr index_t K = kGramTile<P>;
  index_t run = kGramRunBytes / (g.row_end * P * kCacheLine);
  if (run < 4) run = 4;
  for (index_t t = 0; t < g.n_panels; t += run) {
    Gram<T> part = g;
    part.v += t * g.panel_stride;
    part.accumulate = g.accumulate || t > 0;
    if (g.weights != nullptr) part.weights += t * kPanel<T>;
    if (t + run < g.n_panels)
      part.n_panels = run;
    else
      part.n_panels = g.n_panels - t;
    for (index_t a = g.row_begin; a < g.row_end; a += K) {
      const index_t rows = g.row_end - a < K ? g.row_end - a : K;
      with_constant<K>(rows, [&]<index_t M>() {
        for (index_t b = 0; b < a; b += K) gram_tile<T, P, M, K>(part, a, b);
        gram_tile<T, P, M, M>(part, a, a);
      });
    }
  }
}

template <class T>
void gram(const Gram<T>& g) {
  if (g.planes == 1)
    gram_of<T, 1>(g);
  else
    gram_of<T, 2>(g);
}

}  // namespace
}  // namespace REDUNET_ISA
}  // namespace redunet
