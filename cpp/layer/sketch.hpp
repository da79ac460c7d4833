// Lower bounds of gates at a fraction of their cost: for any W with ||W|| <= 1, ||C^j v|| >= ||W C^j v||, and W C^j has
// as few rows as W.
//
// At each frequency W spans sums X of groups of samples, W = L^-1 sqrt(a) X* with L L* = I + a X* X: the factor Q* that
// the class of these columns would have, whose norm is below one. Where the features have directions in common, as
// those of one class do, a few rows see most of v, and a class is seen to be out.
#pragma once

#include <functional>
#include <memory>

#include "layer/features.hpp"
#include "layer/prune.hpp"
#include "linalg/blocked_matrix.hpp"

namespace redunet {

template <class T>
class Sketch {
 public:
  // Whether sketches are worth their making: several dense classes, enough channels and enough samples.
  static bool pays(const OperatorLayout& layout);

  // labels: so that groups do not mix classes; or null.
  Sketch(const Kernels<T>& kernels, Parallel& parallel, const OperatorLayout& layout, const Features<T>& features,
         const std::int64_t* labels);

  // Sketches of one layer's operators.
  void prepare(const Features<T>& features, const LayerOperators<T>& ops);

  // squares (k, slab_tiles, kPanel) of the runs' classes += a lower bound of w_p ||C^j(p) v(p)||^2, over all
  // frequencies; look(run) may shorten a run, and empty ones are erased.
  void respond(const Features<T>& features, index_t first_tile, const T* freq_weights, T* squares, index_t slab_tiles,
               std::vector<ClassRun>& runs, const std::function<void(ClassRun&)>& look);

 private:
  struct Group {  // of samples at positions [begin, end)
    index_t share, begin, end;
  };
  struct Scratch {
    Buffer<T> sum, rows, gram;
    std::unique_ptr<BlockedMatrix<T>> matrix;
  };

  void span(const Features<T>& features, index_t p, Scratch& own);
  T* sketch(index_t j, index_t p);

  const Kernels<T>& kernels_;
  Parallel& parallel_;
  const OperatorLayout& layout_;
  index_t k_, rank_, n_panels_;  // rows of W: whole panels of lanes
  std::vector<Group> groups_;    // (rank)
  Buffer<T> columns_;            // (F, n_panels, C, planes, kPanel): W*
  Buffer<T> sketches_;           // (F, k, n_panels, C, planes, kPanel): C^j W*
  std::vector<Scratch> scratch_;
};

}  // namespace redunet
