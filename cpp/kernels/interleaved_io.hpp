// The way into the lanes of interleaved matrices, and out of them. Part of kernels.cpp.
#pragma once

#include "kernels/interleaved.hpp"

namespace redunet {
namespace REDUNET_ISA {
namespace {

// Arrays of `size` numbers pass into lanes and back in square blocks, kLanes numbers of kLanes arrays: f(e) for the
// blocks from number e on; the last ends with the array. Those of large arrays begin where vectors of memory do, after
// the first: where sizes are powers of two, a line would else leave the cache between its two halves.
template <class T, class F>
inline void each_block(const T* arrays, index_t size, const F& f) {
  index_t past = 0;
  if (size >= 16 * kLanes<T>)
    past = static_cast<index_t>(reinterpret_cast<std::uintptr_t>(arrays) / sizeof(T)) % kLanes<T>;
  f(index_t{0});
  for (index_t e = kLanes<T> - past; e < size; e += kLanes<T>) f(e < size - kLanes<T> ? e : size - kLanes<T>);
}

// Whether numbers e ... e + kLanes - 1 of a matrix lie in one row, above the diagonal.
template <class T, index_t P>
inline bool above_diagonal(index_t n, index_t e) {
  const index_t row = e / (n * P), column = e - row * n * P;
  return column >= (row + 1) * P && column + kLanes<T> <= n * P;
}

// Lane l of row e is number e of array l, or of the last.
template <class T, class Skip>
inline void into_lanes(const T* from, index_t stride, index_t count, index_t size, T* rows, const Skip& skip) {
  const auto array = [&](index_t l) { return from + (l < count ? l : count - 1) * stride; };
  if (size < kLanes<T>) {
    for (index_t l = 0; l < kPanel<T>; ++l)
      for (index_t e = 0; e < size; ++e) rows[e * kPanel<T> + l] = array(l)[e];
    return;
  }
  each_block<T>(from, size, [&](index_t e) {
    if (skip(e)) return;
    for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>) {
      vec<T> v[kLanes<T>];
#pragma GCC unroll 16
      for (index_t i = 0; i < kLanes<T>; ++i) v[i] = load_unaligned(array(lane + i) + e);
      transpose<T>(v);
#pragma GCC unroll 16
      for (index_t i = 0; i < kLanes<T>; ++i) store<T>(rows + (e + i) * kPanel<T> + lane, v[i]);
    }
  });
}

template <class T, class Zero>
inline void out_of_lanes(const T* rows, index_t size, T* to, index_t stride, index_t count, const Zero& zero) {
  if (size < kLanes<T>) {
    for (index_t l = 0; l < count; ++l)
      for (index_t e = 0; e < size; ++e) to[l * stride + e] = rows[e * kPanel<T> + l];
    return;
  }
  each_block<T>(to, size, [&](index_t e) {
    if (zero(e)) {
      for (index_t l = 0; l < count; ++l) store_unaligned<T>(to + l * stride + e, vec<T>{});
      return;
    }
    for (index_t lane = 0; lane < count; lane += kLanes<T>) {
      vec<T> v[kLanes<T>];
#pragma GCC unroll 16
      for (index_t i = 0; i < kLanes<T>; ++i) v[i] = load(rows + (e + i) * kPanel<T> + lane);
      transpose<T>(v);
#pragma GCC unroll 16
      for (index_t i = 0; i < kLanes<T>; ++i)
        if (lane + i < count) store_unaligned<T>(to + (lane + i) * stride + e, v[i]);
    }
  });
}

template <class T>
void interleave(const T* from, index_t stride, index_t count, index_t size, T* rows) {
  into_lanes(from, stride, count, size, rows, [](index_t) { return false; });
}

template <class T>
void deinterleave(const T* rows, index_t size, T* to, index_t stride, index_t count) {
  out_of_lanes(rows, size, to, stride, count, [](index_t) { return false; });
}

template <class T>
void read_interleaved(const T* from, index_t count, const Interleaved<T>& q) {
  const index_t n = q.n, size = n * n * q.planes;
  if (q.planes == 1)
    into_lanes(from, size, count, size, q.M, [n](index_t e) { return above_diagonal<T, 1>(n, e); });
  else
    into_lanes(from, size, count, size, q.M, [n](index_t e) { return above_diagonal<T, 2>(n, e); });
}

template <class T, index_t P>
void write_interleaved_of(const Interleaved<T>& q, T* to, index_t count, bool hermitian) {
  constexpr index_t B = kPanel<T>;
  const index_t n = q.n, size = n * n * P;
  T* const M = q.M;
  constexpr index_t kTile = 4;  // rows above the diagonal from as many columns below it: these are a power of two apart
  for (index_t first = 0; first < n; first += kTile) {
    const index_t last = first + kTile < n ? first + kTile : n;
    for (index_t j = first + 1; j < n && hermitian; ++j)
      for (index_t i = first; i < (j < last ? j : last); ++i)
        for (index_t lane = 0; lane < B; lane += kLanes<T>) {
          Number<T, P> z = get<T, P>(M + (j * n + i) * P * B + lane);
          if constexpr (P == 2) z.part[1] = -z.part[1];
          put<T, P>(M + (i * n + j) * P * B + lane, z);
        }
  }
  for (index_t i = 0; i < n; ++i) {
    T* row = M + i * n * P * B;
    for (index_t lane = 0; lane < B && P == 2; lane += kLanes<T>) store<T>(row + (i * P + 1) * B + lane, vec<T>{});
    // Zeros next to the diagonal and to the next row; between them out_of_lanes needs none.
    const index_t begin = (i + 1) * P, end = n * P;
    for (index_t e = begin; e < end && !hermitian; ++e) {
      if (e == begin + kLanes<T> && e < end - kLanes<T>) e = end - kLanes<T>;
      for (index_t lane = 0; lane < B; lane += kLanes<T>) store<T>(row + e * B + lane, vec<T>{});
    }
  }
  out_of_lanes(static_cast<const T*>(q.M), size, to, size, count,
               [n, hermitian](index_t e) { return !hermitian && above_diagonal<T, P>(n, e); });
}

template <class T>
void write_interleaved(const Interleaved<T>& q, T* to, index_t count, bool hermitian) {
  q.planes == 1 ? write_interleaved_of<T, 1>(q, to, count, hermitian)
                : write_interleaved_of<T, 2>(q, to, count, hermitian);
}

}  // namespace
}  // namespace REDUNET_ISA
}  // namespace redunet
