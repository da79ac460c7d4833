// Gram matrices of the classes in double precision, whatever that of the features: sums that other shares of the
// samples are added to.
#pragma once

#include "layer/features.hpp"

namespace redunet {

// grams (k + 1, F, C, C), interleaved: sums of omega_i pi_ij v_i v_i*, number 0 of all samples.
template <class T>
void grams_in_double(const Kernels<double>& kernels, Parallel& parallel, const Problem& problem,
                     const Features<T>& features, double* grams);

}  // namespace redunet
