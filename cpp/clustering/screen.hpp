// Samples that may be a better partner of a cluster of several, by what single precision says of their forms.
#pragma once

#include "clustering/singles.hpp"

namespace redunet {

// Below which |W d|^2, d = x - mean, is in single precision where it is below `form`. For x and means of norm R at
// most, |d| <= 2R; |W| <= 1 and |W|_F <= sqrt(D). So d is off by 4 u R, W by u sqrt(D), sums of D products by D u
// sqrt(D), of |d| each; and the sum of D squares by D u of itself.
inline float screen_limit(double form, index_t D, double longest) {
  constexpr double u = 0x1p-24;
  const double n = static_cast<double>(D), root = std::sqrt(n);
  const double distance = std::sqrt(form) + 1.01 * u * longest * (4 + 2 * root + 2 * n * root) + 1e-15;
  const double limit = distance * distance * (1 + 2 * (n + 8) * u);
  constexpr float most = std::numeric_limits<float>::infinity();
  return limit < static_cast<double>(std::numeric_limits<float>::max()) ? static_cast<float>(limit) : most;
}

class Screen {
 public:
  Screen(const MergeKernels& kernels, index_t D)
      : kernels_(kernels), D_(D), mean_(D), W_(merge_rows(D) * merge_rows(D)) {}

  // Of all single samples, the norm is this at most.
  void set_longest(double norm) { longest_ = std::max(longest_, norm); }

  // The cluster that is looked for, in single precision too.
  void set(MergeCluster& c) {
    if (c.W == nullptr || D_ < kFewest) return;
    double square = 0;  // a cluster that was there at first may lie farther out than all single samples
    for (index_t k = 0; k < D_; ++k) {
      mean_[k] = static_cast<float>(c.mean[k]);
      square += c.mean[k] * c.mean[k];
    }
    set_longest(std::sqrt(square));
    for (index_t e = 0; e < merge_rows(D_) * merge_rows(D_); ++e) W_[e] = static_cast<float>(c.W[e]);
    c.narrow_mean = mean_.get(), c.narrow_W = W_.get();
  }

  // A bit for each kPanel<float> samples of a ball of which one may have a gain below this: by the largest form that it
  // could have, given the least of the other terms. work: merge_work(D) numbers.
  std::uint32_t operator()(const MergeCluster& c, const Singles& singles, index_t ball, double gain,
                           float* work) const {
    constexpr std::uint32_t kAll = (1u << kBall / kPanel<float>)-1;
    if (c.narrow_W == nullptr || gain == kInfinity) return kAll;
    const double slack = 1e-12 * (std::abs(gain) + std::abs(c.constant) + std::abs(singles.most[ball]));
    double least = c.constant - singles.most[ball] - slack;
    if (c.of_mean != 0) {
      const double distance = nearest_mean(c, singles, ball);
      least += c.of_mean * std::log1p(c.inverse_epsilon_sq * distance * distance);
    }
    const double form = std::expm1((gain - least) / c.half) / c.scale;
    if (!(form > 0)) return 0;
    const float farthest = screen_limit(form, D_, longest_);
    return kernels_.screen(c, {.x = singles.narrow_sample(ball * kBall), .farthest = farthest, .work = work});
  }

 private:
  static constexpr index_t kFewest = 4;  // dimensions: forms of fewer cost no more than what says of them

  // |mean + d weight| at least, of all samples of a ball.
  double nearest_mean(const MergeCluster& c, const Singles& singles, index_t ball) const {
    const double* centre = singles.centre.get() + ball / kMergeLanes * D_ * kMergeLanes + ball % kMergeLanes;
    double square = 0;
    for (index_t k = 0; k < D_; ++k) {
      const double middle = c.mean[k] + (centre[k * kMergeLanes] - c.mean[k]) * c.weight;
      square += middle * middle;
    }
    return std::max(0.0, std::sqrt(square) - singles.radius[ball] * c.weight) * (1 - 1e-12);
  }

  const MergeKernels& kernels_;
  index_t D_;
  Buffer<float> mean_, W_;
  double longest_ = 0;
};

}  // namespace redunet
