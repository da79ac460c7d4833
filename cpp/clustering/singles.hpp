// Clusters of one sample each, and the balls that hold them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "base/buffer.hpp"

namespace redunet {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Samples that lie near each other, kBall of them in panels one after the other, are compared or passed over together.
// Of fewer, more are passed over, and the bounds themselves cost as much (docs/performance.md).
constexpr index_t kBall = kMergeBall;

// Where an empty lane lies in single precision: far from everything.
constexpr float kNowhere = 1e15F;

// Lanes of single samples. One that leaves stays as an empty lane, with F = -infinity and best = infinity, until one
// lane in sixteen has: their order, by where they lie, is kept, and closing gaps costs sixteen passes over all samples
// in all.
class Singles {
 public:
  index_t D = 0, used = 0, gone = 0;  // lanes up to the last; empty ones among them
  Buffer<double> x, F, best;
  Buffer<float> narrow;  // x in single precision, in kPanel<float> lanes
  Buffer<std::int64_t> partner, id;
  // Of the balls, in lanes too: centre, radius, the largest F; the lowest `best`.
  Buffer<double> centre, radius, most;
  std::vector<double> lowest;

  index_t room_for_balls() const { return static_cast<index_t>(lowest.size()); }
  index_t n_balls() const { return (used + kBall - 1) / kBall; }
  double* sample(index_t lane) { return x.get() + lane / kMergeLanes * D * kMergeLanes + lane % kMergeLanes; }
  const double* sample(index_t lane) const { return const_cast<Singles*>(this)->sample(lane); }
  float* narrow_sample(index_t lane) {
    constexpr index_t B = kPanel<float>;
    return narrow.get() + lane / B * D * B + lane % B;
  }
  const float* narrow_sample(index_t lane) const { return const_cast<Singles*>(this)->narrow_sample(lane); }
  void read(index_t lane, double* to) const {
    const double* from = sample(lane);
    for (index_t k = 0; k < D; ++k) to[k] = from[k * kMergeLanes];
  }

  template <class T>
  void write(index_t lane, const T* from) {
    for (index_t k = 0; k < D; ++k) {
      sample(lane)[k * kMergeLanes] = static_cast<double>(from[k]);
      narrow_sample(lane)[k * kPanel<float>] = static_cast<float>(from[k]);
    }
  }

  void make_room(index_t size, index_t dimension) {
    const index_t lanes = (size + kBall - 1) / kBall * kBall;
    const index_t balls = (lanes / kBall + kMergeLanes - 1) / kMergeLanes * kMergeLanes;
    D = dimension;
    x = Buffer<double>(lanes * D), narrow = Buffer<float>(lanes * D), F = Buffer<double>(lanes),
    best = Buffer<double>(lanes);
    partner = Buffer<std::int64_t>(lanes), id = Buffer<std::int64_t>(lanes);
    centre = Buffer<double>(balls * D), radius = Buffer<double>(balls), most = Buffer<double>(balls);
    for (index_t lane = 0; lane < lanes; ++lane) empty(lane);
    for (index_t ball = 0; ball < balls; ++ball) most[ball] = -kInfinity;
    lowest.assign(as_size(balls), kInfinity);
  }

  void empty(index_t lane) {
    F[lane] = -kInfinity, best[lane] = kInfinity, partner[lane] = -1, id[lane] = -1;
    for (index_t k = 0; k < D; ++k)
      sample(lane)[k * kMergeLanes] = 0, narrow_sample(lane)[k * kPanel<float>] = kNowhere;
  }

  void remove(index_t lane) {
    empty(lane);
    ++gone;
    find_lowest(lane / kBall);
  }

  void copy(index_t to, const Singles& from, index_t lane) {
    for (index_t k = 0; k < D; ++k) {
      sample(to)[k * kMergeLanes] = from.sample(lane)[k * kMergeLanes];
      narrow_sample(to)[k * kPanel<float>] = from.narrow_sample(lane)[k * kPanel<float>];
    }
    F[to] = from.F[lane], best[to] = from.best[lane], partner[to] = from.partner[lane], id[to] = from.id[lane];
  }

  bool sparse() const { return gone > std::max(kBall, used / 16); }

  // Closes the gaps; moved(id, lane) for every sample that is there.
  template <class Moved>
  void pack(const Moved& moved) {
    index_t to = 0;
    for (index_t lane = 0; lane < used; ++lane) {
      if (F[lane] == -kInfinity) continue;
      if (lane != to) {
        copy(to, *this, lane);
        empty(lane);
      }
      moved(id[to], to);
      ++to;
    }
    const index_t before = n_balls();
    used = to, gone = 0;
    for (index_t ball = 0; ball < before; ++ball) enclose(ball);
  }

  // The ball of its samples, and the lowest of their best gains. Rounding must not leave one outside.
  void enclose(index_t ball) {
    const index_t begin = ball * kBall, end = std::min(used, begin + kBall);
    double* c = centre.get() + ball / kMergeLanes * D * kMergeLanes + ball % kMergeLanes;
    for (index_t k = 0; k < D; ++k) {
      double sum = 0;
      for (index_t lane = begin; lane < end; ++lane) sum += sample(lane)[k * kMergeLanes];
      c[k * kMergeLanes] = end > begin ? sum / static_cast<double>(end - begin) : 0;
    }
    double largest = 0;
    most[ball] = -kInfinity;
    for (index_t lane = begin; lane < end; ++lane) {
      double square = 0;
      for (index_t k = 0; k < D; ++k) {
        const double d = sample(lane)[k * kMergeLanes] - c[k * kMergeLanes];
        square += d * d;
      }
      largest = std::max(largest, square);
      most[ball] = std::max(most[ball], F[lane]);
    }
    radius[ball] = std::sqrt(largest) * (1 + 1e-12) + 1e-150;
    find_lowest(ball);
  }

  void find_lowest(index_t ball) {
    const double* from = best.get() + ball * kBall;
    lowest[as_size(ball)] = *std::min_element(from, from + kBall);
  }
};

}  // namespace redunet
