// Clusters merged pair by pair, always the pair that shortens the code most: exactly, without a table of all pairs.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/parallel.hpp"
#include "kernels/kernels.hpp"

namespace redunet {

// What MergeRequest of python/redunet/_backends/contract.py is, for samples X (n_samples, D).
struct MergeRequest {
  index_t n_samples, D;
  double epsilon_sq;
  bool centred, full;
  const std::int64_t* clusters = nullptr;  // (n_samples): numbers of the clusters at the start; null: one each
  bool restricted = false;                 // whether only neighbours merge
  std::vector<std::vector<std::int64_t>> neighbours = {};  // sorted
  std::function<void(index_t, double)> on_merge = {};      // called now and then and after the last
};

struct MergePath {
  std::vector<std::int64_t> children;  // (merges, 2)
  std::vector<double> gains;
};

template <class T>
MergePath merge_path(const KernelSet& kernels, Parallel& parallel, const T* X, const MergeRequest& request);

}  // namespace redunet
