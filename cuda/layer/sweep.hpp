// Features through one layer: gates, step, projection onto the sphere.
#pragma once

#include "layer/operators.hpp"

namespace redunet::cuda {

// What a layer applies beside its operators; arrays of the device.
template <class N>
struct Step {
  const double *eta, *gammas;
  double lam;
  const Real<N>* given;  // pi[k][m], or null: estimated
};

template <class N>
class Sweep {
 public:
  Sweep(const OperatorLayout& layout, const double* alphas, const double* freq_weights);

  // features <- the layer of them; pi[k][m], unless null, receives the assignments.
  void move(Spectrum<N>& features, const Operators<N>& ops, const Step<N>& step, Real<N>* pi);
  // out[p][c][i] <- by_i (E v_i - sum_j gamma_j pi_ij C^j v_i)
  void gradient(const Spectrum<N>& features, const Operators<N>& ops, const double* gammas, const Real<N>* pi,
                const Real<N>* by, N* out);
  // features <- normalise(z + beta (z - before)), before <- z
  void extrapolate(Spectrum<N>& features, N* before, double beta);

  // With few channels and dense operators: `move` in one launch. With `progress` it finds in it which slot of `dense`
  // and which number of step.eta are its.
  static bool few_channels_fit(const OperatorLayout& layout);
  void move_few(Spectrum<N>& features, const N* dense, const Step<N>& step, Real<N>* pi, const Progress* progress);

 private:
  struct Tile {
    index_t begin, width;
  };
  Responses<N> respond(const N* V, index_t ld, const Operators<N>& ops, Tile tile);
  void plan();

  const OperatorLayout& layout_;
  index_t k_, tile_, chunks_, rows_per_chunk_;
  DeviceArray<double> factored_, one_;
  DeviceArray<Real<N>> freq_weights_, partial_, pi_, norms_;
  DeviceArray<N> responses_, reduced_;
};

}  // namespace redunet::cuda
