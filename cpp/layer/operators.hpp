// Turns features into the operators of a layer: Gram matrices (operators.cpp), small classes as factors (factored.cpp),
// log dets and rates (rates.cpp).
#pragma once

#include <memory>
#include <optional>

#include "layer/members.hpp"
#include "linalg/batch.hpp"

namespace redunet {

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
  // The same from Gram matrices of all numbers, (k + 1, F, C, C), interleaved, of whatever samples.
  void run(const T* grams, const Features<T>& none, const LayerOperators<T>& out, double* rates);
  // Operators and log dets alone, whether or not a matrix is positive definite.
  void run(const Features<T>& features, const std::optional<LayerOperators<T>>& out);
  double logdet(index_t number, index_t p) const { return logdets_[number * layout_.sizes.F + p]; }
  const std::vector<index_t>& summed_numbers() const { return summed_numbers_; }
  const Members<T>& members(index_t number) const { return at(members_, number); }

 private:
  struct Scratch {
    Buffer<T> lanes, pivots, rows, diagonal;
    std::unique_ptr<BlockedMatrix<T>> matrix;
    std::vector<std::unique_ptr<BlockedMatrix<T>>> factored;  // by rank
    std::vector<index_t> positions;                           // of the samples of the factor, and what they
    std::vector<T> by;                                        // were multiplied by: sqrt(a weight_i)
  };

  // The small matrices of one factored operator at n_freqs frequencies from `first` on; `rows` numbers each of samples
  // with channels in lanes, in n_panels panels.
  struct FactorGroup {
    FactorGroup(index_t number, index_t group, index_t rank, const Sizes& sizes);
    index_t number, rank, first, n_freqs, n_panels, panel, rows;
    bool interleaved;  // in lanes, or one after the other
  };

  // The tasks that make factors; `together` groups each.
  struct Factorings {
    explicit Factorings(const OperatorBuilder& builder);
    index_t n_tasks = 0, together = 1;
    double work = 0;
  };

  // Work on the same frequencies stays together, for the sake of the caches, where it leaves each thread so many tasks.
  static constexpr index_t kFewestTasks = 3;

  double gram_work() const;
  double invert_work() const;
  void gram(const Features<T>& features, index_t number, index_t p, index_t row_begin, index_t row_end);
  void invert_and_factor(bool add_up, const Features<T>& features, const std::optional<LayerOperators<T>>& out);
  void factor(index_t task, const Factorings& factorings, const Features<T>& features,
              const std::optional<LayerOperators<T>>& out, Scratch& scratch);
  void set_gram_errors(index_t longest);
  void set_logdet(index_t number, index_t p, double logdet, double sensitivity);
  void set_rates(const Features<T>& features, const std::optional<LayerOperators<T>>& out, double* rates);
  double sum_rates(double* rates) const;
  bool do_in_double(const Features<T>& features, const std::optional<LayerOperators<T>>& out, double allowed);
  void add_up_total(index_t group);
  void invert_group(index_t group, const std::optional<LayerOperators<T>>& out, Scratch& scratch);
  void invert_matrix(index_t q, const std::optional<LayerOperators<T>>& out, Scratch& scratch);
  void gather(const Features<T>& features, const FactorGroup& group, Scratch& scratch);
  void small_gram(const FactorGroup& group, index_t f, Scratch& scratch);
  void write_factor(const FactorGroup& group, index_t f, const LayerOperators<T>& out, Scratch& scratch);
  void write_responses(const Features<T>& features, const FactorGroup& group, index_t f, const LayerOperators<T>& out,
                       Scratch& scratch);
  void write(const Features<T>& features, const FactorGroup& group, index_t f, const LayerOperators<T>& out,
             Scratch& scratch);
  void factor_interleaved(const Features<T>& features, const FactorGroup& group,
                          const std::optional<LayerOperators<T>>& out, Scratch& scratch);
  void factor_singly(const Features<T>& features, const FactorGroup& group, const std::optional<LayerOperators<T>>& out,
                     Scratch& scratch);
  void check_logdets() const;
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
  bool interleaved_;                     // dense problems side by side in lanes, or one by one
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

}  // namespace redunet
