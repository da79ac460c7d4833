// Hermitian matrices interleaved in vector lanes: Cholesky factors, inverses, solutions; and the substitution with one
// factor whose right-hand sides lie in lanes. Part of kernels.cpp.
#pragma once

#include "kernels/simd.hpp"

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

// Left-looking: L[i, j] = (M[i, j] - sum_{k<j} L[i, k] conj(L[j, k])) / L[j, j]; only the diagonal is kept up to date,
// so that from one pivot to the next there are a root and two products and not a sum. False if a pivot is not positive
// or not finite.
template <class T, index_t P>
bool cholesky_interleaved_of(const Interleaved<T>& q, index_t lane) {
  const index_t n = q.n, step = P * kPanel<T>;
  T* const M = q.M + lane;  // a copy: a store might change q
  const auto at = [=](index_t i, index_t j) { return M + (i * n + j) * step; };
  const auto rows = [&]<index_t R>(index_t i, index_t j, vec<T> scale) {
    Number<T, P> s[R] = {};
    for (index_t k = 0; k < j; ++k) {
      const Number<T, P> b = get<T, P>(at(j, k));
      for (index_t r = 0; r < R; ++r) add_conj_product(s[r], get<T, P>(at(i + r, k)), b);
    }
    for (index_t r = 0; r < R; ++r) {
      Number<T, P> z = get<T, P>(at(i + r, j));
      vec<T> diagonal = load(at(i + r, i + r));
      for (index_t plane = 0; plane < P; ++plane) {
        z.part[plane] = (z.part[plane] - s[r].part[plane]) * scale;
        diagonal -= z.part[plane] * z.part[plane];
      }
      put<T, P>(at(i + r, j), z);
      store<T>(at(i + r, i + r), diagonal);
    }
  };
  const vec<T> zero{}, one = zero + T(1), infinity = zero + T(__builtin_huge_val());
  integers<T> definite = ~integers<T>{};
  const auto take_pivot = [&](index_t j) {
    const vec<T> excess = load(at(j, j)), pivot = excess + q.shift;
    store<T>(q.pivots + j * kPanel<T> + lane, excess);
    definite &= (pivot > zero) & (pivot < infinity);
    vec<T> root;
    const vec<T> scale = root_and_reciprocal<T>(pivot > zero ? pivot : one, root);
    store<T>(at(j, j), root);
    if constexpr (P == 2) store<T>(at(j, j) + kPanel<T>, zero);
    return scale;
  };
  vec<T> scale = take_pivot(0);
  for (index_t j = 0; j + 1 < n; ++j) {
    index_t i = j + 1;
    const auto down_to = [&](index_t end) {
      for (; i + kTogether <= end; i += kTogether) rows.template operator()<kTogether>(i, j, scale);
      for (; i < end; ++i) rows.template operator()<1>(i, j, scale);
    };
    down_to(i + kTogether < n ? i + kTogether : n);
    const vec<T> next = take_pivot(j + 1);  // the root's latency hides behind the other rows
    down_to(n);
    scale = next;
  }
  bool all = true;
  for (index_t l = 0; l < kLanes<T>; ++l) all = all && definite[l];
  return all;
}

// W = L^-1 in place, column by column from the last, then W* W in place, row by row. W solves W L = I and not L W = I:
// then W* W is as accurate as two substitutions, where the other's error would grow by the root of the condition.
template <class T, index_t P>
void invert_interleaved_of(const Interleaved<T>& q, index_t lane) {
  const index_t n = q.n, step = P * kPanel<T>;
  T* const M = q.M + lane;  // a copy: a store might change q
  const auto at = [=](index_t i, index_t j) { return M + (i * n + j) * step; };
  // W[i, j] = -(sum_{j<k<=i} W[i, k] L[k, j]) W[j, j], for R neighbouring rows i (W[i, k] = 0 above the diagonal).
  const auto rows_of_w = [&]<index_t R>(index_t i, index_t j, vec<T> diagonal) {
    Number<T, P> s[R] = {};
    for (index_t k = j + 1; k <= i; ++k) {
      const Number<T, P> b = get<T, P>(at(k, j));
      for (index_t r = 0; r < R; ++r) add_product(s[r], get<T, P>(at(i + r, k)), b);
    }
    for (index_t k = i + 1; k < i + R; ++k)
      for (index_t r = k - i; r < R; ++r) add_product(s[r], get<T, P>(at(i + r, k)), get<T, P>(at(k, j)));
    for (index_t r = 0; r < R; ++r) {
      for (index_t plane = 0; plane < P; ++plane) s[r].part[plane] *= -diagonal;
      put<T, P>(at(i + r, j), s[r]);
    }
  };
  for (index_t j = n - 1; j >= 0; --j) {
    const vec<T> diagonal = (vec<T>{} + T(1)) / load(at(j, j));
    index_t i = n;  // rows from i on are done: those above need the column as it was
    for (; i - kTogether > j; i -= kTogether) rows_of_w.template operator()<kTogether>(i - kTogether, j, diagonal);
    for (; i - 1 > j; --i) rows_of_w.template operator()<1>(i - 1, j, diagonal);
    store<T>(at(j, j), diagonal);
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
bool cholesky_interleaved(const Interleaved<T>& q) {
  bool definite = true;
  for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>)
    definite =
        (q.planes == 1 ? cholesky_interleaved_of<T, 1>(q, lane) : cholesky_interleaved_of<T, 2>(q, lane)) && definite;
  return definite;
}

// Each pivot is m 2^e; the mantissas' product is kept within [1, 2), so that one logarithm serves them all.
template <class T>
void logdet_interleaved(const Interleaved<T>& q, T* logdets) {
  constexpr bool single = sizeof(T) == 4;
  constexpr int mantissa = single ? 23 : 52, bias = single ? 127 : 1023;
  const vec<T> one = vec<T>{} + T(1);
  integers<T> bits_of_one;
  __builtin_memcpy(&bits_of_one, &one, sizeof one);
  for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>) {
    vec<T> product = one;
    integers<T> exponent{};
    const auto split = [&] {
      integers<T> bits;
      __builtin_memcpy(&bits, &product, sizeof bits);
      exponent += (bits >> mantissa) - bias;
      bits = (bits & (((integers<T>{} + 1) << mantissa) - 1)) | bits_of_one;
      __builtin_memcpy(&product, &bits, sizeof bits);
    };
    for (index_t j = 0; j < q.n; ++j) {
      const vec<T> pivot = load(q.pivots + j * kPanel<T> + lane);
      const auto subnormal = pivot < (single ? T(0x1p-126) : T(0x1p-1022));
      exponent += subnormal ? integers<T>{} - mantissa : integers<T>{};
      const vec<T> scaled = subnormal ? pivot * T(single ? 0x1p23 : 0x1p52) : pivot;
      // The product of a mantissa below 2 and the largest pivots would overflow.
      const auto large = scaled > T(1);
      exponent += large ? integers<T>{} + 1 : integers<T>{};
      product *= large ? scaled * T(0.5) : scaled;
      split();
    }
    store<T>(logdets + lane, logarithm<T>(product) + __builtin_convertvector(exponent, vec<T>) * T(0.6931471805599453));
  }
}

template <class T>
void invert_interleaved(const Interleaved<T>& q) {
  for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>)
    q.planes == 1 ? invert_interleaved_of<T, 1>(q, lane) : invert_interleaved_of<T, 2>(q, lane);
}

// Two sums each, over even and odd columns: their latencies overlap.
template <class T, index_t P>
void substitute_of(const Substitution<T>& q) {
  const index_t step = q.row_step * P * kPanel<T>;
  const T sign = q.conj ? T(-1) : T(1);
  for (index_t i = 0; i < q.n; ++i) {
    const T* row = q.L + i * q.row_stride;
    const T scale = T(1) / row[i * q.col_stride];
    for (index_t t = 0; t < q.n_panels; ++t)
      for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>) {
        T* x = q.x + t * q.x_stride + lane;
        Number<T, P> even{}, odd{};
        const auto add = [&](Number<T, P>& s, index_t k) {
          const Number<T, P> z = get<T, P>(x + k * step);
          const T re = row[k * q.col_stride];
          for (index_t plane = 0; plane < P; ++plane) s.part[plane] += re * z.part[plane];
          if constexpr (P == 2) {
            const T im = sign * row[k * q.col_stride + q.imag_offset];
            s.part[0] -= im * z.part[1];
            s.part[1] += im * z.part[0];
          }
        };
        index_t k = 0;
        for (; k + 2 <= i; k += 2) add(even, k), add(odd, k + 1);
        if (k < i) add(even, k);
        Number<T, P> z = get<T, P>(x + i * step);
        for (index_t plane = 0; plane < P; ++plane)
          z.part[plane] = (z.part[plane] - (even.part[plane] + odd.part[plane])) * scale;
        put<T, P>(x + i * step, z);
      }
  }
}

template <class T>
void substitute(const Substitution<T>& q) {
  q.planes == 1 ? substitute_of<T, 1>(q) : substitute_of<T, 2>(q);
}

template <class T, index_t P>
void solve_interleaved_of(const Interleaved<T>& q, T* x, index_t n_rhs, index_t lane) {
  const index_t n = q.n, step = P * kPanel<T>;
  const auto L = [&](index_t i, index_t j) { return get<T, P>(q.M + (i * n + j) * step + lane); };
  const auto at = [&](index_t i, index_t r) { return x + (i * n_rhs + r) * step + lane; };
  const auto settle = [&](index_t i, index_t r, const Number<T, P>& s, vec<T> scale) {
    Number<T, P> z = get<T, P>(at(i, r));
    for (index_t plane = 0; plane < P; ++plane) z.part[plane] = (z.part[plane] - s.part[plane]) * scale;
    put<T, P>(at(i, r), z);
  };
  const auto columns = [&]<index_t R>(index_t r) {
    for (index_t i = 0; i < n; ++i) {
      Number<T, P> s[R] = {};
      for (index_t k = 0; k < i; ++k) {
        const Number<T, P> a = L(i, k);
        for (index_t c = 0; c < R; ++c) add_product(s[c], a, get<T, P>(at(k, r + c)));
      }
      const vec<T> scale = T(1) / L(i, i).part[0];
      for (index_t c = 0; c < R; ++c) settle(i, r + c, s[c], scale);
    }
    for (index_t i = n - 1; i >= 0; --i) {
      Number<T, P> s[R] = {};
      for (index_t k = i + 1; k < n; ++k) {
        const Number<T, P> a = L(k, i);
        for (index_t c = 0; c < R; ++c) add_conj_product(s[c], get<T, P>(at(k, r + c)), a);
      }
      const vec<T> scale = T(1) / L(i, i).part[0];
      for (index_t c = 0; c < R; ++c) settle(i, r + c, s[c], scale);
    }
  };
  index_t r = 0;
  for (; r + kTogether <= n_rhs; r += kTogether) columns.template operator()<kTogether>(r);
  with_constant<kTogether - 1>(n_rhs - r, [&]<index_t R>() { columns.template operator()<R>(r); });
}

template <class T, index_t P>
void forms_interleaved_of(const Interleaved<T>& q, T* x, index_t m, T* squares, index_t lane) {
  const index_t n = q.n, step = P * kPanel<T>;
  const auto at = [&](index_t r, index_t i) { return x + (r * n + i) * step + lane; };
  const auto vectors = [&]<index_t R>(index_t r) {
    vec<T> square[R] = {};
    for (index_t i = 0; i < n; ++i) {
      Number<T, P> s[R] = {};
      for (index_t k = 0; k < i; ++k) {
        const Number<T, P> a = get<T, P>(q.M + (i * n + k) * step + lane);
        for (index_t c = 0; c < R; ++c) add_product(s[c], a, get<T, P>(at(r + c, k)));
      }
      const vec<T> scale = T(1) / load(q.M + (i * n + i) * step + lane);
      for (index_t c = 0; c < R; ++c) {
        Number<T, P> z = get<T, P>(at(r + c, i));
        for (index_t plane = 0; plane < P; ++plane) {
          z.part[plane] = (z.part[plane] - s[c].part[plane]) * scale;
          square[c] += z.part[plane] * z.part[plane];
        }
        put<T, P>(at(r + c, i), z);
      }
    }
    for (index_t c = 0; c < R; ++c) store<T>(squares + (r + c) * kPanel<T> + lane, square[c]);
  };
  index_t r = 0;
  for (; r + kTogether <= m; r += kTogether) vectors.template operator()<kTogether>(r);
  with_constant<kTogether - 1>(m - r, [&]<index_t R>() { vectors.template operator()<R>(r); });
}

template <class T>
void forms_interleaved(const Interleaved<T>& q, T* x, index_t m, T* squares) {
  for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>)
    q.planes == 1 ? forms_interleaved_of<T, 1>(q, x, m, squares, lane)
                  : forms_interleaved_of<T, 2>(q, x, m, squares, lane);
}

template <class T>
void solve_interleaved(const Interleaved<T>& q, T* x, index_t n_rhs) {
  for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>)
    q.planes == 1 ? solve_interleaved_of<T, 1>(q, x, n_rhs, lane) : solve_interleaved_of<T, 2>(q, x, n_rhs, lane);
}

}  // namespace
}  // namespace REDUNET_ISA
}  // namespace redunet
