// The features of some samples on the device, and what a layer does with them: the verbs that the loops of build.cu and
// apply.cu are made of.
#pragma once

#include <optional>

#include "layer/sweep.hpp"

namespace redunet::cuda {

// Features that a State has room for beside its own; all of it is taken at first, before the responses take what is
// left.
struct Copies {
  bool saved = false, kept = false, remembered = false;
};

template <class N>
class State {
 public:
  // Of samples that a network is built from, with room for so many rows of rates. fused: few channels by their own
  // kernels.
  State(const Problem& problem, const Sizes& sizes, index_t n_rows, bool fused, const Copies& copies);
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
  // Whether layers are few launches; they find their number in a `progress` where they are given one.
  bool fused() const { return fused_; }

  // Operators (unless null) and a row of rates at these features.
  void look(const Operators<N>& out, index_t row, const Progress* progress = nullptr);
  // The features through a layer. pi[k][m], unless null, receives the assignments.
  void move(const Operators<N>& ops, const Step<N>& step, Real<N>* pi, const Progress* progress = nullptr);

  // The features to come back to.
  void save() { features_.copy_to(saved_); }
  void restore() { features_.copy_from(saved_); }
  // The best that were reached from there.
  void keep() { features_.copy_to(kept_); }
  void recall() { features_.swap(kept_); }

  // v <- by v, one number of the device for every sample.
  void scale(const Real<N>* by);

  // To where a layer with this momentum is built: normalise(z + beta (z - remembered)), while z is remembered; the
  // first time there is nothing to go away from. And back to what is remembered.
  void go_ahead(double beta) {
    if (beta == 0 || !remembers_) features_.copy_to(remembered_), remembers_ = true;
    if (beta != 0) sweep_.extrapolate(features_, remembered_.get(), beta);
  }
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
