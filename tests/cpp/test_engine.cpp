// Whole constructions: `apply` takes the training samples the way `build` took them, results are the same bits for any
// number of threads, SIMD levels agree to rounding, and a caller can stop a construction or fail in it.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "check.hpp"
#include "engine/engine.hpp"
#include "kernels/dispatch.hpp"

using namespace redunet;

namespace {

struct Case {
  Sizes sizes;
  index_t k;
  bool soft, weighted, natural_step, given;
  double lam;
  index_t d = 1;  // columns of a sample at each of F / d frequencies
};

constexpr index_t kLayers = 3;
constexpr double kEpsilonSquared = 0.1;

// The arrays of a random construction, and the Problem that points to them.
template <class T>
struct Construction {
  Case c;
  std::vector<std::int64_t> labels;
  std::vector<double> membership, weights, freq_weights, etas;
  std::vector<T> V;
  Problem problem{};

  explicit Construction(const Case& c_) : c(c_) {
    const auto [m, C, F, P] = c.sizes;
    V = check::normal<T>(check::size(m * C * F * P), 1);
    std::vector<double> jitter(check::size(m));
    check::fill_uniform(jitter, 2);
    freq_weights.assign(check::size(F / c.d), 2.0);
    freq_weights[0] = 1.0;
    for (index_t i = 0; i < m; ++i) {
      labels.push_back(i % c.k);
      weights.push_back(c.weighted ? 1.5 + jitter[check::size(i)] : 1.0);
      for (index_t j = 0; j < c.k; ++j)
        membership.push_back(c.k == 1 ? 1.0 : (j == i % c.k ? 0.75 : 0.25 / static_cast<double>(c.k - 1)));
    }
    for (index_t i = 0; i < m; ++i) {
      const double norm = std::sqrt(squared_norm(i));
      for (index_t e = 0; e < C * F * P; ++e) V[check::size(i * C * F * P + e)] /= static_cast<T>(norm);
    }
    etas.assign(kLayers, 0.5);
    if (c.soft)
      problem.membership = membership.data();
    else
      problem.labels = labels.data();
    if (c.weighted) problem.weights = weights.data();
    problem.freq_weights = freq_weights.data();
    problem.n_points = std::accumulate(freq_weights.begin(), freq_weights.end(), 0.0);
    problem.inner = 1;
    problem.d = c.d;
    double total = 0;
    std::vector<double> sums(check::size(c.k), 0.0);
    std::vector<index_t> counts(check::size(c.k), 0);
    for (index_t i = 0; i < m; ++i) {
      total += weights[check::size(i)];
      for (index_t j = 0; j < c.k; ++j) {
        const double pi = c.soft ? membership[check::size(i * c.k + j)] : static_cast<double>(i % c.k == j);
        sums[check::size(j)] += pi * weights[check::size(i)];
        counts[check::size(j)] += pi > 0;
      }
    }
    const auto add = [&](double sum, index_t count) {
      problem.alphas.push_back(static_cast<double>(C) / (static_cast<double>(c.d) * sum * kEpsilonSquared));
      problem.counts.push_back(count * c.d);
      problem.ranks.push_back(c.d == 1 && 2 * count <= C ? count : 0);
    };
    add(total, m);
    for (std::size_t j = 0; j < sums.size(); ++j) {
      add(sums[j], counts[j]);
      problem.gammas.push_back(sums[j] / total);
    }
  }

  double squared_norm(index_t i) const {
    const auto [m, C, F, P] = c.sizes;
    double sum = 0;
    for (index_t e = 0; e < C * F; ++e)
      sum += freq_weights[check::size(e % F / c.d)] * std::norm(check::element(V.data(), i * C * F + e, P));
    return sum / static_cast<double>(c.d);
  }
};

template <class T>
struct Built {
  std::vector<T> features, dense, factors;
  std::vector<double> rates, taken, betas;
  std::int64_t n_layers;
};

template <class T>
Built<T> run_build(const Construction<T>& from, const KernelSet& set, int n_threads, bool keep = true,
                   std::function<bool(index_t, const double*)> on_layer = {}) {
  const OperatorLayout layout(from.c.sizes, from.problem.ranks, from.c.d);
  const index_t kept = keep ? kLayers : 1, k1 = from.c.k + 1;
  Built<T> built{from.V,
                 std::vector<T>(check::size(kept * layout.dense_size())),
                 std::vector<T>(check::size(kept * layout.factors_size())),
                 std::vector<double>(check::size((kLayers + 1) * k1)),
                 std::vector<double>(kLayers),
                 std::vector<double>(kLayers),
                 0};
  const BuildRequest<T> request{.n_layers = kLayers,
                                .etas = from.c.natural_step ? nullptr : from.etas.data(),
                                .lam = from.c.lam,
                                .given = from.c.given,
                                .dense = keep ? built.dense.data() : nullptr,
                                .factors = keep ? built.factors.data() : nullptr,
                                .rates = built.rates.data(),
                                .taken = built.taken.data(),
                                .betas = built.betas.data(),
                                .done = &built.n_layers,
                                .on_layer = std::move(on_layer)};
  Parallel parallel(n_threads);
  build(set, parallel, from.problem, from.c.sizes, built.features.data(), request);
  return built;
}

template <class T>
double distance(const std::vector<T>& a, const std::vector<T>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(double(a[i]) - double(b[i])));
  return worst;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// Vectors, signals, images; real and complex; dense and factored classes; one class; one sample a class; odd sizes.
const std::vector<Case> kCases = {
    {{37, 2, 1, 1}, 2, false, false, false, false, 500},  {{64, 3, 1, 1}, 3, true, false, true, false, 1},
    {{41, 5, 9, 2}, 2, false, true, false, false, 5},     {{20, 20, 5, 2}, 10, false, false, true, false, 500},
    {{33, 17, 3, 2}, 3, true, true, false, true, 1},      {{7, 16, 4, 2}, 7, false, false, false, true, 50},
    {{19, 40, 2, 2}, 2, false, false, true, false, 500},  {{1, 1, 1, 1}, 1, false, false, false, false, 500},
    {{50, 33, 1, 1}, 5, false, true, true, false, 500},   {{100, 6, 17, 2}, 2, true, false, false, true, 500},
    {{9, 70, 2, 1}, 3, false, false, false, false, 500},  {{90, 8, 6, 2}, 6, false, true, false, false, 500},
    {{14, 7, 5, 2}, 4, false, false, false, false, 50},   {{260, 40, 2, 2}, 4, false, false, false, false, 500},
    {{300, 33, 1, 1}, 5, false, true, false, false, 500}, {{41, 5, 12, 1}, 2, false, false, true, false, 500, 2},
    {{60, 20, 8, 2}, 4, true, true, false, false, 50, 4}, {{9, 40, 6, 1}, 3, false, false, true, true, 500, 2},
};

template <class F>
void for_every_case(const F& f) {
  for (const Case& c : kCases) {
    f(Construction<float>(c));
    f(Construction<double>(c));
  }
}

}  // namespace

TEST(apply_takes_the_training_samples_the_same_way) {
  for_every_case([]<class T>(const Construction<T>& from) {
    if (from.c.given) return;  // apply estimates, always
    for (const KernelSet* set : usable_kernel_sets()) {
      const Built<T> built = run_build(from, *set, 2);
      CHECK(built.n_layers == kLayers);
      std::vector<T> V = from.V;
      std::vector<double> assignments(check::size(from.c.sizes.m * from.c.k), -1);
      Parallel parallel(2);
      const ApplyRequest<T> request{.n_layers = kLayers,
                                    .dense = built.dense.data(),
                                    .factors = built.factors.data(),
                                    .alphas = from.problem.alphas.data(),
                                    .gammas = from.problem.gammas.data(),
                                    .etas = built.taken.data(),
                                    .betas = built.betas.data(),
                                    .lam = from.c.lam,
                                    .freq_weights = from.freq_weights.data(),
                                    .assignments = assignments.data()};
      apply(*set, parallel, OperatorLayout(from.c.sizes, from.problem.ranks, from.c.d), V.data(), request);
      // Samples are in another order, which changes no operation on any of them but the class tried first: features
      // of unit norm agree to some units per layer.
      CHECK(distance(V, built.features) <= 64 * kLayers * check::kUnit<T>);
      for (index_t i = 0; i < from.c.sizes.m; ++i) {
        double sum = 0;
        for (index_t j = 0; j < from.c.k; ++j) sum += assignments[check::size(i * from.c.k + j)];
        CHECK(std::abs(sum - 1) <= 8 * check::kUnit<T>);
      }
    }
  });
}

TEST(features_stay_on_the_sphere_and_rates_are_finite) {
  for_every_case([]<class T>(Construction<T> from) {
    const Built<T> built = run_build(from, *usable_kernel_sets().back(), 2);
    from.V = built.features;
    for (index_t i = 0; i < from.c.sizes.m; ++i)
      CHECK(std::abs(from.squared_norm(i) - 1) <=
            8 * check::kUnit<T> * static_cast<double>(from.c.sizes.C * from.c.sizes.F));
    for (const double rate : built.rates) CHECK(std::isfinite(rate) && rate >= 0);
  });
}

TEST(results_are_the_same_bits_for_any_number_of_threads) {
  for_every_case([]<class T>(const Construction<T>& from) {
    for (const KernelSet* set : usable_kernel_sets()) {
      const Built<T> one = run_build(from, *set, 1);
      for (const int n_threads : {2, 3, 7}) {
        const Built<T> more = run_build(from, *set, n_threads);
        CHECK(same_bits(one.features, more.features));
        CHECK(same_bits(one.dense, more.dense));
        CHECK(same_bits(one.factors, more.factors));
        CHECK(same_bits(one.rates, more.rates));
        CHECK(same_bits(one.taken, more.taken));
      }
    }
  });
}

TEST(levels_agree_to_rounding) {
  for_every_case([]<class T>(const Construction<T>& from) {
    const std::vector<const KernelSet*> sets = usable_kernel_sets();
    const Built<T> first = run_build(from, *sets[0], 2);
    // The accuracy promised for one layer, times the layers.
    const double promised = (sizeof(T) == 4 ? 1e-4 : 1e-10) * kLayers;
    for (const KernelSet* set : sets) CHECK(distance(run_build(from, *set, 2).features, first.features) <= promised);
  });
}

TEST(keeping_only_the_features_gives_the_same_features) {
  for_every_case([]<class T>(const Construction<T>& from) {
    const KernelSet& set = *usable_kernel_sets().back();
    CHECK(same_bits(run_build(from, set, 2, true).features, run_build(from, set, 2, false).features));
  });
}

TEST(one_layer_of_operators_and_the_gradient) {
  for_every_case([]<class T>(const Construction<T>& from) {
    const KernelSet& set = *usable_kernel_sets().back();
    const Built<T> built = run_build(from, set, 2);
    const OperatorLayout layout(from.c.sizes, from.problem.ranks, from.c.d);
    std::vector<T> dense(check::size(layout.dense_size())), factors(check::size(layout.factors_size()));
    std::vector<double> rates(check::size(from.c.k + 1));
    Parallel parallel(2);
    layer_operators<T>(set, parallel, from.problem, from.c.sizes, from.V.data(),
                       LayerOperators<T>{dense.data(), factors.data()}, rates.data());
    CHECK(std::equal(dense.begin(), dense.end(), built.dense.begin()));
    CHECK(std::equal(factors.begin(), factors.end(), built.factors.begin()));
    CHECK(std::equal(rates.begin(), rates.end(), built.rates.begin()));
    std::vector<T> gradient(from.V.size());
    std::vector<double> row(rates.size()), membership(check::size(from.c.sizes.m * from.c.k));
    rates_and_gradient<T>(set, parallel, from.problem, from.c.sizes, from.V.data(),
                          RateGradient<T>{row.data(), gradient.data(), membership.data()});
    CHECK(row == rates);
    CHECK(std::all_of(membership.begin(), membership.end(), [](double g) { return std::isfinite(g) && g != 0; }));
    CHECK(std::all_of(gradient.begin(), gradient.end(), [](T g) { return std::isfinite(g); }));
    CHECK(std::any_of(gradient.begin(), gradient.end(), [](T g) { return g != 0; }) || from.c.k == 1);
  });
}

TEST(a_caller_can_stop_a_construction_or_fail_in_it) {
  const Construction<double> from(kCases[2]);
  const KernelSet& set = *usable_kernel_sets().back();
  std::vector<index_t> seen;
  const Built<double> stopped = run_build(from, set, 2, true, [&](index_t layer, const double*) {
    seen.push_back(layer);
    return layer == 2;
  });
  CHECK(stopped.n_layers == 2);
  CHECK((seen == std::vector<index_t>{0, 1, 2}));
  bool caught = false;
  try {
    run_build(from, set, 2, true, [](index_t layer, const double*) -> bool {
      if (layer == 1) throw std::runtime_error("caller");
      return false;
    });
  } catch (const std::runtime_error& error) {
    caught = std::string(error.what()) == "caller";
  }
  CHECK(caught);
}
