// Merging by coding length: lengths add up to that of one cluster, whatever the SIMD level and the number of threads;
// and a sanitizer sees balls, gaps, panels and neighbours.

#include "base/parallel.hpp"
#include "check.hpp"
#include "clustering/merging.hpp"
#include "kernels/dispatch.hpp"
#include "linalg/blocked_matrix.hpp"

using namespace check;
using namespace redunet;

namespace {

// F of all samples in one cluster, from the definition.
double length_of_all(const std::vector<double>& X, const MergeRequest& q) {
  const index_t N = q.n_samples, D = q.D;
  const double count = static_cast<double>(N), dimension = static_cast<double>(D);
  std::vector<double> mean(size(D)), S(size(D * D));
  if (q.centred)
    for (index_t i = 0; i < N; ++i)
      for (index_t k = 0; k < D; ++k) mean[size(k)] += X[size(i * D + k)] / count;
  for (index_t i = 0; i < N; ++i)
    for (index_t r = 0; r < D; ++r)
      for (index_t k = 0; k < D; ++k)
        S[size(r * D + k)] += (X[size(i * D + r)] - mean[size(r)]) * (X[size(i * D + k)] - mean[size(k)]);
  BlockedMatrix<double> M(selected_kernels().f64, D, 1);
  M.read(S.data(), D, 1, 0, dimension / (count * q.epsilon_sq), 1);
  double square = 0;
  for (const double m : mean) square += m * m;
  const double basis = q.full ? dimension : 0;
  return (count + basis) / 2 * M.cholesky() - count * std::log(count) +
         (q.centred && q.full ? dimension / 2 * std::log1p(square / q.epsilon_sq) : 0);
}

double length_of_one(const double* x, const MergeRequest& q) {
  MergeRequest one = q;
  one.n_samples = 1;
  return length_of_all({x, x + q.D}, one);
}

MergePath path_of(const std::vector<double>& X, const MergeRequest& q, int n_threads) {
  Parallel parallel(n_threads);
  return merge_path(selected_kernels(), parallel, X.data(), q);
}

void check_sum(const std::vector<double>& X, const MergeRequest& q) {
  double expected = length_of_all(X, q), sum = 0;
  for (index_t i = 0; i < q.n_samples; ++i) expected -= length_of_one(X.data() + i * q.D, q);
  const MergePath path = path_of(X, q, 2);
  CHECK(path.gains.size() == size(q.n_samples - 1));
  CHECK(path.children.size() == 2 * path.gains.size());
  for (const double gain : path.gains) sum += gain;
  CHECK(std::abs(sum - expected) < 1e-9 * std::abs(expected));
}

template <class F>
void for_all(const F& f) {
  for (const KernelSet* set : usable_kernel_sets()) {
    select_kernels(set->name);
    for (const bool centred : {true, false})
      for (const bool full : {true, false})
        for (const index_t D : {1, 2, 3, 4, 5, 8, 13}) f(D, centred, full);
  }
}

TEST(merges_add_up) {
  for_all([](index_t D, bool centred, bool full) {
    for (const index_t N : {2, 9, 70, 300}) {
      std::vector<double> X(size(N * D));
      fill_uniform(X, 1);
      check_sum(X, {.n_samples = N, .D = D, .epsilon_sq = 0.1, .centred = centred, .full = full});
    }
  });
}

TEST(merges_of_clusters_end_with_one) {
  for_all([](index_t D, bool centred, bool full) {
    const index_t N = 200;
    std::vector<double> X(size(N * D));
    fill_uniform(X, 2);
    std::vector<std::int64_t> clusters(size(N));
    for (index_t i = 0; i < N; ++i) clusters[size(i)] = i < 50 ? i : i % 67;
    const MergeRequest q{
        .n_samples = N, .D = D, .epsilon_sq = 0.1, .centred = centred, .full = full, .clusters = clusters.data()};
    CHECK(path_of(X, q, 2).gains.size() == 66);
  });
}

TEST(merges_of_neighbours_stay_among_them) {
  for_all([](index_t D, bool centred, bool full) {
    const index_t N = 90;
    std::vector<double> X(size(N * D));
    fill_uniform(X, 3);
    MergeRequest q{.n_samples = N, .D = D, .epsilon_sq = 0.1, .centred = centred, .full = full, .restricted = true};
    for (index_t i = 0; i < N; ++i) {  // three chains
      std::vector<std::int64_t> near;
      if (i >= 3) near.push_back(i - 3);
      if (i + 3 < N) near.push_back(i + 3);
      q.neighbours.push_back(near);
    }
    index_t told = 0;
    q.on_merge = [&](index_t done, double) { told = done; };
    const MergePath path = path_of(X, q, 2);
    CHECK(path.gains.size() == 87);
    CHECK(told == 87);
    std::vector<std::int64_t> chain(size(2 * N));
    for (index_t i = 0; i < N; ++i) chain[size(i)] = i % 3;
    for (std::size_t t = 0; t < path.gains.size(); ++t) {
      const auto a = path.children[2 * t], b = path.children[2 * t + 1];
      CHECK(a < b && chain[size(a)] == chain[size(b)]);
      chain[size(N) + t] = chain[size(a)];
    }
  });
}

TEST(threads_change_no_merge) {
  const index_t N = 3000, D = 6;
  const std::vector<double> X = normal<double>(size(N * D), 4);
  const MergeRequest q{.n_samples = N, .D = D, .epsilon_sq = 0.5, .centred = true, .full = true};
  const MergePath one = path_of(X, q, 1), four = path_of(X, q, 4);
  CHECK(one.children == four.children);
  CHECK(one.gains == four.gains);
}

// 1 is rounding beside the scatter of clusters: there is no exact answer, but there is a number.
TEST(merges_beyond_rounding_are_finite) {
  const index_t N = 60, D = 7;
  const std::vector<double> of_rank_two = normal<double>(size(N * 2), 5), basis = normal<double>(size(2 * D), 6);
  std::vector<double> X(size(N * D));
  for (index_t i = 0; i < N; ++i)
    for (index_t k = 0; k < D; ++k)
      X[size(i * D + k)] =
          (of_rank_two[size(2 * i)] * basis[size(k)] + of_rank_two[size(2 * i + 1)] * basis[size(D + k)]) / 20;
  for (const double epsilon_sq : {1e-14, 1e-20, 1e-100, 1e-300})
    for (const bool centred : {true, false}) {
      const MergePath path =
          path_of(X, {.n_samples = N, .D = D, .epsilon_sq = epsilon_sq, .centred = centred, .full = true}, 2);
      CHECK(path.gains.size() == size(N - 1));
      for (const double gain : path.gains) CHECK(std::isfinite(gain));
    }
}

}  // namespace
