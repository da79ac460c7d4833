// Features through one layer: gates, step, projection onto the sphere.
#pragma once

#include "layer/operators.hpp"

namespace redunet::cuda {

// What a layer applies beside its operators; arrays of the device.
template <class N>
struct Step {
  const double* eta;
  const Real<N>* gammas;
  double lam;
  const Real<N>* given;  // pi[k][m], or null: estimated
};

// Gradients to operators; arrays of the device.
template <class N>
struct Gradients {
  N *E, *Cs;  // (F, C, C), (k, F, C, C)
};

template <class N>
class Sweep {
 public:
  Sweep(const OperatorLayout& layout, const double* alphas, const double* freq_weights);

  // features <- the layer of them; pi[k][m], unless null, receives the assignments.
  void move(Spectrum<N>& features, const Operators<N>& ops, const Step<N>& step, Real<N>* pi, const When& when = {});
  // features <- by_i (E v_i - sum_j gamma_j pi_ij C^j v_i), for every column of sample i
  void gradient(Spectrum<N>& features, const Operators<N>& ops, const Real<N>* gammas, const Real<N>* pi,
                const Real<N>* by);
  // squares[k][m] <- ||C^j v||^2
  void response_norms(const Spectrum<N>& features, const Operators<N>& ops, Real<N>* squares);
  // features <- v + eta (E v - sum_j gamma_j pi_j C^j v) with the pi of the step; squares[m] <- their ||v||^2.
  void step(Spectrum<N>& features, const Operators<N>& ops, const Step<N>& step, Real<N>* squares);
  // The adjoint of a layer (cpp/layer/backward.hpp has its equations), in three passes over the samples (backward.cu):
  // upstream, after <- g, the gradient before the projection; scale[m] is 1 / ||u||
  void project(Spectrum<N>& upstream, Spectrum<N>& after, const Real<N>* scale);
  // products[k][m] <- Re <g, C^j v>, or if weighted sum_p w_p / d Re <g(p), C^j(p) v(p)>
  void inner_products(const Spectrum<N>& features, const Spectrum<N>& upstream, const Operators<N>& ops,
                      Real<N>* products, bool weighted = false);
  // to_features, g at first, += eta (E* g + sum_j C^j* g_j), and the sums of g v* and g_j v*, of a[k][m] and b[k][m]
  void pullback(const Spectrum<N>& features, const Spectrum<N>& upstream, Spectrum<N>& to_features,
                const Operators<N>& ops, double eta, const Real<N>* a, const Real<N>* b, const Gradients<N>& to);
  // features <- normalise(z + beta (z - before)), before <- z; with progress, by its beta
  void extrapolate(Spectrum<N>& features, N* before, double beta, const When& when = {});
  // Takes the memory of `extrapolate`, which else takes it itself: launches that are captured may not.
  void make_room_ahead();

  // Gives the memory for responses back; the next call takes it again.
  void release();

  // With few channels and dense operators: `move` in one launch. With progress `dense` has slots.
  static bool fused_fits(const OperatorLayout& layout);
  void move_fused(Spectrum<N>& features, const N* dense, const Step<N>& step, Real<N>* pi, const When& when = {});

 private:
  // Samples, and their columns.
  struct Tile {
    index_t begin, width, first_column, columns;
  };
  Tile tile_at(index_t begin) const;
  Responses<N> respond(const N* V, const Operators<N>& ops, const Tile& tile);
  void plan();
  // The launch of a kernel over rows and columns, `depth` times; it leaves its sums in memory of this.
  dim3 grid(index_t columns, index_t depth = 1) const;
  Partial<Real<N>> partial(const DeviceArray<Real<N>>& memory, index_t columns, index_t k) const;
  // sums[k][m], from the tile's first sample on, <- what such a kernel left in partial_.
  void sum_chunks(const Tile& tile, index_t k, Real<N>* sums);

  const OperatorLayout& layout_;
  index_t k_, tile_, columns_, chunks_, rows_per_chunk_;  // samples of a tile; columns of all samples
  DeviceArray<double> one_;
  DeviceArray<Real<N>> factored_, partial_, pi_, norms_;
  DeviceArray<Real<N>> freq_weights_, row_weights_;  // of a column at each frequency, and in each row
  DeviceArray<N> responses_, reduced_;
};

}  // namespace redunet::cuda
