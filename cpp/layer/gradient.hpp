// The gradient of the rate reduction at features, from the operators there.
#pragma once

#include "layer/features.hpp"

namespace redunet {

// out (m, C, F) <- omega_i d inner / N (E v_i - sum_j gamma_j pi_ij C^j v_i); ops.responses, if any, lie in it. The
// features are lost and, with labels, the dense operators of classes.
template <class T>
void gradient_to_features(const Kernels<T>& kernels, Parallel& parallel, const Problem& problem,
                          const OperatorLayout& layout, const LayerOperators<T>& ops, Features<T>& features, T* out);

}  // namespace redunet
