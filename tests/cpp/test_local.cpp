// Local incremental coding length against its definition: all distances, two log dets by elimination, in double
// precision; for every SIMD level, and the same bits for every number of threads.

#include <algorithm>
#include <numeric>
#include <string>

#include "base/parallel.hpp"
#include "check.hpp"
#include "classifiers/local.hpp"
#include "kernels/dispatch.hpp"
#include "shared/problem.hpp"

using namespace check;
using namespace redunet;

namespace {

// L of samples (m, D): (m + D)/2 log det(I + D/(m eps^2) K), K centred with the mean's part beside it, or not.
double length_of(const std::vector<std::vector<double>>& samples, double epsilon_sq, bool centred) {
  const std::size_t m = samples.size(), D = samples[0].size();
  const double count = double(m), dim = double(D);
  std::vector<double> mean(D, 0.0);
  double square = 0;
  for (std::size_t d = 0; d < D && centred; ++d) {
    for (const auto& x : samples) mean[d] += x[d] / count;
    square += mean[d] * mean[d];
  }
  std::vector<double> A(m * m);
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < m; ++j) {
      double sum = 0;
      for (std::size_t d = 0; d < D; ++d) sum += (samples[i][d] - mean[d]) * (samples[j][d] - mean[d]);
      A[i * m + j] = dim / (count * epsilon_sq) * sum + (i == j ? 1.0 : 0.0);
    }
  double logdet = 0;
  for (std::size_t k = 0; k < m; ++k) {
    logdet += std::log(A[k * m + k]);
    for (std::size_t i = k + 1; i < m; ++i)
      for (std::size_t j = k + 1; j < m; ++j) A[i * m + j] -= A[i * m + k] * A[k * m + j] / A[k * m + k];
  }
  return (count + dim) / 2 * logdet + (centred ? dim / 2 * std::log(1 + square / epsilon_sq) : 0);
}

template <class T>
struct Case {
  std::vector<T> X, Z, origin;
  std::vector<std::int64_t> offsets;
  std::vector<double> epsilons{0.5, 30.0};
  LocalRequest request;

  Case(index_t m, index_t D, const std::vector<index_t>& sizes, index_t n, bool centred) {
    offsets.push_back(0);
    for (const index_t size : sizes) offsets.push_back(offsets.back() + size);
    X.resize(size(m * D)), Z.resize(size(offsets.back() * D)), origin.resize(size(D));
    fill_uniform(X, 1), fill_uniform(Z, 2), fill_uniform(origin, 3);
    request = {.m = m,
               .D = D,
               .offsets = offsets.data(),
               .k = static_cast<index_t>(sizes.size()),
               .n_neighbors = n,
               .centred = centred,
               .epsilons = epsilons.data(),
               .n_epsilons = 2};
  }

  std::vector<double> run(const KernelSet& set, int n_threads) const {
    std::vector<double> out(size(2 * request.m * request.k));
    Parallel parallel(n_threads);
    local_increments(set, parallel, X.data(), Z.data(), origin.data(), request, out.data());
    return out;
  }

  std::vector<double> sample(const std::vector<T>& from, index_t i) const {
    const T* x = from.data() + i * request.D;
    return {x, x + request.D};
  }

  double expected(index_t e, index_t i, index_t j) const {
    const std::vector<double> x = sample(X, i);
    std::vector<index_t> near(size(offsets[size(j + 1)] - offsets[size(j)]));
    std::iota(near.begin(), near.end(), offsets[size(j)]);
    const auto distance = [&](index_t a) {
      const std::vector<double> z = sample(Z, a);
      double sum = 0;
      for (std::size_t d = 0; d < z.size(); ++d) sum += (z[d] - x[d]) * (z[d] - x[d]);
      return sum;
    };
    std::stable_sort(near.begin(), near.end(), [&](index_t a, index_t b) { return distance(a) < distance(b); });
    near.resize(std::min(near.size(), size(request.n_neighbors)));
    std::vector<std::vector<double>> samples;
    for (const index_t a : near) samples.push_back(sample(Z, a));
    const double before = length_of(samples, epsilons[size(e)], request.centred);
    samples.push_back(x);
    return length_of(samples, epsilons[size(e)], request.centred) - before;
  }
};

template <class T>
void check_case(index_t m, index_t D, const std::vector<index_t>& sizes, index_t n, bool centred) {
  const Case<T> one(m, D, sizes, n, centred);
  std::vector<std::vector<double>> found;
  for (const KernelSet* set : usable_kernel_sets()) {
    found.push_back(one.run(*set, 1));
    CHECK(found.back() == one.run(*set, 3));
  }
  for (index_t e = 0; e < 2; ++e) {
    // Numbers within [-1, 1]: squared differences of samples are below 4 D, and inner products of these off by D u of
    // that; a log det of n + 1 by n + 1 times as much, two of them, each times (n + 1 + D) / 2.
    const double N = double(n + 1), dim = double(D), u = kUnit<T>;
    const double bound = (N + dim) * N * N * (dim + N) * u * (1 + dim / one.epsilons[size(e)] * 4 * dim);
    for (index_t i = 0; i < m; ++i)
      for (index_t j = 0; j < one.request.k; ++j) {
        const double expected = one.expected(e, i, j);
        for (const auto& lengths : found)
          CHECK(std::abs(lengths[size((e * m + i) * one.request.k + j)] - expected) < bound);
      }
  }
}

}  // namespace

TEST(local_lengths_are_those_of_the_definition) {
  for (const bool centred : {true, false})
    for (const index_t D : {1, 7, 16, 35}) {
      check_case<double>(40, D, {3, 60, 50}, 5, centred);
      check_case<float>(20, D, {3, 60, 50}, 5, centred);
      check_case<float>(1, D, {9}, 1, centred);
    }
  check_case<double>(2, 3, {140}, 130, true);  // too large for lanes
}

TEST(equal_samples_are_taken_in_their_order_and_no_number_stays_one) {
  for (const KernelSet* set : usable_kernel_sets()) {
    Case<float> one(3, 4, {20, 30}, 3, true);
    std::fill(one.Z.begin(), one.Z.end(), 0.5F);
    std::string message;
    CHECK(one.run(*set, 2) == one.run(*set, 1));
    one.Z[0] = std::numeric_limits<float>::quiet_NaN();
    one.X[5] = std::numeric_limits<float>::infinity();
    try {
      one.run(*set, 2);
    } catch (const NotPositiveDefinite& error) {
      message = error.what();
    }
    CHECK(message == "a matrix of neighbours is not positive definite");
  }
}
