// Samples near others: rows about an origin, the distances below a limit, and a window of neighbours in panels. Part of
// kernels.cpp.
#pragma once

#include "kernels/simd.hpp"

namespace redunet {
namespace REDUNET_ISA {
namespace {

// Numbers k ... of a sample of D, zeros from D on.
template <class T>
inline vec<T> numbers_from(const T* sample, index_t k, index_t D) {
  if (k + kLanes<T> <= D) return load_unaligned(sample + k);
  T some[kLanes<T>] = {};
  for (index_t l = 0; k + l < D; ++l) some[l] = sample[k + l];
  return load_unaligned(some);
}

template <class T>
void about_origin(const T* samples, index_t n, index_t D, const T* origin, T* rows, T* squares) {
  const index_t width = padded<T>(D);
  for (index_t i = 0; i < n; ++i, samples += D, rows += width) {
    vec<T> square[kVectors<T>] = {};
    for (index_t k = 0; k < width; k += kPanel<T>)
      for (index_t v = 0; v < kVectors<T>; ++v) {
        const index_t at = k + v * kLanes<T>;
        const vec<T> z = numbers_from(samples, at, D) - load(origin + at);
        store<T>(rows + at, z);
        square[v] += z * z;
      }
    vec<T> sum = square[0];
    for (index_t v = 1; v < kVectors<T>; ++v) sum += square[v];
    squares[i] = sum_of<T>(sum);
  }
}

template <class T>
index_t nearer(const Nearer<T>& q) {
  constexpr T largest = sizeof(T) == 4 ? T(__FLT_MAX__) : T(__DBL_MAX__);
  const vec<T> most = vec<T>{} + largest;
  vec<T> limits[kVectors<T>];
  for (index_t v = 0; v < kVectors<T>; ++v) limits[v] = load(q.limits + v * kLanes<T>);
  index_t found = 0;
  for (index_t i = 0; i < q.n_rows; ++i)
    for (index_t v = 0; v < kVectors<T>; ++v) {
      const index_t lane = v * kLanes<T>;
      vec<T> distances = load(q.products + i * kPanel<T> + lane) + q.squares[i];
      distances = distances < most ? distances : most;  // NaN too
      const integers<T> below = distances < limits[v];
      if (!any<T>(below)) continue;
      for (index_t l = 0; l < kLanes<T>; ++l)
        if (below[l]) {
          q.distances[found] = distances[l];
          q.places[found++] = static_cast<std::int32_t>(i * kPanel<T> + lane + l);
        }
    }
  return found;
}

template <class T>
void window(const Window<T>& q) {
  const index_t width = padded<T>(q.D), stride = q.n * kPanel<T>;
  for (index_t i = 0; i < q.n; ++i) {
    const T* sample = q.samples + q.members[i] * q.D;
    const T* next = q.samples + q.members[i + 1 < q.n ? i + 1 : i] * q.D;
    T* out = q.panels + i * kPanel<T>;
    vec<T> along[kVectors<T>] = {};
    for (index_t k = 0; k < width; k += kPanel<T>, out += stride) {
      __builtin_prefetch(next + (k < q.D ? k : 0));  // the processor sees streams, but not where the next begins
      for (index_t v = 0; v < kVectors<T>; ++v) {
        const index_t lane = v * kLanes<T>;
        const vec<T> x = load(q.x + k + lane);
        vec<T> z = numbers_from(sample, k + lane, q.D);
        if (q.about) z -= x;
        store<T>(out + lane, z);
        along[v] += z * x;
      }
    }
    vec<T> sum = along[0];
    for (index_t v = 1; v < kVectors<T>; ++v) sum += along[v];
    q.along[i] = sum_of<T>(sum);
  }
}

}  // namespace
}  // namespace REDUNET_ISA
}  // namespace redunet
