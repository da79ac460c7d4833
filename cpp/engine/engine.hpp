// The loops over layers, and one layer of each. F of a spectrum counts columns (shared/problem.hpp).
#pragma once

#include <optional>

#include "base/parallel.hpp"
#include "shared/problem.hpp"
#include "shared/rate_gradient.hpp"

namespace redunet {

// Builds layers; V (m, C, F) is overwritten by the features.
template <class T>
void build(const KernelSet& kernels, Parallel& parallel, const Problem& problem, const Sizes& sizes, T* V,
           const BuildRequest<T>& request);

// Maps V through layers.
template <class T>
void apply(const KernelSet& kernels, Parallel& parallel, const OperatorLayout& layout, T* V,
           const ApplyRequest<T>& request);

// Operators of one layer (null: none) and the row of rates at V.
template <class T>
void layer_operators(const KernelSet& kernels, Parallel& parallel, const Problem& problem, const Sizes& sizes,
                     const T* V, const std::optional<LayerOperators<T>>& out, double* rates);

// Dense operators (k + 1, F, C, C) and the row of rates from Gram matrices of as many numbers; of a problem without
// samples.
void operators_of_grams(const KernelSet& kernels, Parallel& parallel, const Problem& problem, const Sizes& sizes,
                        const double* grams, double* dense, double* rates);

// The row of rates at V, and the gradient of their reduction.
template <class T>
void rates_and_gradient(const KernelSet& kernels, Parallel& parallel, const Problem& problem, const Sizes& sizes,
                        const T* V, const RateGradient<T>& out);

}  // namespace redunet
