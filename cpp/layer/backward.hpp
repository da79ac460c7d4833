// The adjoint of a layer: from gradients to the features after it to those of all that it is made from.
//
// With P_j = C^j v, z = u / ||u|| the features after the layer and w the weights of columns:
//   g = (dz - w z <z, dz>) / ||u||;  s_j = -pi_j (gamma_j <g, P_j> - sum_l gamma_l pi_l <g, P_l>), the gradient to the
//   score -lam rho_j;  g_j = a_j g + b_j w P_j, a_j = -gamma_j pi_j, b_j = -lam s_j / rho_j, all without eta
//   dv = g + eta (E* g + sum_j C^j* g_j);  dE = eta sum g v*, dC^j = eta sum g_j v*
// Only samples that are gated softly have b_j other than zero, and need P_j. What is left, a frequency has for itself.
#pragma once

#include "layer/features.hpp"

namespace redunet {

// Of one layer with dense operators, of no symmetry, and the features before it.
template <class T>
class Backward {
 public:
  Backward(const Kernels<T>& kernels, Parallel& parallel, const OperatorLayout& layout, const double* freq_weights,
           const Features<T>& v, const LayerRequest<T>& layer, const PullbackRequest<T>& request);
  void run();

 private:
  // Neighbouring tiles, where operator `number` has samples; soft: some with b other than zero.
  struct Run {
    index_t number, first, last;
    bool soft;
  };
  struct Scratch {
    Buffer<T> v, g, back;           // slab_tiles_ panels of a column: features, g, and dv
    Buffer<T> responses, weighted;  // kTilesTogether panels; as many lanes
    std::vector<char> started;      // of an operator: whether its gradient has a part already
  };
  // What a call of `at_frequency` makes: gradients to operators, to features.
  struct Parts {
    bool operators, features;
  };

  void project();
  void gates();
  void add_dots(index_t j, index_t tile, index_t n_tiles, std::vector<double>& dots) const;
  void set_runs();
  void at_frequency(index_t p, index_t first_number, index_t last_number, index_t first_tile, index_t last_tile,
                    Parts parts, Scratch& own);
  void add(const Run& run, index_t p, index_t column, index_t slab, Parts parts, Scratch& own);
  T* operator_gradient(index_t number, index_t p) const;
  void finish_operators();
  double work() const;

  const Kernels<T>& kernels_;
  Parallel& parallel_;
  const OperatorLayout& layout_;
  const Features<T>& v_;
  const LayerRequest<T>& layer_;
  const PullbackRequest<T>& request_;
  index_t k_, lanes_, slab_tiles_ = 0;
  std::vector<T> freq_weights_;  // of columns
  Features<T> g_, moved_;        // g; z, and then dv
  std::vector<T> pi_, scale_;    // (k, lanes), (lanes)
  // (k + 1, lanes): a and eta a of every operator, those of E 1 and eta; (k, lanes): b. (lanes): ones, eta
  Buffer<T> a_, eta_a_, b_, ones_, etas_;
  std::vector<Run> runs_;  // by number
  std::vector<Scratch> scratch_;
};

}  // namespace redunet
