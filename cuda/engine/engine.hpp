// The contract of python/redunet/_backends/contract.py on a CUDA device: arrays of the host in, arrays of the host out,
// everything between them on the device. No word of CUDA here: module.cpp is compiled by a C++ compiler.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "shared/problem.hpp"

namespace redunet::cuda {

// Called between layers, at least so often, to stop the work by throwing. Of the shortcuts only `one_sweep` has a
// meaning here: networks of few channels by their own kernels.
using Poll = std::function<void()>;
constexpr index_t kLayersBetweenPolls = 64;

template <class T>
void build(const Problem& problem, const Sizes& sizes, T* V, const BuildRequest<T>& request, const Poll& poll);

template <class T>
void apply(const OperatorLayout& layout, T* V, const ApplyRequest<T>& request, const Poll& poll);

template <class T>
void layer_operators(const Problem& problem, const Sizes& sizes, const T* V,
                     const std::optional<LayerOperators<T>>& out, double* rates);

template <class T>
void rate_gradient(const Problem& problem, const Sizes& sizes, const T* V, T* gradient);

// `out` holds the right-hand sides of a solve, and receives the result.
template <class T>
void hermitian(Task task, const T* A, index_t count, index_t n, index_t planes, T* out, index_t n_rhs);

// Why no device can be used, or "".
std::string why_unusable();
// Opens cuBLAS and cuFFT, which the first call that needs them does otherwise; throws CudaError.
void open_libraries();
void set_library_folder(std::string folder);

}  // namespace redunet::cuda
