// Features of pixels, which filters make of the windows about them, and the moments of those of one region.
// Part of kernels.cpp.
#pragma once

#include "kernels/simd.hpp"

namespace redunet {
namespace REDUNET_ISA {
namespace {

// R filters from d on, for V vectors of pixels from x on: a value of the image is read once for all R.
template <class T, index_t R, index_t V, class Vector, class Load>
inline void filter_pixels(const FilteredRow<T>& q, index_t x, index_t d, const Load& load_pixels) {
  constexpr index_t lanes = static_cast<index_t>(sizeof(Vector) / sizeof(T));
  Vector sums[R][V] = {};
  const T* filter = q.filters + d;
  for (index_t channel = 0; channel < q.channels; ++channel)
    for (index_t row = 0; row < q.window; ++row) {
      const T* pixels = q.image + channel * q.plane_stride + row * q.row_stride + x;
      for (index_t column = 0; column < q.window; ++column, filter += q.D)
#pragma GCC unroll 4
        for (index_t v = 0; v < V; ++v) {
          const Vector values = load_pixels(pixels + column + v * lanes);
#pragma GCC unroll 8
          for (index_t r = 0; r < R; ++r) sums[r][v] += filter[r] * values;
        }
    }
  for (index_t r = 0; r < R; ++r)
    for (index_t v = 0; v < V; ++v) {
      T one[lanes];
      __builtin_memcpy(one, &sums[r][v], sizeof one);
      for (index_t l = 0; l < lanes; ++l)
        q.features[(x + v * lanes + l) * moment_row(q.D) + d + r] = static_cast<double>(one[l]);
    }
}

// Filters that are summed together: with as many vectors of pixels they fill the registers.
constexpr index_t kFilters = 8;

template <class T>
void filter_row(const FilteredRow<T>& q) {
  constexpr index_t L = kLanes<T>, V = kManyRegisters ? 2 : 1;
  const auto filters = [&]<index_t Vectors, class Vector>(index_t x, Vector, const auto& load_pixels) {
    index_t d = 0;
    for (; d + kFilters <= q.D; d += kFilters) filter_pixels<T, kFilters, Vectors, Vector>(q, x, d, load_pixels);
    with_constant<kFilters - 1>(q.D - d,
                                [&]<index_t R>() { filter_pixels<T, R, Vectors, Vector>(q, x, d, load_pixels); });
  };
  const auto vectors = [](const T* p) { return load_unaligned(p); };
  index_t x = 0;
  for (; x + V * L <= q.n; x += V * L) filters.template operator()<V>(x, vec<T>{}, vectors);
  for (; x + L <= q.n; x += L) filters.template operator()<1>(x, vec<T>{}, vectors);
  if (x < q.n && q.n >= L)
    filters.template operator()<1>(q.n - L, vec<T>{}, vectors);  // some of them again
  else
    for (; x < q.n; ++x) filters.template operator()<1>(x, T{}, [](const T* p) { return *p; });
}

// Blocks of squares on and below the diagonal: eight rows of one vector each stay in registers for all pixels.
void add_moments(const RegionRun& q) {
  constexpr index_t L = kLanes<double>, B = kMergeLanes;
  const index_t row = moment_row(q.D);
  for (index_t j = 0; j < row; j += L) {
    const doubles origin = load(q.origin + j);
    doubles sum = load(q.sums + j);
    for (index_t p = 0; p < q.n; ++p) {
      const doubles d = load(q.features + p * row + j) - origin;
      store<double>(q.features + p * row + j, d);
      sum += d;
    }
    store<double>(q.sums + j, sum);
  }
  for (index_t i = 0; i < row; i += B)
    for (index_t j = 0; j < i + B; j += L) {
      doubles block[B];
      for (index_t r = 0; r < B; ++r) block[r] = load(q.squares + (i + r) * row + j);
      for (index_t p = 0; p < q.n; ++p) {
        const double* pixel = q.features + p * row;
        const doubles d = load(pixel + j);
#pragma GCC unroll 8
        for (index_t r = 0; r < B; ++r) block[r] += pixel[i + r] * d;
      }
      for (index_t r = 0; r < B; ++r) store<double>(q.squares + (i + r) * row + j, block[r]);
    }
}

}  // namespace
}  // namespace REDUNET_ISA
}  // namespace redunet
