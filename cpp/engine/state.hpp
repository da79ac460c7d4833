// The features of some samples in panels, and what a layer does with them: the verbs that the loops of build.cpp and
// apply.cpp are made of.
#pragma once

#include <optional>

#include "layer/fused.hpp"
#include "layer/wide.hpp"

namespace redunet {

template <class T>
class State {
 public:
  // Of samples that a network is built from.
  State(const KernelSet& kernels, Parallel& parallel, const Problem& problem, const Sizes& sizes, Shortcuts shortcuts);
  // Of samples that layers of this layout are applied to. nearest: (m), or empty: the classes that they will probably
  // gate to.
  State(const KernelSet& kernels, Parallel& parallel, const OperatorLayout& layout, const double* alphas,
        const double* freq_weights, std::vector<std::int64_t> nearest, Shortcuts shortcuts);

  const OperatorLayout& layout() const { return layout_; }
  Features<T>& features() { return features_; }
  void read(const T* V) { features_.read(V, parallel_), summed_ = false; }
  void write(T* V) const { features_.write(V, parallel_); }

  // Operators (unless null) and the row of rates at these features.
  void look(const std::optional<LayerOperators<T>>& out, double* rates);
  // The features through a layer.
  void move(const LayerOperators<T>& ops, const Step<T>& step, const Taken& taken);
  // Samples that gated to the same class side by side, where that pays.
  void regroup();

  // The features to come back to: copied to `room`, which has as many numbers as V, and back.
  void save(T* room);
  void restore(T* room);
  // The best that were reached from there.
  void keep();
  void recall();

  // To where a layer with this momentum is built: normalise(z + beta (z - remembered)), while z is remembered; the
  // first time there is nothing to go away from. And back to what is remembered.
  void go_ahead(double beta);
  void step_back();

  // The verbs of python/redunet/_backends/contract.py; doubles are those of the samples in their order. `before` is
  // overwritten by the features as they were.
  void copy(const State& other);
  void grams(double* out);
  void response_norms(const LayerOperators<T>& ops, double* squares);
  void step(const LayerRequest<T>& layer, double* squares);
  void scale(const double* by);
  void advance(const LayerRequest<T>& layer, const Taken& taken);
  void extrapolate(State& before, double beta) { extrapolate(before.features_, beta); }
  void pullback(const LayerRequest<T>& layer, const PullbackRequest<T>& request);

 private:
  WideLayer<T>& wide();
  void remember();
  void extrapolate(Features<T>& before, double beta);
  Features<T>& room_for(std::optional<Features<T>>& copy);

  const KernelSet& set_;
  const Kernels<T>& kernels_;
  Parallel& parallel_;
  const Problem* problem_;              // null where operators are applied
  std::vector<std::int64_t> expected_;  // there: the classes that samples will probably gate to, or none
  const double *alphas_, *freq_weights_;
  Shortcuts shortcuts_;
  Features<T> features_;
  std::optional<OperatorBuilder<T>> builder_;
  OperatorLayout layout_;
  std::optional<FusedLayer<T>> fused_;
  std::optional<WideLayer<T>> wide_;  // made when it is used: a layer of few channels needs it for single verbs alone
  std::optional<Features<T>> kept_, remembered_;
  std::vector<index_t> nearest_, remembered_nearest_;  // of the features saved, and of those remembered
  Buffer<T> last_tile_;
  bool summed_ = false, kept_summed_ = false;  // whether the fused sweep has these features' Gram matrices
};

}  // namespace redunet
