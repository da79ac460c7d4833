// Plain views of what Python hands over: the constants of a construction and the operators of its layers
// (python/redunet/_backends/contract.py says what they mean). Nothing here owns memory.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "shared/index.hpp"
#include "shared/step_rule.hpp"

namespace redunet {

// How far the rate reduction of features in single precision may be from that of the same features in double: this part
// of it, or, where that is more, of the rate.
constexpr double kReductionError = 1e-4;
constexpr double kRateError = 1e-6;

struct Problem {
  const std::int64_t* labels = nullptr;  // (m), or null
  const double* membership = nullptr;    // (m, k), or null
  const double* weights = nullptr;       // (m), or null
  const double* freq_weights;            // (F)
  double n_points, inner;
  std::vector<double> alphas;          // (k + 1)
  std::vector<double> gammas;          // (k)
  std::vector<index_t> counts, ranks;  // (k + 1)
  index_t d = 1;                       // columns of a sample at each frequency

  index_t n_classes() const { return static_cast<index_t>(gammas.size()); }

  // Whether a sample is one of those whose Gram matrix makes operator `number`.
  bool takes_part(index_t sample, index_t number) const {
    if (number == 0) return true;
    return labels != nullptr ? labels[sample] == number - 1 : membership[sample * n_classes() + number - 1] > 0;
  }

  // Whether the classes of each of m samples add up to one: then so do Gram matrices, to that of all samples.
  bool covers(index_t m) const {
    constexpr double kRounding = 1e-12;
    for (index_t i = 0; labels == nullptr && i < m; ++i) {
      double sum = 0;
      for (index_t j = 0; j < n_classes(); ++j) sum += membership[i * n_classes() + j];
      if (!(std::abs(sum - 1) < kRounding)) return false;
    }
    return true;
  }

  double reduction(const double* rates) const { return reduction_of(rates, gammas.data(), n_classes()); }
};

// Ways to do less that leave the result the same to rounding. Tests turn them off.
struct Shortcuts {
  bool fused = true;       // layers of few channels in one sweep, with merged operators
  bool early_stop = true;  // a class that a sample cannot gate to is left
  bool sketches = true;    // and mostly after a sketch
};

// Sizes of a spectrum V (m, C, F); planes = 2 when it is complex. With d columns a sample at each frequency features
// count every column as a frequency of its own: column c of frequency p is p d + c, and its operators are those of p.
struct Sizes {
  index_t m, C, F, planes;
};

// The operators of one layer: number 0 is E, number j is C^j of class j - 1.
template <class T>
struct LayerOperators {
  T* dense;    // (n_dense, F, C, C), interleaved real and imaginary
  T* factors;  // (F, C, R), R = sum of ranks
  // (m, C, F), or null: in place of the factors C^j v of the samples of each, which need labels and a dense E.
  T* responses = nullptr;
};

// Where operators lie in those arrays; the same for every layer.
struct OperatorLayout {
  Sizes sizes;                  // F: frequencies
  index_t d;                    // columns of a sample at each
  std::vector<index_t> ranks;   // 0: dense
  std::vector<index_t> column;  // first column of the factor
  std::vector<index_t> slot;    // index among the dense ones
  index_t n_dense = 0, n_columns = 0;

  // features: their sizes, F d columns.
  OperatorLayout(const Sizes& features, const std::vector<index_t>& ranks_, index_t d_ = 1)
      : sizes{features.m, features.C, features.F / d_, features.planes}, d(d_), ranks(ranks_) {
    for (const index_t rank : ranks) {
      column.push_back(n_columns);
      slot.push_back(n_dense);
      n_columns += rank;
      n_dense += rank == 0;
    }
  }

  Sizes features() const { return {sizes.m, sizes.C, sizes.F * d, sizes.planes}; }
  index_t dense_size() const { return n_dense * sizes.F * sizes.C * sizes.C * sizes.planes; }
  index_t factors_size() const { return sizes.F * sizes.C * n_columns * sizes.planes; }

  template <class T>
  T* dense(const LayerOperators<T>& ops, index_t number, index_t p) const {
    return ops.dense + (at(slot, number) * sizes.F + p) * sizes.C * sizes.C * sizes.planes;
  }
  template <class T>
  T* factor(const LayerOperators<T>& ops, index_t number, index_t p) const {
    return ops.factors + (p * sizes.C * n_columns + at(column, number)) * sizes.planes;
  }

  // out (F, C, C) <- the operator: a copy, or alpha (I - Q Q*).
  template <class T>
  void expand(const LayerOperators<T>& ops, index_t number, double alpha, T* out) const {
    const auto [m, C, F, P] = sizes;
    const index_t rank = at(ranks, number), stride = n_columns * P;
    if (rank == 0) {
      std::copy_n(dense(ops, number, 0), F * C * C * P, out);
      return;
    }
    const auto a = static_cast<T>(alpha);
    for (index_t p = 0; p < F; ++p) {
      const T* Q = factor(ops, number, p);
      for (index_t i = 0; i < C; ++i)
        for (index_t j = 0; j < C; ++j, out += P) {
          T re = i == j ? T(1) : T(0), im = 0;
          for (index_t r = 0; r < rank; ++r) {
            const T *x = Q + i * stride + r * P, *y = Q + j * stride + r * P;
            re -= x[0] * y[0];
            if (P == 2) re -= x[1] * y[1], im -= x[1] * y[0] - x[0] * y[1];
          }
          out[0] = a * re;
          if (P == 2) out[1] = a * im;
        }
    }
  }
};

// What `build` is asked for, and its result.
template <class T>
struct BuildRequest {
  index_t n_layers;
  const double* etas;  // (n_layers), or null: the natural step, or one that is searched for
  double lam;
  bool search = false, momentum = false;
  bool given = false;
  T *dense = nullptr, *factors = nullptr;  // of n_layers layers; not kept where both are null
  double* rates;                           // (n_layers + 1, k + 1)
  double *taken, *betas;                   // (n_layers): steps taken, and momentum before layers
  std::int64_t* done;                      // layers that are there, at first and at any time
  std::function<bool(index_t, const double*)> on_layer = {};
  index_t every = 0;  // the host has what is there when on_layer is called, at multiples of it
  Shortcuts shortcuts = {};

  bool keep() const { return dense != nullptr || factors != nullptr; }
};

// What `apply` is asked for: the operators of layers, as BuildRequest left them.
template <class T>
struct ApplyRequest {
  index_t n_layers;
  const T *dense, *factors;
  const double *alphas, *gammas;  // (k + 1), (k)
  const double *etas, *betas;     // (n_layers)
  double lam;
  const double* freq_weights;  // (F)
  double* assignments;         // (m, k), of the last layer
  Shortcuts shortcuts = {};

  bool momentum() const {
    return std::any_of(betas, betas + n_layers, [](double beta) { return beta != 0; });
  }
};

// What a verb of a State is given of a layer.
template <class T>
struct LayerRequest {
  LayerOperators<T> ops;  // not written to
  const double* gammas;   // (k)
  double eta, lam;
  const double* pi;  // (m, k), or null: estimate
};

// What a layer did, of samples in their order. (m, k), (m, k), (m); null: not asked for, and of squares: pi was given.
struct Taken {
  double *pi = nullptr, *squares = nullptr, *scale = nullptr;
};

// What State.pullback is given beside a layer and the features before it, and the gradients that it writes.
template <class T>
struct PullbackRequest {
  Taken taken;                // not written to
  const T *after, *upstream;  // (m, C, F)
  T *features, *E, *Cs;       // (m, C, F), (F, C, C), (k, F, C, C)
  double *to_eta, *to_lam;
};

// The batches of redunet.linalg.
enum class Task { kCholesky, kInverse, kSolve, kLogdet };

inline index_t divide_up(index_t a, index_t b) { return (a + b - 1) / b; }

// A matrix that is not positive definite; what() says which.
struct NotPositiveDefinite : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Runs f and puts the layer before the message of its error; without one if it is negative.
template <class F>
void in_layer(index_t layer, const F& f) {
  try {
    f();
  } catch (const NotPositiveDefinite& error) {
    if (layer < 0) throw;
    throw NotPositiveDefinite("layer " + std::to_string(layer) + ", " + error.what());
  }
}

}  // namespace redunet
