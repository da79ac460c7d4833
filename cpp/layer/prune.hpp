// How a layer moves its samples, and which classes still count for them.
#pragma once

#include <cmath>
#include <limits>

#include "shared/problem.hpp"

namespace redunet {

// How the training samples are moved: by their estimated assignment, or by the given membership.
template <class T>
struct Step {
  double eta, lam;
  const double* gammas;
  const T* membership = nullptr;  // (k, lanes of all tiles), or null: estimate
  Shortcuts shortcuts = {};
};

// How much further than the best class a class must be for its assignment to be zero to rounding: ln(1/u) / lambda.
template <class T>
T gate_margin(double lam) {
  constexpr double kLogUnit = sizeof(T) == 4 ? 15.942385152878742 : 36.04365338911715;  // ln(2^23), ln(2^52)
  return lam > 0 ? static_cast<T>(kLogUnit / lam) : std::numeric_limits<T>::infinity();
}

// A class whose rho^2 exceeds this is left: its assignment is zero. The softmax decides the same when it sees the whole
// sum, a little earlier, so that it doesn't matter whether a class was left.
template <class T>
T gate_limit(T least_square, T margin) {
  const T limit = std::sqrt(least_square) + margin;
  return limit * limit * (1 + 64 * std::numeric_limits<T>::epsilon());
}

// A class for the tiles [begin, end) of a slab; its response is kept in a slot, or not (-1). work: multiply-adds per
// sample since the last look at whether the class can be left.
struct ClassRun {
  index_t j, begin, end, slot, work;
};

// One tile more for a class: at the end of the last run, where it goes on there with the same slot, or in a new run.
inline void add_to_runs(std::vector<ClassRun>& runs, index_t j, index_t tile, index_t slot) {
  if (!runs.empty() && runs.back().j == j && runs.back().end == tile && runs.back().slot == slot)
    ++runs.back().end;
  else
    runs.push_back({.j = j, .begin = tile, .end = tile + 1, .slot = slot, .work = 0});
}

}  // namespace redunet
