// Gains of merges of clusters, whose codes change by a quadratic form (a sample joins) or a log det (two of several).
// Part of kernels.cpp.
#pragma once

#include "kernels/interleaved.hpp"
#include "kernels/simd.hpp"

namespace redunet {
namespace REDUNET_ISA {
namespace {

using doubles = vec<double>;

// Vectors that go through a form together, which hides the latency of their sums.
constexpr index_t kTile = kManyRegisters ? 4 : 2;
static_assert(kTile <= kMergeTile);

inline doubles smaller(doubles a, doubles b) { return a < b ? a : b; }
inline doubles larger(doubles a, doubles b) { return a > b ? a : b; }

// (max(0, sqrt(square) - radius))^2: the least square of a ball's points, of a norm that is at most the Euclidean.
inline doubles least_in_ball(doubles square, doubles radius) {
  const doubles distance = larger(square_root<double>(square) - radius, doubles{});
  return distance * distance;
}

// |W d|^2 of T vectors of differences, d(k, t): R rows of W at a time, so that a difference is read once for all of
// them.
template <index_t R, index_t T, class Real, class Difference>
inline void add_form(const Real* W, index_t rows, index_t above, const Difference& d, vec<Real>* form) {
  vec<Real> y[R][T] = {};
  for (index_t k = 0; k < above; ++k)
#pragma GCC unroll 4
    for (index_t t = 0; t < T; ++t) {
      const vec<Real> value = d(k, t);
#pragma GCC unroll 4
      for (index_t i = 0; i < R; ++i) y[i][t] += W[i * rows + k] * value;
    }
#pragma GCC unroll 4
  for (index_t k = 0; k < R; ++k)
#pragma GCC unroll 4
    for (index_t t = 0; t < T; ++t) {
      const vec<Real> value = d(above + k, t);
#pragma GCC unroll 4
      for (index_t i = k; i < R; ++i) y[i][t] += W[i * rows + above + k] * value;
    }
#pragma GCC unroll 4
  for (index_t t = 0; t < T; ++t)
#pragma GCC unroll 4
    for (index_t i = 0; i < R; ++i) form[t] += y[i][t] * y[i][t];
}

// A sum of squares only grows, so that what it is after some rows is a lower bound: after 4, 8, 16, ... of them, which
// are a small part of the work, enough() may end it. Whether it went to the end.
template <index_t T, class Real, class Difference, class Enough>
inline bool add_forms(index_t D, const Real* W, const Difference& d, vec<Real>* form, const Enough& enough) {
  const index_t rows = merge_rows(D);
  index_t r = 0;
  for (index_t next = 4; r + 4 <= D; r += 4) {
    if (r == next) {
      if (enough()) return false;
      next *= 2;
    }
    add_form<4, T>(W + r * rows, rows, r, d, form);
  }
  with_constant<3>(D - r, [&]<index_t R>() { add_form<R, T>(W + r * rows, rows, r, d, form); });
  return true;
}

// x* (I + a y y*)^-1 x of a sample y: what lies beside y is squared apart, as samples may lie on one ray.
template <index_t T>
inline void add_forms_about_zero(const MergeCluster& c, const double* const* x, doubles* form) {
  doubles along[T] = {}, t[T];
  for (index_t k = 0; k < c.D; ++k)
#pragma GCC unroll 4
    for (index_t v = 0; v < T; ++v) along[v] += c.mean[k] * load(x[v] + k * kMergeLanes);
#pragma GCC unroll 4
  for (index_t v = 0; v < T; ++v) {
    t[v] = along[v] * c.inverse_square;
    form[v] += t[v] * along[v] * c.shrink;
  }
  for (index_t k = 0; k < c.D; ++k)
#pragma GCC unroll 4
    for (index_t v = 0; v < T; ++v) {
      const doubles beside = load(x[v] + k * kMergeLanes) - t[v] * c.mean[k];
      form[v] += beside * beside;
    }
}

// The forms of T vectors, which begin at lane `begin` of the panels at x, and |mean + d weight|^2, which is there when
// enough() is asked. Whether forms are whole.
template <bool Centred, bool Several, index_t T, class Enough>
inline bool tile_forms(const MergeCluster& c, const double* panels, double* work, index_t begin, doubles* form,
                       doubles* of_mean, const Enough& enough) {
  constexpr index_t L = kLanes<double>;
  const index_t D = c.D;
  const double* x[T];
  for (index_t t = 0; t < T; ++t) {
    const index_t lane = begin + t * L;
    x[t] = panels + lane / kMergeLanes * D * kMergeLanes + lane % kMergeLanes;
    form[t] = of_mean[t] = doubles{};
  }
  if constexpr (Centred) {
    for (index_t k = 0; k < D; ++k)
#pragma GCC unroll 4
      for (index_t t = 0; t < T; ++t) {
        const doubles d = load(x[t] + k * kMergeLanes) - c.mean[k], middle = c.mean[k] + d * c.weight;
        of_mean[t] += middle * middle;
        if constexpr (Several)
          store<double>(work + (k * T + t) * L, d);
        else
          form[t] += d * d;
      }
    if constexpr (Several)
      return add_forms<T>(D, c.W, [=](index_t k, index_t t) { return load(work + (k * T + t) * L); }, form, enough);
  } else if constexpr (Several) {
    return add_forms<T>(D, c.W, [&](index_t k, index_t t) { return load(x[t] + k * kMergeLanes); }, form, enough);
  } else {
    add_forms_about_zero<T>(c, x, form);
  }
  return true;
}

// The gain, by either logarithm.
template <bool Centred, class Logarithm>
inline doubles gain_of(const MergeCluster& c, doubles form, doubles of_mean, doubles F, const Logarithm& logarithm) {
  doubles gain = c.constant + c.half * logarithm(c.scale * form) - F;
  if (Centred && c.of_mean != 0) gain += c.of_mean * logarithm(c.inverse_epsilon_sq * of_mean);
  return gain;
}

// Calls f.template operator()<T>(lane) for all lanes of some panels, T vectors at a time.
template <class F>
inline void for_tiles(index_t n_panels, const F& f) {
  const index_t lanes = n_panels * kMergeLanes;
  index_t lane = 0;
  for (; lane + kTile * kLanes<double> <= lanes; lane += kTile * kLanes<double>) f.template operator()<kTile>(lane);
  with_constant<kTile - 1>((lanes - lane) / kLanes<double>, [&]<index_t T>() { f.template operator()<T>(lane); });
}

template <bool Centred, bool Several>
void bound_of(const MergeCluster& c, const MergeBalls& q) {
  for_tiles(q.n_panels, [&]<index_t T>(index_t begin) {
    doubles form[T], of_mean[T];
    tile_forms<Centred, Several, T>(c, q.centres, q.work, begin, form, of_mean, [] { return false; });
    for (index_t t = 0; t < T; ++t) {
      const index_t lane = begin + t * kLanes<double>;
      const doubles radius = load(q.radii + lane);
      store<double>(q.bounds + lane,
                    gain_of<Centred>(c, least_in_ball(form[t], radius), least_in_ball(of_mean[t], radius * c.weight),
                                     load(q.F + lane), logarithm_below));
    }
  });
}

// Few gains are below the lowest so far, and a lower bound shows most that aren't, often of a part of the form: only
// the others take a logarithm.
template <bool Centred, bool Several>
void search_of(const MergeCluster& c, MergeSamples& q) {
  constexpr index_t L = kLanes<double>;
  double gain = q.gain;
  index_t where = -1;
  for_tiles(q.n_panels, [&]<index_t T>(index_t begin) {
    doubles form[T], of_mean[T];
    const auto hopeful = [&](index_t t) {
      const doubles F = load(q.F + begin + t * L);
      return any<double>(gain_of<Centred>(c, form[t], of_mean[t], F, logarithm_below) < gain);
    };
    const auto enough = [&] {
      bool some = false;
#pragma GCC unroll 4
      for (index_t t = 0; t < T; ++t) some = some || hopeful(t);
      return !some;
    };
    if (!tile_forms<Centred, Several, T>(c, q.x, q.work, begin, form, of_mean, enough)) return;
#pragma GCC unroll 4
    for (index_t t = 0; t < T; ++t) {
      const index_t lane = begin + t * L;
      if (!hopeful(t)) continue;
      const doubles F = load(q.F + lane);
      const doubles gains = gain_of<Centred>(c, form[t], of_mean[t], F, logarithm_of_one_and);
      for (index_t l = 0; l < L; ++l)
        if (gains[l] < gain && lane + l != q.itself) {
          gain = gains[l];
          where = lane + l;
        }
    }
  });
  q.gain = gain;
  q.where = where;
}

void bound(const MergeCluster& c, const MergeBalls& q) {
  if (c.W != nullptr)
    c.centred ? bound_of<true, true>(c, q) : bound_of<false, true>(c, q);
  else
    c.centred ? bound_of<true, false>(c, q) : bound_of<false, false>(c, q);
}

void search(const MergeCluster& c, MergeSamples& q) {
  if (c.W != nullptr)
    c.centred ? search_of<true, true>(c, q) : search_of<false, true>(c, q);
  else
    c.centred ? search_of<true, false>(c, q) : search_of<false, false>(c, q);
}

// In single precision, which has twice as many lanes, and without logarithms.
template <bool Centred>
std::uint32_t screen_of(const MergeCluster& c, const MergeScreen& q) {
  constexpr index_t L = kLanes<float>, B = kPanel<float>, T = kTile;
  static_assert(kMergeBall % (T * L) == 0);
  std::uint32_t near = 0;
  for (index_t begin = 0; begin < kMergeBall; begin += T * L) {
    const auto x = [&](index_t k, index_t t) {
      const index_t lane = begin + t * L;
      return load(q.x + (lane / B * c.D + k) * B + lane % B);
    };
    vec<float> form[T] = {};
    const auto far = [&] {
      bool some = false;
#pragma GCC unroll 4
      for (index_t t = 0; t < T; ++t) some = some || any<float>(form[t] < q.farthest);
      return !some;
    };
    bool whole;
    if constexpr (Centred) {
      for (index_t k = 0; k < c.D; ++k)
#pragma GCC unroll 4
        for (index_t t = 0; t < T; ++t) store<float>(q.work + (k * T + t) * L, x(k, t) - c.narrow_mean[k]);
      whole = add_forms<T>(
          c.D, c.narrow_W, [&](index_t k, index_t t) { return load(q.work + (k * T + t) * L); }, form, far);
    } else {
      whole = add_forms<T>(c.D, c.narrow_W, x, form, far);
    }
    for (index_t t = 0; whole && t < T; ++t)
      if (any<float>(form[t] < q.farthest)) near |= 1u << (begin + t * L) / B;
  }
  return near;
}

std::uint32_t screen(const MergeCluster& c, const MergeScreen& q) {
  return c.centred ? screen_of<true>(c, q) : screen_of<false>(c, q);
}

void one_with_several(const MergeCode& code, const double* x, const MergePanel& p, double* gains) {
  const index_t D = code.D;
  for (index_t lane = 0; lane < kMergeLanes; lane += kLanes<double>) {
    const doubles weight = load(p.weight + lane);
    doubles form{}, of_mean{};
    const auto difference = [&](index_t k) { return x[k] - load(p.mean + k * kMergeLanes + lane); };
    const double* W = p.W + lane;
    for (index_t r = 0; r < D; ++r) {
      doubles y{};
      for (index_t k = 0; k <= r; ++k, W += kMergeLanes) y += load(W) * difference(k);
      form += y * y;
      const doubles middle = load(p.mean + r * kMergeLanes + lane) + difference(r) * weight;
      of_mean += middle * middle;
    }
    doubles gain = load(p.constant + lane) + load(p.half + lane) * logarithm_of_one_and(load(p.scale + lane) * form);
    if (code.of_mean != 0) gain += code.of_mean * logarithm_of_one_and(code.inverse_epsilon_sq * of_mean);
    store<double>(gains + lane, gain);
  }
}

// The upper factor of I + M in place, row by row, M positive semi-definite and in the upper triangle. Returns log det.
// A pivot is at least 1, and its row is zero where it is 1: what rounding leaves there is taken for that.
inline double factor_in_place(index_t D, double* M) {
  double logdet = 0;
  for (index_t k = 0; k < D; ++k) {
    double* row = M + k * D;
    const double excess = row[k];
    if (!(excess > 0)) {
      for (index_t j = k + 1; j < D; ++j) row[j] = 0;
      row[k] = 1;
      continue;
    }
    logdet += __builtin_log1p(excess);
    row[k] = __builtin_sqrt(1 + excess);
    const double inverse = 1 / row[k];
    for (index_t j = k + 1; j < D; ++j) row[j] *= inverse;
    for (index_t i = k + 1; i < D; ++i) {
      double* other = M + i * D;
      const double by = row[i];
      for (index_t j = i; j < D; ++j) other[j] -= by * row[j];
    }
  }
  return logdet;
}

double factor(index_t D, const double* S, double scale, double* W, double* work) {
  const index_t rows = merge_rows(D);
  for (index_t i = 0; i < D; ++i)
    for (index_t j = 0; j <= i; ++j) work[j * D + i] = scale * *S++;
  const double logdet = factor_in_place(D, work);
  for (index_t i = 0; i < rows * rows; ++i) W[i] = 0;
  for (index_t i = 0; i < D; ++i) {  // row i of L W = I
    double* row = W + i * rows;
    for (index_t k = 0; k < i; ++k) {
      const double by = work[k * D + i];
      const double* other = W + k * rows;
      for (index_t j = 0; j <= k; ++j) row[j] -= by * other[j];
    }
    const double inverse = 1 / work[i * D + i];
    for (index_t j = 0; j < i; ++j) row[j] *= inverse;
    row[i] = inverse;
  }
  return logdet;
}

// The lower triangle of alpha/(n+m) (S + T + n m/(n+m) d d*) for every cluster of a panel: f(i, j, its vector).
template <class F>
inline void unions(const MergeCode& code, const MergePanel& of, index_t at, const MergePanel& p, index_t lane,
                   const F& f) {
  const double n = of.n[at];
  const doubles m = load(p.n + lane), total = m + n, scale = code.alpha / total, between = m * n / total;
  const auto difference = [&](index_t k) {
    return load(p.mean + k * kMergeLanes + lane) - of.mean[k * kMergeLanes + at];
  };
  index_t entry = 0;
  for (index_t i = 0; i < code.D; ++i) {
    const doubles by = between * difference(i);
    for (index_t j = 0; j <= i; ++j, ++entry) {
      doubles sum = load(p.S + entry * kMergeLanes + lane) + of.S[entry * kMergeLanes + at];
      if (code.centred) sum += by * difference(j);
      f(i, j, scale * sum);
    }
  }
}

void several_with_several(const MergeCode& code, const MergePanel& of, index_t at, const MergePanel& p, double* gains,
                          double* work) {
  const index_t D = code.D;
  double* const pivots = work + D * D * kMergeLanes;
  const Interleaved<double> q{.M = work, .n = D, .planes = 1, .pivots = pivots, .shift = 1};
  for (index_t lane = 0; lane < kMergeLanes; lane += kLanes<double>)
    unions(code, of, at, p, lane,
           [&](index_t i, index_t j, doubles entry) { store<double>(work + (i * D + j) * kMergeLanes + lane, entry); });
  if (cholesky_interleaved(q)) {
    for (index_t i = 0; i < D * kMergeLanes; i += kLanes<double>) store<double>(pivots + i, load(pivots + i) + 1.0);
    logdet_interleaved(q, gains);
  } else {  // beside whose entries 1 is rounding
    double* const one = work;
    for (index_t lane = 0; lane < kMergeLanes; ++lane) {
      const index_t first = lane / kLanes<double> * kLanes<double>;
      unions(code, of, at, p, first,
             [&](index_t i, index_t j, doubles entry) { one[j * D + i] = entry[lane - first]; });
      pivots[lane] = factor_in_place(D, one);
    }
    for (index_t lane = 0; lane < kMergeLanes; ++lane) gains[lane] = pivots[lane];
  }
  for (index_t lane = 0; lane < kMergeLanes; lane += kLanes<double>) {
    const doubles m = load(p.n + lane), total = m + of.n[at];
    doubles gain = 0.5 * (total + code.basis) * load(gains + lane) - total * logarithm_of_one_and(total - 1.0);
    if (code.of_mean != 0) {
      doubles of_mean{};
      for (index_t k = 0; k < D; ++k) {
        const doubles mean = load(p.mean + k * kMergeLanes + lane);
        const double other = of.mean[k * kMergeLanes + at];
        const doubles middle = other + (m / total) * (mean - other);
        of_mean += middle * middle;
      }
      gain += code.of_mean * logarithm_of_one_and(code.inverse_epsilon_sq * of_mean);
    }
    store<double>(gains + lane, gain - of.F[at] - load(p.F + lane));
  }
}

constexpr MergeKernels kMerge{.bound = bound,
                              .search = search,
                              .screen = screen,
                              .one_with_several = one_with_several,
                              .several_with_several = several_with_several,
                              .factor = factor};

}  // namespace
}  // namespace REDUNET_ISA
}  // namespace redunet
