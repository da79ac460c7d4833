// One operator of a single-precision construction at a few frequencies, from the same features, in double precision:
// its Gram matrix or small matrix, factor and log det; the operator is rounded once, at the end.
#pragma once

#include <vector>

#include "layer/operators.hpp"

namespace redunet {

class InDouble {
 public:
  // Room for n_freqs frequencies at a time of operator `number`.
  InDouble(const KernelSet& kernels, Parallel& parallel, const Problem& problem, const Features<float>& features,
           index_t number, index_t n_freqs);

  index_t n_freqs() const { return builder_.layout().sizes.F; }
  // At most n_freqs frequencies: the operator goes to its place among those of a layer (unless null), log dets to
  // logdets[p].
  void run(const Features<float>& features, const std::vector<index_t>& frequencies, const OperatorLayout& layout,
           const std::optional<LayerOperators<float>>& out, double* logdets);

 private:
  void read(const Features<float>& features, const std::vector<index_t>& frequencies);

  Parallel& parallel_;
  index_t number_;
  std::vector<index_t> positions_;  // of the operator's samples
  std::vector<double> weights_, freq_weights_;
  Problem problem_;  // of these samples alone: without classes
  Features<double> features_;
  OperatorBuilder<double> builder_;
  Buffer<double> dense_, factors_, responses_;
};

}  // namespace redunet
