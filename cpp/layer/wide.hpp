// Features through one layer, a slab of tiles at a time.
#pragma once

#include <optional>

#include "layer/remainder.hpp"
#include "layer/sketch.hpp"

namespace redunet {

template <class T>
class WideLayer {
 public:
  // labels: of the samples, where they are known: which classes they will gate to.
  WideLayer(const Kernels<T>& kernels, Parallel& parallel, const OperatorLayout& layout, const double* alphas,
            const double* freq_weights, const Features<T>& features, const std::int64_t* labels);

  // z <- normalise(z + eta (E z - sum_j gamma_j pi_j C^j z)) for all samples.
  void move(Features<T>& features, const LayerOperators<T>& ops, const Step<T>& step, const Taken& taken);
  // The two parts of it: (m, k) of sum_p w_p ||C^j(p) v(p)||^2, and z <- z + eta (E z - sum_j gamma_j pi_j C^j z) with
  // the membership as pi, whatever it adds up to; squares (m): sum_p w_p ||v(p)||^2 after it.
  void response_norms(const Features<T>& features, const LayerOperators<T>& ops, double* squares);
  void step(Features<T>& features, const LayerOperators<T>& ops, const Step<T>& step, double* squares);
  // The class that every sample gated to in the last move: the next one looks at it first. It goes back with features
  // that go back, since a response that is kept from the gates is rounded otherwise than one made in the step.
  const std::vector<index_t>& nearest() const { return nearest_; }
  void set_nearest(const std::vector<index_t>& nearest);
  // Puts samples that gated to the same class in the last move side by side, those of a label among themselves, where
  // that leaves tiles with clearly fewer classes: tiles of one class leave the others early.
  void regroup(Features<T>& features, const std::int64_t* labels);
  // features <- normalise(z + beta (z - before)), before <- z.
  void extrapolate(Features<T>& features, Features<T>& before, double beta);

 private:
  struct Slab {
    index_t tile, n_tiles;
  };
  using Run = ClassRun;
  // How frequencies are gone through: in the remainder's order; until samples pass their limits; or will pass them.
  struct Visit {
    bool in_order = false, limited = false, bounded = false;
  };
  struct Scratch {
    Buffer<T> moved, reduced, responses, squares, pi, coefficients, limits;
    Buffer<T> block, rest, energies;   // (k, lanes): squares of a block of frequencies, remainders; (F, lanes)
    std::vector<index_t> slot_class;   // (n_slots, slab_tiles): class whose response is kept, or -1
    std::vector<char> live, any_live;  // (k, slab_tiles), (k)
    std::vector<Run> runs;
    index_t since_checkpoint = 0;
  };

  double work() const;
  void set_candidates(index_t tile);
  bool sketching(const Step<T>& step) const {
    return sketch_ && step.membership == nullptr && step.shortcuts.early_stop && step.shortcuts.sketches;
  }
  Slab slab(index_t index, const Features<T>& features) const;
  void leave(Run& run, Scratch& own);
  void respond(const Features<T>& features, const LayerOperators<T>& ops, Slab slab, std::vector<Run>& runs,
               Visit visit, Scratch& own);
  void reduce(const Features<T>& features, const LayerOperators<T>& ops, index_t number, index_t p, Slab slab,
              const Run& run, Scratch& own);
  void respond_of_candidates(const Features<T>& features, const LayerOperators<T>& ops, Slab slab, Scratch& own);
  void set_limits(T beyond, Slab slab, Scratch& own);
  void set_other_runs(bool factored, Slab slab, Scratch& own);
  void set_nearest(Slab slab, Scratch& own);
  void gates(const Features<T>& features, const LayerOperators<T>& ops, const Step<T>& step, Slab slab, Scratch& own);
  void assign(const Features<T>& features, const LayerOperators<T>& ops, const Step<T>& step, Slab slab, Scratch& own);
  // Rows of lanes of a slab to numbers of the samples; null: nowhere.
  void give(const Features<T>& features, Slab slab, index_t rows, const T* lanes, double* numbers) const;
  void add_operator(const Features<T>& features, const LayerOperators<T>& ops, index_t p, Slab slab, const Run& run,
                    Scratch& own);
  void set_base(T base, index_t lanes, Scratch& own);
  void set_runs(Slab slab, Scratch& own);
  void take_step(Features<T>& features, const LayerOperators<T>& ops, const Step<T>& step, Slab slab, Scratch& own);
  void step_at(Features<T>& features, const LayerOperators<T>& ops, index_t p, Slab slab, Scratch& own);

  const Kernels<T>& kernels_;
  Parallel& parallel_;
  const OperatorLayout& layout_;
  Sizes sizes_;  // of the features: an index p is that of a column
  const double* alphas_;
  std::vector<T> freq_weights_;  // of columns
  index_t k_, slab_tiles_, response_size_, n_slots_ = 0;
  std::vector<index_t> nearest_;  // of every position: the class it gated to in the last move
  std::vector<char> candidates_;  // (n_tiles, k): classes that samples of the tile gated to, or probably will
  std::optional<Sketch<T>> sketch_;
  std::optional<Remainder<T>> remainder_;
  std::vector<Scratch> scratch_;
};

}  // namespace redunet
