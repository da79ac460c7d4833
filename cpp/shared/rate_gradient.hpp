// The gradient of R - sum_j gamma_j R_j to the membership, from what an engine has: rates, operators, inner products.
#pragma once

#include "shared/problem.hpp"

namespace redunet {

// The row of rates, and where the gradient is written.
template <class T>
struct RateGradient {
  double* rates;       // (k + 1)
  T* features;         // (m, C, F)
  double* membership;  // (m, k), or null
};

// sum_p w_p (C - tr A^-1) of A = I + alpha inner G, from alpha A^-1.
template <class T>
double taken_up(const OperatorLayout& layout, const LayerOperators<T>& ops, index_t number, double alpha,
                const double* freq_weights) {
  const auto [m, C, F, P] = layout.sizes;
  const index_t rank = at(layout.ranks, number);
  double sum = 0;
  for (index_t p = 0; p < F; ++p) {
    double here = 0;
    for (index_t c = 0; c < C; ++c) {
      if (rank == 0) {
        here += 1 - static_cast<double>(layout.dense(ops, number, p)[c * (C + 1) * P]) / alpha;
        continue;
      }
      const T* row = layout.factor(ops, number, p) + c * layout.n_columns * P;
      for (index_t e = 0; e < rank * P; ++e) here += static_cast<double>(row[e]) * static_cast<double>(row[e]);
    }
    sum += freq_weights[p] * here;
  }
  return sum;
}

// gradient (m, k), where sum_p w_p Re <v_i, C^j v_i> stand, <- that to any membership pi >= 0, m held:
// -omega_i gamma_j ((R_j - sum_p w_p (C - tr A_j^-1) / (2N)) / m_j + inner / (2N) sum_p w_p Re <v_i, C^j v_i>).
template <class T>
void finish_membership_gradient(const Problem& problem, const OperatorLayout& layout, const LayerOperators<T>& ops,
                                const double* rates, double* gradient) {
  const index_t m = layout.sizes.m, k = problem.n_classes();
  const auto weight = [&](index_t i) { return problem.weights == nullptr ? 1.0 : problem.weights[i]; };
  const auto pi = [&](index_t i, index_t j) {
    return problem.labels != nullptr ? double(problem.labels[i] == j) : problem.membership[i * k + j];
  };
  const double points = 2 * problem.n_points;
  for (index_t j = 0; j < k; ++j) {
    double size = 0;
    for (index_t i = 0; i < m; ++i) size += weight(i) * pi(i, j);
    const double taken = taken_up(layout, ops, j + 1, at(problem.alphas, j + 1), problem.freq_weights);
    const double constant = (rates[j + 1] - taken / points) / size;
    for (index_t i = 0; i < m; ++i) {
      double& to = gradient[i * k + j];
      to = -weight(i) * at(problem.gammas, j) * (constant + problem.inner / points * to);
    }
  }
}

}  // namespace redunet
