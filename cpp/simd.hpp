// One vector type per instruction set, by the compilers' vector extension: arithmetic operators work element by element
// and scalars broadcast. Included only by kernels.cpp, which is compiled once per instruction set.
#pragma once



#include "kernels.hpp"

#if defined(__AVX512F__)
#define REDUNET_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define REDUNET_VECTOR_BYTES 32
#else
#define REDUNET_VECTOR_BYTES 16
#endif

namespace redunet {
namespace REDUNET_ISA {

template <class T> struct Simd;
template <> struct Simd<float> {
  typedef float vec __attribute__((vector_size(REDUNET_VECTOR_BYTES), may_alias));
};
template <> struct Simd<double> {
  typedef double vec __attribute__((vector_size(REDUNET_VECTOR_BYTES), may_alias));
};
template <class T> using vec = typename Simd<T>::vec;

template <class T> constexpr index_t kLanes = REDUNET_VECTOR_BYTES / static_cast<index_t>(sizeof(T));
// Vectors in one panel row.
template <class T> constexpr index_t kVectors = kPanel<T> / kLanes<T>;

// Whether there are 32 vector registers (AVX-512, NEON) or 16.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr bool kManyRegisters = true;
#else
constexpr bool kManyRegisters = false;
#endif

template <class T> inline vec<T> load(const T* p) { return *reinterpret_cast<const vec<T>*>(p); }
template <class T> inline void store(T* p, vec<T> v) { *reinterpret_cast<vec<T>*>(p) = v; }

// Sum of the lanes, in halves: a fixed order.
template <class T> inline T sum(vec<T> v) {
  T lanes[kLanes<T>];
  __builtin_memcpy(lanes, &v, sizeof v);
  for (index_t half = kLanes<T> / 2; half > 0; half /= 2)
    for (index_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

template <class T> inline vec<T> square_root(vec<T> v) {
  vec<T> r{};
  for (index_t i = 0; i < kLanes<T>; ++i) r[i] = sizeof(T) == 4 ? T(__builtin_sqrtf(float(v[i]))) : T(__builtin_sqrt(double(v[i])));
  return r;
}

}  // namespace REDUNET_ISA
}  // namespace redunet
