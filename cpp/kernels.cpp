// The kernels of kernels.hpp for one instruction set: compiled several times, each time with other flags and another
// namespace REDUNET_ISA. No std containers here: an inline function compiled for AVX-512 must not be merged into the
// rest of the program.

#include "simd.hpp"

namespace redunet {
namespace REDUNET_ISA {
namespace {

// Register tiles: rows x columns of vectors held as accumulators. With 32 registers 6 complex rows x 2 columns take 24
// and leave 4 for x and the rest for broadcasts; with 16 registers 2 x 2 take 8. Real rows count half.
template <index_t P>
constexpr index_t kTileRows = (kManyRegisters ? 12 : 4) / P;
constexpr index_t kTileColumns = 2;
// Gram tiles are square: 3 x 3 complex or 4 x 4 real accumulators of 32 registers; 2 x 2 or 3 x 3 of 16.
template <index_t P>
constexpr index_t kGramTile = kManyRegisters ? (P == 2 ? 3 : 4) : (P == 2 ? 2 : 3);

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
struct Column {
  const T* x;
  index_t panel, lane;  // where this column of vectors lies
};

template <class T>
inline Column<T> column(const Product<T>& q, index_t v) {
  const index_t panel = v / kVectors<T>, lane = v % kVectors<T> * kLanes<T>;
  return {q.x + panel * q.x_stride + lane, panel, lane};
}

// Always inlined: y lives in registers.
template <class T, index_t P, index_t M, index_t N>
[[gnu::always_inline]] inline void finish(const Product<T>& q, index_t row, const Column<T> (&at)[N],
                                          const vec<T> (&y)[M][P][N]) {
  for (index_t c = 0; c < N; ++c) {
    const index_t panel = at[c].panel, offset = row * P * kPanel<T> + at[c].lane;
    T* squares = q.squares + panel * kPanel<T> + at[c].lane;
    T* out = q.out + panel * q.out_stride + offset;
    const T* x0 = q.x0 + panel * q.x0_stride + offset;
    const auto each_row = [&](const auto& f) {
      for (index_t i = 0; i < M; ++i)
        for (index_t plane = 0; plane < P; ++plane) f((i * P + plane) * kPanel<T>, y[i][plane][c]);
    };
    vec<T> s{};
    switch (q.epilogue) {
      case Epilogue::kStore:
        each_row([&](index_t row_at, vec<T> z) { store<T>(out + row_at, z); });
        break;
      case Epilogue::kAxpy: {
        const vec<T> by = load(q.coefficient + panel * kPanel<T> + at[c].lane);
        each_row([&](index_t row_at, vec<T> z) { store<T>(out + row_at, load(out + row_at) + by * z); });
        break;
      }
      case Epilogue::kCombine: {
        const vec<T> by = load(q.coefficient + panel * kPanel<T> + at[c].lane);
        const vec<T> base = load(q.base + panel * kPanel<T> + at[c].lane);
        each_row([&](index_t row_at, vec<T> z) { store<T>(out + row_at, base * load(x0 + row_at) + by * z); });
        break;
      }
      case Epilogue::kStoreSquaredNorm:
        each_row([&](index_t row_at, vec<T> z) { store<T>(out + row_at, z); });
        [[fallthrough]];
      case Epilogue::kSquaredNorm:
        each_row([&](index_t, vec<T> z) { s += z * z; });
        store<T>(squares, load(squares) + q.weight * s);
        break;
      case Epilogue::kResidualNorm:
        each_row([&](index_t row_at, vec<T> z) {
          const vec<T> r = load(x0 + row_at) - z;
          s += r * r;
        });
        store<T>(squares, load(squares) + q.weight * s);
        break;
    }
  }
}

// M rows times N columns of vectors, the sum over d in registers.
template <class T, index_t P, bool Conj, index_t M, index_t N>
inline void product_tile(const Product<T>& q, index_t row, index_t first_column) {
  Column<T> at[N];
  for (index_t c = 0; c < N; ++c) at[c] = column(q, first_column + c);
  vec<T> y[M][P][N] = {};
  const T* A = q.A + row * q.row_stride;
  const index_t rs = q.row_stride;
  for (index_t d = 0; d < q.n_in; ++d, A += q.col_stride) {
    vec<T> x[P][N];
    for (index_t c = 0; c < N; ++c)
      for (index_t plane = 0; plane < P; ++plane) x[plane][c] = load(at[c].x + (d * P + plane) * kPanel<T>);
    for (index_t i = 0; i < M; ++i) {
      const T re = A[i * rs];
      for (index_t c = 0; c < N; ++c)
        for (index_t plane = 0; plane < P; ++plane) y[i][plane][c] += re * x[plane][c];
      if constexpr (P == 2) {
        const T im = A[i * rs + q.imag_offset];
        for (index_t c = 0; c < N; ++c) {
          if constexpr (Conj) {
            y[i][0][c] += im * x[1][c];
            y[i][1][c] -= im * x[0][c];
          } else {
            y[i][0][c] -= im * x[1][c];
            y[i][1][c] += im * x[0][c];
          }
        }
      }
    }
  }
  finish<T, P, M, N>(q, row, at, y);
}

template <class T, index_t P, bool Conj>
void product_of(const Product<T>& q) {
  const index_t n_rows = q.row_end - q.row_begin, n_columns = q.n_panels * kVectors<T>;
  const index_t n_blocks = (n_rows + kTileRows<P> - 1) / kTileRows<P>;
  for (index_t b = 0; b < n_blocks; ++b) {  // blocks of nearly equal height
    const index_t begin = q.row_begin + n_rows * b / n_blocks, end = q.row_begin + n_rows * (b + 1) / n_blocks;
    with_constant<kTileRows<P>>(end - begin, [&]<index_t M>() {
      index_t c = 0;
      for (; c + kTileColumns <= n_columns; c += kTileColumns) product_tile<T, P, Conj, M, kTileColumns>(q, begin, c);
      for (; c < n_columns; ++c) product_tile<T, P, Conj, M, 1>(q, begin, c);
    });
  }
}

template <class T>
void product(const Product<T>& q) {
  if (q.planes == 1)
    product_of<T, 1, false>(q);
  else if (q.conj)
    product_of<T, 2, true>(q);
  else
    product_of<T, 2, false>(q);
}

static_assert(kGramRows % kGramTile<1> == 0 && kGramRows % kGramTile<2> == 0);

template <class T, index_t P, index_t M, index_t N>
inline void gram_tile(const Gram<T>& g, index_t a, index_t b) {
  vec<T> G[M][N][P] = {};
  for (index_t t = 0; t < g.n_panels; ++t) {
    const T* va = g.v + t * g.panel_stride + a * P * kPanel<T>;
    const T* vb = g.v + t * g.panel_stride + b * P * kPanel<T>;
    for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>) {
      vec<T> y[N][P];
      for (index_t j = 0; j < N; ++j)
        for (index_t plane = 0; plane < P; ++plane) y[j][plane] = load(vb + (j * P + plane) * kPanel<T> + lane);
      if (g.weights != nullptr) {
        const vec<T> w = load(g.weights + t * kPanel<T> + lane);
        for (index_t j = 0; j < N; ++j)
          for (index_t plane = 0; plane < P; ++plane) y[j][plane] *= w;
      }
      for (index_t i = 0; i < M; ++i) {
        const vec<T> re = load(va + i * P * kPanel<T> + lane);
        for (index_t j = 0; j < N; ++j) G[i][j][0] += re * y[j][0];
        if constexpr (P == 2) {
          const vec<T> im = load(va + (i * P + 1) * kPanel<T> + lane);
          for (index_t j = 0; j < N; ++j) {
            G[i][j][0] += im * y[j][1];
            G[i][j][1] += im * y[j][0];
            G[i][j][1] -= re * y[j][1];
          }
        }
      }
    }
  }
  for (index_t i = 0; i < M; ++i)
    for (index_t j = 0; j < N && b + j <= a + i; ++j) {
      T* out = g.G + (a + i) * g.row_stride + (b + j) * g.col_stride;
      out[0] = sum<T>(G[i][j][0]) + (g.accumulate ? out[0] : T(0));
      if constexpr (P == 2) out[g.imag_offset] = sum<T>(G[i][j][1]) + (g.accumulate ? out[g.imag_offset] : T(0));
    }
}

// Panels are taken in runs that keep the rows of a run in the L2 cache.
constexpr index_t kGramRunBytes = 1 << 19;

template <class T, index_t P>
void gram_of(const Gram<T>& g) {
  constexpr index_t K = kGramTile<P>;
  index_t run = kGramRunBytes / (g.row_end * P * kCacheLine);
  if (run < 4) run = 4;
  for (index_t t = 0; t < g.n_panels; t += run) {
    Gram<T> part = g;
    part.v += t * g.panel_stride;
    part.accumulate = g.accumulate || t > 0;
    if (g.weights != nullptr) part.weights += t * kPanel<T>;
    if (t + run < g.n_panels)
      part.n_panels = run;
    else
      part.n_panels = g.n_panels - t;
    for (index_t a = g.row_begin; a < g.row_end; a += K) {
      const index_t rows = g.row_end - a < K ? g.row_end - a : K;
      with_constant<K>(rows, [&]<index_t M>() {
        for (index_t b = 0; b < a; b += K) gram_tile<T, P, M, K>(part, a, b);
        gram_tile<T, P, M, M>(part, a, a);
      });
    }
  }
}

template <class T>
void gram(const Gram<T>& g) {
  if (g.planes == 1)
    gram_of<T, 1>(g);
  else
    gram_of<T, 2>(g);
}

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

template <class T>
void softmax(const Softmax<T>& q) {
  vec<T> index{};
  for (index_t i = 0; i < kLanes<T>; ++i) index[i] = T(i);
  for (index_t lane = 0; lane < q.lanes; lane += kLanes<T>) {
    const T* squares = q.squares + lane;
    T* pi = q.pi + lane;
    vec<T> least = load(squares);
    for (index_t j = 1; j < q.k; ++j) {
      const vec<T> s = load(squares + j * q.stride);
      least = s < least ? s : least;
    }
    least = square_root<T>(least);
    const vec<T> limit = (least + q.beyond) * (least + q.beyond);
    const integers<T> sample = index < vec<T>{} + T(q.n_samples - lane);
    vec<T> sum{};
    for (index_t j = 0; j < q.k; ++j) {
      const vec<T> s = load(squares + j * q.stride);
      const integers<T> zero = s > limit;
      vec<T> x = -q.lambda * (square_root<T>(s) - least);
      x = zero ? vec<T>{} : x;
      const vec<T> e = zero ? vec<T>{} : exponential<T>(x);
      store<T>(pi + j * q.stride, e);
      sum += e;
      const integers<T> counts = ~zero & sample;
      bool any = false;
      for (index_t i = 0; i < kLanes<T>; ++i) any |= counts[i] != 0;
      q.live[j] = static_cast<char>(q.live[j] | any);
    }
    const vec<T> scale = T(1) / sum;
    for (index_t j = 0; j < q.k; ++j) store<T>(pi + j * q.stride, load(pi + j * q.stride) * scale);
  }
}

template <class T>
void reciprocal_norms(T* squares, index_t lanes, T smallest) {
  for (index_t lane = 0; lane < lanes; lane += kLanes<T>) {
    const vec<T> norm = square_root<T>(load(squares + lane)), least = vec<T>{} + smallest;
    store<T>(squares + lane, T(1) / (norm > least ? norm : least));
  }
}

template <class T>
void scale(const T* v, index_t v_stride, T* out, index_t out_stride, index_t n_panels, index_t n_rows,
           const T* factors) {
  for (index_t t = 0; t < n_panels; ++t)
    for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>) {
      const vec<T> by = load(factors + t * kPanel<T> + lane);
      const T* from = v + t * v_stride + lane;
      T* to = out + t * out_stride + lane;
      for (index_t row = 0; row < n_rows; ++row) store<T>(to + row * kPanel<T>, load(from + row * kPanel<T>) * by);
    }
}

template <class T, index_t Terms>
void settle_of(const Settle<T>& q) {
  for (index_t t = 0; t < q.n_panels; ++t)
    for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>) {
      const index_t from = t * q.moved_stride + lane;
      T* v = q.v + t * q.v_stride + lane;
      vec<T> by[Terms + 1], s{};
      for (index_t j = 0; j < Terms; ++j) by[j] = load(q.coefficients[j] + t * kPanel<T> + lane);
      for (index_t row = 0; row < q.n_rows; ++row) {
        vec<T> z = load(q.moved + from + row * kPanel<T>);
        for (index_t j = 0; j < Terms; ++j) z += by[j] * load(q.terms[j] + from + row * kPanel<T>);
        store<T>(v + row * kPanel<T>, z);
        s += z * z;
      }
      T* squares = q.squares + t * kPanel<T> + lane;
      store<T>(squares, load(squares) + q.weight * s);
    }
}

template <class T>
void settle(const Settle<T>& q) {
  if (q.n_terms == 0)
    settle_of<T, 0>(q);
  else
    with_constant<kMostTerms>(q.n_terms, [&]<index_t Terms>() { settle_of<T, Terms>(q); });
}

template <class T>
constexpr Kernels<T> kTable{
    product<T>,          gram<T>,  cholesky_lanes<T>, invert_lanes<T>, forward_substitute<T>, softmax<T>,
    reciprocal_norms<T>, scale<T>, settle<T>};

}  // namespace

#define REDUNET_STRING_(x) #x
#define REDUNET_STRING(x) REDUNET_STRING_(x)
extern const KernelSet kKernelSet;
const KernelSet kKernelSet{REDUNET_STRING(REDUNET_ISA), kTable<float>, kTable<double>};

}  // namespace REDUNET_ISA
}  // namespace redunet
