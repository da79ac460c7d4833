#include "engine/state.hpp"

namespace redunet {

template <class T>
State<T>::State(const KernelSet& kernels, Parallel& parallel, const Problem& problem, const Sizes& sizes,
                Shortcuts shortcuts)
    : kernels_(kernels_of<T>(kernels)),
      parallel_(parallel),
      shortcuts_(shortcuts),
      features_(sizes, class_order(problem, sizes.m)),
      builder_(std::in_place, kernels, parallel, problem, features_),
      layout_(builder_->layout()) {
  start(problem.alphas.data(), problem.freq_weights, problem.labels);
}

template <class T>
State<T>::State(const KernelSet& kernels, Parallel& parallel, const OperatorLayout& layout, const double* alphas,
                const double* freq_weights, Shortcuts shortcuts)
    : kernels_(kernels_of<T>(kernels)),
      parallel_(parallel),
      shortcuts_(shortcuts),
      features_(layout.sizes, {}),
      layout_(layout) {
  start(alphas, freq_weights, nullptr);
}

template <class T>
void State<T>::start(const double* alphas, const double* freq_weights, const std::int64_t* labels) {
  if (shortcuts_.one_sweep && OneSweep<T>::fits(layout_))
    fused_.emplace(kernels_, parallel_, layout_, alphas, freq_weights, features_, builder_ ? &*builder_ : nullptr);
  else
    wide_.emplace(kernels_, parallel_, layout_, alphas, freq_weights, features_, labels);
}

template <class T>
void State<T>::look(const std::optional<LayerOperators<T>>& out, double* rates) {
  if (summed_)
    builder_->run(fused_->sums(), fused_->longest_sum(), features_, out, rates);
  else
    builder_->run(features_, out, rates);
}

template <class T>
void State<T>::move(const LayerOperators<T>& ops, const Step<T>& step, double* assignments) {
  fused_ ? fused_->move(features_, ops, step, assignments) : wide_->move(features_, ops, step, assignments);
  summed_ = fused_ && builder_;
}

template <class T>
void State<T>::regroup() {
  if (wide_ && layout_.ranks.size() > 3 && features_.n_tiles() > 1) wide_->regroup(features_);
}

template <class T>
void State<T>::save(T* room) {
  if (last_tile_.get() == nullptr) last_tile_ = Buffer<T>(features_.tile_stride());
  features_.save(room, last_tile_.get(), parallel_);
}

template <class T>
void State<T>::restore(T* room) {
  features_.restore(room, last_tile_.get(), parallel_);
  summed_ = false;
}

template <class T>
Features<T>& State<T>::room_for(std::optional<Features<T>>& copy) {
  if (!copy) copy.emplace(features_.sizes(), std::vector<index_t>{});
  return *copy;
}

template <class T>
void State<T>::keep() {
  room_for(kept_).copy_numbers(features_, parallel_);
  kept_summed_ = summed_;
  if (summed_) fused_->save_sums();
}

template <class T>
void State<T>::recall() {
  features_.swap_numbers(*kept_);
  summed_ = kept_summed_;
  if (summed_) fused_->restore_sums();
}

template <class T>
void State<T>::remember() {
  room_for(remembered_).copy_numbers(features_, parallel_);
}

template <class T>
void State<T>::extrapolate(double beta) {
  fused_ ? fused_->extrapolate(features_, *remembered_, beta) : wide_->extrapolate(features_, *remembered_, beta);
  summed_ = fused_ && builder_;
}

template <class T>
void State<T>::step_back() {
  features_.copy_numbers(*remembered_, parallel_);
  summed_ = false;
}

template class State<float>;
template class State<double>;

}  // namespace redunet
