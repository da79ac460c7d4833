#include "layer/in_double.hpp"

#include <algorithm>

namespace redunet {
namespace {

double membership(const Problem& problem, index_t sample, index_t number) {
  if (number == 0) return 1;
  if (problem.labels != nullptr) return problem.labels[sample] == number - 1;
  return problem.membership[sample * problem.n_classes() + number - 1];
}

std::vector<index_t> positions_of(const Problem& problem, const Features<float>& features, index_t number) {
  std::vector<index_t> positions;
  for (index_t i = 0; i < features.sizes().m; ++i)
    if (membership(problem, features.sample(i), number) > 0) positions.push_back(i);
  return positions;
}

// Membership times sample weight; empty: ones.
std::vector<double> weights_of(const Problem& problem, const Features<float>& features, index_t number,
                               const std::vector<index_t>& positions) {
  std::vector<double> weights;
  if (problem.weights == nullptr && (number == 0 || problem.labels != nullptr)) return weights;
  for (const index_t i : positions) {
    const index_t sample = features.sample(i);
    weights.push_back(membership(problem, sample, number) *
                      (problem.weights == nullptr ? 1.0 : problem.weights[sample]));
  }
  return weights;
}

// The problem of one operator: all of its samples, and no classes. With fewer samples than channels it is a factor,
// whatever is kept: the small matrix has no part that is the identity but for rounding. Factors have one column a
// sample.
Problem problem_of(const Problem& problem, index_t number, index_t C, const std::vector<double>& weights,
                   const std::vector<double>& freq_weights) {
  const index_t count = at(problem.counts, number);
  return {.weights = weights.empty() ? nullptr : weights.data(),
          .freq_weights = freq_weights.data(),
          .n_points = problem.n_points,
          .inner = problem.inner,
          .alphas = {at(problem.alphas, number)},
          .gammas = {},
          .counts = {count},
          .ranks = {problem.d == 1 && count < C ? count : 0},
          .d = problem.d};
}

}  // namespace

InDouble::InDouble(const KernelSet& kernels, Parallel& parallel, const Problem& problem,
                   const Features<float>& features, index_t number, index_t n_freqs)
    : parallel_(parallel),
      number_(number),
      positions_(positions_of(problem, features, number)),
      weights_(weights_of(problem, features, number, positions_)),
      freq_weights_(as_size(n_freqs), 1.0),
      problem_(problem_of(problem, number, features.sizes().C, weights_, freq_weights_)),
      features_(
          {static_cast<index_t>(positions_.size()), features.sizes().C, n_freqs * problem.d, features.sizes().planes},
          {}),
      builder_(kernels, parallel, problem_, features_),
      dense_(at(problem.ranks, number) > 0
                 ? 0
                 : n_freqs * features.sizes().C * features.sizes().C * features.sizes().planes),
      factors_(builder_.layout().factors_size()) {}

void InDouble::read(const Features<float>& features, const std::vector<index_t>& frequencies) {
  const auto [m, C, F, P] = features_.sizes();
  const index_t d = problem_.d, used = static_cast<index_t>(frequencies.size()) * d;
  parallel_.run(features_.n_tiles(), double(m * C * F * P), [&, m = m, C = C, P = P](index_t tile, int) {
    const index_t first = tile * kPanel<double>, lanes = std::min(kPanel<double>, m - first);
    for (index_t f = 0; f < used; ++f) {
      double* to = features_.panel(tile, f);
      for (index_t lane = 0; lane < lanes; ++lane) {
        const index_t i = at(positions_, first + lane);
        const index_t p = at(frequencies, f / d) * d + f % d;
        const float* from = features.panel(i / kPanel<float>, p) + i % kPanel<float>;
        for (index_t row = 0; row < C * P; ++row) to[row * kPanel<double> + lane] = from[row * kPanel<float>];
      }
    }
  });
}

void InDouble::run(const Features<float>& features, const std::vector<index_t>& frequencies,
                   const OperatorLayout& layout, const std::optional<LayerOperators<float>>& out, double* logdets) {
  read(features, frequencies);
  std::optional<LayerOperators<double>> doubles;
  const auto [m, C, F, P] = features_.sizes();
  const index_t rank = problem_.ranks[0], matrix = C * C * P, row = rank * P;
  const bool kept_dense = at(layout.ranks, number_) == 0;
  const bool responses = out && !kept_dense && out->responses != nullptr;
  if (responses && responses_.get() == nullptr) responses_ = Buffer<double>(m * C * F * P);
  if (out) doubles = LayerOperators<double>{dense_.get(), factors_.get(), responses ? responses_.get() : nullptr};
  builder_.run(features_, doubles);
  if (out && kept_dense && rank > 0) builder_.layout().expand(*doubles, 0, problem_.alphas[0], dense_.get());
  for (std::size_t f = 0; f < frequencies.size(); ++f) {
    const index_t p = frequencies[f], from = static_cast<index_t>(f);
    logdets[p] = builder_.logdet(0, from);
    if (!out) continue;
    const auto rounded = [](double x) { return static_cast<float>(x); };
    if (kept_dense) {
      std::transform(dense_.get() + from * matrix, dense_.get() + (from + 1) * matrix, layout.dense(*out, number_, p),
                     rounded);
      continue;
    }
    if (responses) {
      for (index_t i = 0; i < m; ++i)
        for (index_t c = 0; c < C; ++c)
          for (index_t plane = 0; plane < P; ++plane)
            out->responses[((features.sample(at(positions_, i)) * C + c) * layout.sizes.F + p) * P + plane] =
                rounded(responses_[((i * C + c) * F + from) * P + plane]);
      continue;
    }
    const double* Q = factors_.get() + from * C * row;
    for (index_t c = 0; c < C; ++c)
      std::transform(Q + c * row, Q + (c + 1) * row, layout.factor(*out, number_, p) + c * layout.n_columns * P,
                     rounded);
  }
}

}  // namespace redunet
