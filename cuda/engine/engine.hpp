// The contract of python/redunet/_backends/contract.py on a CUDA device: arrays of the host in, arrays of the host out,
// everything between them on the device. No word of CUDA here: module.cpp is compiled by a C++ compiler.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "shared/problem.hpp"
#include "shared/rate_gradient.hpp"

namespace redunet::cuda {

// Called between layers, at least so often, to stop the work by throwing. Of the shortcuts only `fused` has a
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
void rates_and_gradient(const Problem& problem, const Sizes& sizes, const T* V, const RateGradient<T>& out);

// The verbs of a State of that contract. Features lie on the host or on the device, everything else on the host.
template <class T>
class Verbs {
 public:
  virtual ~Verbs() = default;
  virtual void read(const T* V) = 0;
  virtual void write(T* V) const = 0;
  virtual void copy(const Verbs& other) = 0;  // of one that was made of the same
  virtual void grams(double* sums) = 0;
  virtual void look(const LayerOperators<T>& out, double* rates) = 0;
  virtual void response_norms(const LayerOperators<T>& ops, double* squares) = 0;
  virtual void step(const LayerRequest<T>& request, double* squares) = 0;
  virtual void scale(const double* by) = 0;
  virtual void advance(const LayerRequest<T>& layer, const Taken& taken) = 0;
  virtual void extrapolate(Verbs& before, double beta) = 0;  // `before` becomes the features as they were
  virtual void pullback(const LayerRequest<T>& layer, const PullbackRequest<T>& request) = 0;
};
// Of samples that a network is built from; of samples that layers are applied to. The problem is kept, not copied.
template <class T>
std::unique_ptr<Verbs<T>> make_state(const Problem& problem, const Sizes& sizes, const Shortcuts& shortcuts);
template <class T>
std::unique_ptr<Verbs<T>> make_state(const OperatorLayout& layout, const double* alphas, const double* freq_weights,
                                     const Shortcuts& shortcuts);

// dense (k + 1, F, C, C) and the row of rates from Gram matrices.
void operators_of_grams(const Problem& problem, const Sizes& sizes, const double* grams, double* dense, double* rates);

// `out` holds the right-hand sides of a solve, and receives the result.
template <class T>
void hermitian(Task task, const T* A, index_t count, index_t n, index_t planes, T* out, index_t n_rhs);

// Why no device can be used, or "".
std::string why_unusable();
// Opens cuBLAS and cuFFT, which the first call that needs them does otherwise; throws CudaError.
void open_libraries();
void set_library_folders(std::vector<std::string> folders);

}  // namespace redunet::cuda
