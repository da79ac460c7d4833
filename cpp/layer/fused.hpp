// A layer of few channels in one sweep over the features: a chunk of tiles goes through gates, step, projection and the
// Gram matrices of the layer after while it lies in the L2 cache.
//
// As the assignments of a sample add up to one, the step v + eta (E v - sum_j gamma_j pi_j C^j v) is sum_j pi_j B_j v
// with B_j = I + eta (E - gamma_j C^j): one product for every class that is not zero, and none for E.
#pragma once

#include "layer/extrapolate.hpp"
#include "layer/operators.hpp"
#include "layer/prune.hpp"

namespace redunet {

template <class T>
class FusedLayer {
 public:
  // Whether layers of this layout are made this way.
  static bool fits(const OperatorLayout& layout);

  // builder: whose Gram matrices are summed on the way, or null.
  FusedLayer(const Kernels<T>& kernels, Parallel& parallel, const OperatorLayout& layout, const double* alphas,
             const double* freq_weights, const Features<T>& features, const OperatorBuilder<T>* builder);

  // As WideLayer::move, for assignments that add up to one.
  void move(Features<T>& features, const LayerOperators<T>& ops, const Step<T>& step, const Taken& taken);
  // features <- normalise(z + beta (z - before)), before <- z.
  void extrapolate(Features<T>& features, Features<T>& before, double beta);
  // Of the features after the last move or extrapolation.
  const std::vector<GramSum<T>>& sums() const { return sums_; }
  // A copy of them, and back.
  void save_sums() { saved_sums_.assign(sums_data_.get(), sums_data_.get() + sums_size_); }
  void restore_sums() { std::copy(saved_sums_.begin(), saved_sums_.end(), sums_data_.get()); }
  // Numbers that one after the other were added up to one of them, and then with those of the other tasks.
  index_t longest_sum() const { return chunk_tiles_ + n_chunks_ / n_tasks_ + n_tasks_; }

 private:
  struct Chunk {
    index_t tile, n_tiles;
  };
  struct Scratch {
    Buffer<T> squares, pi, limits, scale;
    std::vector<char> live;
    std::vector<index_t> classes;
  };

  double work() const;
  template <class F>
  void each_chunk(const Features<T>& features, double work, const F& f);
  void merge(const LayerOperators<T>& ops, const Step<T>& step);
  void respond_nearest_first(T beyond, Chunk chunk, TileGates<T> q, Scratch& own);
  void gates(const Features<T>& features, const Step<T>& step, Chunk chunk, Scratch& own);
  void assign(const Features<T>& features, const Step<T>& step, Chunk chunk, Scratch& own);
  void finish(Features<T>& features, index_t task, Chunk chunk, Scratch& own);

  const Kernels<T>& kernels_;
  Parallel& parallel_;
  const OperatorLayout& layout_;
  const double* alphas_;
  std::vector<T> freq_weights_;
  index_t k_, chunk_tiles_, n_chunks_, n_tasks_;
  const T* responses_ = nullptr;         // C^j, (k, F, C, C): where they are kept, or in expanded_
  Buffer<T> expanded_, total_, merged_;  // C^j (k, F, C, C) and E (F, C, C) where they are kept as factors; B_j
  std::vector<index_t> nearest_;         // per chunk, the class that its first sample gated to
  std::vector<GramSum<T>> sums_;
  std::vector<index_t> first_sum_;  // per task, and one more
  index_t sums_size_ = 0;
  Buffer<T> sums_data_;
  std::vector<T> saved_sums_;
  std::vector<Scratch> scratch_;
};

}  // namespace redunet
