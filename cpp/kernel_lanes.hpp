// Hermitian matrices side by side in lanes: Cholesky factors and inverses; and the substitution with one factor whose
// right-hand sides lie in lanes. Part of kernels.cpp.
#pragma once

#include "simd.hpp"

namespace redunet {
namespace REDUNET_ISA {
namespace {

// A number for every lane: real, or real and imaginary part.
template <class T, index_t P>
struct Number {
  vec<T> part[P];
};

template <class T, index_t P>
inline Number<T, P> get(const T* p) {
  Number<T, P> z;
  for (index_t plane = 0; plane < P; ++plane) z.part[plane] = load(p + plane * kPanel<T>);
  return z;
}
template <class T, index_t P>
inline void put(T* p, const Number<T, P>& z) {
  for (index_t plane = 0; plane < P; ++plane) store<T>(p + plane * kPanel<T>, z.part[plane]);
}
// s += a b
template <class T, index_t P>
inline void add_product(Number<T, P>& s, const Number<T, P>& a, const Number<T, P>& b) {
  s.part[0] += a.part[0] * b.part[0];
  if constexpr (P == 2) {
    s.part[0] -= a.part[1] * b.part[1];
    s.part[1] += a.part[0] * b.part[1];
    s.part[1] += a.part[1] * b.part[0];
  }
}
// s += a conj(b)
template <class T, index_t P>
inline void add_conj_product(Number<T, P>& s, const Number<T, P>& a, const Number<T, P>& b) {
  s.part[0] += a.part[0] * b.part[0];
  if constexpr (P == 2) {
    s.part[0] += a.part[1] * b.part[1];
    s.part[1] += a.part[1] * b.part[0];
    s.part[1] -= a.part[0] * b.part[1];
  }
}

// Entries computed together in the loops below: they share one operand.
constexpr index_t kTogether = kManyRegisters ? 4 : 2;

// Left-looking: L[i, j] = (M[i, j] - sum_{k<j} L[i, k] conj(L[j, k])) / L[j, j].
template <class T, index_t P>
void cholesky_lanes_of(const Lanes<T>& q, index_t lane) {
  const index_t n = q.n, step = P * kPanel<T>;
  const auto at = [&](index_t i, index_t j) { return q.M + (i * n + j) * step + lane; };
  const auto rows = [&]<index_t R>(index_t i, index_t j, vec<T> scale) {
    Number<T, P> s[R] = {};
    for (index_t k = 0; k < j; ++k) {
      const Number<T, P> b = get<T, P>(at(j, k));
      for (index_t r = 0; r < R; ++r) add_conj_product(s[r], get<T, P>(at(i + r, k)), b);
    }
    for (index_t r = 0; r < R; ++r) {
      Number<T, P> z = get<T, P>(at(i + r, j));
      for (index_t plane = 0; plane < P; ++plane) z.part[plane] = (z.part[plane] - s[r].part[plane]) * scale;
      put<T, P>(at(i + r, j), z);
    }
  };
  for (index_t j = 0; j < n; ++j) {
    const vec<T> one = vec<T>{} + T(1);
    rows.template operator()<1>(j, j, one);
    vec<T> pivot = load(at(j, j));
    store<T>(q.pivots + j * kPanel<T> + lane, pivot);
    pivot = pivot > vec<T>{} ? pivot : one;
    const vec<T> root = square_root<T>(pivot), scale = one / root;
    store<T>(at(j, j), root);
    if constexpr (P == 2) store<T>(at(j, j) + kPanel<T>, vec<T>{});
    index_t i = j + 1;
    for (; i + kTogether <= n; i += kTogether) rows.template operator()<kTogether>(i, j, scale);
    for (; i < n; ++i) rows.template operator()<1>(i, j, scale);
  }
}

// W = L^-1 in place, row by row, then W* W in place, row by row.
template <class T, index_t P>
void invert_lanes_of(const Lanes<T>& q, index_t lane) {
  const index_t n = q.n, step = P * kPanel<T>;
  const auto at = [&](index_t i, index_t j) { return q.M + (i * n + j) * step + lane; };
  // W[i, j] = -W[i, i] sum_{j<=k<i} L[i, k] W[k, j], for R neighbouring columns j (W[k, j] = 0 above the diagonal).
  const auto columns_of_w = [&]<index_t R>(index_t i, index_t j, vec<T> diagonal) {
    Number<T, P> s[R] = {};
    for (index_t k = j; k < j + R - 1; ++k)
      for (index_t r = 0; r <= k - j; ++r) add_product(s[r], get<T, P>(at(i, k)), get<T, P>(at(k, j + r)));
    for (index_t k = j + R - 1; k < i; ++k) {
      const Number<T, P> a = get<T, P>(at(i, k));
      for (index_t r = 0; r < R; ++r) add_product(s[r], a, get<T, P>(at(k, j + r)));
    }
    for (index_t r = 0; r < R; ++r) {
      for (index_t plane = 0; plane < P; ++plane) s[r].part[plane] *= -diagonal;
      put<T, P>(at(i, j + r), s[r]);
    }
  };
  for (index_t i = 0; i < n; ++i) {
    const vec<T> diagonal = (vec<T>{} + T(1)) / load(at(i, i));
    index_t j = 0;
    for (; j + kTogether <= i; j += kTogether) columns_of_w.template operator()<kTogether>(i, j, diagonal);
    for (; j < i; ++j) columns_of_w.template operator()<1>(i, j, diagonal);
    store<T>(at(i, i), diagonal);
  }
  // A[i, j] = sum_{k>=i} conj(W[k, i]) W[k, j], for R neighbouring columns j.
  const auto columns_of_a = [&]<index_t R>(index_t i, index_t j) {
    Number<T, P> s[R] = {};
    for (index_t k = i; k < n; ++k) {
      const Number<T, P> a = get<T, P>(at(k, i));
      for (index_t r = 0; r < R; ++r) add_conj_product(s[r], get<T, P>(at(k, j + r)), a);
    }
    for (index_t r = 0; r < R; ++r) put<T, P>(at(i, j + r), s[r]);
  };
  for (index_t i = 0; i < n; ++i) {
    index_t j = 0;
    for (; j + kTogether <= i; j += kTogether) columns_of_a.template operator()<kTogether>(i, j);
    for (; j <= i; ++j) columns_of_a.template operator()<1>(i, j);
  }
}

template <class T>
void cholesky_lanes(const Lanes<T>& q) {
  for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>)
    q.planes == 1 ? cholesky_lanes_of<T, 1>(q, lane) : cholesky_lanes_of<T, 2>(q, lane);
}

template <class T>
void invert_lanes(const Lanes<T>& q) {
  for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>)
    q.planes == 1 ? invert_lanes_of<T, 1>(q, lane) : invert_lanes_of<T, 2>(q, lane);
}

template <class T>
void forward_substitute(const T* L, index_t row_stride, index_t col_stride, index_t imag_offset, index_t n,
                        index_t planes, T* x, index_t x_stride, index_t n_panels) {
  for (index_t i = 0; i < n; ++i) {
    const T* row = L + i * row_stride;
    const T scale = T(1) / row[i * col_stride];
    for (index_t t = 0; t < n_panels; ++t)
      for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>) {
        T* at = x + t * x_stride + lane;
        vec<T> re = load(at + i * planes * kPanel<T>);
        if (planes == 1) {
          for (index_t k = 0; k < i; ++k) re -= row[k * col_stride] * load(at + k * kPanel<T>);
          store<T>(at + i * kPanel<T>, re * scale);
          continue;
        }
        vec<T> im = load(at + (2 * i + 1) * kPanel<T>);
        for (index_t k = 0; k < i; ++k) {
          const T a = row[k * col_stride], b = row[k * col_stride + imag_offset];
          const vec<T> xr = load(at + 2 * k * kPanel<T>), xi = load(at + (2 * k + 1) * kPanel<T>);
          re -= a * xr;
          re += b * xi;
          im -= a * xi;
          im -= b * xr;
        }
        store<T>(at + 2 * i * kPanel<T>, re * scale);
        store<T>(at + (2 * i + 1) * kPanel<T>, im * scale);
      }
  }
}

}  // namespace
}  // namespace REDUNET_ISA
}  // namespace redunet
