// By how much the sum of a gate will still grow, at least: ||C v|| >= least ||v|| with the smallest eigenvalue of C, so
// that the frequencies not visited yet add at least their energies, and a class is out long before all of its products
// are made. C = alpha (I + a G)^-1 lies between 0 and alpha I, whence least = alpha - ||alpha I - C||_F.
//
// The frequencies are visited in one order for all samples of a layer, those first where classes differ most from
// alpha I: whether a class is left, and by which bound, then changes no rounding of those that stay.
#pragma once

#include "layer/features.hpp"
#include "layer/prune.hpp"

namespace redunet {

template <class T>
class Remainder {
 public:
  // Whether bounds are worth their making: several dense classes, and enough frequencies to leave some out.
  static bool pays(const OperatorLayout& layout);

  // freq_weights: of columns.
  Remainder(const Kernels<T>& kernels, Parallel& parallel, const OperatorLayout& layout, const double* alphas,
            const std::vector<T>& freq_weights);

  // Bounds and order of one layer's operators.
  void prepare(const LayerOperators<T>& ops);
  index_t frequency(index_t i) const { return at(order_, i); }

  // The rest of every class, (k, lanes), over all frequencies, at `n_tiles` tiles from `tile` on; energies (F, lanes)
  // are those of its samples, which the visits below need too.
  void begin(const Features<T>& features, index_t tile, index_t n_tiles, index_t lanes, T* energies, T* rest) const;
  // Frequency p is visited by a class: its rest is less by that.
  void visit(index_t j, index_t p, const T* energies, index_t lanes, T* rest) const;

 private:
  const Kernels<T>& kernels_;
  Parallel& parallel_;
  const OperatorLayout& layout_;
  const double* alphas_;
  const std::vector<T>& freq_weights_;
  index_t k_;
  T share_;                  // of what is bounded that is counted on
  Buffer<T> least_;          // (k, F): lower bounds of ||C^j(p) v||^2 / ||v||^2
  Buffer<double> distance_;  // (k, F): w_p ||alpha I - C^j(p)||_F / alpha
  std::vector<index_t> order_;
};

}  // namespace redunet
