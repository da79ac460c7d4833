// Merging by coding length: lengths add up to that of one cluster, whatever the SIMD level and the number of threads;
// and a sanitizer sees balls, gaps, panels and neighbours.

#include <algorithm>

#include "base/parallel.hpp"
#include "check.hpp"
#include "clustering/merging.hpp"
#include "clustering/screen.hpp"
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
      std::vector<Neighbour> near;
      if (i >= 3) near.push_back({i - 3});
      if (i + 3 < N) near.push_back({i + 3});
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

// Clusters that are known by moments only merge as those of their samples do, and what boundaries save leaves the sum.
TEST(merges_of_moments_add_up) {
  for_all([](index_t D, bool centred, bool full) {
    const index_t N = 120, K = 40;
    std::vector<double> X(size(N * D)), sizes(size(K)), means(size(K * D)), scatters(size(K * D * D));
    fill_uniform(X, 5);
    std::vector<std::int64_t> clusters(size(N));
    for (index_t i = 0; i < N; ++i) {
      const index_t k = clusters[size(i)] = i % K;
      sizes[size(k)] += 1;
      for (index_t a = 0; a < D; ++a) means[size(k * D + a)] += X[size(i * D + a)] * double(K) / double(N);
    }
    for (index_t i = 0; i < N; ++i)
      for (index_t a = 0; a < D; ++a)
        for (index_t b = 0; b < D; ++b) {
          const auto about = [&](index_t d) { return X[size(i * D + d)] - (centred ? means[size(i % K * D + d)] : 0); };
          scatters[size((i % K * D + a) * D + b)] += about(a) * about(b);
        }
    MergeRequest q{.n_samples = N,
                   .D = D,
                   .epsilon_sq = 0.1,
                   .centred = centred,
                   .full = full,
                   .clusters = clusters.data(),
                   .restricted = true};
    for (index_t k = 0; k < K; ++k) {  // a chain
      std::vector<Neighbour> near;
      if (k > 0) near.push_back({k - 1, 0.25});
      if (k + 1 < K) near.push_back({k + 1, 0.25});
      q.neighbours.push_back(near);
    }
    const MergePath of_samples = path_of(X, q, 2);
    q.clusters = nullptr, q.n_samples = K, q.sizes = sizes.data(), q.scatters = scatters.data();
    const MergePath of_moments = path_of(means, q, 2);
    CHECK(of_samples.children == of_moments.children);
    double saved = 0;
    for (std::size_t t = 0; t < of_samples.gains.size(); ++t)
      CHECK(std::abs(of_samples.gains[t] - of_moments.gains[t]) < 1e-8), saved += of_samples.gains[t];
    for (std::vector<Neighbour>& near : q.neighbours)
      for (Neighbour& k : near) k.saved = 0;
    double plain = 0;
    for (const double gain : path_of(means, q, 2).gains) plain += gain;
    CHECK(std::abs(plain - saved - 0.25 * double(K - 1)) < 1e-8);
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

// The ball of these samples, all of F = 0, and what a cluster of n samples finds in it.
class Ball {
 public:
  Ball(const std::vector<double>& X, index_t D) : D_(D), work_(merge_work(D)), bounds_(kMergeLanes) {
    const index_t n = static_cast<index_t>(X.size()) / D;
    samples.make_room(n, D);
    for (index_t lane = 0; lane < n; ++lane, ++samples.used) {
      samples.write(lane, X.data() + lane * D);
      samples.F[lane] = 0;
    }
    samples.enclose(0);
  }
  double bound(const MergeCluster& c) {
    selected_kernels().merge.bound(c, {.centres = samples.centre.get(),
                                       .F = samples.most.get(),
                                       .radii = samples.radius.get(),
                                       .n_panels = 1,
                                       .bounds = bounds_.get(),
                                       .work = work_.get()});
    return bounds_[0];
  }
  double lowest_gain(const MergeCluster& c) {
    MergeSamples q{.x = samples.sample(0),
                   .F = samples.F.get(),
                   .n_panels = (samples.used + kMergeLanes - 1) / kMergeLanes,
                   .itself = -1,
                   .work = work_.get(),
                   .gain = std::numeric_limits<double>::infinity()};
    selected_kernels().merge.search(c, q);
    CHECK(q.where >= 0 && q.where < samples.used);
    return q.gain;
  }

  // |W d|^2 of a sample.
  double form(const MergeCluster& c, index_t lane) const {
    std::vector<double> x(size(D_));
    samples.read(lane, x.data());
    double sum = 0;
    for (index_t i = 0; i < D_; ++i) {
      double y = 0;
      for (index_t k = 0; k <= i; ++k) y += c.W[i * merge_rows(D_) + k] * (x[size(k)] - c.mean[k]);
      sum += y * y;
    }
    return sum;
  }
  double nearest_form(const MergeCluster& c) const {
    double least = std::numeric_limits<double>::infinity();
    for (index_t lane = 0; lane < samples.used; ++lane) least = std::min(least, form(c, lane));
    return least;
  }
  std::uint32_t screen(const MergeCluster& c, float farthest) {
    Buffer<float> work(merge_work(D_));
    return selected_kernels().merge.screen(c, {.x = samples.narrow.get(), .farthest = farthest, .work = work.get()});
  }

  Singles samples;

 private:
  index_t D_;
  Buffer<double> work_, bounds_;
};

// A cluster as MergeCluster has it, of random second moments.
struct Random {
  Random(index_t D, bool centred, bool several, double n, unsigned seed) : W(merge_rows(D) * merge_rows(D)) {
    const index_t rank = D + 2;
    const std::vector<double> Y = normal<double>(size(rank * D), seed);
    Buffer<double> S(D * (D + 1) / 2), work(D * D);
    for (index_t r = 0, e = 0; r < D; ++r)
      for (index_t k = 0; k <= r; ++k, ++e)
        for (index_t i = 0; i < rank; ++i) S[e] += Y[size(i * D + r)] * Y[size(i * D + k)];
    selected_kernels().merge.factor(D, S.get(), 3, W.get(), work.get());
    mean = normal<double>(size(D), seed + 1);
    if (several && !centred) std::fill(mean.begin(), mean.end(), 0.0);
    double square = 0;
    for (const double m : mean) square += m * m;
    cluster = {.centred = centred,
               .D = D,
               .mean = mean.data(),
               .W = several ? W.get() : nullptr,
               .constant = -3,
               .half = (n + 1) / 2,
               .scale = 200 / n,
               .weight = 1 / (n + 1),
               .of_mean = centred ? 1.5 : 0,
               .inverse_epsilon_sq = 20,
               .inverse_square = 1 / square,
               .shrink = 1 / (1 + 200 / n * square)};
  }
  Buffer<double> W;
  std::vector<double> mean;
  MergeCluster cluster;
};

TEST(a_ball_holds_its_samples_and_no_more) {
  for (const index_t D : {1, 3, 10}) {
    const Ball ball(normal<double>(size(40 * D), 7), D);
    double farthest = 0;
    for (index_t lane = 0; lane < 40; ++lane) {
      double square = 0;
      for (index_t k = 0; k < D; ++k)
        square += std::pow(ball.samples.sample(lane)[k * kMergeLanes] - ball.samples.centre[k * kMergeLanes], 2);
      farthest = std::max(farthest, std::sqrt(square));
    }
    CHECK(ball.samples.radius[0] >= farthest);
    CHECK(ball.samples.radius[0] < farthest * (1 + 1e-9));
  }
}

TEST(a_ball_bounds_the_gains_of_its_samples) {
  for_all([](index_t D, bool centred, bool several) {
    unsigned seed = 10;
    for (const double n : {1.0, 30.0, 5000.0})
      for (const double spread : {0.01, 0.3, 2.0}) {
        const Random with(D, centred, several, n, ++seed);
        std::vector<double> X = normal<double>(size(30 * D), seed + 100);
        const std::vector<double> around = normal<double>(size(D), seed + 200);
        for (std::size_t i = 0; i < X.size(); ++i) X[i] = around[i % size(D)] + spread * X[i];
        Ball ball(X, D);
        CHECK(ball.bound(with.cluster) <= ball.lowest_gain(with.cluster));
        Ball one({X.begin(), X.begin() + D}, D);  // there, nothing is lost but the digits of the logarithms
        const double lost = one.lowest_gain(with.cluster) - one.bound(with.cluster);
        CHECK(lost >= 0 && lost < 1.3e-4 * (with.cluster.half + with.cluster.of_mean) + 1e-9);
      }
  });
}

// Whatever the limit, a sample that is within it is seen, and none that is well beyond; empty lanes never.
TEST(single_precision_screens_samples) {
  for (const KernelSet* set : usable_kernel_sets()) {
    select_kernels(set->name);
    for (const index_t D : {4, 5, 10, 31, 50})
      for (const bool centred : {false, true})
        for (const double spread : {1e-5, 0.01, 1.0}) {
          const auto seed = static_cast<unsigned>(100 * D + centred);
          Random with(D, centred, true, 30, seed);
          std::vector<double> X = normal<double>(size(45 * D), seed + 1);
          for (std::size_t i = 0; i < X.size(); ++i) X[i] = with.mean[i % size(D)] + spread * X[i];
          Ball ball(X, D);
          std::vector<float> mean(with.mean.begin(), with.mean.end());
          std::vector<float> W(with.W.get(), with.W.get() + merge_rows(D) * merge_rows(D));
          with.cluster.narrow_mean = mean.data(), with.cluster.narrow_W = W.data();
          double longest = 0;
          for (const double x : X) longest = std::max(longest, std::abs(x) * std::sqrt(static_cast<double>(D)));
          for (const double m : with.mean) longest = std::max(longest, std::abs(m) * std::sqrt(static_cast<double>(D)));
          for (index_t lane = 0; lane < 45; ++lane) {
            const double form = ball.form(with.cluster, lane);
            const std::uint32_t near = ball.screen(with.cluster, screen_limit(form * (1 + 1e-9), D, longest));
            CHECK((near >> lane / kPanel<float> & 1) == 1);
          }
          CHECK(ball.screen(with.cluster, 1e10F) == 7);
          const double nearest = ball.nearest_form(with.cluster);
          if (spread == 1.0) CHECK(ball.screen(with.cluster, static_cast<float>(0.99 * nearest)) == 0);
        }
  }
}

// The best sample is seen by its own gain, also where the cluster lies a thousand times farther out than all samples:
// what single precision loses is then that of the mean.
TEST(a_screen_sees_the_best_sample) {
  for (const KernelSet* set : usable_kernel_sets()) {
    select_kernels(set->name);
    for (const index_t D : {4, 10, 31})
      for (const bool centred : {false, true})
        for (unsigned seed = 0; seed < 40; ++seed) {
          Random with(D, centred, true, 30, 100 * seed + 1);
          with.cluster.of_mean = 0;  // the least of that over the ball would hide it
          Buffer<double> S(D * (D + 1) / 2), of_factor(D * D);
          const std::vector<double> along = normal<double>(size(D), 100 * seed + 2);  // the mean, or what would be
          for (index_t r = 0, e = 0; r < D; ++r)
            for (index_t k = 0; k <= r; ++k, ++e) S[e] = along[size(r)] * along[size(k)];
          set->merge.factor(D, S.get(), 1e8, with.W.get(), of_factor.get());
          std::vector<double> X = normal<double>(size(45 * D), seed);
          double longest = 0;
          for (double& x : X) x *= 1e-5, longest = std::max(longest, std::abs(x) * std::sqrt(static_cast<double>(D)));
          Ball ball(X, D);
          const double gain = ball.lowest_gain(with.cluster);
          Screen screen(set->merge, D);
          screen.set_longest(longest);
          screen.set(with.cluster);
          Buffer<float> work(merge_work(D));
          const double above = std::nextafter(gain, std::numeric_limits<double>::infinity());
          const std::uint32_t near = screen(with.cluster, ball.samples, 0, above, work.get());
          bool seen = false;
          for (index_t lane = 0; lane < 45; ++lane)
            seen = seen || ((near >> lane / kPanel<float> & 1) == 1 &&
                            ball.form(with.cluster, lane) <= ball.nearest_form(with.cluster) * (1 + 1e-9));
          CHECK(seen);
        }
  }
}

// Two samples on a line with the cluster: the nearer one is as near as the ball.
TEST(a_bound_is_that_of_the_nearest_point) {
  for (const KernelSet* set : usable_kernel_sets()) {
    select_kernels(set->name);
    Ball ball({-1, 0, 1, 0}, 2);
    const std::vector<double> mean{3, 0};
    const MergeCluster with{.centred = true,
                            .D = 2,
                            .mean = mean.data(),
                            .W = nullptr,
                            .constant = 0,
                            .half = 1,
                            .scale = 10,
                            .weight = 0.5,
                            .of_mean = 0,
                            .inverse_epsilon_sq = 1};
    CHECK(std::abs(ball.lowest_gain(with) - std::log1p(40.0)) < 1e-14);
    CHECK(ball.bound(with) <= std::log1p(40.0));
    CHECK(ball.bound(with) > std::log1p(40.0) - 1.4e-4);
  }
}

// Both logarithms, over all magnitudes.
TEST(logarithms_of_gains) {
  for (const KernelSet* set : usable_kernel_sets()) {
    select_kernels(set->name);
    const std::vector<double> mean{0};
    for (double y = 1e-300; y < 1e300; y *= y > 1e-3 && y < 1e6 ? 1.003 : 7.7) {
      const MergeCluster with{.centred = true,
                              .D = 1,
                              .mean = mean.data(),
                              .W = nullptr,
                              .constant = 0,
                              .half = 1,
                              .scale = y,
                              .weight = 0.5,
                              .of_mean = 0,
                              .inverse_epsilon_sq = 1};
      Ball ball({1}, 1);
      const double exact = std::log1p(y), below = ball.bound(with);
      CHECK(std::abs(ball.lowest_gain(with) - exact) <= 4e-16 * exact);
      CHECK(below <= exact && below > exact - 1.3e-4);
    }
  }
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
