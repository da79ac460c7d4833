// Samples as the device has them: in the order of their classes, with their membership.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "shared/problem.hpp"

namespace redunet::cuda {

// Samples sorted by class, as they come within one; as they come where classes are soft.
inline std::vector<int> class_order(const Problem& problem, index_t m) {
  std::vector<int> order(as_size(m));
  std::iota(order.begin(), order.end(), 0);
  if (problem.labels != nullptr)
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return problem.labels[a] < problem.labels[b]; });
  return order;
}

// pi[k][m] of samples in this order.
template <class T>
std::vector<T> membership_of(const Problem& problem, const std::vector<int>& order) {
  const index_t k = problem.n_classes();
  const auto m = static_cast<index_t>(order.size());
  std::vector<T> membership(as_size(k * m));
  for (index_t position = 0; position < m; ++position)
    for (index_t j = 0; j < k; ++j) {
      const index_t i = at(order, position);
      at(membership, j * m + position) =
          problem.labels != nullptr ? T(problem.labels[i] == j) : static_cast<T>(problem.membership[i * k + j]);
    }
  return membership;
}

}  // namespace redunet::cuda
