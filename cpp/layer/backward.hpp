// The adjoint of a layer's step: from gradients to the features after it to those of all that it is made from.
#pragma once

#include "layer/wide.hpp"

namespace redunet {

// The gradients of <g, v + eta (E v - sum_j gamma_j pi_j C^j v)>, <a, b> = Re sum a* b, to everything but v; that to v
// is the step itself, of g. pi: (k, lanes of all tiles). room.features isn't written to.
template <class T>
void pullback(const Kernels<T>& kernels, Parallel& parallel, const OperatorLayout& layout, const double* alphas,
              const Features<T>& v, const Features<T>& g, const LayerRequest<T>& layer, const std::vector<T>& pi,
              const PullbackRoom<T>& room);

}  // namespace redunet
