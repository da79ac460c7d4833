// The batched tasks against the definition A = L L*, A A^-1 = I, A x = b, for every instruction set, type and size.
// Bounds: A = G G* / n + I has a condition number below 10, and the methods lose at most about n units per entry.

#include <limits>
#include <string>

#include "check.hpp"
#include "kernels/dispatch.hpp"
#include "linalg/batch.hpp"
#include "linalg/forms.hpp"

using namespace redunet;

namespace {

template <class T>
struct Scalar;
template <>
struct Scalar<float> {
  static constexpr index_t planes = 1;
  using Real = float;
};
template <>
struct Scalar<double> {
  static constexpr index_t planes = 1;
  using Real = double;
};
template <class R>
struct Scalar<std::complex<R>> {
  static constexpr index_t planes = 2;
  using Real = R;
};

double conj_of(float z) { return z; }
double conj_of(double z) { return z; }
template <class R>
std::complex<double> conj_of(std::complex<R> z) {
  return {z.real(), -z.imag()};
}
double wide(float z) { return z; }
double wide(double z) { return z; }
template <class R>
std::complex<double> wide(std::complex<R> z) {
  return {z.real(), z.imag()};
}

template <class S>
std::vector<S> positive_definite(index_t count, index_t n) {
  using R = typename Scalar<S>::Real;
  const auto g = check::normal<R>(static_cast<std::size_t>(count * n * n * Scalar<S>::planes), 7);
  const S* G = reinterpret_cast<const S*>(g.data());
  std::vector<S> A(static_cast<std::size_t>(count * n * n));
  for (index_t b = 0; b < count; ++b)
    for (index_t i = 0; i < n; ++i)
      for (index_t j = 0; j < n; ++j) {
        decltype(wide(S{})) sum = i == j ? 1.0 : 0.0;
        for (index_t k = 0; k < n; ++k)
          sum += wide(G[(b * n + i) * n + k]) * conj_of(G[(b * n + j) * n + k]) / double(n);
        A[static_cast<std::size_t>((b * n + i) * n + j)] = static_cast<S>(sum);
      }
  return A;
}

template <class S>
void check_size(const KernelSet& set, index_t count, index_t n) {
  using R = typename Scalar<S>::Real;
  constexpr index_t planes = Scalar<S>::planes;
  Parallel parallel(2);
  const double bound = 40.0 * double(n + 4) * double(std::numeric_limits<R>::epsilon());
  const auto A = positive_definite<S>(count, n);
  const R* a = reinterpret_cast<const R*>(A.data());
  std::vector<S> L(A.size()), inverse(A.size());
  std::vector<R> logdets(static_cast<std::size_t>(count));
  const index_t n_rhs = 3;
  const auto numbers = check::normal<R>(static_cast<std::size_t>(count * n * n_rhs * planes), 9);
  std::vector<R> x = numbers;
  batched(Task::kCholesky, set, parallel, a, count, n, planes, reinterpret_cast<R*>(L.data()), 0);
  batched(Task::kInverse, set, parallel, a, count, n, planes, reinterpret_cast<R*>(inverse.data()), 0);
  batched(Task::kLogdet, set, parallel, a, count, n, planes, logdets.data(), 0);
  batched(Task::kSolve, set, parallel, a, count, n, planes, x.data(), n_rhs);
  const S* X = reinterpret_cast<const S*>(x.data());
  const S* B = reinterpret_cast<const S*>(numbers.data());
  for (index_t b = 0; b < count; ++b) {
    double logdet = 0;
    for (index_t i = 0; i < n; ++i) {
      logdet += 2 * std::log(std::abs(wide(L[static_cast<std::size_t>((b * n + i) * n + i)])));
      for (index_t j = 0; j < n; ++j) {
        decltype(wide(S{})) product = 0, unit = 0;
        for (index_t k = 0; k < n; ++k) {
          product += wide(L[static_cast<std::size_t>((b * n + i) * n + k)]) *
                     conj_of(L[static_cast<std::size_t>((b * n + j) * n + k)]);
          unit += wide(A[static_cast<std::size_t>((b * n + i) * n + k)]) *
                  wide(inverse[static_cast<std::size_t>((b * n + k) * n + j)]);
        }
        CHECK(std::abs(product - wide(A[static_cast<std::size_t>((b * n + i) * n + j)])) < bound);
        CHECK(std::abs(unit - (i == j ? 1.0 : 0.0)) < bound);
        if (j > i) CHECK(std::abs(wide(L[static_cast<std::size_t>((b * n + i) * n + j)])) == 0);
      }
      for (index_t r = 0; r < n_rhs; ++r) {
        decltype(wide(S{})) sum = 0;
        for (index_t k = 0; k < n; ++k)
          sum += wide(A[static_cast<std::size_t>((b * n + i) * n + k)]) * wide(X[(b * n + k) * n_rhs + r]);
        CHECK(std::abs(sum - wide(B[(b * n + i) * n_rhs + r])) < 10 * bound);
      }
    }
    CHECK(std::abs(logdet - double(logdets[static_cast<std::size_t>(b)])) < bound * (1 + std::abs(logdet)));
  }
}

// x* A^-1 x against solutions, and sums of two matrices against their sum.
template <class S>
void check_forms_and_sums(const KernelSet& set, index_t count, index_t n, index_t m) {
  using R = typename Scalar<S>::Real;
  constexpr index_t planes = Scalar<S>::planes;
  Parallel parallel(2);
  const double bound = 80.0 * double(n + 4) * double(std::numeric_limits<R>::epsilon());
  const auto A = positive_definite<S>(count, n);
  const R* a = reinterpret_cast<const R*>(A.data());
  const auto numbers = check::normal<R>(static_cast<std::size_t>(count * m * n * planes), 11);
  const S* X = reinterpret_cast<const S*>(numbers.data());
  std::vector<R> forms(check::size(count * m)), logdets(check::size(count)), expected(check::size(count));
  quadratic_forms(set, parallel, a, count, n, planes, numbers.data(), m, forms.data(), logdets.data());
  batched(Task::kLogdet, set, parallel, a, count, n, planes, expected.data(), 0);
  std::vector<S> solutions(check::size(count * n * m));  // (n, m) of each
  const auto place = [&](index_t b, index_t i, index_t v) { return check::size((b * n + i) * m + v); };
  for (index_t b = 0; b < count; ++b)
    for (index_t i = 0; i < n; ++i)
      for (index_t v = 0; v < m; ++v) solutions[place(b, i, v)] = X[(b * m + v) * n + i];
  batched(Task::kSolve, set, parallel, a, count, n, planes, reinterpret_cast<R*>(solutions.data()), m);
  for (index_t b = 0; b < count; ++b) {
    CHECK(std::abs(double(logdets[check::size(b)] - expected[check::size(b)])) < bound * double(n));
    for (index_t v = 0; v < m; ++v) {
      double sum = 0;
      for (index_t i = 0; i < n; ++i)
        sum += std::real(conj_of(X[(b * m + v) * n + i]) * wide(solutions[place(b, i, v)]));
      CHECK(std::abs(double(forms[check::size(b * m + v)]) - sum) < bound * (1 + sum));
    }
  }
  std::vector<std::int64_t> first(check::size(count)), second(check::size(count));
  std::vector<S> sums(A.size());
  for (index_t b = 0; b < count; ++b) {
    first[check::size(b)] = count - 1 - b, second[check::size(b)] = b / 2;
    for (index_t e = 0; e < n * n; ++e)
      sums[check::size(b * n * n + e)] =
          A[check::size((count - 1 - b) * n * n + e)] + A[check::size(b / 2 * n * n + e)];
  }
  batched(Task::kLogdet, set, parallel, reinterpret_cast<const R*>(sums.data()), count, n, planes, expected.data(), 0);
  logdet_of_sums(set, parallel, a, first.data(), second.data(), count, n, planes, logdets.data());
  CHECK(logdets == expected);
}

}  // namespace

TEST(every_size_type_and_instruction_set) {
  for (const KernelSet* set : usable_kernel_sets())
    for (const index_t n : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 40})
      for (const index_t count : {1, 3, 17, 33}) {
        check_size<float>(*set, count, n);
        check_size<double>(*set, count, n);
        check_size<std::complex<float>>(*set, count, n);
        check_size<std::complex<double>>(*set, count, n);
      }
}

TEST(forms_and_sums) {
  for (const KernelSet* set : usable_kernel_sets())
    for (const index_t n : {1, 3, 9, 17, 50}) {
      for (const index_t count : {1, 19})
        for (const index_t m : {1, 3, 20}) {
          check_forms_and_sums<float>(*set, count, n, m);
          check_forms_and_sums<std::complex<double>>(*set, count, n, m);
        }
      check_forms_and_sums<double>(*set, 2, n, 70);
      check_forms_and_sums<std::complex<float>>(*set, 2, n, 70);
    }
}

TEST(large_matrices) {
  for (const KernelSet* set : usable_kernel_sets()) {
    check_size<float>(*set, 2, 131);
    check_size<std::complex<double>>(*set, 1, 100);
  }
}

TEST(the_first_bad_matrix_is_named) {
  for (const KernelSet* set : usable_kernel_sets())
    for (const index_t n : {3, 40}) {
      auto A = positive_definite<double>(20, n);
      for (const std::size_t bad : {7u, 12u})
        A[(bad * static_cast<std::size_t>(n) + 2) * static_cast<std::size_t>(n) + 2] = -1;
      std::vector<double> out(A.size());
      Parallel parallel(3);
      std::string message;
      try {
        batched(Task::kInverse, *set, parallel, A.data(), 20, n, 1, out.data(), 0);
      } catch (const NotPositiveDefinite& error) {
        message = error.what();
      }
      CHECK(message == "matrix 7 of 20 is not positive definite");
    }
}
