// The features of some samples on the device, and what a layer does with them: the verbs that the loops of build.cu and
// apply.cu are made of.
#pragma once

#include <optional>

#include "layer/sweep.hpp"

namespace redunet::cuda {

// Features that a State has room for beside its own; all of it is taken at first, before the responses take what is
// left. And the layers whose operators are held beside it, at least.
struct Copies {
  bool saved = false, kept = false, remembered = false;
  index_t operators = 2;
};

template <class N>
class State {
 public:
  // Of samples that a network is built from. fused: few channels by their own kernels.
  State(const Problem& problem, const Sizes& sizes, bool fused, const Copies& copies);
  // Of samples that layers of this layout are applied to.
  State(const OperatorLayout& layout, const double* alphas, const double* freq_weights, bool fused,
        const Copies& copies);
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  const OperatorLayout& layout() const { return layout_; }
  const OperatorBuilder<N>& builder() const { return *builder_; }
  Sweep<N>& sweep() { return sweep_; }
  Spectrum<N>& features() { return features_; }
  const Spectrum<N>& features() const { return features_; }
  // Whether layers are few launches; with progress they find their slot of the operators themselves.
  bool fused() const { return fused_; }

  // Operators (unless null) and rates at these features.
  void look(const Operators<N>& out, const When& when = {});
  // The features through a layer. pi[k][m], unless null, receives the assignments.
  void move(const Operators<N>& ops, const Step<N>& step, Real<N>* pi, const When& when = {});

  // To where a turn begins, among the copies of features that steps come back to.
  void carry(const When& when);
  // To the best that were reached.
  void recall() { features_.swap(kept_); }

  // v <- by v, one number of the device for every sample.
  void scale(const Real<N>* by);

  // To where a layer with this momentum is built: normalise(z + beta (z - remembered)), while z is remembered; the
  // first time there is nothing to go away from. And back to what is remembered.
  void go_ahead(double beta) {
    if (beta == 0 || !remembers_) features_.copy_to(remembered_), remembers_ = true;
    if (beta != 0) sweep_.extrapolate(features_, remembered_.get(), beta);
  }
  // The same from what is remembered, by the momentum of a turn.
  void extrapolate(Progress* progress) { sweep_.extrapolate(features_, remembered_.get(), 0, {progress, kBuild}); }
  void step_back() { features_.copy_from(remembered_); }

 private:
  void make_room(const Copies& copies);

  OperatorLayout layout_;
  Spectrum<N> features_;
  std::optional<OperatorBuilder<N>> builder_;
  Sweep<N> sweep_;
  bool fused_;
  DeviceArray<N> saved_, kept_, remembered_;
  bool remembers_ = false;
};

}  // namespace redunet::cuda
