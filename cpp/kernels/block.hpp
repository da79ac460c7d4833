// One block of a Hermitian matrix factored. Part of kernels.cpp.
#pragma once

#include "kernels/interleaved.hpp"

namespace redunet {
namespace REDUNET_ISA {
namespace {

// One row of a block -= conj(z) * another.
template <class T, index_t P>
inline void subtract_row(T* to, const T* from, const T* z) {
  const T re = z[0], im = P == 1 ? T(0) : -z[kPanel<T>];
  for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>) {
    const Number<T, P> x = get<T, P>(from + lane);
    Number<T, P> y = get<T, P>(to + lane);
    for (index_t plane = 0; plane < P; ++plane) y.part[plane] -= re * x.part[plane];
    if constexpr (P == 2) {
      y.part[0] += im * x.part[1];
      y.part[1] -= im * x.part[0];
    }
    put<T, P>(to + lane, y);
  }
}

template <class T, index_t P>
inline void scale_row(T* row, T scale) {
  for (index_t lane = 0; lane < P * kPanel<T>; lane += kLanes<T>) store<T>(row + lane, load(row + lane) * scale);
}

// D + shift I = U* U row by row, U = L*.
template <class T, index_t P>
void factor_block(T* D, T* pivots, T shift) {
  constexpr index_t B = kPanel<T>, step = P * B;
  for (index_t j = 0; j < B; ++j) {
    T* row = D + j * step;
    pivots[j] = row[j];
    const T pivot = pivots[j] + shift > 0 ? pivots[j] + shift : T(1);
    const T root = sizeof(T) == 4 ? T(__builtin_sqrtf(float(pivot))) : T(__builtin_sqrt(double(pivot)));
    scale_row<T, P>(row, T(1) / root);
    for (index_t i = j + 1; i < B; ++i) subtract_row<T, P>(D + i * step, row, row + i);
    for (index_t lane = 0; lane < j; ++lane)
      for (index_t plane = 0; plane < P; ++plane) row[plane * B + lane] = 0;
    row[j] = root;
    if constexpr (P == 2) row[B + j] = 0;
  }
}

}  // namespace
}  // namespace REDUNET_ISA
}  // namespace redunet
