// One construction: Gram matrices -> operators and rates -> sweep over the samples, layer after layer.
//
// Two rooms: OperatorBuilder turns features into the operators of a layer (operators.cpp); Sweep (sweep.hpp), or with
// few channels OneSweep (one_sweep.hpp), maps features through a layer. `build` and `apply` (engine.cpp) are the loops.
#pragma once

#include <cmath>
#include <limits>
#include <memory>
#include <optional>

#include "layer/features.hpp"
#include "linalg/batch.hpp"

namespace redunet {

// Samples whose Gram matrix makes one operator: tiles [first, last), with a weight per lane of those tiles, or all ones
// in [plain_first, plain_last).
template <class T>
struct Members {
  index_t first, last, plain_first, plain_last;
  Buffer<T> weights;  // null: ones
};

// A part of the Gram matrices of one operator's samples: (F, gram_entries).
template <class T>
struct GramSum {
  index_t number;
  const Members<T>* members;
  T* G;
};

class InDouble;

template <class T>
class OperatorBuilder {
 public:
  OperatorBuilder(const KernelSet& kernels, Parallel& parallel, const Problem& problem, const Features<T>& features);
  ~OperatorBuilder();

  const OperatorLayout& layout() const { return layout_; }
  // Operators (not written when null) and the row of rates, (k + 1), at these features.
  void run(const Features<T>& features, const std::optional<LayerOperators<T>>& out, double* rates);
  // The same where the Gram matrices of these features were summed already, `longest` numbers one after the other.
  void run(const std::vector<GramSum<T>>& sums, index_t longest, const Features<T>& features,
           const std::optional<LayerOperators<T>>& out, double* rates);
  // Operators and log dets alone, whether or not a matrix is positive definite.
  void run(const Features<T>& features, const std::optional<LayerOperators<T>>& out);
  double logdet(index_t number, index_t p) const { return logdets_[number * layout_.sizes.F + p]; }
  const std::vector<index_t>& summed_numbers() const { return summed_numbers_; }
  const Members<T>& members(index_t number) const { return at(members_, number); }

 private:
  struct Scratch {
    Buffer<T> lanes, pivots, rows, diagonal;
    std::unique_ptr<BlockedMatrix<T>> matrix;
    std::vector<std::unique_ptr<BlockedMatrix<T>>> factored;  // by number
  };

  double gram_work() const;
  double invert_work() const;
  void gram(const Features<T>& features, index_t number, index_t p, index_t row_begin, index_t row_end);
  void invert(const std::optional<LayerOperators<T>>& out);
  void factor(const Features<T>& features, const std::optional<LayerOperators<T>>& out);
  void set_gram_errors(index_t longest);
  void set_logdet(index_t number, index_t p, double logdet, double sensitivity);
  void set_rates(const Features<T>& features, const std::optional<LayerOperators<T>>& out, double* rates);
  double sum_rates(double* rates) const;
  bool do_in_double(const Features<T>& features, const std::optional<LayerOperators<T>>& out, double allowed);
  void add_up_total(index_t group);
  void invert_group(index_t group, const std::optional<LayerOperators<T>>& out, Scratch& scratch);
  void invert_matrix(index_t q, const std::optional<LayerOperators<T>>& out, Scratch& scratch);
  void factor_group(const Features<T>& features, index_t number, index_t group,
                    const std::optional<LayerOperators<T>>& out, Scratch& scratch);
  void check(double logdet, index_t number, index_t p) const;
  T* gram_at(index_t q);
  double scale(index_t number) const { return at(problem_.alphas, number) * problem_.inner; }

  const KernelSet& set_;
  const Kernels<T>& kernels_;
  Parallel& parallel_;
  const Problem& problem_;
  OperatorLayout layout_;
  std::vector<Members<T>> members_;
  std::vector<index_t> dense_numbers_, factored_numbers_;
  std::vector<index_t> summed_numbers_;  // dense operators whose Gram matrix is not the sum of the others'
  bool total_is_sum_;                    // the total Gram is the sum of the class Grams
  bool lanes_;                           // dense problems side by side in lanes, or one by one
  index_t slot_stride_;                  // matrices from one dense operator to the next
  Buffer<T> grams_;
  Buffer<double> logdets_;  // (k + 1, F)
  // Single precision only (rates.cpp): the rounding errors of Gram matrices, in units, and of log dets, squared, (k +
  // 1, F), zero where it was computed in double; and what computes in double, by number.
  std::vector<double> gram_errors_;
  Buffer<double> errors_;
  std::vector<std::unique_ptr<InDouble>> in_double_;
  std::vector<Scratch> scratch_;
};

// How the training samples are moved: by their estimated assignment, or by the given membership.
template <class T>
struct Step {
  double eta, lam;
  const double* gammas;
  const T* membership = nullptr;  // (k, lanes of all tiles), or null: estimate
  Shortcuts shortcuts = {};
};

// How much further than the best class a class must be for its assignment to be zero to rounding: ln(1/u) / lambda.
template <class T>
T gate_margin(double lam) {
  constexpr double kLogUnit = sizeof(T) == 4 ? 15.942385152878742 : 36.04365338911715;  // ln(2^23), ln(2^52)
  return lam > 0 ? static_cast<T>(kLogUnit / lam) : std::numeric_limits<T>::infinity();
}

// A class whose rho^2 exceeds this is left: its assignment is zero. The softmax decides the same when it sees the whole
// sum, a little earlier, so that it doesn't matter whether a class was left.
template <class T>
T gate_limit(T least_square, T margin) {
  const T limit = std::sqrt(least_square) + margin;
  return limit * limit * (1 + 64 * std::numeric_limits<T>::epsilon());
}

// Builds layers; V (m, C, F) is overwritten by the features. Returns the number of layers.
template <class T>
index_t build(const KernelSet& kernels, Parallel& parallel, const Problem& problem, const Sizes& sizes, T* V,
              const BuildRequest<T>& request);

// Maps V through layers.
template <class T>
void apply(const KernelSet& kernels, Parallel& parallel, const OperatorLayout& layout, T* V,
           const ApplyRequest<T>& request);

// Operators of one layer (null: none) and the row of rates at V.
template <class T>
void layer_operators(const KernelSet& kernels, Parallel& parallel, const Problem& problem, const Sizes& sizes,
                     const T* V, const std::optional<LayerOperators<T>>& out, double* rates);

// gradient (m, C, F) of the rate reduction at V.
template <class T>
void rate_gradient(const KernelSet& kernels, Parallel& parallel, const Problem& problem, const Sizes& sizes, const T* V,
                   T* gradient);

}  // namespace redunet
