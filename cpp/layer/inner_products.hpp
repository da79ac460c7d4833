// Inner products of features with their responses to the operators of a layer.
#pragma once

#include "layer/features.hpp"

namespace redunet {

// dots (m, k) <- sum_p w_p Re <v(p), C^j(p) v(p)> of every sample.
template <class T>
void inner_products(const Kernels<T>& kernels, Parallel& parallel, const OperatorLayout& layout, const double* alphas,
                    const double* freq_weights, const LayerOperators<T>& ops, const Features<T>& v, double* dots);

}  // namespace redunet
