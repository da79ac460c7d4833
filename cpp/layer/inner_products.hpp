// Inner products of features with the responses of other features to the operators of a layer.
#pragma once

#include "layer/features.hpp"

namespace redunet {

// dots (m, k) <- sum_p w_p Re <g(p), C^j(p) v(p)> of every sample; w: (F) of frequencies, or null for ones.
template <class T>
void inner_products(const Kernels<T>& kernels, Parallel& parallel, const OperatorLayout& layout, const double* alphas,
                    const double* freq_weights, const LayerOperators<T>& ops, const Features<T>& v,
                    const Features<T>& g, double* dots);

}  // namespace redunet
