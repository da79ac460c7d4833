// An order of samples in which those that follow each other lie near each other.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/parallel.hpp"
#include "clustering/singles.hpp"

namespace redunet {

inline double square_of(const double* x, index_t D) { return std::inner_product(x, x + D, x, 0.0); }

// Enough to tell a wide direction from a narrow one: the order is no result, and any would do.
constexpr int kPowerSteps = 4;

// About the direction in which samples spread most: a few steps of the power method, from the widest coordinate on.
template <class T>
std::vector<double> widest(const T* X, index_t D, const index_t* begin, const index_t* end) {
  std::vector<double> mean(as_size(D)), direction(as_size(D)), next(as_size(D));
  const double n = static_cast<double>(end - begin);
  for (const index_t* i = begin; i < end; ++i)
    for (index_t k = 0; k < D; ++k) mean[as_size(k)] += static_cast<double>(X[*i * D + k]) / n;
  for (const index_t* i = begin; i < end; ++i)
    for (index_t k = 0; k < D; ++k)
      next[as_size(k)] += std::pow(static_cast<double>(X[*i * D + k]) - mean[as_size(k)], 2);
  direction[as_size(std::max_element(next.begin(), next.end()) - next.begin())] = 1;
  for (int step = 0; step < kPowerSteps; ++step) {
    std::fill(next.begin(), next.end(), 0.0);
    for (const index_t* i = begin; i < end; ++i) {
      double along = 0;
      for (index_t k = 0; k < D; ++k)
        along += (static_cast<double>(X[*i * D + k]) - mean[as_size(k)]) * direction[as_size(k)];
      for (index_t k = 0; k < D; ++k)
        next[as_size(k)] += along * (static_cast<double>(X[*i * D + k]) - mean[as_size(k)]);
    }
    const double norm = std::sqrt(square_of(next.data(), D));
    if (!(norm > 0)) break;
    for (std::size_t k = 0; k < next.size(); ++k) direction[k] = next[k] / norm;
  }
  return direction;
}

// Samples in an order in which those of a ball lie near each other: halved, again and again, across the direction in
// which they spread most. along: room for a number of each sample.
template <class T>
void order(const T* X, index_t D, index_t* begin, index_t* end, double* along) {
  if (end - begin <= kBall) return;
  const std::vector<double> direction = widest(X, D, begin, end);
  checkpoint(4 * kPowerSteps * D * (end - begin));
  for (const index_t* i = begin; i < end; ++i) {
    along[*i] = 0;
    for (index_t k = 0; k < D; ++k) along[*i] += static_cast<double>(X[*i * D + k]) * direction[as_size(k)];
  }
  index_t* const middle = begin + (end - begin + 2 * kBall - 1) / (2 * kBall) * kBall;
  std::nth_element(begin, middle, end,
                   [&](index_t i, index_t j) { return along[i] < along[j] || (along[i] == along[j] && i < j); });
  order(X, D, begin, middle, along);
  order(X, D, middle, end, along);
}

}  // namespace redunet
