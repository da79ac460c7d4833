// One vector type per instruction set, by the compilers' vector extension: arithmetic operators work element by element
// and scalars broadcast. Included only by kernels.cpp, which is compiled once per instruction set.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/kernels.hpp"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define REDUNET_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define REDUNET_VECTOR_BYTES 32
#else
#define REDUNET_VECTOR_BYTES 16
#endif

namespace redunet {
namespace REDUNET_ISA {

template <class T>
struct Simd;
template <>
struct Simd<float> {
  typedef float vec __attribute__((vector_size(REDUNET_VECTOR_BYTES), may_alias));
  typedef std::int32_t integers __attribute__((vector_size(REDUNET_VECTOR_BYTES)));
};
template <>
struct Simd<double> {
  typedef double vec __attribute__((vector_size(REDUNET_VECTOR_BYTES), may_alias));
  typedef std::int64_t integers __attribute__((vector_size(REDUNET_VECTOR_BYTES)));
  typedef std::uint64_t naturals __attribute__((vector_size(REDUNET_VECTOR_BYTES)));
};
template <class T>
using vec = typename Simd<T>::vec;
template <class T>
using integers = typename Simd<T>::integers;  // also what a comparison gives: -1 or 0 per lane

template <class T>
constexpr index_t kLanes = REDUNET_VECTOR_BYTES / static_cast<index_t>(sizeof(T));
// Vectors in one panel row.
template <class T>
constexpr index_t kVectors = kPanel<T> / kLanes<T>;

// Whether there are 32 vector registers (AVX-512, NEON) or 16.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr bool kManyRegisters = true;
#else
constexpr bool kManyRegisters = false;
#endif

// Calls f.template operator()<n>() for a run-time n in [1, Most].
template <index_t Most, class F>
inline void with_constant(index_t n, const F& f) {
  if constexpr (Most >= 1) {
    if (n == Most)
      f.template operator()<Most>();
    else
      with_constant<Most - 1>(n, f);
  }
}

template <class T>
inline vec<T> load(const T* p) {
  return *reinterpret_cast<const vec<T>*>(p);
}
template <class T>
inline void store(T* p, vec<T> v) {
  *reinterpret_cast<vec<T>*>(p) = v;
}

// Lane l of one level of sum_lanes below: blocks of `Width` lanes, whose first half is folded from a, the second from
// b.
template <class T, index_t Width, index_t Half, std::size_t... l>
inline vec<T> halves(vec<T> a, vec<T> b, std::index_sequence<l...>) {
  constexpr auto from = [](std::size_t lane) {
    const int at = static_cast<int>(lane), block = at / Width * Width, r = at % Width, h = Width / 2;
    return r < h ? block + Half * h + r : static_cast<int>(kLanes<T>) + block + Half * h + r - h;
  };
  return __builtin_shufflevector(a, b, from(l)...);
}

// Lane l of the result is the sum of the lanes of v[l]; v is overwritten.
template <class T, index_t Width = kLanes<T>>
inline vec<T> sum_lanes(vec<T>* v) {
  constexpr auto all = std::make_index_sequence<as_size(kLanes<T>)>{};
#pragma GCC unroll 8
  for (index_t i = 0; i < Width / 2; ++i)
    v[i] = halves<T, Width, 0>(v[i], v[i + Width / 2], all) + halves<T, Width, 1>(v[i], v[i + Width / 2], all);
  if constexpr (Width > 2)
    return sum_lanes<T, Width / 2>(v);
  else
    return v[0];
}

// v[i][l] <-> v[l][i]
template <class T, index_t Width = kLanes<T>>
[[gnu::always_inline]] inline void transpose(vec<T>* v) {
  constexpr auto all = std::make_index_sequence<as_size(kLanes<T>)>{};
#pragma GCC unroll 16
  for (index_t pair = 0; pair < kLanes<T> / 2; ++pair) {
    const index_t i = pair / (Width / 2) * Width + pair % (Width / 2), j = i + Width / 2;
    const vec<T> a = v[i], b = v[j];
    v[i] = halves<T, Width, 0>(a, b, all);
    v[j] = halves<T, Width, 1>(a, b, all);
  }
  if constexpr (Width > 2) transpose<T, Width / 2>(v);
}

template <class T>
inline vec<T> load_unaligned(const T* p) {
  vec<T> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
inline void store_unaligned(T* p, vec<T> v) {
  __builtin_memcpy(p, &v, sizeof v);
}

template <class T>
inline vec<T> square_root(vec<T> v) {
  T lanes[kLanes<T>];
  __builtin_memcpy(lanes, &v, sizeof v);
  for (index_t i = 0; i < kLanes<T>; ++i)
    lanes[i] = sizeof(T) == 4 ? T(__builtin_sqrtf(float(lanes[i]))) : T(__builtin_sqrt(double(lanes[i])));
  __builtin_memcpy(&v, lanes, sizeof v);
  return v;
}

// 1 / sqrt(v): in single precision, where the processor has an estimate, that and Newton's steps, which is right to two
// rounding units and takes a fifth of the time. v is neither zero nor infinite.
template <class T>
inline vec<T> reciprocal_root(vec<T> v) {
#if defined(__AVX2__)
  if constexpr (sizeof(T) == 4) {
#if defined(__AVX512F__)
    vec<T> r = vec<T>(_mm512_maskz_rsqrt14_ps(0xFFFF, __m512(v)));
#else
    vec<T> r = vec<T>(_mm256_rsqrt_ps(__m256(v)));
    r += T(0.5) * r * (T(1) - v * r * r);
#endif
    return r + T(0.5) * r * (T(1) - v * r * r);
  }
#endif
  return T(1) / square_root<T>(v);
}

// 1 / sqrt(v), and the root itself, for any finite v > 0: by estimates only with AVX-512, whose alone know subnormal
// numbers.
template <class T>
inline vec<T> root_and_reciprocal(vec<T> v, vec<T>& root) {
#if defined(__AVX512F__)
  vec<T> r;
  if constexpr (sizeof(T) == 4) {
    r = reciprocal_root<T>(v);
  } else {
    r = vec<T>(_mm512_maskz_rsqrt14_pd(0xFF, __m512d(v)));
    for (int step = 0; step < 2; ++step) r += T(0.5) * r * (T(1) - v * r * r);
  }
  const vec<T> near = v * r;
  root = near + T(0.5) * r * (v - near * near);  // exact for squares
  return r;
#else
  root = square_root<T>(v);
  return T(1) / root;
#endif
}

// The norm, whose estimate knows neither zero nor infinity: squares beyond those of any residual of a network that can
// be built (largest_square_root of problem.py) count as that. NaN stays.
template <class T>
inline vec<T> norm(vec<T> square) {
  const vec<T> least = vec<T>{} + (sizeof(T) == 4 ? T(1e-36) : T(1e-306)),
               most = vec<T>{} + (sizeof(T) == 4 ? T(1e36) : T(1e306));
  square = square < least ? least : square;
  square = square > most ? most : square;
  return square * reciprocal_root<T>(square);
}

// 1 / max(sqrt(square), smallest)
template <class T>
inline vec<T> reciprocal_norm(vec<T> square, T smallest) {
  const vec<T> least = vec<T>{} + smallest * smallest;
  return reciprocal_root<T>(square < least ? least : square);
}

// log(x) for 1 <= x < 2: with y = x or x / 2 within [0.7, 1.42) and s = (y - 1) / (y + 1), |s| < 0.172, log y is
// 2 atanh(s); its series ends below a quarter of the rounding unit.
template <class T>
inline vec<T> logarithm(vec<T> x) {
  constexpr int terms = sizeof(T) == 4 ? 5 : 11;
  const auto large = x > T(1.4142135623730951);
  const vec<T> y = large ? x * T(0.5) : x, s = (y - T(1)) / (y + T(1)), square = s * s;
  vec<T> series{};
#pragma GCC unroll 16
  for (int i = terms; i >= 0; --i) series = series * square + T(2.0 / (2 * i + 1));
  return s * series + (large ? vec<T>{} + T(0.6931471805599453) : vec<T>{});
}

// x = m 2^k of normal x > 0, m from the number whose bits are `least`, at most 1, to twice that.
template <std::uint64_t least>
inline vec<double> mantissa(vec<double> x, vec<double>& k) {
  using naturals = typename Simd<double>::naturals;
  constexpr std::uint64_t one = 0x3ff0000000000000, two_to_52 = 0x4330000000000000;
  naturals bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  const naturals exponent = (bits + (one - least)) >> 52;  // 1023 + k
  const naturals mantissa_bits = bits - ((exponent << 52) - one), exponent_bits = exponent | two_to_52;
  vec<double> m;
  __builtin_memcpy(&m, &mantissa_bits, sizeof m);
  __builtin_memcpy(&k, &exponent_bits, sizeof k);
  k -= 0x1p52 + 1023;
  return m;
}

// log(1 + y) for finite y >= 0, to two rounding units: with 1 + y = m 2^k and m within [0.7, 1.42), as above. Where k
// is zero, m - 1 is y itself, which keeps all digits of small ones.
inline vec<double> logarithm_of_one_and(vec<double> y) {
  vec<double> k;
  const vec<double> m = mantissa<0x3fe6a09e667f3bcd>(y + 1.0, k);  // sqrt(1/2)
  const vec<double> f = k == 0.0 ? y : m - 1.0, s = f / (f + 2.0), square = s * s;
  vec<double> series{};
#pragma GCC unroll 16
  for (int i = 10; i >= 0; --i) series = series * square + 2.0 / (2 * i + 1);
  return s * series + k * 0.6931471805599453;
}

// A lower bound of that, below it by 1.3e-4 at most, without a division: m within [1, 2), and the polynomial of degree
// 4 of least error there (6.1e-5, by Remez' algorithm), less that error and 1e-9 for rounding.
inline vec<double> logarithm_below(vec<double> y) {
  vec<double> k;
  const vec<double> f = mantissa<0x3ff0000000000000>(y + 1.0, k) - 1.0;
  const vec<double> series =
      0.996540741939069 + f * (-0.46783476234005633 + f * (0.2208915404687527 - f * 0.05657176769566973));
  return k * 0.6931471805599453 + f * series - 1e-9;
}

// Whether a comparison holds in any lane.
template <class T>
inline bool any(integers<T> holds) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask(__m512i(holds), __m512i(holds)) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_epi8(__m256i(holds)) != 0;
#else
  std::int64_t parts[REDUNET_VECTOR_BYTES / 8], all = 0;
  __builtin_memcpy(parts, &holds, sizeof holds);
  for (const std::int64_t part : parts) all |= part;
  return all != 0;
#endif
}

// The sum of the lanes of one vector.
template <class T>
inline T sum_of(vec<T> v) {
  T lanes[kLanes<T>], sum = 0;
  __builtin_memcpy(lanes, &v, sizeof v);
  for (const T lane : lanes) sum += lane;
  return sum;
}

// exp(x) for -80 < x <= 0: 2^n e^r with |r| <= ln(2)/2, and the Taylor series of e^r to where its next term is below a
// quarter of the rounding unit (0.347^8/8! = 5e-9, 0.347^14/14! = 4e-18).
template <class T>
inline vec<T> exponential(vec<T> x) {
  constexpr bool single = sizeof(T) == 4;
  constexpr int degree = single ? 7 : 13, mantissa = single ? 23 : 52;
  constexpr double factorials[] = {1,    1,     2,      6,       24,       120,       720,
                                   5040, 40320, 362880, 3628800, 39916800, 479001600, 6227020800};
  // ln 2 in two parts, the first with so few digits that n times it is exact.
  constexpr T ln2_high = single ? T(0x1.62e4p-1) : T(0x1.62e42feep-1);
  constexpr T ln2_low = single ? T(0x1.7f7d1cp-20) : T(0x1.a39ef35793c76p-33);
  const integers<T> n = __builtin_convertvector(x * T(1.4426950408889634) - T(0.5), integers<T>);  // rounds to nearest
  const vec<T> real_n = __builtin_convertvector(n, vec<T>);
  const vec<T> r = (x - real_n * ln2_high) - real_n * ln2_low;
  vec<T> series = vec<T>{} + T(1 / factorials[degree]);
#pragma GCC unroll 16
  for (int i = degree - 1; i >= 0; --i) series = series * r + T(1 / factorials[i]);
  const integers<T> power = (n + (single ? 127 : 1023)) << mantissa;
  vec<T> scale;
  __builtin_memcpy(&scale, &power, sizeof scale);
  return series * scale;
}

}  // namespace REDUNET_ISA
}  // namespace redunet
