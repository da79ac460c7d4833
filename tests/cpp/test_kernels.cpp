// Every kernel of every SIMD level against the formula in kernels.hpp, written out in double precision.
//
// Tolerance: a sum of n products of numbers in [-1, 1] loses at most about n units of its largest possible size n, and
// complex ones twice as much; a further product or square keeps that to a small factor, 8 in all.
#include <algorithm>
#include <cmath>
#include <limits>

#include "check.hpp"
#include "kernels/dispatch.hpp"

using namespace redunet;
using check::fill_uniform;
using check::Panels;

namespace {

using Complex = std::complex<double>;
template <class T>
constexpr index_t B = kPanel<T>;

template <class F>
void for_every_level(const F& f) {
  for (const KernelSet* set : usable_kernel_sets()) {
    f(kernels_of<float>(*set), float{});
    f(kernels_of<double>(*set), double{});
  }
}

double tolerance(double unit, index_t n) { return 8 * unit * static_cast<double>(n * n + 1); }

// Row `row`, lane `lane` of panel `panel`.
template <class T>
Complex at(const Panels<T>& x, index_t stride, index_t panel, index_t row, index_t planes, index_t lane) {
  const T* p = x.data() + panel * stride + row * planes * B<T> + lane;
  return planes == 1 ? Complex(p[0]) : Complex(p[0], p[B<T>]);
}

// All of them; the value of each is in the switch of test_product.
constexpr Epilogue kEpilogues[] = {
    Epilogue::kStore,        Epilogue::kAxpy, Epilogue::kCombine, Epilogue::kSquaredNorm, Epilogue::kStoreSquaredNorm,
    Epilogue::kResidualNorm, Epilogue::kDot};

template <class T>
void test_product(const Kernels<T>& kernels, index_t n_out, index_t n_in, index_t planes) {
  constexpr index_t kPanels = 3;
  const index_t x_stride = n_in * planes * B<T>, out_stride = n_out * planes * B<T>;
  std::vector<T> A(check::size(n_out * n_in * planes));
  Panels<T> x(check::size(kPanels * x_stride)), x0(check::size(kPanels * out_stride)),
      coefficient(check::size(kPanels * B<T>)), base(coefficient.size());
  fill_uniform(A, 1), fill_uniform(x, 2), fill_uniform(x0, 3), fill_uniform(coefficient, 4), fill_uniform(base, 6);
  for (const bool conj : {false, true})
    for (const Epilogue epilogue : kEpilogues) {
      Panels<T> out(check::size(kPanels * out_stride)), squares(check::size(kPanels * B<T>));
      fill_uniform(out, 5);
      const Panels<T> out_before = out;
      Product<T> q{};
      q.A = A.data(), q.row_stride = n_in * planes, q.col_stride = planes, q.imag_offset = 1, q.conj = conj;
      q.row_begin = 0, q.row_end = n_out, q.n_in = n_in, q.planes = planes;
      q.x = x.data(), q.x_stride = x_stride, q.n_panels = kPanels, q.epilogue = epilogue;
      q.out = out.data(), q.out_stride = out_stride, q.coefficient = coefficient.data();
      q.base = base.data();
      q.x0 = x0.data(), q.x0_stride = out_stride, q.weight = T(2), q.squares = squares.data();
      kernels.product(q);
      double worst = 0;
      for (index_t panel = 0; panel < kPanels; ++panel)
        for (index_t lane = 0; lane < B<T>; ++lane) {
          double sum = 0;
          for (index_t i = 0; i < n_out; ++i) {
            Complex y = 0;
            for (index_t d = 0; d < n_in; ++d) {
              const Complex a = check::element(A.data(), i * n_in + d, planes);
              y += (conj ? std::conj(a) : a) * at(x, x_stride, panel, d, planes, lane);
            }
            const Complex other = at(x0, out_stride, panel, i, planes, lane);
            const std::size_t sample = check::size(panel * B<T> + lane);
            const auto factor = static_cast<double>(coefficient[sample]);
            Complex expected = at(out_before, out_stride, panel, i, planes, lane);
            switch (epilogue) {
              case Epilogue::kStore:
                expected = y;
                break;
              case Epilogue::kAxpy:
                expected += factor * y;
                break;
              case Epilogue::kCombine:
                expected = static_cast<double>(base[sample]) * other + factor * y;
                break;
              case Epilogue::kStoreSquaredNorm:
                expected = y;
                [[fallthrough]];
              case Epilogue::kSquaredNorm:
                sum += 2 * std::norm(y);
                break;
              case Epilogue::kResidualNorm:
                sum += 2 * std::norm(other - y);
                break;
              case Epilogue::kDot:
                sum += 2 * (std::conj(other) * y).real();
                break;
            }
            worst = std::max(worst, std::abs(at(out, out_stride, panel, i, planes, lane) - expected));
          }
          worst = std::max(worst, std::abs(static_cast<double>(squares[check::size(panel * B<T> + lane)]) - sum) /
                                      (1 + std::abs(sum)));
        }
      CHECK(worst <= tolerance(check::kUnit<T>, n_in + n_out));
    }
}

// u v*: all columns of some rows, whose number needs not be that of the columns.
template <class T>
void test_cross_gram(const Kernels<T>& kernels, index_t n, index_t planes, index_t n_panels) {
  const index_t stride = n * planes * B<T>;
  Panels<T> u(check::size(n_panels * stride)), v(u.size()), weights(check::size(n_panels * B<T>));
  fill_uniform(u, 1), fill_uniform(v, 2), fill_uniform(weights, 3);
  for (const bool weighted : {false, true})
    for (const bool accumulate : {false, true}) {
      std::vector<T> G(check::size(n * n * planes));
      fill_uniform(G, 4);
      const std::vector<T> before = G;
      for (index_t row = 0; row < n; row += kGramRows)
        kernels.gram({.v = v.data(),
                      .panel_stride = stride,
                      .n_panels = n_panels,
                      .row_begin = row,
                      .row_end = std::min(n, row + kGramRows),
                      .planes = planes,
                      .weights = weighted ? weights.data() : nullptr,
                      .G = G.data(),
                      .row_stride = n * planes,
                      .col_stride = planes,
                      .imag_offset = 1,
                      .accumulate = accumulate,
                      .u = u.data(),
                      .u_stride = stride,
                      .n_columns = n});
      double worst = 0;
      for (index_t a = 0; a < n; ++a)
        for (index_t b = 0; b < n; ++b) {
          Complex sum = accumulate ? check::element(before.data(), a * n + b, planes) : Complex(0);
          for (index_t panel = 0; panel < n_panels; ++panel)
            for (index_t lane = 0; lane < B<T>; ++lane)
              sum += (weighted ? static_cast<double>(weights[check::size(panel * B<T> + lane)]) : 1.0) *
                     at(u, stride, panel, a, planes, lane) * std::conj(at(v, stride, panel, b, planes, lane));
          worst = std::max(worst, std::abs(check::element(G.data(), a * n + b, planes) - sum));
        }
      const auto terms = static_cast<double>(2 * n_panels);
      CHECK(worst <= 2 * check::kUnit<T> * (terms + B<T>)*terms * B<T>);
    }
}

template <class T>
void test_gram(const Kernels<T>& kernels, index_t n, index_t planes, index_t n_panels) {
  const index_t stride = n * planes * B<T>;
  Panels<T> v(check::size(n_panels * stride)), weights(check::size(n_panels * B<T>));
  fill_uniform(v, 1), fill_uniform(weights, 2);
  for (const bool weighted : {false, true})
    for (const bool accumulate : {false, true}) {
      std::vector<T> G(check::size(n * n * planes));
      fill_uniform(G, 3);
      const std::vector<T> before = G;
      for (index_t row = 0; row < n; row += kGramRows) {
        Gram<T> g{};
        g.v = v.data(), g.panel_stride = stride, g.n_panels = n_panels;
        g.row_begin = row, g.row_end = std::min(n, row + kGramRows), g.planes = planes;
        g.weights = weighted ? weights.data() : nullptr;
        g.G = G.data(), g.row_stride = n * planes, g.col_stride = planes, g.imag_offset = 1;
        g.accumulate = accumulate;
        kernels.gram(g);
      }
      double worst = 0;
      for (index_t a = 0; a < n; ++a)
        for (index_t b = 0; b <= a; ++b) {
          Complex sum = accumulate ? check::element(before.data(), a * n + b, planes) : Complex(0);
          if (a == b && planes == 2) sum = accumulate ? Complex(sum.real(), 0) : Complex(0);
          for (index_t panel = 0; panel < n_panels; ++panel)
            for (index_t lane = 0; lane < B<T>; ++lane)
              sum += (weighted ? static_cast<double>(weights[check::size(panel * B<T> + lane)]) : 1.0) *
                     at(v, stride, panel, a, planes, lane) * std::conj(at(v, stride, panel, b, planes, lane));
          const Complex got = check::element(G.data(), a * n + b, planes);
          // The imaginary part of the diagonal is zero; what stands there is not read.
          worst = std::max(worst, a == b ? std::abs(got.real() - sum.real()) : std::abs(got - sum));
        }
      // Every lane adds up n_panels products, complex ones two each, and then the lanes are added.
      const auto terms = static_cast<double>(2 * n_panels);
      CHECK(worst <= 2 * check::kUnit<T> * (terms + B<T>)*terms * B<T>);
    }
}

template <class T>
void test_scale_and_settle(const Kernels<T>& kernels, index_t n_rows) {
  constexpr index_t kPanels = 3;
  const index_t stride = n_rows * B<T>;
  Panels<T> v(check::size(kPanels * stride)), out(v.size()), scale(check::size(kPanels * B<T>)),
      squares(check::size(kPanels * B<T>));
  fill_uniform(v, 1), fill_uniform(scale, 2);
  kernels.scale(v.data(), stride, out.data(), stride, kPanels, n_rows, scale.data());
  double worst = 0;
  for (index_t panel = 0; panel < kPanels; ++panel)
    for (index_t row = 0; row < n_rows; ++row)
      for (index_t lane = 0; lane < B<T>; ++lane)
        worst = std::max(worst, std::abs(at(out, stride, panel, row, 1, lane) -
                                         at(v, stride, panel, row, 1, lane) *
                                             static_cast<double>(scale[check::size(panel * B<T> + lane)])));
  CHECK(worst <= check::kUnit<T>);
  std::vector<Panels<T>> terms(kMostTerms, Panels<T>(v.size())), coefficients(kMostTerms, Panels<T>(scale.size()));
  const T *term[kMostTerms], *coefficient[kMostTerms];
  for (index_t j = 0; j < kMostTerms; ++j) {
    fill_uniform(terms[check::size(j)], 10 + static_cast<unsigned>(j));
    fill_uniform(coefficients[check::size(j)], 20 + static_cast<unsigned>(j));
    term[j] = terms[check::size(j)].data(), coefficient[j] = coefficients[check::size(j)].data();
  }
  for (index_t n_terms = 0; n_terms <= kMostTerms; ++n_terms) {
    std::fill(squares.begin(), squares.end(), T(0));
    kernels.settle(
        {out.data(), stride, v.data(), stride, kPanels, n_rows, T(3), squares.data(), n_terms, term, coefficient});
    for (index_t panel = 0; panel < kPanels; ++panel)
      for (index_t lane = 0; lane < B<T>; ++lane) {
        double sum = 0, off = 0;
        for (index_t row = 0; row < n_rows; ++row) {
          Complex expected = at(out, stride, panel, row, 1, lane);
          for (index_t j = 0; j < n_terms; ++j)
            expected += static_cast<double>(coefficient[j][panel * B<T> + lane]) *
                        at(terms[check::size(j)], stride, panel, row, 1, lane);
          off = std::max(off, std::abs(at(v, stride, panel, row, 1, lane) - expected));
          sum += 3 * std::norm(at(v, stride, panel, row, 1, lane));
        }
        CHECK(off <= tolerance(check::kUnit<T>, n_terms + 1));
        CHECK(std::abs(static_cast<double>(squares[check::size(panel * B<T> + lane)]) - sum) <=
              tolerance(check::kUnit<T>, n_rows) * (1 + sum));
      }
  }
}

// Assignments against the definition, with some classes far away and lanes without a sample.
template <class T>
void test_softmax(const Kernels<T>& kernels, index_t k, double lambda) {
  constexpr index_t kLanesTested = 2 * B<T>;
  const index_t n_samples = kLanesTested - 3;
  Panels<T> squares(check::size(k * kLanesTested)), pi(squares.size());
  fill_uniform(squares, 1);
  for (T& s : squares) s = s * s;
  if (k > 1) squares[check::size(kLanesTested)] = std::numeric_limits<T>::infinity();  // class 1 was left for sample 0
  std::vector<char> live(check::size(k), 0);
  const double beyond = -std::log(static_cast<double>(std::numeric_limits<T>::epsilon())) / lambda;
  kernels.softmax({squares.data(), pi.data(), kLanesTested, k, kLanesTested, n_samples, static_cast<T>(lambda),
                   static_cast<T>(beyond), live.data()});
  std::vector<char> expected_live(live.size(), 0);
  for (index_t i = 0; i < kLanesTested; ++i) {
    double least = std::numeric_limits<double>::infinity(), sum = 0;
    const auto rho = [&](index_t j) {
      return std::sqrt(static_cast<double>(squares[check::size(j * kLanesTested + i)]));
    };
    for (index_t j = 0; j < k; ++j) least = std::min(least, rho(j));
    for (index_t j = 0; j < k; ++j) sum += std::exp(-lambda * (rho(j) - least));
    for (index_t j = 0; j < k; ++j) {
      const auto got = static_cast<double>(pi[check::size(j * kLanesTested + i)]);
      // An argument up to ln(1/u) = 36 that is off by a few units of lambda rho.
      CHECK(std::abs(got - std::exp(-lambda * (rho(j) - least)) / sum) <= 64 * check::kUnit<T> * (1 + lambda));
      if (got > 0 && i < n_samples) expected_live[check::size(j)] = 1;
    }
  }
  CHECK(live == expected_live);
  const Panels<T> norms_squared = squares;
  squares[check::size(n_samples - 1)] = std::numeric_limits<T>::quiet_NaN();
  kernels.softmax({squares.data(), pi.data(), kLanesTested, k, kLanesTested, n_samples, static_cast<T>(lambda),
                   static_cast<T>(beyond), live.data()});
  for (index_t j = 0; j < k; ++j) {
    CHECK(std::isnan(pi[check::size(j * kLanesTested + n_samples - 1)]));
    CHECK(live[check::size(j)]);
  }
  Panels<T> norms = norms_squared;
  squares = norms_squared;
  norms[0] = 0;
  kernels.reciprocal_norms(norms.data(), kLanesTested, T(1e-8));
  for (std::size_t i = 0; i < check::size(kLanesTested); ++i) {
    const double expected = 1 / std::max(i == 0 ? 0.0 : std::sqrt(static_cast<double>(squares[i])), 1e-8);
    CHECK(std::abs(static_cast<double>(norms[i]) - expected) <= 4 * check::kUnit<T> * expected);
  }
}

// One sample, with A by rows and by columns: the same as the product for all lanes, in lane 0.
template <class T>
void test_single_product(const Kernels<T>& kernels, index_t n_out, index_t n_in, index_t planes) {
  std::vector<T> A(check::size(n_out * n_in * planes));
  Panels<T> x(check::size(n_in * planes * B<T>)), x0(check::size(n_out * planes * B<T>)), ones(check::size(B<T>), T(1));
  fill_uniform(A, 1), fill_uniform(x, 2), fill_uniform(x0, 3);
  for (const bool conj : {false, true})
    for (const bool by_rows : {false, true})
      for (const Epilogue epilogue : kEpilogues) {
        Panels<T> out[2] = {x0, x0}, squares[2] = {ones, ones};
        for (const bool single : {false, true}) {
          Product<T> q{};
          q.A = A.data(), q.imag_offset = 1, q.conj = conj;
          q.row_stride = by_rows ? n_in * planes : planes, q.col_stride = by_rows ? planes : n_out * planes;
          q.row_begin = n_out / 3, q.row_end = n_out, q.n_in = n_in, q.planes = planes;
          q.x = x.data(), q.n_panels = 1, q.epilogue = epilogue, q.single = single;
          q.out = out[single].data(), q.coefficient = ones.data(), q.base = ones.data(), q.x0 = x0.data();
          q.weight = T(2), q.squares = squares[single].data();
          kernels.product(q);
        }
        const double allowed = tolerance(check::kUnit<T>, n_in);
        for (index_t row = 0; row < n_out; ++row)
          CHECK(std::abs(at(out[0], 0, 0, row, planes, 0) - at(out[1], 0, 0, row, planes, 0)) <= allowed);
        CHECK(std::abs(double(squares[0][0]) - double(squares[1][0])) <= allowed * double(n_in * n_out));
      }
}

// Whole tiles of few channels: gates, step, scaling and Gram sums, two tiles and classes named out of order.
template <class T>
void test_tiles(const Kernels<T>& kernels, index_t C, index_t planes) {
  constexpr index_t F = 3, k = 3, kTiles = 3, kLanesTested = kTiles * B<T>;
  const index_t stride = F * C * planes * B<T>, matrix = C * C * planes;
  std::vector<T> operators(check::size(k * F * matrix)), freq_weights{T(1), T(2), T(2)};
  Panels<T> v(check::size(kTiles * stride)), pi(check::size(k * kLanesTested)), squares(pi.size()),
      scale(check::size(kLanesTested)), weights(scale.size());
  fill_uniform(operators, 1), fill_uniform(v, 2), fill_uniform(pi, 3), fill_uniform(weights, 4);
  const auto value = [&](const Panels<T>& from, index_t i, index_t p, index_t row) {
    return at(from, stride, i / B<T>, p * C + row, planes, i % B<T>);
  };
  const auto multiply = [&](const Panels<T>& from, index_t j, index_t i, index_t p, index_t row) {
    Complex y = 0;
    for (index_t d = 0; d < C; ++d)
      y += check::element(operators.data(), ((j * F + p) * C + row) * C + d, planes) * value(from, i, p, d);
    return y;
  };
  const double allowed = tolerance(check::kUnit<T>, k * F * C);
  const index_t classes[] = {2, 0};
  for (index_t i = 0; i < kLanesTested; ++i) squares[check::size(2 * kLanesTested + i)] = 7;  // is not read

  for (const index_t p : {0, 1})  // in two calls
    kernels.tile_gates({C, planes, p == 0 ? 0 : 1, p == 0 ? 1 : F, v.data(), stride, kTiles, operators.data(),
                        F * matrix, classes, 2, freq_weights.data(), squares.data(), kLanesTested});
  for (index_t j = 0; j < k; ++j)
    for (index_t i = 0; i < kLanesTested; ++i) {
      double expected = 0;
      for (index_t p = 0; p < F && j != 1; ++p)
        for (index_t row = 0; row < C; ++row)
          expected += double(freq_weights[check::size(p)]) * std::norm(multiply(v, j, i, p, row));
      CHECK(std::abs(double(squares[check::size(j * kLanesTested + i)]) - expected) <= allowed * double(C));
    }

  for (const index_t n_classes : {1, 2, 3}) {
    const index_t named[] = {2, 0, 1};
    Panels<T> moved = v;
    kernels.tile_move({C, planes, F, moved.data(), stride, kTiles, operators.data(), F * matrix, named, n_classes,
                       pi.data(), kLanesTested, freq_weights.data(), T(1e-8), scale.data()});
    for (index_t i = 0; i < kLanesTested; ++i) {
      double norm = 0;
      for (index_t p = 0; p < F; ++p)
        for (index_t row = 0; row < C; ++row) {
          Complex z = 0;
          for (index_t l = 0; l < n_classes; ++l)
            z += double(pi[check::size(named[l] * kLanesTested + i)]) * multiply(v, named[l], i, p, row);
          CHECK(std::abs(value(moved, i, p, row) - z) <= allowed);
          norm += double(freq_weights[check::size(p)]) * std::norm(value(moved, i, p, row));
        }
      CHECK(std::abs(double(scale[check::size(i)]) * std::sqrt(norm) - 1) <= 16 * check::kUnit<T> * double(F * C));
    }
  }

  const index_t n_entries = gram_entries<T>(C, planes);
  for (const bool weighted : {false, true}) {
    Panels<T> G(check::size(F * n_entries + B<T>)), scaled = v;
    const Panels<T> before = (fill_uniform(G, 5), G);
    const T* by = weighted ? weights.data() : nullptr;
    fill_uniform(scale, 6);
    kernels.tile_gram({C, planes, F, scaled.data(), stride, kTiles, scale.data(), by, G.data()});
    for (index_t i = 0; i < kLanesTested; ++i)
      for (index_t p = 0; p < F; ++p)
        for (index_t row = 0; row < C; ++row)
          CHECK(std::abs(value(scaled, i, p, row) - double(scale[check::size(i)]) * value(v, i, p, row)) <=
                check::kUnit<T>);
    for (index_t p = 0; p < F; ++p) {
      index_t e = p * n_entries;
      for (index_t a = 0; a < C; ++a)
        for (index_t b = 0; b <= a; ++b) {
          Complex sum = 0;
          for (index_t i = 0; i < kLanesTested; ++i)
            sum += (weighted ? double(weights[check::size(i)]) : 1.0) * value(scaled, i, p, a) *
                   std::conj(value(scaled, i, p, b));
          const auto added = [&](index_t at) { return double(G[check::size(at)]) - double(before[check::size(at)]); };
          CHECK(std::abs(added(e++) - sum.real()) <= tolerance(check::kUnit<T>, kLanesTested));
          if (planes == 2 && a != b)
            CHECK(std::abs(added(e++) - sum.imag()) <= tolerance(check::kUnit<T>, kLanesTested));
        }
    }
    CHECK(std::equal(G.end() - B<T>, G.end(), before.end() - B<T>));
    kernels.tile_gram({C, planes, F, scaled.data(), stride, kTiles, nullptr, nullptr, nullptr});  // does nothing
  }
}

// Into lanes and back, for numbers fewer and more than lanes, and arrays fewer than lanes.
template <class T>
void test_interleaving(const Kernels<T>& kernels, index_t size, index_t count) {
  const index_t stride = size + 3;
  std::vector<T> arrays(check::size((count - 1) * stride + size)), back(arrays.size(), T(7));
  fill_uniform(arrays, 1);
  Panels<T> rows(check::size(size * B<T>));
  kernels.interleave(arrays.data(), stride, count, size, rows.data());
  for (index_t e = 0; e < size; ++e)
    for (index_t lane = 0; lane < B<T>; ++lane)
      CHECK(rows[check::size(e * B<T> + lane)] == arrays[check::size(std::min(lane, count - 1) * stride + e)]);
  kernels.deinterleave(rows.data(), size, back.data(), stride, count);
  for (index_t i = 0; i < static_cast<index_t>(back.size()); ++i)
    CHECK(back[check::size(i)] == (i % stride < size ? arrays[check::size(i)] : T(7)));
}

// A block D = L L*, W = L^-1 and W* W = D^-1 by what they multiply to; a pivot that is not positive is said.
template <class T, index_t P>
void test_block(const Kernels<T>& kernels, T shift) {
  const auto factor = P == 1 ? kernels.factor_block : kernels.factor_complex_block;
  const index_t size = B<T> * P * B<T>;
  Panels<T> X(check::size(size)), D(X.size());
  fill_uniform(X, 1);
  const auto get = [](const Panels<T>& M, index_t i, index_t j) { return at(M, 0, 0, i, P, j); };
  for (index_t i = 0; i < B<T>; ++i)
    for (index_t j = 0; j < B<T>; ++j) {
      Complex sum = i == j ? 4.0 : 0.0;
      for (index_t d = 0; d < B<T>; ++d) sum += get(X, i, d) * std::conj(get(X, j, d));
      D[check::size(i * P * B<T> + j)] = static_cast<T>(sum.real());
      if (P == 2) D[check::size((i * P + 1) * B<T> + j)] = static_cast<T>(sum.imag());
    }
  Panels<T> given = D;
  std::vector<T> pivots(check::size(B<T>));
  factor(D.data(), pivots.data(), shift);
  for (index_t i = 0; i < B<T>; ++i) given[check::size(i * P * B<T> + i)] += shift;
  const double allowed = 64 * tolerance(check::kUnit<T>, B<T>);
  for (index_t i = 0; i < B<T>; ++i)
    for (index_t j = 0; j < B<T>; ++j) {
      Complex product = 0;
      for (index_t d = 0; d < B<T>; ++d) product += std::conj(get(D, d, i)) * get(D, d, j);
      CHECK(std::abs(product - get(given, i, j)) <= allowed);
      if (j < i) CHECK(get(D, i, j) == 0.0);
    }
  for (index_t i = 0; i < B<T>; ++i)
    CHECK(std::abs(std::sqrt(double(pivots[check::size(i)]) + double(shift)) - get(D, i, i)) <= allowed);
  D = given;
  D[check::size(2 * P * B<T> + 2)] = -1;
  factor(D.data(), pivots.data(), 0);
  CHECK(pivots[1] > 0 && pivots[2] < 0);
}

}  // namespace

TEST(products_of_every_shape) {
  for_every_level([]<class T>(const Kernels<T>& kernels, T) {
    for (const index_t n_out : {1, 2, 3, 5, 7, 13, 33})
      for (const index_t n_in : {1, 2, 5, 16, 31})
        for (const index_t planes : {1, 2}) test_product(kernels, n_out, n_in, planes);
  });
}

TEST(products_for_one_sample) {
  for_every_level([]<class T>(const Kernels<T>& kernels, T) {
    for (const index_t n_out : {1, 3, 8, 13, 40, 75})
      for (const index_t n_in : {1, 5, 8, 10, 16, 31, 257, 300})
        for (const index_t planes : {1, 2}) test_single_product(kernels, n_out, n_in, planes);
  });
}

TEST(grams_of_every_size) {
  for_every_level([]<class T>(const Kernels<T>& kernels, T) {
    for (const index_t n : {1, 2, 3, 4, 5, 7, 9, 12, 13, 25, 31})
      for (const index_t planes : {1, 2}) test_gram(kernels, n, planes, 5), test_cross_gram(kernels, n, planes, 5);
    // More panels than the kernel takes in one run: 2^19 bytes of them.
    for (const index_t planes : {1, 2}) {
      const index_t n = 50, n_panels = (1 << 19) / (n * planes * kCacheLine) + 3;
      test_gram(kernels, n, planes, n_panels), test_cross_gram(kernels, n, planes, n_panels);
    }
  });
}

TEST(scale_and_settle) {
  for_every_level([]<class T>(const Kernels<T>& kernels, T) {
    for (const index_t n_rows : {1, 2, 3, 17}) test_scale_and_settle(kernels, n_rows);
  });
}

template <class T>
static void test_energies(const Kernels<T>& kernels, index_t n_rows) {
  constexpr index_t kPanels = 3;
  const index_t stride = (n_rows + 2) * B<T>;
  Panels<T> v(check::size(kPanels * stride)), out(check::size(kPanels * B<T>));
  fill_uniform(v, 1);
  kernels.energies(v.data(), stride, kPanels, n_rows, T(0.5), out.data());
  for (index_t panel = 0; panel < kPanels; ++panel)
    for (index_t lane = 0; lane < B<T>; ++lane) {
      double sum = 0;
      for (index_t row = 0; row < n_rows; ++row) {
        const auto x = double(v[check::size(panel * stride + row * B<T> + lane)]);
        sum += 0.5 * x * x;
      }
      CHECK(std::abs(double(out[check::size(panel * B<T> + lane)]) - sum) <=
            double(n_rows + 2) * check::kUnit<T> * sum);
    }
}

TEST(energies) {
  for_every_level([]<class T>(const Kernels<T>& kernels, T) {
    for (const index_t n_rows : {1, 2, 3, 17, 32}) test_energies(kernels, n_rows);
  });
}

TEST(softmax_and_norms) {
  for_every_level([]<class T>(const Kernels<T>& kernels, T) {
    for (const index_t k : {1, 2, 3, 10})
      for (const double lambda : {0.5, 5.0, 500.0}) test_softmax(kernels, k, lambda);
  });
}

TEST(tiles_of_every_number_of_channels) {
  for_every_level([]<class T>(const Kernels<T>& kernels, T) {
    for (const index_t planes : {1, 2})
      for (index_t C = 1; C <= few_channels(planes); ++C) test_tiles(kernels, C, planes);
  });
}

TEST(interleaving_and_blocks) {
  for_every_level([]<class T>(const Kernels<T>& kernels, T) {
    for (const index_t size : {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 33, 50})
      for (index_t count = 1; count <= B<T>; count += 3) test_interleaving(kernels, size, count);
    for (const T shift : {T(0), T(1)}) {
      test_block<T, 1>(kernels, shift);
      test_block<T, 2>(kernels, shift);
    }
  });
}

template <class T>
static void test_neighbours(const Kernels<T>& kernels, index_t D) {
  const index_t n = 5, width = padded<T>(D);
  std::vector<T> Z(check::size(n * D));
  Panels<T> origin(check::size(width)), rows(check::size(n * width)), squares(check::size(n));
  fill_uniform(Z, 1);
  std::fill_n(origin.begin(), D, T(0.25));
  kernels.about_origin(Z.data(), n, D, origin.data(), rows.data(), squares.data());
  const double unit = check::kUnit<T>;
  for (index_t i = 0; i < n; ++i) {
    double sum = 0;
    for (index_t d = 0; d < width; ++d) {
      const T expected = d < D ? Z[check::size(i * D + d)] - T(0.25) : T(0);
      CHECK(rows[check::size(i * width + d)] == expected);
      sum += double(expected) * double(expected);
    }
    CHECK(std::abs(double(squares[check::size(i)]) - sum) < tolerance(unit, D));
  }

  // Row 2 of the products is NaN; limits let one lane through, then all.
  Panels<T> products(check::size(n * B<T>)), limits(check::size(B<T>)), distances(check::size(n * B<T>));
  std::vector<std::int32_t> places(check::size(n * B<T>));
  fill_uniform(products, 2);
  std::fill_n(products.begin() + 2 * B<T>, B<T>, std::numeric_limits<T>::quiet_NaN());
  for (const bool all : {false, true}) {
    std::fill(limits.begin(), limits.end(), all ? std::numeric_limits<T>::infinity() : T(-9));
    limits[3] = std::numeric_limits<T>::infinity();
    const index_t found =
        kernels.nearer({products.data(), squares.data(), n, limits.data(), distances.data(), places.data()});
    CHECK(found == (all ? n * B<T> : n));
    for (index_t f = 0; f < found; ++f) {
      const index_t i = all ? f / B<T> : f, lane = all ? f % B<T> : 3;
      CHECK(places[check::size(f)] == i * B<T> + lane);
      CHECK(distances[check::size(f)] == (i == 2 ? std::numeric_limits<T>::max()
                                                 : squares[check::size(i)] + products[check::size(i * B<T> + lane)]));
    }
  }

  const std::vector<index_t> members{4, 1, 3};
  const index_t m = 3;
  Panels<T> x(check::size(width)), panels(check::size(m * width)), along(check::size(m));
  fill_uniform(x, 3);
  std::fill(x.begin() + D, x.end(), T(0));
  for (const bool about : {false, true}) {
    kernels.window({Z.data(), D, members.data(), m, x.data(), about, panels.data(), along.data()});
    for (index_t i = 0; i < m; ++i) {
      double sum = 0;
      for (index_t d = 0; d < width; ++d) {
        const T z = d < D ? Z[check::size(members[check::size(i)] * D + d)] : T(0);
        const T expected = about ? z - x[check::size(d)] : z;
        CHECK(panels[check::size((d / B<T> * m + i) * B<T> + d % B<T>)] == expected);
        sum += double(expected) * double(x[check::size(d)]);
      }
      CHECK(std::abs(double(along[check::size(i)]) - sum) < tolerance(unit, 2 * D));
    }
  }
}

TEST(neighbours) {
  for_every_level([]<class T>(const Kernels<T>& kernels, T) {
    for (const index_t D : {1, 7, 8, 15, 16, 17, 40, 300}) test_neighbours(kernels, D);
  });
}
