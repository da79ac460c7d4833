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
  // Of samples that layers of this layout are applied to.
  State(const KernelSet& kernels, Parallel& parallel, const OperatorLayout& layout, const double* alphas,
        const double* freq_weights, Shortcuts shortcuts);

  const OperatorLayout& layout() const { return layout_; }
  Features<T>& features() { return features_; }
  void read(const T* V) { features_.read(V, parallel_), summed_ = false; }
  void write(T* V) const { features_.write(V, parallel_); }

  // Operators (unless null) and the row of rates at these features.
  void look(const std::optional<LayerOperators<T>>& out, double* rates);
  // The features through a layer. assignments: (m, k), or null.
  void move(const LayerOperators<T>& ops, const Step<T>& step, double* assignments);
  // Samples that gated to the same class side by side, where that pays.
  void regroup();

  // The features to come back to: copied to `room`, which has as many numbers as V, and back.
  void save(T* room);
  void restore(T* room);
  // The best that were reached from there.
  void keep();
  void recall();

  // With momentum: features that the next extrapolation goes away from; normalise(z + beta (z - remembered)), while z is
  // remembered; and back to what is remembered.
  void remember();
  void extrapolate(double beta);
  void step_back();

 private:
  void start(const double* alphas, const double* freq_weights, const std::int64_t* labels);
  Features<T>& room_for(std::optional<Features<T>>& copy);

  const Kernels<T>& kernels_;
  Parallel& parallel_;
  Shortcuts shortcuts_;
  Features<T> features_;
  std::optional<OperatorBuilder<T>> builder_;
  OperatorLayout layout_;
  std::optional<OneSweep<T>> fused_;
  std::optional<Sweep<T>> wide_;
  std::optional<Features<T>> kept_, remembered_;
  Buffer<T> last_tile_;
  bool summed_ = false, kept_summed_ = false;  // whether the fused sweep has these features' Gram matrices
};

}  // namespace redunet
