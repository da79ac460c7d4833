// One construction on the device: turns of kernels/progress.hpp, launched ahead of what the host knows of them.

#include <algorithm>
#include <limits>
#include <map>

#include "engine/engine.hpp"
#include "engine/graph.hpp"
#include "engine/kept_operators.hpp"
#include "engine/numbers.hpp"
#include "engine/state.hpp"
#include "layer/samples.hpp"

namespace redunet::cuda {
namespace {

// Capturing a layer pays from so many layers on.
constexpr index_t kLayersOfAGraph = 8;
// Of a layer whose step is searched for: it is built, the step of the layer before is tried, a longer and a shorter
// one. More may follow.
constexpr index_t kTurnsOfASearch = 4;

template <class N>
class Construction {
 public:
  Construction(const Problem& problem, const Sizes& sizes, N* V, const BuildRequest<Real<N>>& request, const Poll& poll)
      : problem_(problem),
        request_(request),
        poll_(poll),
        tries_(request.etas == nullptr),
        searches_(tries_ && request.search),
        builds_(searches_ || request.momentum),
        ahead_(request.momentum ||
               std::any_of(request.betas, request.betas + *request.done, [](double beta) { return beta != 0; })),
        state_(problem, sizes, request.shortcuts.fused,
               {.saved = tries_,
                .kept = searches_,
                .remembered = ahead_,
                .operators = (tries_ || builds_) && request.keep() ? 4 : 2}),
        apart_(!state_.fused() && (tries_ || builds_)),
        kept_(state_.layout(), request.n_layers, request.keep(), apart_, if_there(dense(), factors())),
        captured_(state_.fused() && request.n_layers - *request.done >= kLayersOfAGraph),
        watched_(request.on_layer || (request.keep() && !kept_.all())),
        k1_(problem.n_classes() + 1),
        numbers_(known_at_first()),
        rounded_gammas_(rounded<Real<N>>(problem.gammas.data(), k1_ - 1)),
        now_(at_first()),
        progress_(std::vector<Progress>{now_}),
        two_rows_(as_size(2 * k1_)),
        handed_over_(*request.done) {
    state_.features().read(V);
    if (request.given) membership_ = DeviceArray<Real<N>>(membership_of<Real<N>>(problem, state_.features().order()));
  }

  // V receives the features.
  void run(N* V) {
    try {
      resume(*request_.done);
      start();
      if (watched_)
        run_watched();
      else
        advance(request_.n_layers);
      hand_over(*request_.done);
    } catch (...) {
      rescue();
      throw;
    }
    if (now_.from == Place::kKept) state_.recall();
    state_.features().write(V);
  }

 private:
  // gammas, etas, betas, rates and the rows of a Progress: as one, since to fill memory is to wait.
  std::vector<double> known_at_first() const {
    const index_t n = request_.n_layers, done = *request_.done;
    std::vector<double> numbers(problem_.gammas);
    numbers.resize(as_size(k1_ - 1 + 2 * n + (n + 3) * k1_), 0.0);
    double* const etas = numbers.data() + k1_ - 1;
    if (!tries_) std::copy_n(request_.etas, n, etas);
    std::copy_n(request_.taken, done, etas);
    std::copy_n(request_.betas, done, etas + n);
    return numbers;
  }
  double* gammas() const { return numbers_.get(); }
  double* etas() const { return gammas() + k1_ - 1; }
  double* betas() const { return etas() + request_.n_layers; }
  double* rates() const { return betas() + request_.n_layers; }

  Progress at_first() const {
    const index_t done = *request_.done;
    StepRule rule(tries_ ? nullptr : etas(), request_.search, problem_.alphas[0],
                  std::numeric_limits<Real<N>>::epsilon());
    Momentum momentum;
    rule.resume(request_.taken, request_.betas, done);
    momentum.resume(request_.betas, done);
    return {.layer = static_cast<int>(done),
            .row = static_cast<int>(done),
            .n_slots = static_cast<int>(std::max<index_t>(1, kept_.n_slots())),
            .wanted = done < request_.n_layers,
            .rule = rule,
            .momentum = momentum,
            .goes_ahead = request_.momentum,
            .n_layers = static_cast<int>(request_.n_layers),
            .n_classes = static_cast<int>(k1_ - 1),
            .gammas = gammas(),
            .etas = etas(),
            .betas = betas(),
            .rates = rates(),
            .here = rates() + (request_.n_layers + 1) * k1_,
            .best = rates() + (request_.n_layers + 2) * k1_};
  }

  N* dense() const { return as<N>(request_.dense); }
  N* factors() const { return as<N>(request_.factors); }
  double* row(index_t layer) const { return request_.rates + layer * k1_; }
  Step<N> step(const double* eta) const {
    return {.eta = eta, .gammas = rounded_gammas_.get(), .lam = request_.lam, .given = membership_.get()};
  }

  // The samples through the layers that are there.
  void resume(index_t n_layers) {
    if (kept_.all()) kept_.upload(0, n_layers, dense(), factors());
    for (index_t layer = 0; layer < n_layers; ++layer) {
      if (!kept_.all()) kept_.upload(layer, layer + 1, dense(), factors());
      if (ahead_) state_.go_ahead(request_.betas[layer]);
      state_.move(kept_.of(layer), step(etas() + layer), nullptr);
      if ((layer + 1) % kLayersBetweenPolls == 0) {
        Device::get().synchronise();
        poll_();
      }
    }
    if (request_.momentum && n_layers == 0) state_.go_ahead(0.0);
  }

  void start() {
    launch_turn(kStart, now_.layer);
    read();
    if (watched_) std::copy_n(two_rows_.data(), k1_, row(now_.layer));
  }

  // Launches what these turns do. layer: that of the turn, if each makes one.
  void launch_turn(int turns, index_t layer) {
    const When when{progress_.get(), turns};
    const bool steps = (turns & kStep) != 0, builds = (turns & kBuild) != 0;
    if (builds || (steps && tries_)) state_.carry(when);
    if (builds && request_.momentum) state_.extrapolate(progress_.get());
    if (steps) state_.move(operators(layer), step(&progress_.get()->eta), nullptr, {progress_.get(), kStep});
    const bool makes = !builds_ || turns != kStep;
    state_.look(makes ? next_operators(layer + steps) : Operators<N>{}, when);
    if (makes && apart_) kept_.install(progress_.get());
  }

  // Of the layer that is made, and of the one that comes then. Layers of few channels look for their slot themselves.
  Operators<N> operators(index_t layer) const {
    return apart_ ? kept_.current() : kept_.of(state_.fused() ? 0 : layer);
  }
  Operators<N> next_operators(index_t layer) const {
    if (apart_) return kept_.next();
    if (state_.fused()) return kept_.of(0);
    return layer < request_.n_layers ? kept_.of(layer) : Operators<N>{};
  }

  // Turns until so many layers are there, or the build has ended. They are launched in blocks, not one by one, as many
  // as it takes at least; a search of which nobody sees the layers takes more.
  void advance(index_t n_layers) {
    while (now_.turn != kNoTurn && now_.layer < n_layers) {
      const index_t left = n_layers - now_.layer;
      index_t n = builds_ ? 2 * left - (now_.turn == kStep) : left;
      if (searches_ && !watched_ && !now_.rule.settled()) n = left * kTurnsOfASearch;
      int turns = searches_ ? kBuild | kStep : now_.turn;
      for (index_t i = 0; i < std::min(n, kLayersBetweenPolls); ++i) {
        if (captured_)
          graphs_.try_emplace(turns, [&] { launch_turn(turns, 0); }).first->second.run();
        else
          launch_turn(turns, now_.layer + i);
        if (builds_ && !searches_) turns ^= kBuild | kStep;
      }
      read();
    }
  }

  // Waits for the turns so far, and looks where they have led.
  void read() {
    if (watched_) {
      const index_t layer = *request_.done, n_rows = std::min<index_t>(2, request_.n_layers + 1 - layer);
      download(rates() + layer * k1_, n_rows * k1_, two_rows_.data());
    }
    progress_.download(&now_);
    if (!watched_) *request_.done = now_.layer;
    if (now_.bad[0] >= 0) OperatorBuilder<N>::refuse(now_.bad, true);
    started_ = true;
    poll_();
  }

  // Somebody sees every layer, or its operators must leave. Rates of a layer with momentum are those at the point where
  // it is built: it is seen, and may be undone, when it is there.
  void run_watched() {
    index_t layer = *request_.done;
    for (; layer < request_.n_layers; ++layer) {
      if (!request_.momentum && ends(layer, row(layer))) return;
      advance(layer + 1);
      if (request_.momentum && ends(layer, two_rows_.data())) {
        state_.step_back();
        now_.from = Place::kHere;
        return;
      }
      std::copy(two_rows_.begin(), two_rows_.end(), row(layer));
      request_.taken[layer] = now_.taken, request_.betas[layer] = now_.ahead;
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

  // The host receives what it lacks of the first n layers. Waits.
  void hand_over(index_t n_layers) {
    const index_t begin = handed_over_, n = n_layers - begin;
    if (request_.keep() && kept_.all() && n > 0) kept_.download(begin, n_layers, dense(), factors());
    if (started_ && !watched_) {
      download(rates() + begin * k1_, (n + 1) * k1_, row(begin));
      download(etas() + begin, n, request_.taken + begin);
      download(betas() + begin, n, request_.betas + begin);
    }
    Device::get().synchronise();
    handed_over_ = std::max(begin, n_layers);
  }

  static void download(const double* from, index_t count, double* to) {
    if (count <= 0) return;
    REDUNET_CHECK(
        cudaMemcpyAsync(to, from, as_size(count) * sizeof(double), cudaMemcpyDeviceToHost, Device::get().stream()));
  }

  // However the build ends, the host has the layers that are there: where an operator is not positive definite, those
  // before; where the device fails, those that the host had. The error is the one that ended the build.
  void rescue() {
    std::int64_t& done = *request_.done;
    try {
      if (started_ && !watched_) {
        progress_.download(&now_);
        done = now_.layer;
      }
      hand_over(done);
    } catch (const CudaError&) {
      done = handed_over_;
    }
  }

  const Problem& problem_;
  const BuildRequest<Real<N>>& request_;
  const Poll& poll_;
  // Whether there are trials, of which one may be kept; turns that build, as operators are not made where steps end.
  bool tries_, searches_, builds_;
  bool ahead_;  // whether any layer is, or was, built ahead of the features
  State<N> state_;
  bool apart_;  // whether layers are made apart from the slots of their operators
  KeptOperators<N> kept_;
  bool captured_;  // whether turns are launched as graphs
  bool watched_;   // whether the host looks at every layer
  index_t k1_;
  DeviceArray<double> numbers_;
  DeviceArray<Real<N>> rounded_gammas_;
  DeviceArray<Real<N>> membership_;
  Progress now_;  // as the host knows it
  DeviceArray<Progress> progress_;
  std::map<int, Graph> graphs_;
  std::vector<double> two_rows_;  // where somebody watches: rates where a layer is built, and after it
  bool started_ = false;
  index_t handed_over_;  // layers that the host has
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
