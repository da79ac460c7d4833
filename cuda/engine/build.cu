// One construction on the device: operators and rates at the features, a step that the rule likes, layer after layer.

#include <algorithm>
#include <limits>

#include "engine/engine.hpp"
#include "engine/graph.hpp"
#include "engine/kept_operators.hpp"
#include "engine/numbers.hpp"
#include "engine/state.hpp"
#include "kernels/progress.hpp"
#include "layer/samples.hpp"

namespace redunet::cuda {
namespace {

template <class N>
class Construction {
 public:
  Construction(const Problem& problem, const Sizes& sizes, N* V, const BuildRequest<Real<N>>& request, const Poll& poll)
      : problem_(problem),
        request_(request),
        poll_(poll),
        rule_(request.etas, request.search, problem.alphas[0], std::numeric_limits<Real<N>>::epsilon()),
        ahead_(request.momentum ||
               std::any_of(request.betas, request.betas + *request.done, [](double beta) { return beta != 0; })),
        state_(problem, sizes, request.n_layers + 1, request.shortcuts.fused,
               {.saved = rule_.tries(), .kept = rule_.keeps(), .remembered = ahead_}),
        kept_(state_.layout(), request.n_layers, request.keep()),
        gammas_(problem.gammas),
        etas_(known_steps()),
        k1_(problem.n_classes() + 1),
        points_(as_size(2 * k1_)),
        rows_(*request.done),
        rows_made_(rows_),
        handed_over_(rows_) {
    state_.features().read(V);
    if (request.given) membership_ = DeviceArray<Real<N>>(membership_of<Real<N>>(problem, state_.features().order()));
  }

  // V receives the features.
  void run(N* V) {
    try {
      resume(*request_.done);
      uninterrupted() ? run_graph() : run_layers();
      hand_over(*request_.done);
    } catch (...) {
      rescue();
      throw;
    }
    state_.features().write(V);
  }

 private:
  // What is known of the steps at first.
  std::vector<double> known_steps() const {
    const index_t done = *request_.done;
    std::vector<double> etas(as_size(std::max<index_t>(1, request_.n_layers)), 0.0);
    std::copy_n(request_.taken, done, etas.data());
    for (index_t layer = done; !rule_.tries() && layer < request_.n_layers; ++layer)
      etas[as_size(layer)] = rule_.given(layer);
    return etas;
  }

  N* dense() const { return as<N>(request_.dense); }
  N* factors() const { return as<N>(request_.factors); }
  double* row(index_t layer) const { return request_.rates + layer * k1_; }
  Step<N> step_of(index_t layer) const {
    return {.eta = etas_.get() + layer, .gammas = gammas_.get(), .lam = request_.lam, .given = membership_.get()};
  }

  // Rates at the features, which are the input of a layer, and its operators if there is one and they are wanted.
  void look(index_t layer, bool wanted) {
    state_.look(wanted && layer < request_.n_layers ? kept_.of(layer) : Operators<N>{}, layer);
    rows_made_ = std::max(rows_made_, layer + 1);
  }
  void move(index_t layer) { state_.move(kept_.of(layer), step_of(layer), nullptr); }

  // The row of rates of a layer; waits.
  void read(index_t layer) {
    state_.builder().rates(layer, layer + 1, row(layer), true);
    rows_ = std::max(rows_, layer + 1);
  }

  void wait_and_poll() const {
    Device::get().synchronise();
    poll_();
  }

  // The host receives what it lacks of the first n layers: operators, and rates up to row n. Waits.
  void hand_over(index_t n_layers) {
    if (request_.keep() && kept_.all() && handed_over_ < n_layers)
      kept_.download(handed_over_, n_layers, dense(), factors());
    const index_t begin = rows_, end = std::min(n_layers + 1, rows_made_);
    if (begin < end)
      state_.builder().rates(begin, end, row(begin), true);
    else
      Device::get().synchronise();
    rows_ = std::max(begin, end);
    handed_over_ = std::max(handed_over_, n_layers);
  }

  // However the build ends, the host has the layers that are done: where an operator is not positive definite, those
  // before; where the device fails, those that the host had. The error is the one that ended the build.
  void rescue() {
    std::int64_t& done = *request_.done;
    try {
      if (const index_t bad = state_.builder().bad_row(); bad >= 0)
        done = std::min<index_t>(done, std::max({handed_over_, rows_ - 1, bad - 1}));
      hand_over(done);
    } catch (const NotPositiveDefinite&) {  // known; what was asked for came nevertheless
    } catch (const CudaError&) {
      done = handed_over_;
    }
  }

  // The samples through the layers that are there.
  void resume(index_t n_layers) {
    rule_.resume(request_.taken, request_.betas, n_layers);
    momentum_.resume(request_.betas, n_layers);
    if (kept_.all()) kept_.upload(0, n_layers, dense(), factors());
    for (index_t layer = 0; layer < n_layers; ++layer) {
      if (!kept_.all()) kept_.upload(layer, layer + 1, dense(), factors());
      if (ahead_) state_.go_ahead(request_.betas[layer]);
      move(layer);
      if ((layer + 1) % kLayersBetweenPolls == 0) wait_and_poll();
    }
  }

  // Whether nothing returns to the host before the end, and every layer is the same launches.
  bool uninterrupted() const {
    return state_.fused() && !rule_.tries() && !request_.momentum && !request_.on_layer &&
           (kept_.all() || !request_.keep()) && *request_.done < request_.n_layers;
  }

  void run_graph() {
    const index_t first = *request_.done, n_layers = request_.n_layers, n_slots = kept_.n_slots();
    const cudaStream_t stream = Device::get().stream();
    const DeviceArray<Progress> progress(1);
    launch(set_progress_kernel, dim3(1), dim3(1), 0, stream, progress.get(), static_cast<int>(first - 1),
           static_cast<int>(kept_.slot(first + n_slots - 1)));
    REDUNET_CHECK(cudaGetLastError());
    const Graph graph([&] {
      launch(advance_kernel, dim3(1), dim3(1), 0, stream, progress.get(), static_cast<int>(n_slots));
      REDUNET_CHECK(cudaGetLastError());
      state_.look(kept_.of(0), 0, progress.get());
      state_.move(kept_.of(0), step_of(0), nullptr, progress.get());
    });
    for (index_t layer = first; layer < n_layers; ++layer) request_.taken[layer] = rule_.given(layer);
    std::fill(request_.betas + first, request_.betas + n_layers, 0.0);
    for (index_t layer = first; layer < n_layers; ++layer) {
      graph.run();
      *request_.done = layer;  // the rates after it come with the next
      rows_made_ = layer + 1;
      if ((layer + 1) % kLayersBetweenPolls == 0) wait_and_poll();
    }
    look(n_layers, false);
    *request_.done = n_layers;
  }

  void run_layers() {
    const bool returns = rule_.tries() || request_.momentum || request_.on_layer;
    index_t layer = *request_.done;
    look(layer, true);
    if (returns) read(layer);
    for (; layer < request_.n_layers; ++layer) {
      if (returns || layer % kLayersBetweenPolls == 0) wait_and_poll();
      if (!(request_.momentum ? take_layer_ahead(layer) : take_layer(layer))) return;
      request_.taken[layer] = rule_.eta();
      if (request_.keep() && !kept_.all()) kept_.download(layer, layer + 1, dense(), factors());
      *request_.done = layer + 1;
    }
    ends(layer, row(layer));
  }

  // Whether whoever watches lets the network end with this many layers.
  bool ends(index_t layer, const double* rates) {
    if (!request_.on_layer) return false;
    if (request_.every > 0 && layer % request_.every == 0) hand_over(layer);
    return request_.on_layer(layer, rates) && layer > 0;
  }

  // Moves by the step that the rule takes. wanted: the next operators too.
  void take_step(index_t layer, const double* here, bool ahead, bool wanted) {
    rule_.begin(layer, problem_.reduction(here), here[0], ahead);
    if (!rule_.tries()) {
      move(layer);
      look(layer + 1, wanted);
      return;
    }
    state_.save();
    for (;;) {
      launch(set_number_kernel, dim3(1), dim3(1), 0, Device::get().stream(), etas_.get() + layer, rule_.eta());
      REDUNET_CHECK(cudaGetLastError());
      move(layer);
      look(layer + 1, wanted && !rule_.keeps());
      read(layer + 1);
      const auto verdict = rule_.judge(problem_.reduction(row(layer + 1)));
      if (verdict != StepRule::Verdict::kTryAgain) {
        if (verdict == StepRule::Verdict::kTakeKept) state_.recall();
        if (rule_.keeps() && (wanted || verdict == StepRule::Verdict::kTakeKept)) look(layer + 1, wanted);
        if (verdict == StepRule::Verdict::kTakeKept) read(layer + 1);
        return;
      }
      if (rule_.keep()) state_.keep();
      state_.restore();
      poll_();
    }
  }

  // Whether there is such a layer.
  bool take_layer(index_t layer) {
    if (ends(layer, row(layer))) return false;
    request_.betas[layer] = 0;
    take_step(layer, row(layer), false, true);
    if (request_.on_layer && !rule_.tries()) read(layer + 1);
    return true;
  }

  // The same with momentum: from beyond the features or, where that ends lower than the layer before, from where they
  // are. Rates of the layer are those at the point where it is built.
  bool take_layer_ahead(index_t layer) {
    const double reached = problem_.reduction(row(layer));
    double beta = momentum_.next();
    state_.go_ahead(beta);
    if (const double after = take_step_from_point(layer, beta > 0); beta > 0 && !(after >= reached)) {
      momentum_.restart(), beta = 0;
      state_.step_back();
      look(layer, true);
      take_step_from_point(layer, false);
    }
    if (ends(layer, points_.data())) {
      state_.step_back();
      return false;
    }
    std::copy_n(points_.data(), k1_, row(layer));
    request_.betas[layer] = beta;
    return true;
  }

  // The step, and the rates at the point where it begins; returns the rate reduction that it reaches. A step that is
  // given needs no rates: those of both rows are read together.
  double take_step_from_point(index_t layer, bool ahead) {
    if (ahead) look(layer, true);
    if (ahead && rule_.tries())
      state_.builder().rates(layer, layer + 1, points_.data(), true);
    else
      std::copy_n(row(layer), k1_, points_.data());
    take_step(layer, points_.data(), ahead, false);
    if (!rule_.tries()) {
      state_.builder().rates(layer, layer + 2, points_.data(), true);
      std::copy_n(points_.data() + k1_, k1_, row(layer + 1));
      rows_ = std::max(rows_, layer + 2);
    }
    return problem_.reduction(row(layer + 1));
  }

  const Problem& problem_;
  const BuildRequest<Real<N>>& request_;
  const Poll& poll_;
  StepRule rule_;
  Momentum momentum_;
  bool ahead_;  // whether any layer is, or was, built ahead of the features
  State<N> state_;
  KeptOperators<N> kept_;
  DeviceArray<double> gammas_, etas_;
  DeviceArray<Real<N>> membership_;
  index_t k1_;
  std::vector<double> points_;  // rates where a layer with momentum is built, and after it
  index_t rows_, rows_made_;    // rows of rates that the host has, and the device
  index_t handed_over_;         // layers that the host has
};

}  // namespace

template <class T>
void build(const Problem& problem, const Sizes& sizes, T* V, const BuildRequest<T>& request, const Poll& poll) {
  with_numbers<T>(sizes.planes,
                  [&]<class N>(N) { Construction<N>(problem, sizes, as<N>(V), request, poll).run(as<N>(V)); });
}

#define REDUNET_INSTANTIATE(T) \
  template void build<T>(const Problem&, const Sizes&, T*, const BuildRequest<T>&, const Poll&);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)

}  // namespace redunet::cuda
