// One construction: operators and rates at the features, a step that the rule likes, layer after layer.

#include <algorithm>
#include <limits>

#include "engine/engine.hpp"
#include "engine/state.hpp"

namespace redunet {
namespace {

template <class T>
class Construction {
 public:
  Construction(const KernelSet& set, Parallel& parallel, const Problem& problem, const Sizes& sizes, T* V,
               const BuildRequest<T>& request)
      : problem_(problem),
        request_(request),
        V_(V),
        state_(set, parallel, problem, sizes, request.shortcuts),
        rule_(request.etas, request.search, problem.alphas[0], std::numeric_limits<T>::epsilon()),
        point_(problem.alphas.size()) {
    state_.read(V);
    if (request.given) membership_ = membership_in_lanes(problem, state_.features());
    step_ = {.eta = 0,
             .lam = request.lam,
             .gammas = problem.gammas.data(),
             .membership = request.given ? membership_.data() : nullptr,
             .shortcuts = request.shortcuts};
    if (!request.keep()) {
      spare_dense_ = Buffer<T>(2 * state_.layout().dense_size());
      spare_factors_ = Buffer<T>(2 * state_.layout().factors_size());
    }
  }

  // V receives the features.
  void run() {
    index_t layer = *request_.done;
    resume(layer);
    // As the layer before left them: rates beside operators, whose bound is closer, may be rounded otherwise.
    look(layer, layer == 0 || !request_.momentum, row(layer));
    for (; layer < request_.n_layers; ++layer) {
      if (!(request_.momentum ? take_layer_ahead(layer) : take_layer(layer))) break;
      request_.taken[layer] = rule_.eta();
      *request_.done = layer + 1;
    }
    if (layer == request_.n_layers && request_.on_layer) request_.on_layer(layer, row(layer));
    state_.write(V_);
  }

 private:
  double* row(index_t layer) const { return request_.rates + layer * (problem_.n_classes() + 1); }

  // A trial step overwrites the operators of the layer after: where they are not kept, there are two in turn.
  LayerOperators<T> operators_of(index_t layer) {
    const index_t dense = state_.layout().dense_size(), factors = state_.layout().factors_size();
    if (request_.keep())
      return {.dense = request_.dense + layer * dense, .factors = request_.factors + layer * factors};
    return {.dense = spare_dense_.get() + layer % 2 * dense, .factors = spare_factors_.get() + layer % 2 * factors};
  }

  // Rates at the features, which are the input of a layer, and its operators if there is one and they are wanted.
  void look(index_t layer, bool wanted, double* rates) {
    std::optional<LayerOperators<T>> out;
    if (wanted && layer < request_.n_layers) out = operators_of(layer);
    in_layer(layer, [&] { state_.look(out, rates); });
  }

  // The samples through the layers that are there.
  void resume(index_t n_layers) {
    rule_.resume(request_.taken, request_.betas, n_layers);
    momentum_.resume(request_.betas, n_layers);
    const bool ahead = request_.momentum ||
                       std::any_of(request_.betas, request_.betas + n_layers, [](double beta) { return beta != 0; });
    for (index_t layer = 0; layer < n_layers; ++layer) {
      if (ahead) state_.go_ahead(request_.betas[layer]);
      step_.eta = request_.taken[layer];
      regroup(layer);
      state_.move(operators_of(layer), step_, {});
    }
  }

  // Before a layer is gone through. Features that are kept for momentum stay where they are.
  void regroup(index_t layer) {
    if (layer > 0 && !request_.momentum && !request_.given) state_.regroup();
  }

  // Moves by the step that the rule takes; returns the rate reduction that it reaches. wanted: the next operators too.
  double take_step(index_t layer, const double* here, bool ahead, bool wanted) {
    rule_.begin(layer, problem_.reduction(here), here[0], ahead);
    regroup(layer);
    if (rule_.tries()) state_.save(V_);  // which isn't needed until the end
    const auto after = [&](bool operators) { look(layer + 1, operators, row(layer + 1)); };
    for (;;) {
      step_.eta = rule_.eta();
      state_.move(operators_of(layer), step_, {});
      after(wanted && !rule_.keeps());
      const auto verdict = rule_.judge(problem_.reduction(row(layer + 1)));
      if (verdict != StepRule::Verdict::kTryAgain) {
        if (verdict == StepRule::Verdict::kTakeKept) state_.recall();
        if (rule_.keeps() && (wanted || verdict == StepRule::Verdict::kTakeKept)) after(wanted);
        return problem_.reduction(row(layer + 1));
      }
      if (rule_.keep()) state_.keep();
      state_.restore(V_);
    }
  }

  // Whether there is such a layer.
  bool take_layer(index_t layer) {
    if (request_.on_layer && request_.on_layer(layer, row(layer)) && layer > 0) return false;
    request_.betas[layer] = 0;
    take_step(layer, row(layer), false, true);
    return true;
  }

  // The same with momentum: from beyond the features or, where that ends lower than the layer before, from where they
  // are. Rates of the layer are those at the point where it is built.
  bool take_layer_ahead(index_t layer) {
    const double reached = problem_.reduction(row(layer));
    double beta = momentum_.next();
    std::copy_n(row(layer), point_.size(), point_.data());
    state_.go_ahead(beta);
    if (beta > 0) look(layer, true, point_.data());
    if (const double after = take_step(layer, point_.data(), beta > 0, false); beta > 0 && !(after >= reached)) {
      momentum_.restart(), beta = 0;
      state_.step_back();
      look(layer, true, point_.data());
      take_step(layer, point_.data(), false, false);
    }
    if (request_.on_layer && request_.on_layer(layer, point_.data()) && layer > 0) {
      state_.step_back();
      return false;
    }
    std::copy_n(point_.data(), point_.size(), row(layer));
    request_.betas[layer] = beta;
    return true;
  }

  const Problem& problem_;
  const BuildRequest<T>& request_;
  T* V_;
  State<T> state_;
  StepRule rule_;
  Momentum momentum_;
  Buffer<T> spare_dense_, spare_factors_;
  std::vector<T> membership_;
  std::vector<double> point_;  // rates where a layer with momentum is built
  Step<T> step_{};
};

}  // namespace

template <class T>
void build(const KernelSet& set, Parallel& parallel, const Problem& problem, const Sizes& sizes, T* V,
           const BuildRequest<T>& request) {
  Construction<T>(set, parallel, problem, sizes, V, request).run();
}

template void build<float>(const KernelSet&, Parallel&, const Problem&, const Sizes&, float*,
                           const BuildRequest<float>&);
template void build<double>(const KernelSet&, Parallel&, const Problem&, const Sizes&, double*,
                            const BuildRequest<double>&);

}  // namespace redunet
