// How long the step of a layer is, and where the layer is built: the rules of python/redunet/_backends/contract.py and
// ascent.py, for the loops of all engines, on a device as well. They see rates, never features. Their constants are
// exported to Python, where a test compares them.
#pragma once

#include <cmath>
#include <limits>

#include "shared/index.hpp"

#ifdef __CUDACC__
#define REDUNET_HOST_DEVICE __host__ __device__
#else
#define REDUNET_HOST_DEVICE
#endif

namespace redunet {

// a b rounded, where a compiler for a device would fuse it with the sum that it is part of.
REDUNET_HOST_DEVICE inline double rounded_product(double a, double b) {
#ifdef __CUDA_ARCH__
  return __dmul_rn(a, b);
#else
  return a * b;
#endif
}

// R - sum_j gamma_j R_j of a row of rates.
REDUNET_HOST_DEVICE inline double reduction_of(const double* rates, const double* gammas, index_t n_classes) {
  double delta = rates[0];
  for (index_t j = 0; j < n_classes; ++j) delta -= rounded_product(gammas[j], rates[j + 1]);
  return delta;
}

// The natural step eta = kNaturalStep / alpha is halved, this often at most, while the rate reduction would fall.
constexpr double kNaturalStep = 2.0;
constexpr int kMaxHalvings = 20;
// A fall within so many rounding units of the rate is rounding.
constexpr double kFallRoundingUnits = 8.0;
// Neighbouring steps of a search differ by this factor, and lie between these parts of the natural step.
constexpr double kSearchFactor = 1.5;
constexpr double kShortestStep = 1e-4, kLongestStep = 1e4;
// A sample with a smaller norm is not scaled: a zero sample stays zero.
constexpr double kSmallestNorm = 1e-8;

// The step of each layer: one that is given, the natural one, or one that is searched for. After begin(), eta() is
// tried, and judge() is told the rate reduction that it reaches, until it says kTake, or kTakeKept: the trial that was
// kept.
class StepRule {
 public:
  enum class Verdict { kTake, kTryAgain, kTakeKept };

  // etas: of the layers, or null. unit: rounding unit of the features.
  StepRule(const double* etas, bool search, double alpha, double unit)
      : etas_(etas), search_(search), natural_(kNaturalStep / alpha), last_(natural_), unit_(unit) {}

  // Whether there may be more than one trial; whether one may be kept.
  REDUNET_HOST_DEVICE bool tries() const { return etas_ == nullptr; }
  REDUNET_HOST_DEVICE bool keeps() const { return etas_ == nullptr && search_; }

  // Whether no step raised the rate reduction at the features, so that no later one is tried there.
  bool settled() const { return settled_; }

  // After layers that are there already.
  void resume(const double* etas, const double* betas, index_t n_layers) {
    for (index_t layer = 0; layer < n_layers; ++layer)
      if (etas[layer] > 0) last_ = etas[layer];
    settled_ = tries() && n_layers > 0 && etas[n_layers - 1] == 0 && betas[n_layers - 1] == 0;
  }

  // A layer that is built where the rate reduction is `here`, at the features themselves or ahead of them.
  REDUNET_HOST_DEVICE void begin(index_t layer, double here, double rate, bool ahead) {
    here_ = here, allowed_ = kFallRoundingUnits * unit_ * rate, ahead_ = ahead;
    n_trials_ = 0, shorter_ = false, keep_ = false;
    if (etas_ != nullptr)
      eta_ = etas_[layer];
    else if (settled_)
      eta_ = 0;
    else
      eta_ = search_ ? last_ : natural_;
  }

  REDUNET_HOST_DEVICE double eta() const { return eta_; }
  // Whether the trial that was judged last is the best, and to be kept while others are tried.
  REDUNET_HOST_DEVICE bool keep() const { return keep_; }

  REDUNET_HOST_DEVICE Verdict judge(double reached) {
    keep_ = false;
    if (!tries() || eta_ == 0) return Verdict::kTake;
    return search_ ? judge_search(reached) : judge_natural(reached);
  }

 private:
  REDUNET_HOST_DEVICE Verdict try_next(double eta) {
    eta_ = eta;
    return Verdict::kTryAgain;
  }

  // No step raises the rate reduction: this layer leaves the features where they are, and so does every later one that
  // is built there.
  REDUNET_HOST_DEVICE Verdict settle() {
    settled_ = settled_ || !ahead_;
    return try_next(0);
  }

  REDUNET_HOST_DEVICE Verdict judge_natural(double reached) {
    if (!(here_ - reached > allowed_)) return Verdict::kTake;
    return ++n_trials_ == kMaxHalvings ? settle() : try_next(eta_ / 2);
  }

  // From the last layer's step longer ones while they reach more; if none does, shorter ones, until one reaches more
  // than the layer begins with and the next one less.
  REDUNET_HOST_DEVICE Verdict judge_search(double reached) {
    const bool first = n_trials_++ == 0, better = first || reached > best_;
    if (better) best_ = reached, step_ = eta_;
    double next = 0;
    if (better || (shorter_ && !(best_ > here_))) next = eta_ * (shorter_ ? 1 / kSearchFactor : kSearchFactor);
    const auto within = [&](double eta) { return kShortestStep * natural_ < eta && eta < kLongestStep * natural_; };
    if (!within(next) && !shorter_ && step_ == last_) {
      shorter_ = true;
      next = last_ * (1 / kSearchFactor);
    }
    if (within(next)) {
      keep_ = better;
      return try_next(next);
    }
    if (!(best_ > here_)) return settle();
    const bool kept = step_ != eta_;
    eta_ = last_ = step_;
    return kept ? Verdict::kTakeKept : Verdict::kTake;
  }

  const double* etas_;
  bool search_;
  double natural_, last_, unit_;
  bool settled_ = false;
  double here_ = 0, allowed_ = 0, eta_ = 0, step_ = 0, best_ = 0;
  int n_trials_ = 0;
  bool shorter_ = false, keep_ = false, ahead_ = false;
};

// Nesterov's momentum: before layer l the features go on to normalise(z_l + beta_l (z_l - z_{l-1})), with beta_l = (t_l
// - 1) / t_{l+1}, t_1 = 1, t_{l+1} = (1 + sqrt(1 + 4 t_l^2)) / 2.
class Momentum {
 public:
  REDUNET_HOST_DEVICE double next() {
    const double following = (1 + std::sqrt(1 + rounded_product(4 * t_, t_))) / 2, beta = (t_ - 1) / following;
    t_ = following;
    return beta;
  }
  // The sequence starts again, with the layer whose beta was given last.
  REDUNET_HOST_DEVICE void restart() { t_ = (1 + std::sqrt(5.0)) / 2; }

  void resume(const double* betas, index_t n_layers) {
    for (index_t layer = 0; layer < n_layers; ++layer)
      if (next(); betas[layer] == 0) restart();
  }

 private:
  double t_ = 1;
};

}  // namespace redunet
