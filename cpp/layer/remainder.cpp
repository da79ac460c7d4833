#include "layer/remainder.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace redunet {
namespace {

template <class T>
constexpr index_t B = kPanel<T>;

// Fewer frequencies leave little to bound. Not tuned: bp2d, which was measured, has 420.
constexpr index_t kFewestFrequencies = 8;
// By how much rounding may have raised a bound: energies and their sums over F frequencies are off by F u at most.
constexpr double kSlack = 1e-3;

// ||alpha I - A||_F of a Hermitian matrix, by its lower triangle.
template <class T>
double distance_from_identity(const T* A, index_t C, index_t P, double alpha) {
  T sums[B<T>] = {};
  double diagonal = 0;
  for (index_t i = 0; i < C; ++i, A += C * P) {
    const index_t n = i * P;
    index_t e = 0;
    for (; e + B<T> <= n; e += B<T>)
      for (index_t lane = 0; lane < B<T>; ++lane) sums[lane] += A[e + lane] * A[e + lane];
    for (index_t lane = 0; e < n; ++e, ++lane) sums[lane] += A[e] * A[e];
    const double d = double(A[n]) - alpha;
    diagonal += d * d;
  }
  double below = 0;
  for (const T sum : sums) below += double(sum);
  return std::sqrt(2 * below + diagonal);
}

}  // namespace

template <class T>
bool Remainder<T>::pays(const OperatorLayout& layout) {
  const bool all_dense = std::all_of(layout.ranks.begin() + 1, layout.ranks.end(), [](index_t r) { return r == 0; });
  return all_dense && layout.ranks.size() > 2 && layout.sizes.F >= kFewestFrequencies;
}

template <class T>
Remainder<T>::Remainder(const Kernels<T>& kernels, Parallel& parallel, const OperatorLayout& layout,
                        const double* alphas, const std::vector<T>& freq_weights)
    : kernels_(kernels),
      parallel_(parallel),
      layout_(layout),
      alphas_(alphas),
      freq_weights_(freq_weights),
      k_(static_cast<index_t>(layout.ranks.size()) - 1) {
  const auto F = static_cast<index_t>(freq_weights.size());
  share_ = static_cast<T>(1 - std::max(kSlack, 4 * double(F) * std::numeric_limits<T>::epsilon()));
  least_ = Buffer<T>(k_ * F);
  distance_ = Buffer<double>(k_ * F);
  order_.resize(freq_weights.size());
}

template <class T>
void Remainder<T>::prepare(const LayerOperators<T>& ops) {
  const auto [m, C, F, P] = layout_.features();
  parallel_.run(k_, double(k_ * F) * double(C * C * P), [&, C = C, F = F, P = P](index_t j, int) {
    const double alpha = alphas_[j + 1];
    const double rounding = double(C) * 16 * std::numeric_limits<T>::epsilon();
    for (index_t p = 0; p < F; ++p) {
      const T* A = layout_.dense(ops, j + 1, p / layout_.d);
      const double distance = distance_from_identity(A, C, P, alpha) / alpha;
      const double least = alpha * std::max(0.0, 1 - distance - rounding);
      least_[j * F + p] = static_cast<T>(least * least);
      distance_[j * F + p] = double(at(freq_weights_, p)) * std::min(distance, 1.0);
    }
  });
  std::vector<double> total(as_size(F), 0.0);
  for (index_t j = 0; j < k_; ++j)
    for (index_t p = 0; p < F; ++p) at(total, p) += distance_[j * F + p];
  std::iota(order_.begin(), order_.end(), index_t{0});
  std::stable_sort(order_.begin(), order_.end(), [&](index_t a, index_t b) { return at(total, a) > at(total, b); });
}

template <class T>
void Remainder<T>::begin(const Features<T>& features, index_t tile, index_t n_tiles, index_t lanes, T* energies,
                         T* rest) const {
  const auto [m, C, F, P] = features.sizes();
  std::fill_n(rest, k_ * lanes, T(0));
  for (index_t p = 0; p < F; ++p) {
    T* mine = energies + p * lanes;
    kernels_.energies(features.panel(tile, p), features.tile_stride(), n_tiles, C * P, at(freq_weights_, p), mine);
    for (index_t j = 0; j < k_; ++j) {
      const T least = share_ * least_[j * F + p];
      for (index_t i = 0; i < n_tiles * B<T>; ++i) rest[j * lanes + i] += least * mine[i];
    }
  }
}

template <class T>
void Remainder<T>::visit(index_t j, index_t p, const T* energies, index_t lanes, T* rest) const {
  const T least = least_[j * static_cast<index_t>(order_.size()) + p];
  for (index_t i = 0; i < lanes; ++i) rest[i] -= least * energies[i];
}

template class Remainder<float>;
template class Remainder<double>;

}  // namespace redunet
