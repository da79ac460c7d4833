// Where a construction stands, in memory of the device, so that nothing returns to the host between layers.
//
// What is launched is a turn: features are put in place, in a step moved through the layer, and looked at; then one
// thread decides by the rates there, with the rules of all engines, which turn is next. Launches are the same every
// time, and a kernel whose turn is not next does nothing, so that the host may launch turns ahead of what it knows.
#pragma once

#include "platform/gpu.hpp"
#include "shared/step_rule.hpp"

namespace redunet::cuda {

// kStart: at the features that a build has at first. kBuild: where the next layer is built, whose operators it makes.
// kStep: where a step from there leads. A launch may be for several of them.
enum Turn : int { kNoTurn = 0, kStart = 1, kBuild = 2, kStep = 4 };

enum class Place : int { kHere, kSaved, kKept, kRemembered };

struct Progress {
  // The turn that is next.
  int turn = kStart;
  int layer;                          // that is being made: as many are there
  int row;                            // whose rates are looked at: the layer's, or those after it
  int n_slots;                        // the operators of a layer lie in slot layer % n_slots
  Place from = Place::kHere;          // where its features are
  bool keeps = false, saves = false;  // those before are kept, those that it begins with saved
  bool wanted = true;                 // whether operators are made of what is looked at
  double eta = 0, beta = 0;           // the step; the momentum before the layer
  // What the last one left.
  bool installs = false;        // its operators are the layer's
  int rows = 0;                 // what becomes of the rates
  double taken = 0, ahead = 0;  // of the last layer that is there: eta, beta
  int bad[3] = {-1, -1, -1};    // row, number and frequency of the operator that ended the build
  // The rules.
  StepRule rule;
  Momentum momentum;
  bool goes_ahead;     // whether layers are built with momentum
  double reached = 0;  // the rate reduction of the features
  // Of the problem, and of the layers that are there.
  int n_layers, n_classes;
  const double* gammas;
  double *etas, *betas;  // (n_layers)
  double* rates;         // (n_layers + 1, k + 1)
  double *here, *best;   // (k + 1): rates where the layer is built, and of the trial that is kept

  enum Rows : int { kStarts = 1, kEnds = 2, kRecalls = 4, kBegins = 8, kKeeps = 16 };

  // What the rates, k + 1 of them, say. By one thread; then rows are to be moved.
  __device__ void decide(const double* looked, const int* noted) {
    rows = 0, installs = false;
    if (noted[0] >= 0) {
      for (int i = 0; i < 3; ++i) bad[i] = noted[i];
      turn = kNoTurn;
    } else if (turn == kStart) {
      start(looked);
    } else if (turn == kBuild) {
      begin(looked);
    } else {
      judge(looked);
    }
  }

  // By all threads of a block, after decide().
  __device__ void move_rows(const double* looked) const {
    const index_t size = n_classes + 1;
    double* const last = rates + layer * size;
    for (index_t i = threadIdx.x + threadIdx.y * blockDim.x; i < size; i += index_t{blockDim.x} * blockDim.y) {
      const double end = (rows & kRecalls) != 0 ? best[i] : looked[i];
      if ((rows & kStarts) != 0) last[i] = end;
      if ((rows & kEnds) != 0) last[i - size] = here[i], last[i] = end;
      if ((rows & kBegins) != 0) here[i] = end;
      if ((rows & kKeeps) != 0) best[i] = end;
    }
  }

 private:
  __device__ double reduction(const double* row_of_rates) const {
    return reduction_of(row_of_rates, gammas, n_classes);
  }

  __device__ void start(const double* looked) {
    reached = reduction(looked);
    rows = kStarts;
    if (layer == n_layers)
      turn = kNoTurn;
    else if (goes_ahead && (beta = momentum.next()) > 0)
      build_at(Place::kHere);
    else
      begin(looked);
  }

  __device__ void build_at(Place place) { turn = kBuild, from = place, row = layer, wanted = true; }

  // The layer is built at the features, whose rates are these.
  __device__ void begin(const double* looked) {
    rule.begin(layer, reduction(looked), looked[0], beta > 0);
    rows |= kBegins, installs = true;
    turn = kStep, from = Place::kHere, saves = rule.tries(), row = layer + 1, eta = rule.eta();
    wanted = !goes_ahead && !rule.keeps() && row < n_layers;
  }

  __device__ void judge(const double* looked) {
    const StepRule::Verdict verdict = rule.judge(reduction(looked));
    eta = rule.eta(), keeps = rule.keep(), saves = false;
    if (verdict == StepRule::Verdict::kTryAgain) {
      if (keeps) rows |= kKeeps;
      from = Place::kSaved;
      return;
    }
    const bool recalls = verdict == StepRule::Verdict::kTakeKept;
    end(recalls ? best : looked, recalls);
  }

  // The step ends where the rates are these; with momentum, lower than the layer before: then it begins again where
  // that one ended.
  __device__ void end(const double* there, bool recalls) {
    const double after = reduction(there);
    if (beta > 0 && !(after >= reached)) {
      momentum.restart(), beta = 0;
      return build_at(Place::kRemembered);
    }
    etas[layer] = taken = eta, betas[layer] = ahead = beta, reached = after;
    rows |= recalls ? kEnds | kRecalls : kEnds;
    ++layer;
    const Place place = recalls ? Place::kKept : Place::kHere;
    if (goes_ahead) beta = momentum.next();
    if (goes_ahead || rule.keeps() || layer == n_layers)
      build_at(place);
    else
      begin(there);
    if (layer == n_layers) turn = kNoTurn;
  }
};

// When a kernel has something to do: in these turns; without progress always.
struct When {
  Progress* progress = nullptr;
  int turns = 0;

  __device__ bool now() const { return progress == nullptr || (progress->turn & turns) != 0; }
};

}  // namespace redunet::cuda
