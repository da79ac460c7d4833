// Features through one layer, slab by slab: a slab is a few tiles, small enough to stay in the L2 cache and wide enough
// to share every operator that is read.
//
// Gates first: rho_j^2 = sum_p w_p ||C^j(p) v(p)||^2, class by class, beginning with the one the slab gated to in the
// layer before. A class is left as soon as the partial sum exceeds (rho_best + ln(1/u)/lambda)^2 for all samples of the
// slab: its assignment is then zero to rounding. Then the step, frequency by frequency, with the classes that are not
// zero.

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine.hpp"

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

// What a slab's responses C^j v may take to be kept for the step: they stay in the L2 cache, or are computed again.
constexpr index_t kResponseBytes = 1 << 19;

// Multiply-adds between two looks at whether a class can be left.
constexpr index_t kWorkBetweenLooks = 1 << 12;

}  // namespace

template <class T>
Sweep<T>::Sweep(const Kernels<T>& kernels, Parallel& parallel, const OperatorLayout& layout, const double* alphas,
                const double* freq_weights, const Features<T>& features)
    : kernels_(kernels),
      parallel_(parallel),
      layout_(layout),
      alphas_(alphas),
      k_(static_cast<index_t>(layout.ranks.size()) - 1),
      nearest_(static_cast<std::size_t>(features.n_tiles()), 0),
      scratch_(static_cast<std::size_t>(parallel.n_threads())) {
  const auto [m, C, F, P] = layout.sizes;
  for (index_t p = 0; p < F; ++p) freq_weights_.push_back(static_cast<T>(freq_weights[p]));
  const index_t tile_bytes = features.tile_stride() * static_cast<index_t>(sizeof(T));
  const bool large = C * C * P * static_cast<index_t>(sizeof(T)) * F > kLargeOperatorBytes;
  const index_t fewest = large ? kFewestTilesLarge : kFewestTiles;
  slab_tiles_ = std::clamp(kSlabBytes / tile_bytes, fewest, kMostTiles);
  // Enough slabs for all threads; how samples are grouped does not change their results.
  const index_t n_threads = parallel.n_threads();
  slab_tiles_ = std::max<index_t>(1, std::min(slab_tiles_, (features.n_tiles() + n_threads - 1) / n_threads));
  const index_t most = *std::max_element(layout.ranks.begin(), layout.ranks.end());
  response_size_ = slab_tiles_ * features.tile_stride();
  keep_responses_ =
      most == 0 && k_ <= kMostTerms && k_ * response_size_ * static_cast<index_t>(sizeof(T)) <= kResponseBytes;
  for (auto& own : scratch_) {
    own.moved = Buffer<T>(slab_tiles_ * C * P * B<T>);
    own.reduced = Buffer<T>(slab_tiles_ * most * P * B<T>);
    own.squares = Buffer<T>(k_ * slab_tiles_ * B<T>);
    own.pi = Buffer<T>(k_ * slab_tiles_ * B<T>);
    own.coefficients = Buffer<T>((k_ + 2) * slab_tiles_ * B<T>);
    if (keep_responses_) own.responses = Buffer<T>(k_ * response_size_);
    own.live.assign(static_cast<std::size_t>(k_), 0);
  }
}

// Multiply-adds of one application of every operator to every sample.
template <class T>
double Sweep<T>::work() const {
  const auto [m, C, F, P] = layout_.sizes;
  return double(m) * double(F * C * C * P * P) * double(k_ + 1);
}

template <class T>
auto Sweep<T>::slab(index_t index, const Features<T>& features) const -> Slab {
  const index_t n = features.n_tiles(), count = (n + slab_tiles_ - 1) / slab_tiles_;
  const index_t begin = n * index / count;
  return {begin, n * (index + 1) / count - begin};
}

// squares of class number - 1 += w_p ||C(p) v(p)||^2 over frequencies and rows; false if all samples passed their
// limits.
template <class T>
bool Sweep<T>::respond(const Features<T>& features, const LayerOperators<T>& ops, index_t number, Slab slab,
                       Scratch& own, const T* limits) {
  const auto [m, C, F, P] = layout_.sizes;
  const index_t rank = layout_.ranks[static_cast<std::size_t>(number)], lanes = slab.n_tiles * B<T>;
  T* squares = own.squares.get() + (number - 1) * slab_tiles_ * B<T>;
  std::fill(squares, squares + lanes, T(0));
  const auto alpha = static_cast<T>(alphas_[number]);
  const index_t width = rank == 0 ? C : 2 * rank;
  const index_t rows_per_look = std::max<index_t>(kGramRows, kWorkBetweenLooks / C);
  index_t work = 0;
  for (index_t p = 0; p < F; ++p) {
    Product<T> q{};
    q.planes = P, q.n_panels = slab.n_tiles;
    q.x = features.panel(slab.tile, p), q.x_stride = features.tile_stride();
    q.squares = squares;
    q.weight = freq_weights_[static_cast<std::size_t>(p)];
    if (rank == 0) {
      q.A = layout_.dense(ops, number, p);
      q.row_stride = C * P, q.col_stride = P, q.imag_offset = 1;
      q.n_in = C;
      q.epilogue = keep_responses_ ? Epilogue::kStoreSquaredNorm : Epilogue::kSquaredNorm;
      q.out = own.responses.get() + (number - 1) * response_size_ + p * slab_tiles_ * C * P * B<T>;
      q.out_stride = C * P * B<T>;
    } else {
      q.A = layout_.factor(ops, number, p);
      q.row_stride = P, q.col_stride = layout_.n_columns * P, q.imag_offset = 1, q.conj = true;
      q.row_begin = 0, q.row_end = rank, q.n_in = C;
      q.epilogue = Epilogue::kStore;
      q.out = own.reduced.get(), q.out_stride = rank * P * B<T>;
      kernels_.product(q);
      q.x0 = q.x, q.x0_stride = q.x_stride;
      q.x = own.reduced.get(), q.x_stride = q.out_stride;
      std::swap(q.row_stride, q.col_stride), q.conj = false;
      q.n_in = rank;
      q.weight *= alpha * alpha;
      q.epilogue = Epilogue::kResidualNorm;
    }
    for (index_t row = 0; row < C; row += rows_per_look) {
      q.row_begin = row, q.row_end = std::min(C, row + rows_per_look);
      kernels_.product(q);
      work += (q.row_end - row) * width * P;
      if (limits != nullptr && work >= kWorkBetweenLooks) {
        work = 0;
        bool all = true;
        for (index_t i = 0; i < lanes; ++i) all &= squares[i] > limits[i];
        if (all) return false;
      }
    }
  }
  return true;
}

template <class T>
void Sweep<T>::gates(const Features<T>& features, const LayerOperators<T>& ops, const Step<T>& step, Slab slab,
                     Scratch& own) {
  const index_t lanes = slab.n_tiles * B<T>, stride = slab_tiles_ * B<T>;
  const T beyond = gate_margin<T>(step.lam);
  const index_t first = nearest_[static_cast<std::size_t>(slab.tile)];
  respond(features, ops, first + 1, slab, own, nullptr);
  T* limits = own.coefficients.get();
  for (index_t i = 0; i < lanes; ++i) {
    const T limit = std::sqrt(own.squares[first * stride + i]) + beyond;
    // Lanes without a sample pass at once.
    limits[i] = slab.tile * B<T> + i < layout_.sizes.m ? limit * limit : T(-1);
  }
  for (index_t j = 0; j < k_; ++j)
    if (j != first && !respond(features, ops, j + 1, slab, own, limits))
      std::fill_n(own.squares.get() + j * stride, lanes, std::numeric_limits<T>::infinity());
  std::fill(own.live.begin(), own.live.end(), char{0});
  kernels_.softmax({own.squares.get(), own.pi.get(), stride, k_, lanes, features.sizes().m - slab.tile * B<T>,
                    static_cast<T>(step.lam), beyond, own.live.data()});
  for (index_t i = 0; i < lanes; i += B<T>) {
    index_t best = 0;
    for (index_t j = 1; j < k_; ++j)
      if (own.squares[j * stride + i] < own.squares[best * stride + i]) best = j;
    nearest_[static_cast<std::size_t>(slab.tile + i / B<T>)] = best;
  }
}

// moved += coefficient * (operator v), or for E, which comes first, moved = base * v + the same. The identity part of
// factored operators is in the base.
template <class T>
void Sweep<T>::add_operator(const Features<T>& features, const LayerOperators<T>& ops, index_t number, index_t p,
                            Slab slab, Scratch& own) {
  const auto [m, C, F, P] = layout_.sizes;
  const index_t rank = layout_.ranks[static_cast<std::size_t>(number)];
  Product<T> q{};
  q.planes = P, q.n_panels = slab.n_tiles;
  q.x = features.panel(slab.tile, p), q.x_stride = features.tile_stride();
  q.coefficient = own.coefficients.get() + (number + 1) * slab_tiles_ * B<T>;
  if (rank == 0) {
    q.A = layout_.dense(ops, number, p);
    q.row_stride = C * P, q.col_stride = P, q.imag_offset = 1;
  } else {
    q.A = layout_.factor(ops, number, p);
    q.row_stride = P, q.col_stride = layout_.n_columns * P, q.imag_offset = 1, q.conj = true;
    q.row_begin = 0, q.row_end = rank, q.n_in = C;
    q.epilogue = Epilogue::kStore;
    q.out = own.reduced.get(), q.out_stride = rank * P * B<T>;
    kernels_.product(q);
    q.x = own.reduced.get(), q.x_stride = q.out_stride;
    std::swap(q.row_stride, q.col_stride), q.conj = false;
  }
  q.row_begin = 0, q.row_end = C, q.n_in = rank == 0 ? C : rank;
  q.epilogue = number == 0 ? Epilogue::kCombine : Epilogue::kAxpy;
  q.base = own.coefficients.get();
  q.x0 = features.panel(slab.tile, p), q.x0_stride = features.tile_stride();
  q.out = own.moved.get(), q.out_stride = C * P * B<T>;
  kernels_.product(q);
}

// Rows of own.coefficients: 0 the base, number + 1 that of an operator. alpha (v - Q Q* v) of a factored operator
// becomes a coefficient of -alpha for Q Q* v and an addition to the base.
template <class T>
void Sweep<T>::set_base(T base, index_t lanes, Scratch& own) {
  T* identity = own.coefficients.get();
  std::fill_n(identity, lanes, base);
  for (index_t number = 0; number <= k_; ++number) {
    if (layout_.ranks[static_cast<std::size_t>(number)] == 0) continue;
    T* coefficient = identity + (number + 1) * slab_tiles_ * B<T>;
    const auto alpha = static_cast<T>(alphas_[number]);
    for (index_t i = 0; i < lanes; ++i) {
      coefficient[i] *= -alpha;
      identity[i] -= coefficient[i];
    }
  }
}

// v <- base v + sum over operators of coefficient * (operator v) at one frequency, and squares += w_p |v|^2.
template <class T>
void Sweep<T>::step_at(Features<T>& features, const LayerOperators<T>& ops, index_t p, bool responses_kept, Slab slab,
                       Scratch& own) {
  const auto [m, C, F, P] = layout_.sizes;
  add_operator(features, ops, 0, p, slab, own);
  Settle<T> q{};
  const T *terms[kMostTerms], *coefficients[kMostTerms];
  for (index_t j = 0; j < k_; ++j) {
    if (!own.live[static_cast<std::size_t>(j)]) continue;
    if (responses_kept) {
      terms[q.n_terms] = own.responses.get() + j * response_size_ + p * slab_tiles_ * C * P * B<T>;
      coefficients[q.n_terms++] = own.coefficients.get() + (j + 2) * slab_tiles_ * B<T>;
    } else {
      add_operator(features, ops, j + 1, p, slab, own);
    }
  }
  q.terms = terms, q.coefficients = coefficients;
  q.moved = own.moved.get(), q.moved_stride = C * P * B<T>;
  q.v = features.panel(slab.tile, p), q.v_stride = features.tile_stride();
  q.n_panels = slab.n_tiles, q.n_rows = C * P;
  q.weight = freq_weights_[static_cast<std::size_t>(p)];
  q.squares = own.squares.get();
  kernels_.settle(q);
}

template <class T>
void Sweep<T>::move(Features<T>& features, const LayerOperators<T>& ops, const Step<T>& step, double* assignments) {
  const auto [m, C, F, P] = layout_.sizes;
  const index_t n_slabs = (features.n_tiles() + slab_tiles_ - 1) / slab_tiles_, stride = slab_tiles_ * B<T>;
  parallel_.run(n_slabs, work(), [&, m = m, C = C, F = F, P = P](index_t index, int thread) {
    Scratch& own = scratch_[static_cast<std::size_t>(thread)];
    const Slab part = slab(index, features);
    const index_t lanes = part.n_tiles * B<T>;
    if (step.membership == nullptr) {
      gates(features, ops, step, part, own);
    } else {
      for (index_t j = 0; j < k_; ++j) {
        const T* given = step.membership + j * features.n_tiles() * B<T> + part.tile * B<T>;
        std::copy_n(given, lanes, own.pi.get() + j * stride);
        own.live[static_cast<std::size_t>(j)] = std::any_of(given, given + lanes, [](T pi) { return pi != 0; });
      }
    }
    if (assignments != nullptr)
      for (index_t i = 0; i < lanes && part.tile * B<T> + i < m; ++i)
        for (index_t j = 0; j < k_; ++j)
          assignments[features.sample(part.tile * B<T> + i) * k_ + j] = own.pi[j * stride + i];
    std::fill_n(own.coefficients.get() + stride, lanes, static_cast<T>(step.eta));
    for (index_t j = 0; j < k_; ++j)
      for (index_t i = 0; i < lanes; ++i)
        own.coefficients[(j + 2) * stride + i] = static_cast<T>(-step.eta * step.gammas[j]) * own.pi[j * stride + i];
    T* squares = own.squares.get();
    std::fill_n(squares, lanes, T(0));
    set_base(T(1), lanes, own);
    for (index_t p = 0; p < F; ++p) step_at(features, ops, p, keep_responses_ && step.membership == nullptr, part, own);
    kernels_.reciprocal_norms(squares, lanes, static_cast<T>(kSmallestNorm));
    T* v = features.panel(part.tile, 0);
    kernels_.scale(v, features.tile_stride(), v, features.tile_stride(), part.n_tiles, F * C * P, squares);
  });
}

template <class T>
void Sweep<T>::gradient(Features<T>& features, const LayerOperators<T>& ops, const Step<T>& step,
                        const std::vector<T>& factor) {
  const auto [m, C, F, P] = layout_.sizes;
  const index_t n_slabs = (features.n_tiles() + slab_tiles_ - 1) / slab_tiles_, stride = slab_tiles_ * B<T>;
  parallel_.run(n_slabs, work(), [&, C = C, F = F, P = P](index_t index, int thread) {
    Scratch& own = scratch_[static_cast<std::size_t>(thread)];
    const Slab part = slab(index, features);
    const index_t lanes = part.n_tiles * B<T>;
    std::fill(own.live.begin(), own.live.end(), char{1});
    const T* by = factor.data() + part.tile * B<T>;
    std::copy_n(by, lanes, own.coefficients.get() + stride);
    for (index_t j = 0; j < k_; ++j)
      for (index_t i = 0; i < lanes; ++i)
        own.coefficients[(j + 2) * stride + i] =
            static_cast<T>(-step.gammas[j]) * by[i] * step.membership[(j * features.n_tiles() + part.tile) * B<T> + i];
    set_base(T(0), lanes, own);
    for (index_t p = 0; p < F; ++p) step_at(features, ops, p, false, part, own);
  });
}

template class Sweep<float>;
template class Sweep<double>;

}  // namespace redunet
