// Features through one layer, slab by slab: a slab is a few tiles, small enough to stay in the L2 cache and wide enough
// to share every operator that is read.
//
// Gates first: rho_j^2 = sum_p w_p ||C^j(p) v(p)||^2, beginning with the classes that the samples of a tile gated to in
// the layer before. Another class is left, tile by tile, as soon as a lower bound of its sum exceeds
// (rho_best + ln(1/u)/lambda)^2 for all samples of the tile: its assignment is then zero to rounding. Lower bounds are
// the sketch's sum (sketch.hpp), and then the sum over some frequencies and rows, which only grows, by no less than the
// rest of it (remainder.hpp). Then the step, frequency by frequency, with the classes that are not zero.

#include "layer/wide.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>

#include "layer/extrapolate.hpp"

namespace redunet {
namespace {

template <class T>
constexpr index_t B = kPanel<T>;

// Half of the smallest L2 cache in use (512 KiB) is the slab's, the rest the operators'.
constexpr index_t kSlabBytes = 1 << 18;
// Each operator that is read serves at least this many tiles and at most so many.
constexpr index_t kFewestTiles = 2, kMostTiles = 8;
// Operators are read anew for every slab: those of a large problem serve more tiles at a time.
constexpr index_t kLargeOperatorBytes = 1 << 16;
constexpr index_t kFewestTilesLarge = 4;

// Responses C^j v that the gates computed and the step needs again are kept, of several classes where they fit the L2
// cache, and always of one: reading it back from the next cache costs a tenth of the product.
constexpr index_t kResponseBytes = 1 << 19;

// Multiply-adds per sample between two looks at whether a class can be left.
constexpr index_t kWorkBetweenLooks = 1 << 12;

// Samples are moved to other tiles where tiles then have less than this part of the classes that they have now: moving
// reads and writes all features once. On bp2d 0.7 are left after the first layer, and no fewer later; not tuned.
constexpr double kFewerCandidates = 0.9;

// Frequencies whose squares are added up before they are added to those of the frequencies before: a sum of blocks is
// rounded by a few units where one of hundreds of numbers, the largest first, is by dozens.
constexpr index_t kBlock = 16;

}  // namespace

template <class T>
WideLayer<T>::WideLayer(const Kernels<T>& kernels, Parallel& parallel, const OperatorLayout& layout,
                        const double* alphas, const double* freq_weights, const Features<T>& features,
                        const std::int64_t* labels)
    : kernels_(kernels),
      parallel_(parallel),
      layout_(layout),
      sizes_(layout.features()),
      alphas_(alphas),
      k_(static_cast<index_t>(layout.ranks.size()) - 1),
      nearest_(as_size(features.sizes().m), 0),
      candidates_(as_size(features.n_tiles() * k_), 0),
      scratch_(as_size(parallel.n_threads())) {
  const auto [m, C, F, P] = sizes_;
  for (index_t p = 0; p < F; ++p)
    freq_weights_.push_back(static_cast<T>(freq_weights[p / layout.d] / static_cast<double>(layout.d)));
  const index_t tile_bytes = features.tile_stride() * static_cast<index_t>(sizeof(T));
  const bool large = C * C * P * static_cast<index_t>(sizeof(T)) * layout.sizes.F > kLargeOperatorBytes;
  const index_t fewest = large ? kFewestTilesLarge : kFewestTiles;
  slab_tiles_ = std::clamp(kSlabBytes / tile_bytes, fewest, kMostTiles);
  const bool any_dense = std::any_of(layout.ranks.begin() + 1, layout.ranks.end(), [](index_t r) { return r == 0; });
  if (any_dense)
    n_slots_ = std::clamp<index_t>(kResponseBytes / (slab_tiles_ * tile_bytes), 1, std::min(k_, kMostTerms));
  // Enough slabs for all threads; how samples are grouped does not change their results.
  const index_t n_threads = parallel.n_threads();
  slab_tiles_ = std::max<index_t>(1, std::min(slab_tiles_, (features.n_tiles() + n_threads - 1) / n_threads));
  const index_t most = *std::max_element(layout.ranks.begin(), layout.ranks.end());
  response_size_ = slab_tiles_ * features.tile_stride();
  if (Sketch<T>::pays(layout))
    sketch_.emplace(kernels, parallel, layout, features, labels);
  else if (Remainder<T>::pays(layout))
    remainder_.emplace(kernels, parallel, layout, alphas, freq_weights_);
  for (auto& own : scratch_) {
    own.moved = Buffer<T>(slab_tiles_ * C * P * B<T>);
    own.reduced = Buffer<T>(slab_tiles_ * most * P * B<T>);
    own.squares = Buffer<T>(k_ * slab_tiles_ * B<T>);
    own.block = Buffer<T>(k_ * slab_tiles_ * B<T>);
    own.rest = Buffer<T>(k_ * slab_tiles_ * B<T>);
    if (remainder_) own.energies = Buffer<T>(F * slab_tiles_ * B<T>);
    own.pi = Buffer<T>(k_ * slab_tiles_ * B<T>);
    own.coefficients = Buffer<T>((k_ + 2) * slab_tiles_ * B<T>);
    own.limits = Buffer<T>(slab_tiles_ * B<T>);
    own.responses = Buffer<T>(n_slots_ * response_size_);
    own.slot_class.assign(as_size(n_slots_ * slab_tiles_), -1);
    own.live.assign(as_size(k_ * slab_tiles_), 0);
    own.any_live.assign(as_size(k_), 0);
  }
  if (labels != nullptr)
    for (index_t i = 0; i < m; ++i) at(nearest_, i) = labels[features.sample(i)];
  for (index_t tile = 0; tile < features.n_tiles(); ++tile) set_candidates(tile);
}

template <class T>
void WideLayer<T>::set_candidates(index_t tile) {
  char* mine = candidates_.data() + tile * k_;
  std::fill_n(mine, k_, char{0});
  for (index_t i = tile * B<T>; i < std::min(sizes_.m, (tile + 1) * B<T>); ++i) mine[at(nearest_, i)] = 1;
}

template <class T>
void WideLayer<T>::set_nearest(const std::vector<index_t>& nearest) {
  nearest_ = nearest;
  const index_t n_tiles = static_cast<index_t>(candidates_.size()) / k_;
  for (index_t tile = 0; tile < n_tiles; ++tile) set_candidates(tile);
}

template <class T>
void WideLayer<T>::regroup(Features<T>& features, const std::int64_t* labels) {
  std::vector<index_t> order(nearest_.size());
  std::iota(order.begin(), order.end(), index_t{0});
  const auto key = [&](index_t i) {
    const index_t nearest = at(nearest_, i), label = labels == nullptr ? 0 : labels[features.sample(i)];
    return std::tuple(label, labels != nullptr && nearest != label, nearest);
  };
  const auto before_it = [&](index_t a, index_t b) { return key(a) < key(b); };
  if (std::is_sorted(order.begin(), order.end(), before_it)) return;
  std::stable_sort(order.begin(), order.end(), before_it);
  std::vector<index_t> nearest(nearest_.size());
  for (std::size_t i = 0; i < order.size(); ++i) nearest[i] = at(nearest_, order[i]);
  const auto n_candidates = [&] { return std::count(candidates_.begin(), candidates_.end(), char{1}); };
  const auto before = n_candidates();
  std::swap(nearest, nearest_);
  for (index_t tile = 0; tile < features.n_tiles(); ++tile) set_candidates(tile);
  if (static_cast<double>(n_candidates()) < kFewerCandidates * static_cast<double>(before))
    features.permute(order, parallel_);
  else
    set_nearest(nearest);
}

// Multiply-adds of one application of every operator to every sample.
template <class T>
double WideLayer<T>::work() const {
  const auto [m, C, F, P] = sizes_;
  return double(m) * double(F * C * C * P * P) * double(k_ + 1);
}

template <class T>
auto WideLayer<T>::slab(index_t index, const Features<T>& features) const -> Slab {
  const index_t n = features.n_tiles(), count = (n + slab_tiles_ - 1) / slab_tiles_;
  const index_t begin = n * index / count;
  return {begin, n * (index + 1) / count - begin};
}

// Takes tiles off the ends of a run where every sample passed its limit.
template <class T>
void WideLayer<T>::leave(Run& run, Scratch& own) {
  const auto passed = [&](index_t tile) {
    const index_t first = (run.j * slab_tiles_ + tile) * B<T>;
    T* squares = own.squares.get() + first;
    const T *block = own.block.get() + first, *rest = own.rest.get() + first;
    const T* limits = own.limits.get() + tile * B<T>;
    bool all = true;
    for (index_t i = 0; i < B<T>; ++i) all &= squares[i] + block[i] + rest[i] > limits[i];
    if (all) std::fill_n(squares, B<T>, std::numeric_limits<T>::infinity());
    return all;
  };
  while (run.begin < run.end && passed(run.begin)) ++run.begin;
  while (run.begin < run.end && passed(run.end - 1)) --run.end;
}

// squares of the class of every run += w_p ||C(p) v(p)||^2 over frequencies and rows; with limits, until they pass.
template <class T>
void WideLayer<T>::respond(const Features<T>& features, const LayerOperators<T>& ops, Slab slab, std::vector<Run>& runs,
                           Visit visit, Scratch& own) {
  const auto [m, C, F, P] = sizes_;
  const index_t rows_per_look = visit.limited ? std::max<index_t>(kGramRows, kWorkBetweenLooks / C) : C;
  const index_t panel = C * P * B<T>;
  const index_t lanes = slab_tiles_ * B<T>;
  for (index_t visited = 0; visited < F && !runs.empty(); ++visited) {
    const index_t p = visit.in_order ? remainder_->frequency(visited) : visited;
    const bool first_of_block = visited % kBlock == 0, last_of_block = (visited + 1) % kBlock == 0 || visited + 1 == F;
    for (Run& run : runs) {
      const index_t from = run.j * lanes + run.begin * B<T>, run_lanes = (run.end - run.begin) * B<T>;
      if (first_of_block) std::fill_n(own.block.get() + from, run_lanes, T(0));
      if (visit.bounded)
        remainder_->visit(run.j, p, own.energies.get() + p * lanes + run.begin * B<T>, run_lanes,
                          own.rest.get() + from);
      const index_t number = run.j + 1, rank = at(layout_.ranks, number), first = run.begin;
      if (rank != 0) reduce(features, ops, number, p, slab, run, own);
      for (index_t row = 0; row < C && run.begin < run.end; row += rows_per_look) {
        Product<T> q{};
        q.planes = P, q.n_panels = run.end - run.begin, q.single = m == 1;
        q.x = features.panel(slab.tile + run.begin, p), q.x_stride = features.tile_stride();
        q.squares = own.block.get() + run.j * lanes + run.begin * B<T>;
        q.weight = at(freq_weights_, p);
        q.row_begin = row, q.row_end = std::min(C, row + rows_per_look), q.n_in = C;
        if (rank == 0) {
          q.A = layout_.dense(ops, number, p / layout_.d);
          q.row_stride = C * P, q.col_stride = P, q.imag_offset = 1;
          q.epilogue = Epilogue::kSquaredNorm;
          if (run.slot >= 0) {
            q.epilogue = Epilogue::kStoreSquaredNorm;
            q.out = own.responses.get() + run.slot * response_size_ + (p * slab_tiles_ + run.begin) * panel;
            q.out_stride = panel;
          }
        } else {
          q.A = layout_.factor(ops, number, p);
          q.row_stride = layout_.n_columns * P, q.col_stride = P, q.imag_offset = 1;
          q.n_in = rank;
          q.x0 = q.x, q.x0_stride = q.x_stride;
          q.x_stride = rank * P * B<T>;
          q.x = own.reduced.get() + (run.begin - first) * q.x_stride;
          const auto alpha = static_cast<T>(alphas_[number]);
          q.weight *= alpha * alpha;
          q.epilogue = Epilogue::kResidualNorm;
        }
        kernels_.product(q);
        checkpoint((q.row_end - row) * q.n_in * P * P * q.n_panels * B<T>, own.since_checkpoint);
        run.work += (q.row_end - row) * C * P;
        if (visit.limited && run.work >= kWorkBetweenLooks) {
          run.work = 0;
          leave(run, own);
        }
      }
      if (!last_of_block) continue;
      for (index_t i = run.j * lanes + run.begin * B<T>; i < run.j * lanes + run.end * B<T>; ++i) {
        own.squares[i] += own.block[i];
        own.block[i] = 0;
      }
    }
    std::erase_if(runs, [](const Run& run) { return run.begin == run.end; });
  }
}

// own.reduced <- Q* v of a factored operator.
template <class T>
void WideLayer<T>::reduce(const Features<T>& features, const LayerOperators<T>& ops, index_t number, index_t p,
                          Slab slab, const Run& run, Scratch& own) {
  const auto [m, C, F, P] = sizes_;
  const index_t rank = at(layout_.ranks, number);
  Product<T> q{};
  q.planes = P, q.n_panels = run.end - run.begin, q.single = m == 1;
  q.x = features.panel(slab.tile + run.begin, p), q.x_stride = features.tile_stride();
  q.A = layout_.factor(ops, number, p);
  q.row_stride = P, q.col_stride = layout_.n_columns * P, q.imag_offset = 1, q.conj = true;
  q.row_begin = 0, q.row_end = rank, q.n_in = C;
  q.epilogue = Epilogue::kStore;
  q.out = own.reduced.get(), q.out_stride = rank * P * B<T>;
  kernels_.product(q);
}

// The classes that tiles gated to, in runs of tiles; the first few responses of a tile are kept.
template <class T>
void WideLayer<T>::respond_of_candidates(const Features<T>& features, const LayerOperators<T>& ops, Slab slab,
                                         Scratch& own) {
  const char* candidates = candidates_.data() + slab.tile * k_;
  own.runs.clear();
  for (index_t j = 0; j < k_; ++j)
    for (index_t tile = 0; tile < slab.n_tiles; ++tile) {
      if (!candidates[tile * k_ + j]) continue;
      index_t slot = -1;
      if (at(layout_.ranks, j + 1) == 0)
        for (index_t s = n_slots_ - 1; s >= 0; --s)
          if (at(own.slot_class, s * slab_tiles_ + tile) < 0) slot = s;
      if (slot >= 0) at(own.slot_class, slot * slab_tiles_ + tile) = j;
      add_to_runs(own.runs, j, tile, slot);
    }
  respond(features, ops, slab, own.runs, {.in_order = remainder_.has_value()}, own);
}

// own.limits <- what the squares of another class must exceed to be out.
template <class T>
void WideLayer<T>::set_limits(T beyond, Slab slab, Scratch& own) {
  const index_t stride = slab_tiles_ * B<T>;
  const char* candidates = candidates_.data() + slab.tile * k_;
  for (index_t i = 0; i < slab.n_tiles * B<T>; ++i) {
    T least = std::numeric_limits<T>::infinity();
    for (index_t j = 0; j < k_; ++j)
      if (candidates[i / B<T> * k_ + j]) least = std::min(least, own.squares[j * stride + i]);
    // Interleaved without a sample pass at once.
    own.limits[i] = slab.tile * B<T> + i < sizes_.m ? gate_limit(least, beyond) : T(-1);
  }
}

// own.runs <- the classes that are neither candidates nor out: of those kept dense, and of the others if asked.
template <class T>
void WideLayer<T>::set_other_runs(bool factored, Slab slab, Scratch& own) {
  const char* candidates = candidates_.data() + slab.tile * k_;
  own.runs.clear();
  for (index_t j = 0; j < k_; ++j) {
    if (at(layout_.ranks, j + 1) != 0 && !factored) continue;
    for (index_t tile = 0; tile < slab.n_tiles; ++tile)
      if (!candidates[tile * k_ + j] && !std::isinf(own.squares[(j * slab_tiles_ + tile) * B<T>]))
        add_to_runs(own.runs, j, tile, -1);
  }
}

// The class that every sample gated to, for the next layer.
template <class T>
void WideLayer<T>::set_nearest(Slab slab, Scratch& own) {
  const index_t stride = slab_tiles_ * B<T>;
  const T* squares = own.squares.get();
  for (index_t i = 0; i < slab.n_tiles * B<T> && slab.tile * B<T> + i < sizes_.m; ++i) {
    index_t& best = at(nearest_, slab.tile * B<T> + i) = 0;
    for (index_t j = 1; j < k_; ++j)
      if (squares[j * stride + i] < squares[best * stride + i]) best = j;
  }
  for (index_t tile = 0; tile < slab.n_tiles; ++tile) set_candidates(slab.tile + tile);
}

template <class T>
void WideLayer<T>::gates(const Features<T>& features, const LayerOperators<T>& ops, const Step<T>& step, Slab slab,
                         Scratch& own) {
  const index_t stride = slab_tiles_ * B<T>;
  const T beyond = gate_margin<T>(step.lam);
  T* squares = own.squares.get();
  const bool bounded = remainder_ && step.shortcuts.early_stop;
  std::fill_n(squares, k_ * stride, T(0));
  std::fill_n(own.block.get(), k_ * stride, T(0));
  std::fill_n(own.rest.get(), k_ * stride, T(0));
  std::fill(own.slot_class.begin(), own.slot_class.end(), -1);
  respond_of_candidates(features, ops, slab, own);
  set_limits(beyond, slab, own);
  if (sketching(step)) {
    set_other_runs(false, slab, own);
    sketch_->respond(features, slab.tile, freq_weights_.data(), squares, slab_tiles_, own.runs,
                     [&](Run& run) { leave(run, own); });
    for (const Run& run : own.runs)
      std::fill(squares + run.j * stride + run.begin * B<T>, squares + run.j * stride + run.end * B<T>, T(0));
  }
  set_other_runs(true, slab, own);
  if (bounded && !own.runs.empty()) {
    remainder_->begin(features, slab.tile, slab.n_tiles, stride, own.energies.get(), own.rest.get());
    for (Run& run : own.runs) leave(run, own);
  }
  respond(features, ops, slab, own.runs,
          {.in_order = remainder_.has_value(), .limited = step.shortcuts.early_stop, .bounded = bounded}, own);

  std::fill(own.any_live.begin(), own.any_live.end(), char{0});
  kernels_.softmax({.squares = squares,
                    .pi = own.pi.get(),
                    .stride = stride,
                    .k = k_,
                    .lanes = slab.n_tiles * B<T>,
                    .n_samples = sizes_.m - slab.tile * B<T>,
                    .lambda = static_cast<T>(step.lam),
                    .beyond = beyond,
                    .live = own.any_live.data()});
  set_nearest(slab, own);
}

// moved += coefficient * (operator v) for a run of tiles, or for E, which comes first, moved = base * v + the same. The
// identity part of factored operators is in the base.
template <class T>
void WideLayer<T>::add_operator(const Features<T>& features, const LayerOperators<T>& ops, index_t p, Slab slab,
                                const Run& run, Scratch& own) {
  const auto [m, C, F, P] = sizes_;
  const index_t number = run.j + 1, rank = at(layout_.ranks, number);
  Product<T> q{};
  q.planes = P, q.n_panels = run.end - run.begin, q.single = m == 1;
  q.x = features.panel(slab.tile + run.begin, p), q.x_stride = features.tile_stride();
  q.x0 = q.x, q.x0_stride = q.x_stride;
  q.row_begin = 0, q.row_end = C, q.n_in = C;
  if (rank == 0) {
    q.A = layout_.dense(ops, number, p / layout_.d);
    q.row_stride = C * P, q.col_stride = P, q.imag_offset = 1;
  } else {
    reduce(features, ops, number, p, slab, run, own);
    q.A = layout_.factor(ops, number, p);
    q.row_stride = layout_.n_columns * P, q.col_stride = P, q.imag_offset = 1;
    q.n_in = rank;
    q.x = own.reduced.get(), q.x_stride = rank * P * B<T>;
  }
  q.epilogue = number == 0 ? Epilogue::kCombine : Epilogue::kAxpy;
  q.base = own.coefficients.get() + run.begin * B<T>;
  q.coefficient = own.coefficients.get() + ((number + 1) * slab_tiles_ + run.begin) * B<T>;
  q.out = own.moved.get() + run.begin * C * P * B<T>, q.out_stride = C * P * B<T>;
  kernels_.product(q);
  checkpoint(C * q.n_in * P * P * q.n_panels * B<T>, own.since_checkpoint);
}

// Rows of own.coefficients: 0 the base, number + 1 that of an operator. alpha (v - Q Q* v) of a factored operator
// becomes a coefficient of -alpha for Q Q* v and an addition to the base.
template <class T>
void WideLayer<T>::set_base(T base, index_t lanes, Scratch& own) {
  T* identity = own.coefficients.get();
  std::fill_n(identity, lanes, base);
  for (index_t number = 0; number <= k_; ++number) {
    if (at(layout_.ranks, number) == 0) continue;
    T* coefficient = identity + (number + 1) * slab_tiles_ * B<T>;
    const auto alpha = static_cast<T>(alphas_[number]);
    for (index_t i = 0; i < lanes; ++i) {
      coefficient[i] *= -alpha;
      identity[i] -= coefficient[i];
    }
  }
}

// own.runs <- where operators have to be applied: E everywhere, and every class that is live in a tile and whose
// response there was not kept.
template <class T>
void WideLayer<T>::set_runs(Slab slab, Scratch& own) {
  std::vector<Run>& runs = own.runs;
  runs.clear();
  runs.push_back({-1, 0, slab.n_tiles, -1, 0});
  for (index_t j = 0; j < k_; ++j)
    for (index_t tile = 0; tile < slab.n_tiles; ++tile) {
      bool kept = false;
      for (index_t s = 0; s < n_slots_; ++s) kept |= at(own.slot_class, s * slab_tiles_ + tile) == j;
      if (kept || !at(own.live, j * slab_tiles_ + tile)) continue;
      add_to_runs(runs, j, tile, -1);
    }
}

// v <- base v + sum over operators of coefficient * (operator v) at one frequency, and squares += w_p |v|^2.
template <class T>
void WideLayer<T>::step_at(Features<T>& features, const LayerOperators<T>& ops, index_t p, Slab slab, Scratch& own) {
  const auto [m, C, F, P] = sizes_;
  const index_t panel = C * P * B<T>;
  for (const Run& run : own.runs) add_operator(features, ops, p, slab, run, own);
  Settle<T> q{};
  q.moved_stride = panel, q.v_stride = features.tile_stride(), q.n_rows = C * P;
  q.weight = at(freq_weights_, p);
  const auto settle = [&](index_t tile, index_t n_tiles) {
    q.moved = own.moved.get() + tile * panel;
    q.v = features.panel(slab.tile + tile, p);
    q.squares = own.squares.get() + tile * B<T>;
    q.n_panels = n_tiles;
    kernels_.settle(q);
  };
  if (n_slots_ == 0) return settle(0, slab.n_tiles);
  const T *terms[kMostTerms], *coefficients[kMostTerms];
  q.terms = terms, q.coefficients = coefficients;
  for (index_t tile = 0; tile < slab.n_tiles; ++tile) {
    q.n_terms = 0;
    for (index_t s = 0; s < n_slots_; ++s) {
      const index_t j = at(own.slot_class, s * slab_tiles_ + tile);
      if (j < 0 || !at(own.live, j * slab_tiles_ + tile)) continue;
      terms[q.n_terms] = own.responses.get() + s * response_size_ + (p * slab_tiles_ + tile) * panel;
      coefficients[q.n_terms++] = own.coefficients.get() + ((j + 2) * slab_tiles_ + tile) * B<T>;
    }
    settle(tile, 1);
  }
}

// own.pi <- the assignment of the slab's samples, own.live <- the classes that are not zero in a tile.
template <class T>
void WideLayer<T>::assign(const Features<T>& features, const LayerOperators<T>& ops, const Step<T>& step, Slab slab,
                          Scratch& own) {
  const index_t stride = slab_tiles_ * B<T>;
  if (step.membership == nullptr) {
    gates(features, ops, step, slab, own);
  } else {
    std::fill(own.slot_class.begin(), own.slot_class.end(), -1);
    for (index_t j = 0; j < k_; ++j)
      std::copy_n(step.membership + j * features.n_tiles() * B<T> + slab.tile * B<T>, slab.n_tiles * B<T>,
                  own.pi.get() + j * stride);
  }
  for (index_t j = 0; j < k_; ++j)
    for (index_t tile = 0; tile < slab.n_tiles; ++tile) {
      const index_t n = std::min(B<T>, sizes_.m - (slab.tile + tile) * B<T>);
      const T* pi = own.pi.get() + j * stride + tile * B<T>;
      at(own.live, j * slab_tiles_ + tile) = std::any_of(pi, pi + n, [](T x) { return x != 0; });
    }
}

// v <- v + eta (E v - sum_j gamma_j pi_j C^j v) of a slab that is assigned; own.squares <- the squared norms.
template <class T>
void WideLayer<T>::take_step(Features<T>& features, const LayerOperators<T>& ops, const Step<T>& step, Slab slab,
                             Scratch& own) {
  const index_t stride = slab_tiles_ * B<T>, lanes = slab.n_tiles * B<T>;
  std::fill_n(own.coefficients.get() + stride, lanes, static_cast<T>(step.eta));
  for (index_t j = 0; j < k_; ++j)
    for (index_t i = 0; i < lanes; ++i)
      own.coefficients[(j + 2) * stride + i] = static_cast<T>(-step.eta * step.gammas[j]) * own.pi[j * stride + i];
  std::fill_n(own.squares.get(), lanes, T(0));
  set_base(T(1), lanes, own);
  set_runs(slab, own);
  for (index_t p = 0; p < sizes_.F; ++p) step_at(features, ops, p, slab, own);
}

template <class T>
void WideLayer<T>::give(const Features<T>& features, Slab slab, index_t rows, const T* lanes, double* numbers) const {
  if (numbers == nullptr) return;
  for (index_t i = 0; i < slab.n_tiles * B<T> && slab.tile * B<T> + i < sizes_.m; ++i)
    for (index_t j = 0; j < rows; ++j)
      numbers[features.sample(slab.tile * B<T> + i) * rows + j] = lanes[j * slab_tiles_ * B<T> + i];
}

template <class T>
void WideLayer<T>::move(Features<T>& features, const LayerOperators<T>& ops, const Step<T>& step, const Taken& taken) {
  const auto [m, C, F, P] = sizes_;
  const index_t n_slabs = (features.n_tiles() + slab_tiles_ - 1) / slab_tiles_;
  if (sketching(step)) sketch_->prepare(features, ops);
  if (remainder_ && step.membership == nullptr) remainder_->prepare(ops);
  parallel_.run(n_slabs, work(), [&, C = C, F = F, P = P](index_t index, int thread) {
    Scratch& own = at(scratch_, thread);
    const Slab part = slab(index, features);
    const index_t lanes = part.n_tiles * B<T>;
    assign(features, ops, step, part, own);
    T* squares = own.squares.get();
    give(features, part, k_, own.pi.get(), taken.pi);
    give(features, part, k_, squares, taken.squares);
    take_step(features, ops, step, part, own);
    kernels_.reciprocal_norms(squares, lanes, static_cast<T>(kSmallestNorm));
    give(features, part, 1, squares, taken.scale);
    T* v = features.panel(part.tile, 0);
    kernels_.scale(v, features.tile_stride(), v, features.tile_stride(), part.n_tiles, F * C * P, squares);
  });
}

template <class T>
void WideLayer<T>::response_norms(const Features<T>& features, const LayerOperators<T>& ops, double* squares) {
  const index_t n_slabs = divide_up(features.n_tiles(), slab_tiles_);
  parallel_.run(n_slabs, work(), [&](index_t index, int thread) {
    Scratch& own = at(scratch_, thread);
    const Slab part = slab(index, features);
    std::fill_n(own.squares.get(), k_ * slab_tiles_ * B<T>, T(0));
    own.runs.clear();
    for (index_t j = 0; j < k_; ++j)
      own.runs.push_back({.j = j, .begin = 0, .end = part.n_tiles, .slot = -1, .work = 0});
    respond(features, ops, part, own.runs, {}, own);
    give(features, part, k_, own.squares.get(), squares);
  });
}

template <class T>
void WideLayer<T>::step(Features<T>& features, const LayerOperators<T>& ops, const Step<T>& step, double* squares) {
  const index_t n_slabs = divide_up(features.n_tiles(), slab_tiles_);
  parallel_.run(n_slabs, work(), [&](index_t index, int thread) {
    Scratch& own = at(scratch_, thread);
    const Slab part = slab(index, features);
    assign(features, ops, step, part, own);
    take_step(features, ops, step, part, own);
    give(features, part, 1, own.squares.get(), squares);
  });
}

template <class T>
void WideLayer<T>::extrapolate(Features<T>& features, Features<T>& before, double beta) {
  const auto [m, C, F, P] = sizes_;
  const index_t n_slabs = divide_up(features.n_tiles(), slab_tiles_);
  features.swap_numbers(before);
  parallel_.run(n_slabs, double(m * C * F * P), [&, C = C, F = F, P = P](index_t index, int thread) {
    const Slab part = slab(index, features);
    T *v = features.panel(part.tile, 0), *by = at(scratch_, thread).squares.get();
    extrapolate_tiles(kernels_, before.panel(part.tile, 0), v, part.n_tiles, sizes_, freq_weights_.data(),
                      static_cast<T>(beta), by);
    kernels_.scale(v, features.tile_stride(), v, features.tile_stride(), part.n_tiles, F * C * P, by);
  });
}

template class WideLayer<float>;
template class WideLayer<double>;

}  // namespace redunet
