// Features through one layer: gates, step, projection onto the sphere.
#pragma once

#include "layer/operators.hpp"

namespace redunet::cuda {

// What a layer applies beside its operators.
struct Step {
  const double* eta;  // of the device
  double lam;
  const void* given;  // pi[k][m] of the device in the features' precision, or null: estimated
};

template <class N>
class Sweep {
 public:
  Sweep(const OperatorLayout& layout, const double* alphas, const double* gammas, const double* freq_weights);

  // features <- the layer of them; pi[k][m], unless null, receives the assignments.
  void move(Spectrum<N>& features, const Operators<N>& ops, const Step& step, Real<N>* pi);
  // out[p][c][i] <- by_i (E v_i - sum_j gamma_j pi_ij C^j v_i)
  void gradient(const Spectrum<N>& features, const Operators<N>& ops, const Real<N>* pi, const Real<N>* by, N* out);

  // With few channels and dense operators: one launch, which finds what changes from layer to layer by `progress`.
  static bool few_channels_fit(const OperatorLayout& layout);
  void move_few(Spectrum<N>& features, const N* dense, const Progress* progress, const double* etas, double lam,
                const Real<N>* given, Real<N>* pi);

 private:
  struct Tile {
    index_t begin, width;
  };
  Responses<N> respond(const N* V, index_t ld, const Operators<N>& ops, Tile tile);
  void plan();

  const OperatorLayout& layout_;
  index_t k_, tile_, chunks_, rows_per_chunk_;
  DeviceArray<double> gammas_, factored_, one_;
  DeviceArray<Real<N>> freq_weights_, partial_, pi_;
  DeviceArray<N> responses_, reduced_;
};

}  // namespace redunet::cuda
