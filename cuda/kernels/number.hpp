// Real and complex numbers as one family, so that a kernel is written once: N is float, double, or Complex of them.
#pragma once

#include <type_traits>

#include "platform/gpu.hpp"

namespace redunet::cuda {

template <class T>
struct alignas(2 * sizeof(T)) Complex {
  T re, im;
};

template <class N>
struct NumberTraits {
  using Real = N;
  static constexpr bool is_complex = false;
};
template <class T>
struct NumberTraits<Complex<T>> {
  using Real = T;
  static constexpr bool is_complex = true;
};
template <class N>
using Real = typename NumberTraits<N>::Real;

// real -> number
template <class N>
__host__ __device__ inline N number(Real<N> x) {
  if constexpr (NumberTraits<N>::is_complex)
    return {x, 0};
  else
    return x;
}
template <class N>
__device__ inline Real<N> real_part(N z) {
  if constexpr (NumberTraits<N>::is_complex)
    return z.re;
  else
    return z;
}
template <class N>
__device__ inline N conjugate(N z) {
  if constexpr (NumberTraits<N>::is_complex) z.im = -z.im;
  return z;
}
template <class N>
__device__ inline Real<N> squared(N z) {
  if constexpr (NumberTraits<N>::is_complex)
    return z.re * z.re + z.im * z.im;
  else
    return z * z;
}
// s + x z with x real
template <class N>
__device__ inline N add_scaled(N s, Real<N> x, N z) {
  if constexpr (NumberTraits<N>::is_complex)
    return {s.re + x * z.re, s.im + x * z.im};
  else
    return s + x * z;
}
template <class N>
__device__ inline N scaled(Real<N> x, N z) {
  return add_scaled(number<N>(0), x, z);
}
// Re conj(a) b
template <class N>
__device__ inline Real<N> real_product(N a, N b) {
  if constexpr (NumberTraits<N>::is_complex)
    return a.re * b.re + a.im * b.im;
  else
    return a * b;
}
// The same number in the precision of M.
template <class M, class N>
__device__ inline M converted(N z) {
  if constexpr (NumberTraits<N>::is_complex)
    return {static_cast<Real<M>>(z.re), static_cast<Real<M>>(z.im)};
  else
    return static_cast<M>(z);
}
// s + a b
template <class N>
__device__ inline N add_product(N s, N a, N b) {
  if constexpr (NumberTraits<N>::is_complex)
    return {s.re + a.re * b.re - a.im * b.im, s.im + a.re * b.im + a.im * b.re};
  else
    return s + a * b;
}
// s + a conj(b)
template <class N>
__device__ inline N add_conj_product(N s, N a, N b) {
  return add_product(s, a, conjugate(b));
}

// The same family in double precision.
template <class N>
using InDouble = std::conditional_t<NumberTraits<N>::is_complex, Complex<double>, double>;

__device__ inline bool is_finite(float x) { return x - x == 0; }
__device__ inline bool is_finite(double x) { return x - x == 0; }
__device__ inline float square_root(float x) { return sqrtf(x); }
__device__ inline double square_root(double x) { return sqrt(x); }
__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }

}  // namespace redunet::cuda
