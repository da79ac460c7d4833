// Clusters merged pair by pair, always the pair that shortens the code most: exactly, without a table of all pairs.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/parallel.hpp"
#include "kernels/kernels.hpp"

namespace redunet {

// Another cluster that one may merge with, and what their merge saves beside the code of the samples, in nats.
struct Neighbour {
  std::int64_t id;
  double saved = 0;
};

// What MergeRequest of python/redunet/_backends/host_contract.py is, for samples X (n_samples, D).
struct MergeRequest {
  index_t n_samples, D;
  double epsilon_sq;
  bool centred, full;
  const std::int64_t* clusters = nullptr;  // (n_samples): numbers of the clusters at the start; null: one each
  const double* sizes = nullptr;           // (n_samples): X are the means of clusters of so many samples each, and
  const double* scatters = nullptr;        // (n_samples, D, D) their scatter; both null: X are samples
  bool restricted = false;                 // whether only neighbours merge
  std::vector<std::vector<Neighbour>> neighbours = {};  // sorted by number
  std::function<void(index_t, double)> on_merge = {};   // called now and then and after the last
};

struct MergePath {
  std::vector<std::int64_t> children;  // (merges, 2)
  std::vector<double> gains;
};

template <class T>
MergePath merge_path(const KernelSet& kernels, Parallel& parallel, const T* X, const MergeRequest& request);

}  // namespace redunet
