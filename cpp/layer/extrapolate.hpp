// Momentum: features go on in the direction that they came from.
#pragma once

#include <algorithm>

#include "kernels/kernels.hpp"
#include "shared/problem.hpp"

namespace redunet {

// Tiles of `before` become z + beta (z - before), z those of features; scale, kPanel numbers a tile, what takes them to
// the sphere.
template <class T>
void extrapolate_tiles(const Kernels<T>& kernels, const T* z, T* before, index_t n_tiles, const Sizes& sizes,
                       const T* freq_weights, T beta, T* scale) {
  const index_t panel = sizes.C * sizes.planes * kPanel<T>, lanes = n_tiles * kPanel<T>;
  // Coefficients are read per sample, and are the same for all.
  constexpr index_t kTogether = 8;
  alignas(64) T forward[kTogether * kPanel<T>], back[kTogether * kPanel<T>];
  std::fill(forward, forward + kTogether * kPanel<T>, beta);
  std::fill(back, back + kTogether * kPanel<T>, -beta);
  const T* coefficients[] = {forward, back};
  std::fill_n(scale, lanes, T(0));
  for (index_t first = 0; first < n_tiles; first += kTogether)
    for (index_t p = 0; p < sizes.F; ++p) {
      const index_t at = (first * sizes.F + p) * panel;
      const T* terms[] = {z + at, before + at};
      kernels.settle({.moved = z + at,
                      .moved_stride = sizes.F * panel,
                      .v = before + at,
                      .v_stride = sizes.F * panel,
                      .n_panels = std::min(kTogether, n_tiles - first),
                      .n_rows = sizes.C * sizes.planes,
                      .weight = freq_weights[p],
                      .squares = scale + first * kPanel<T>,
                      .n_terms = 2,
                      .terms = terms,
                      .coefficients = coefficients});
    }
  kernels.reciprocal_norms(scale, lanes, static_cast<T>(kSmallestNorm));
}

}  // namespace redunet
