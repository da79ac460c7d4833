// With labels a sample needs the operator of its own class alone, and with it one product: with E - gamma_j C^j. Of
// small classes, which are factors, the responses C^j v come with the factorisation. Soft membership takes E and the
// C^j one after the other. Nothing connects frequencies: a task is one column of a slab of tiles.

#include "layer/gradient.hpp"

#include <algorithm>

#include "layer/members.hpp"

namespace redunet {
namespace {

template <class T>
constexpr index_t B = kPanel<T>;

// Tiles that an operator which is read serves.
constexpr index_t kTilesTogether = 8;

// dense C^j <- E - gamma_j C^j.
template <class T>
void subtract_from_total(Parallel& parallel, const Problem& problem, const OperatorLayout& layout,
                         const LayerOperators<T>& ops) {
  const auto [m, C, F, P] = layout.sizes;
  const index_t k = problem.n_classes(), matrix = C * C * P;
  parallel.run(k * F, double(k * F * matrix), [&, F = F](index_t task, int) {
    const index_t j = task / F, p = task % F;
    if (at(layout.ranks, j + 1) != 0) return;
    const T *E = layout.dense(ops, 0, p), gamma = static_cast<T>(at(problem.gammas, j));
    T* own = layout.dense(ops, j + 1, p);
    for (index_t e = 0; e < matrix; ++e) own[e] = E[e] - gamma * own[e];
  });
}

template <class T>
class FeatureGradient {
 public:
  FeatureGradient(const Kernels<T>& kernels, const Problem& problem, const OperatorLayout& layout,
                  const LayerOperators<T>& ops, Features<T>& features, int n_threads)
      : kernels_(kernels),
        problem_(problem),
        layout_(layout),
        ops_(ops),
        features_(features),
        factors_(features.n_tiles() * B<T>),
        scratch_(as_size(n_threads)) {
    const index_t m = layout.sizes.m;
    const double factor = static_cast<double>(problem.d) * problem.inner / problem.n_points;
    for (index_t i = 0; i < m; ++i)
      factors_[i] = static_cast<T>(problem.weights == nullptr ? factor : factor * problem.weights[features.sample(i)]);
    if (problem.labels == nullptr) return;
    for (index_t j = 0; j <= problem.n_classes(); ++j) begin_.push_back(class_begin(problem, features, j));
  }

  // What ops.responses are multiplied by, at every position.
  Buffer<T> of_responses() const {
    Buffer<T> by(features_.n_tiles() * B<T>);
    for (index_t j = 0; ops_.responses != nullptr && j < problem_.n_classes(); ++j)
      if (at(layout_.ranks, j + 1) != 0)
        for (index_t i = at(begin_, j); i < at(begin_, j + 1); ++i)
          by[i] = -static_cast<T>(at(problem_.gammas, j)) * factors_[i];
    return by;
  }

  // One column of a slab of tiles.
  void run(index_t p, index_t tile, int thread) {
    const Slab slab{p, tile, std::min(kTilesTogether, features_.n_tiles() - tile)};
    Scratch& own = at(scratch_, thread);
    prepare(own);
    problem_.labels != nullptr ? by_class(slab, own) : by_membership(slab, own);
    write(slab, own);
  }

 private:
  struct Slab {
    index_t p, tile, n_tiles;
    index_t begin() const { return tile * B<T>; }
    index_t end() const { return (tile + n_tiles) * B<T>; }
  };
  struct Scratch {
    Buffer<T> sum, reduced, coefficients, identity, squares;
  };

  void prepare(Scratch& own) const {
    const index_t lanes = kTilesTogether * B<T>, rows = layout_.sizes.C * layout_.sizes.planes;
    if (own.sum.get() == nullptr) {
      const index_t rank = *std::max_element(layout_.ranks.begin(), layout_.ranks.end());
      own.sum = Buffer<T>(lanes * rows);
      own.reduced = Buffer<T>(lanes * rank * layout_.sizes.planes);
      own.coefficients = Buffer<T>(lanes), own.identity = Buffer<T>(lanes), own.squares = Buffer<T>(lanes);
      return;
    }
    std::fill_n(own.sum.get(), lanes * rows, T(0));
    std::fill_n(own.identity.get(), lanes, T(0));
  }

  void by_class(const Slab& slab, Scratch& own) const {
    const auto first = std::upper_bound(begin_.begin(), begin_.end(), slab.begin()) - begin_.begin() - 1;
    index_t begin = slab.end(), end = slab.begin();  // of samples in classes that are factors
    for (index_t j = first; j < problem_.n_classes() && at(begin_, j) < slab.end(); ++j) {
      const index_t from = std::max(at(begin_, j), slab.begin()), to = std::min(at(begin_, j + 1), slab.end());
      if (from >= to) continue;
      T* by = own.coefficients.get() - slab.begin();
      const bool factored = at(layout_.ranks, j + 1) != 0;
      if (factored) begin = std::min(begin, from), end = to;
      if (factored && ops_.responses != nullptr) continue;
      const T sign = factored ? -static_cast<T>(at(problem_.gammas, j)) : T(1);
      const index_t lane_begin = from / B<T> * B<T>, lane_end = divide_up(to, B<T>) * B<T>;
      std::fill(by + lane_begin, by + lane_end, T(0));
      for (index_t i = from; i < to; ++i) by[i] = sign * factors_[i];
      add(j + 1, slab, lane_begin, lane_end, own);
    }
    if (begin >= end) return;
    // Classes are not in the order of their sizes: between these samples may lie others.
    T* by = own.coefficients.get() - slab.begin();
    std::fill(by + slab.begin(), by + slab.end(), T(0));
    for (index_t i = begin; i < end; ++i)
      by[i] = at(layout_.ranks, problem_.labels[features_.sample(i)] + 1) != 0 ? factors_[i] : T(0);
    add(0, slab, begin / B<T> * B<T>, divide_up(end, B<T>) * B<T>, own);
  }

  void by_membership(const Slab& slab, Scratch& own) const {
    const index_t k = problem_.n_classes(), last = std::min(slab.end(), layout_.sizes.m);
    T* by = own.coefficients.get() - slab.begin();
    std::copy(factors_.get() + slab.begin(), factors_.get() + slab.end(), by + slab.begin());
    add(0, slab, slab.begin(), slab.end(), own);
    for (index_t j = 0; j < k; ++j) {
      index_t begin = last, end = slab.begin();  // of its members here
      for (index_t i = slab.begin(); i < last; ++i) {
        const double pi = problem_.membership[features_.sample(i) * k + j];
        by[i] = static_cast<T>(-at(problem_.gammas, j) * pi) * factors_[i];
        if (pi != 0) begin = std::min(begin, i), end = i + 1;
      }
      if (begin < end) add(j + 1, slab, begin / B<T> * B<T>, divide_up(end, B<T>) * B<T>, own);
    }
  }

  // sum += coefficient * (operator v) in lanes [begin, end), whole tiles; alpha (v - Q Q* v) of a factored operator
  // goes to the identity's coefficients in part.
  void add(index_t number, const Slab& slab, index_t begin, index_t end, Scratch& own) const {
    const auto [m, C, F, P] = layout_.sizes;
    const index_t rank = at(layout_.ranks, number), offset = begin - slab.begin();
    T* by = own.coefficients.get() + offset;
    Product<T> q{};
    q.planes = P, q.imag_offset = 1, q.n_panels = (end - begin) / B<T>;
    q.x = features_.panel(begin / B<T>, slab.p), q.x_stride = features_.tile_stride();
    q.row_begin = 0, q.row_end = C, q.n_in = C;
    if (rank == 0) {
      q.A = layout_.dense(ops_, number, slab.p / layout_.d), q.row_stride = C * P, q.col_stride = P;
    } else {
      q.A = layout_.factor(ops_, number, slab.p), q.row_stride = P, q.col_stride = layout_.n_columns * P;
      q.epilogue = Epilogue::kStore, q.conj = true, q.row_end = rank;
      q.out = own.reduced.get(), q.out_stride = rank * P * B<T>;
      kernels_.product(q);
      q.conj = false, q.row_end = C, q.n_in = rank, std::swap(q.row_stride, q.col_stride);
      q.x = own.reduced.get(), q.x_stride = q.out_stride;
      const auto alpha = static_cast<T>(at(problem_.alphas, number));
      for (index_t i = 0; i < end - begin; ++i) by[i] *= -alpha, own.identity[offset + i] -= by[i];
    }
    q.epilogue = Epilogue::kAxpy, q.coefficient = by;
    q.out = own.sum.get() + offset * C * P, q.out_stride = C * P * B<T>;
    kernels_.product(q);
    checkpoint(C * q.n_in * P * P * (end - begin));
  }

  void write(const Slab& slab, Scratch& own) const {
    const index_t rows = layout_.sizes.C * layout_.sizes.planes;
    Settle<T> q{};
    q.n_panels = 1, q.n_rows = rows, q.weight = 0, q.squares = own.squares.get(), q.n_terms = 1;
    for (index_t tile = 0; tile < slab.n_tiles; ++tile) {
      q.v = features_.panel(slab.tile + tile, slab.p), q.moved = own.sum.get() + tile * rows * B<T>;
      const T *v = q.v, *identity = own.identity.get() + tile * B<T>;
      q.terms = &v, q.coefficients = &identity;
      kernels_.settle(q);
    }
  }

  const Kernels<T>& kernels_;
  const Problem& problem_;
  const OperatorLayout& layout_;
  const LayerOperators<T>& ops_;
  Features<T>& features_;
  Buffer<T> factors_;           // omega_i d inner / N, in lanes of all tiles
  std::vector<index_t> begin_;  // (k + 1) with labels: the first sample of every class
  std::vector<Scratch> scratch_;
};

}  // namespace

template <class T>
void gradient_to_features(const Kernels<T>& kernels, Parallel& parallel, const Problem& problem,
                          const OperatorLayout& layout, const LayerOperators<T>& ops, Features<T>& features, T* out) {
  const auto [m, C, F, P] = layout.sizes;
  if (problem.labels != nullptr) subtract_from_total(parallel, problem, layout, ops);
  FeatureGradient<T> gradient(kernels, problem, layout, ops, features, parallel.n_threads());
  const index_t columns = F * layout.d, n_slabs = divide_up(features.n_tiles(), kTilesTogether);
  const double products = problem.labels != nullptr ? 1.0 : double(problem.n_classes() + 1);
  parallel.run(
      n_slabs * columns, products * double(m * columns) * double(C * C * P * P),
      [&](index_t task, int thread) { gradient.run(task % columns, task / columns * kTilesTogether, thread); });
  const Buffer<T> by = gradient.of_responses();
  features.add_to(out, by.get(), parallel);
}

#define REDUNET_INSTANTIATE(T)                                                                               \
  template void gradient_to_features<T>(const Kernels<T>&, Parallel&, const Problem&, const OperatorLayout&, \
                                        const LayerOperators<T>&, Features<T>&, T*);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)

}  // namespace redunet
