// Gram matrices of the classes in double precision, whatever the features': sums of them over shares of the samples are
// those of all samples.
#pragma once

#include "layer/operators.hpp"

namespace redunet::cuda {

// sums (k + 1, F, C, C) of the device <- sum_i omega_i pi_ij v_i v_i*; number 0 of all samples.
template <class N>
void sum_grams(const Spectrum<N>& features, const Problem& problem, InDouble<N>* sums);

}  // namespace redunet::cuda
