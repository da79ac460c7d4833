// Whole constructions: bitwise the same for any number of threads, unit norms, agreement between instruction sets and
// with the network applied to its own samples. (What the numbers are is tested from Python, against NumPy.)

#include "check.hpp"
#include "dispatch.hpp"
#include "engine.hpp"

using namespace redunet;

namespace {

struct Case {
  Sizes sizes;
  index_t k;
  bool soft, search, given;
};

template <class T> struct Built {
  std::vector<T> features, dense, factors;
  std::vector<double> rates, etas, alphas, gammas;
  std::vector<index_t> ranks;
};

constexpr index_t kLayers = 3;

// Samples around k directions, of unit norm in the weights of the frequencies (all ones here).
template <class T> std::vector<T> samples(const Case& c) {
  const auto [m, C, F, P] = c.sizes;
  const auto size = static_cast<std::size_t>(C * F * P);
  auto V = check::normal<T>(static_cast<std::size_t>(m) * size, 1);
  const auto centres = check::normal<T>(static_cast<std::size_t>(c.k) * size, 2);
  for (index_t i = 0; i < m; ++i) {
    T* v = V.data() + static_cast<std::size_t>(i) * size;
    double squares = 0;
    for (std::size_t e = 0; e < size; ++e) {
      v[e] = T(0.5) * v[e] + centres[static_cast<std::size_t>(i % c.k) * size + e];
      squares += double(v[e]) * double(v[e]);
    }
    for (std::size_t e = 0; e < size; ++e) v[e] = static_cast<T>(v[e] / std::sqrt(squares));
  }
  return V;
}

template <class T> Built<T> construct(const Case& c, const KernelSet& set, int n_threads) {
  const index_t m = c.sizes.m, k = c.k;
  Built<T> built;
  built.features = samples<T>(c);
  std::vector<std::int64_t> labels(static_cast<std::size_t>(m));
  std::vector<double> membership(static_cast<std::size_t>(m * k)), freq_weights(static_cast<std::size_t>(c.sizes.F), 1.0);
  Problem problem;
  std::vector<double> counts(static_cast<std::size_t>(k), 0.0);
  for (index_t i = 0; i < m; ++i)
    for (index_t j = 0; j < k; ++j) {
      const double pi = c.soft ? (i % k == j ? 0.5 + 0.5 / double(k) : 0.5 / double(k)) : double(i % k == j);
      membership[static_cast<std::size_t>(i * k + j)] = pi;
      counts[static_cast<std::size_t>(j)] += pi;
      if (i % k == j) labels[static_cast<std::size_t>(i)] = j;
    }
  if (c.soft)
    problem.membership = membership.data();
  else
    problem.labels = labels.data();
  problem.freq_weights = freq_weights.data();
  problem.n_points = double(c.sizes.F);
  problem.inner = 1;
  problem.alphas = {double(c.sizes.C) / (double(m) * 0.1)};
  problem.counts = {m};
  for (const double count : counts) {
    problem.alphas.push_back(double(c.sizes.C) / (count * 0.1));
    problem.gammas.push_back(count / double(m));
    problem.counts.push_back(c.soft ? m : static_cast<index_t>(count));
  }
  for (const index_t count : problem.counts) problem.ranks.push_back(2 * count <= c.sizes.C ? count : 0);

  const OperatorLayout layout(c.sizes, problem.ranks);
  built.dense.resize(static_cast<std::size_t>(kLayers * layout.dense_size()));
  built.factors.resize(static_cast<std::size_t>(kLayers * layout.factors_size()));
  built.rates.resize(static_cast<std::size_t>((kLayers + 1) * (k + 1)));
  built.etas.resize(kLayers);
  const std::vector<double> etas(kLayers, 0.5);
  Parallel parallel(n_threads);
  const BuildRequest<T> request{kLayers,
                                c.search ? nullptr : etas.data(),
                                500.0,
                                c.given,
                                true,
                                built.dense.data(),
                                built.factors.data(),
                                built.rates.data(),
                                built.etas.data(),
                                {}};
  CHECK(build(kernels_of<T>(set), parallel, problem, c.sizes, built.features.data(), request) == kLayers);
  built.alphas = problem.alphas, built.gammas = problem.gammas, built.ranks = problem.ranks;
  return built;
}

const std::vector<Case> kCases = {
    {{40, 3, 1, 1}, 2, false, false, false},  {{37, 5, 9, 2}, 3, false, true, false},
    {{20, 24, 5, 2}, 4, false, false, false}, {{33, 20, 1, 1}, 3, true, true, false},
    {{100, 6, 17, 2}, 2, true, false, true},  {{9, 70, 2, 1}, 3, false, false, true},
    {{1, 1, 1, 1}, 1, false, false, false},
};

template <class T> void same_for_any_number_of_threads() {
  for (const KernelSet* set : usable_kernel_sets())
    for (const Case& c : kCases) {
      const Built<T> one = construct<T>(c, *set, 1);
      for (const int n_threads : {2, 3, 7}) {
        const Built<T> many = construct<T>(c, *set, n_threads);
        CHECK(one.features == many.features);
        CHECK(one.dense == many.dense);
        CHECK(one.factors == many.factors);
        CHECK(one.rates == many.rates);
        CHECK(one.etas == many.etas);
      }
    }
}

}  // namespace

TEST(same_for_any_number_of_threads_single) { same_for_any_number_of_threads<float>(); }
TEST(same_for_any_number_of_threads_double) { same_for_any_number_of_threads<double>(); }

TEST(unit_norms_and_rates_that_are_rates) {
  for (const Case& c : kCases) {
    const Built<double> built = construct<double>(c, *usable_kernel_sets().back(), 2);
    const auto size = static_cast<std::size_t>(c.sizes.C * c.sizes.F * c.sizes.planes);
    for (index_t i = 0; i < c.sizes.m; ++i) {
      double squares = 0;
      for (std::size_t e = 0; e < size; ++e) squares += std::pow(built.features[static_cast<std::size_t>(i) * size + e], 2);
      CHECK(std::abs(squares - 1) < 1e-12);
    }
    for (const double rate : built.rates) CHECK(rate > 0 && std::isfinite(rate));
  }
}

TEST(instruction_sets_agree) {
  const auto sets = usable_kernel_sets();
  for (const Case& c : kCases) {
    const Built<double> first = construct<double>(c, *sets.front(), 1);
    for (const KernelSet* set : sets) {
      const Built<double> other = construct<double>(c, *set, 2);
      for (std::size_t e = 0; e < first.features.size(); ++e)
        CHECK(std::abs(first.features[e] - other.features[e]) < 1e-9);
    }
  }
}

TEST(the_network_moves_its_own_samples_as_it_did) {
  for (const Case& c : kCases) {
    if (c.given) continue;
    for (const KernelSet* set : usable_kernel_sets()) {
      const Built<double> built = construct<double>(c, *set, 2);
      std::vector<double> V = samples<double>(c), pi(static_cast<std::size_t>(c.sizes.m * c.k));
      const std::vector<double> freq_weights(static_cast<std::size_t>(c.sizes.F), 1.0);
      const OperatorLayout layout(c.sizes, built.ranks);
      Parallel parallel(3);
      apply(kernels_of<double>(*set), parallel, layout, kLayers, built.dense.data(), built.factors.data(),
            built.alphas.data(), built.gammas.data(), built.etas.data(), 500.0, freq_weights.data(), V.data(), pi.data());
      for (std::size_t e = 0; e < V.size(); ++e) CHECK(std::abs(V[e] - built.features[e]) < 1e-9);
      for (index_t i = 0; i < c.sizes.m; ++i) {
        double sum = 0;
        for (index_t j = 0; j < c.k; ++j) sum += pi[static_cast<std::size_t>(i * c.k + j)];
        CHECK(std::abs(sum - 1) < 1e-12);
      }
    }
  }
}
