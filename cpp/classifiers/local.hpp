// Local minimum incremental coding length: what a sample adds to the code of its nearest in each class. They are found
// by one blocked product of samples and training samples, of which only the nearest are kept; what they are to each
// other is a Gram matrix about the sample, whose log dets with and without it are the two lengths.
#pragma once

#include "base/parallel.hpp"

namespace redunet {

// The names of LocalRequest in host_contract.py.
struct LocalRequest {
  index_t m, D;
  const std::int64_t* offsets;  // (k + 1): training samples of class j are offsets[j] ... offsets[j + 1] - 1
  index_t k, n_neighbors;
  bool centred;
  const double* epsilons;  // squared
  index_t n_epsilons;
};

// Of X (m, D) beside Z (offsets[k], D): lengths (n_epsilons, m, k) in nats. origin (D) is what distances are taken
// about. A log det that is no number is a NotPositiveDefinite.
template <class T>
void local_increments(const KernelSet& kernels, Parallel& parallel, const T* X, const T* Z, const T* origin,
                      const LocalRequest& request, double* lengths);

}  // namespace redunet
