// Clusters of several samples, a panel of lanes at a time, each with its best partner.
#pragma once

#include <cstdint>

#include "clustering/singles.hpp"

namespace redunet {

struct Best {
  double gain = kInfinity;
  std::int64_t partner = -1;

  void take(const Best& other) {
    if (other.gain < gain) *this = other;
  }
};

// A panel of clusters of several samples, and their best partners.
struct Several {
  explicit Several(index_t D) : memory((D * (D + 1) + D + 6) * kMergeLanes) {
    const index_t triangle = D * (D + 1) / 2 * kMergeLanes;
    double* p = memory.get();
    at.S = p, at.W = p + triangle, at.mean = p + 2 * triangle, p = at.mean + D * kMergeLanes;
    at.n = p, at.F = p + kMergeLanes, at.constant = p + 2 * kMergeLanes, at.half = p + 3 * kMergeLanes,
    at.scale = p + 4 * kMergeLanes, at.weight = p + 5 * kMergeLanes;
    for (index_t lane = 0; lane < kMergeLanes; ++lane) empty(lane);
  }
  void empty(index_t lane) {
    for (index_t row = 0; row * kMergeLanes < at.n - at.S; ++row) memory[row * kMergeLanes + lane] = 0;
    at.n[lane] = 1, at.F[lane] = -kInfinity, at.constant[lane] = kInfinity;
    at.half[lane] = at.scale[lane] = at.weight[lane] = 0;
    best[lane] = {}, id[lane] = -1;
  }
  void copy(index_t to, const Several& from, index_t lane) {
    for (double *p = at.S + to, *q = from.at.S + lane; p < at.weight + kMergeLanes; p += kMergeLanes, q += kMergeLanes)
      *p = *q;
    best[to] = from.best[lane], id[to] = from.id[lane];
  }

  Buffer<double> memory;
  MergePanel at;
  Best best[kMergeLanes];
  std::int64_t id[kMergeLanes];
};

}  // namespace redunet
