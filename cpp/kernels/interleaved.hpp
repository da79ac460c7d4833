// Hermitian matrices side by side in lanes: Cholesky factors, inverses, solutions, and the way into lanes and back; and
// the substitution with one factor whose right-hand sides lie in lanes. Part of kernels.cpp.
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
bool cholesky_lanes_of(const Lanes<T>& q, index_t lane) {
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
void invert_lanes_of(const Lanes<T>& q, index_t lane) {
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
bool cholesky_lanes(const Lanes<T>& q) {
  bool definite = true;
  for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>)
    definite = (q.planes == 1 ? cholesky_lanes_of<T, 1>(q, lane) : cholesky_lanes_of<T, 2>(q, lane)) && definite;
  return definite;
}

// Each pivot is m 2^e; the mantissas' product is kept within [1, 2), so that one logarithm serves them all.
template <class T>
void logdet_lanes(const Lanes<T>& q, T* logdets) {
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
void invert_lanes(const Lanes<T>& q) {
  for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>)
    q.planes == 1 ? invert_lanes_of<T, 1>(q, lane) : invert_lanes_of<T, 2>(q, lane);
}

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
void solve_lanes_of(const Lanes<T>& q, T* x, index_t n_rhs, index_t lane) {
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

template <class T>
void solve_lanes(const Lanes<T>& q, T* x, index_t n_rhs) {
  for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>)
    q.planes == 1 ? solve_lanes_of<T, 1>(q, x, n_rhs, lane) : solve_lanes_of<T, 2>(q, x, n_rhs, lane);
}

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
void to_lanes(const T* from, index_t stride, index_t count, index_t size, T* rows) {
  into_lanes(from, stride, count, size, rows, [](index_t) { return false; });
}

template <class T>
void from_lanes(const T* rows, index_t size, T* to, index_t stride, index_t count) {
  out_of_lanes(rows, size, to, stride, count, [](index_t) { return false; });
}

template <class T>
void read_lanes(const T* from, index_t count, const Lanes<T>& q) {
  const index_t n = q.n, size = n * n * q.planes;
  if (q.planes == 1)
    into_lanes(from, size, count, size, q.M, [n](index_t e) { return above_diagonal<T, 1>(n, e); });
  else
    into_lanes(from, size, count, size, q.M, [n](index_t e) { return above_diagonal<T, 2>(n, e); });
}

template <class T, index_t P>
void write_lanes_of(const Lanes<T>& q, T* to, index_t count, bool hermitian) {
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
void write_lanes(const Lanes<T>& q, T* to, index_t count, bool hermitian) {
  q.planes == 1 ? write_lanes_of<T, 1>(q, to, count, hermitian) : write_lanes_of<T, 2>(q, to, count, hermitian);
}

}  // namespace
}  // namespace REDUNET_ISA
}  // namespace redunet
