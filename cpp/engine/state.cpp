#include "engine/state.hpp"

#include <algorithm>
#include <cmath>

#include "layer/backward.hpp"
#include "layer/grams.hpp"

namespace redunet {

template <class T>
State<T>::State(const KernelSet& kernels, Parallel& parallel, const Problem& problem, const Sizes& sizes,
                Shortcuts shortcuts)
    : set_(kernels),
      kernels_(kernels_of<T>(kernels)),
      parallel_(parallel),
      problem_(&problem),
      alphas_(problem.alphas.data()),
      freq_weights_(problem.freq_weights),
      shortcuts_(shortcuts),
      features_(sizes, class_order(problem.labels, sizes.m)),
      builder_(std::in_place, kernels, parallel, problem, features_),
      layout_(builder_->layout()) {
  if (shortcuts.fused && FusedLayer<T>::fits(layout_))
    fused_.emplace(kernels_, parallel, layout_, alphas_, freq_weights_, features_, &*builder_);
}

template <class T>
State<T>::State(const KernelSet& kernels, Parallel& parallel, const OperatorLayout& layout, const double* alphas,
                const double* freq_weights, std::vector<std::int64_t> nearest, Shortcuts shortcuts)
    : set_(kernels),
      kernels_(kernels_of<T>(kernels)),
      parallel_(parallel),
      problem_(nullptr),
      expected_(std::move(nearest)),
      alphas_(alphas),
      freq_weights_(freq_weights),
      shortcuts_(shortcuts),
      features_(layout.features(), class_order(expected_.empty() ? nullptr : expected_.data(), layout.sizes.m)),
      layout_(layout) {
  if (shortcuts.fused && FusedLayer<T>::fits(layout_))
    fused_.emplace(kernels_, parallel, layout_, alphas, freq_weights, features_, nullptr);
}

template <class T>
WideLayer<T>& State<T>::wide() {
  const std::int64_t* expected = expected_.empty() ? nullptr : expected_.data();
  if (!wide_)
    wide_.emplace(kernels_, parallel_, layout_, alphas_, freq_weights_, features_,
                  problem_ == nullptr ? expected : problem_->labels);
  return *wide_;
}

template <class T>
void State<T>::look(const std::optional<LayerOperators<T>>& out, double* rates) {
  if (summed_)
    builder_->run(fused_->sums(), fused_->longest_sum(), features_, out, rates);
  else
    builder_->run(features_, out, rates);
}

template <class T>
void State<T>::move(const LayerOperators<T>& ops, const Step<T>& step, const Taken& taken) {
  fused_ ? fused_->move(features_, ops, step, taken) : wide().move(features_, ops, step, taken);
  summed_ = fused_ && builder_;
}

template <class T>
void State<T>::regroup() {
  if (fused_ || layout_.ranks.size() <= 3 || features_.n_tiles() <= 1) return;
  // Who is in which Gram matrix goes by position.
  if (problem_ != nullptr && (problem_->labels == nullptr || problem_->weights != nullptr)) return;
  wide().regroup(features_, problem_ == nullptr ? nullptr : problem_->labels);
}

template <class T>
void State<T>::save(T* room) {
  if (last_tile_.get() == nullptr) last_tile_ = Buffer<T>(features_.tile_stride());
  features_.save(room, last_tile_.get(), parallel_);
  if (!fused_) nearest_ = wide().nearest();
}

template <class T>
void State<T>::restore(T* room) {
  features_.restore(room, last_tile_.get(), parallel_);
  if (!fused_) wide().set_nearest(nearest_);
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
  if (!fused_) remembered_nearest_ = wide().nearest();
}

template <class T>
void State<T>::go_ahead(double beta) {
  if (beta == 0 || !remembered_) remember();
  if (beta == 0) return;
  if (!fused_) remembered_nearest_ = wide().nearest();
  extrapolate(*remembered_, beta);
}

template <class T>
void State<T>::extrapolate(Features<T>& before, double beta) {
  fused_ ? fused_->extrapolate(features_, before, beta) : wide().extrapolate(features_, before, beta);
  summed_ = fused_ && builder_;
}

template <class T>
void State<T>::step_back() {
  features_.copy_numbers(*remembered_, parallel_);
  if (!fused_) wide().set_nearest(remembered_nearest_);
  summed_ = false;
}

template <class T>
void State<T>::copy(const State& other) {
  features_.copy_numbers(other.features_, parallel_);
  if (other.wide_) wide().set_nearest(other.wide_->nearest());
  summed_ = false;
}

template <class T>
void State<T>::grams(double* out) {
  grams_in_double(kernels_of<double>(set_), parallel_, *problem_, features_, out);
}

template <class T>
void State<T>::response_norms(const LayerOperators<T>& ops, double* squares) {
  wide().response_norms(features_, ops, squares);
}

template <class T>
void State<T>::step(const LayerRequest<T>& layer, double* squares) {
  const auto k = static_cast<index_t>(layout_.ranks.size()) - 1;
  const std::vector<T> pi = lanes_of(layer.pi, k, features_);
  wide().step(features_, layer.ops,
              {.eta = layer.eta, .lam = layer.lam, .gammas = layer.gammas, .membership = pi.data()}, squares);
  summed_ = false;
}

template <class T>
void State<T>::scale(const double* by) {
  const auto [m, C, F, P] = features_.sizes();
  const std::vector<T> numbers = lanes_of(by, 1, features_);
  parallel_.run(features_.n_tiles(), double(m * C * F * P), [&, C = C, F = F, P = P](index_t tile, int) {
    alignas(kCacheLine) T mine[kPanel<T>];
    std::copy_n(numbers.data() + tile * kPanel<T>, kPanel<T>, mine);
    T* v = features_.panel(tile, 0);
    kernels_.scale(v, features_.tile_stride(), v, features_.tile_stride(), 1, F * C * P, mine);
  });
  summed_ = false;
}

template <class T>
void State<T>::advance(const LayerRequest<T>& layer, const Taken& taken) {
  if (layer.pi == nullptr) {
    move(layer.ops, {.eta = layer.eta, .lam = layer.lam, .gammas = layer.gammas, .shortcuts = shortcuts_}, taken);
    return;
  }
  step(layer, taken.scale);
  for (index_t i = 0; i < layout_.sizes.m; ++i) taken.scale[i] = 1 / std::max(std::sqrt(taken.scale[i]), kSmallestNorm);
  scale(taken.scale);
  std::copy_n(layer.pi, layout_.sizes.m * (static_cast<index_t>(layout_.ranks.size()) - 1), taken.pi);
}

template <class T>
void State<T>::pullback(const LayerRequest<T>& layer, const PullbackRequest<T>& request) {
  Backward<T>(kernels_, parallel_, layout_, freq_weights_, features_, layer, request).run();
}

template class State<float>;
template class State<double>;

}  // namespace redunet
