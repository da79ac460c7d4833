#include "layer/sketch.hpp"

#include <algorithm>
#include <cmath>

#include "base/parts.hpp"

namespace redunet {
namespace {

template <class T>
constexpr index_t B = kPanel<T>;

// W spans an eighth to a half of the channels; a gate that is out is mostly out after the first rows.
constexpr index_t kFewestChannels = 32;
// Rows of one call of the product, however long.
constexpr index_t kFewestRows = 64;
// Samples for each row of W, below which making the sketches costs as much as they save.
constexpr index_t kSamplesPerRow = 8;
// Tiles that a sum is taken over: enough to see what the samples of a group have in common.
constexpr index_t kTilesPerGroup = 4;
// a ||x||^2 for every column x of X: L is well conditioned, and a direction that few columns have in common is still
// seen almost whole.
constexpr double kScale = 100;
// By how much rounding may have made ||W||^2 exceed one: the condition of L L* is below 1 + kScale rank.
constexpr double kSlack = 0.01;

template <class T>
index_t rows_for(const OperatorLayout& layout) {
  const auto k = static_cast<index_t>(layout.ranks.size()) - 1;
  return divide_up(std::max(k, layout.sizes.C / 4), B<T>) * B<T>;
}

}  // namespace

template <class T>
bool Sketch<T>::pays(const OperatorLayout& layout) {
  const auto n_dense = std::count(layout.ranks.begin() + 1, layout.ranks.end(), 0);
  const index_t rows = rows_for<T>(layout);
  return layout.d == 1 && n_dense > 2 && layout.sizes.C >= kFewestChannels && 2 * rows <= layout.sizes.C &&
         layout.sizes.m >= kSamplesPerRow * rows;
}

template <class T>
Sketch<T>::Sketch(const Kernels<T>& kernels, Parallel& parallel, const OperatorLayout& layout,
                  const Features<T>& features, const std::int64_t* labels)
    : kernels_(kernels),
      parallel_(parallel),
      layout_(layout),
      k_(static_cast<index_t>(layout.ranks.size()) - 1),
      rank_(rows_for<T>(layout)),
      n_panels_(rank_ / B<T>),
      scratch_(as_size(parallel.n_threads())) {
  const auto [m, C, F, P] = layout.sizes;
  // Equal shares of the samples as they lie, or of each class; one share of every class comes before any second one.
  const index_t n_sets = labels == nullptr ? 1 : k_;
  index_t position = 0;
  for (index_t j = 0; j < n_sets; ++j) {
    index_t end = labels == nullptr ? m : position;
    while (end < m && labels[features.sample(end)] == j) ++end;
    const index_t shares = rank_ * (j + 1) / n_sets - rank_ * j / n_sets;
    for (index_t share = 0; share < shares; ++share)
      groups_.push_back(
          {share, position + (end - position) * share / shares, position + (end - position) * (share + 1) / shares});
    position = end;
  }
  std::stable_sort(groups_.begin(), groups_.end(), [](const Group& a, const Group& b) { return a.share < b.share; });
  columns_ = Buffer<T>(F * rank_ * C * P);
  sketches_ = Buffer<T>(F * k_ * rank_ * C * P);
  for (auto& own : scratch_) {
    own.sum = Buffer<T>(C * P * B<T>);
    own.rows = Buffer<T>(divide_up(C, B<T>) * rank_ * P * B<T>);
    own.gram = Buffer<T>(rank_ * rank_ * P);
    own.matrix = std::make_unique<BlockedMatrix<T>>(kernels, rank_, P);
  }
}

template <class T>
T* Sketch<T>::sketch(index_t j, index_t p) {
  return sketches_.get() + (p * k_ + j) * rank_ * layout_.sizes.C * layout_.sizes.planes;
}

// columns_ <- W* at one frequency, a panel of kPanel columns after the other.
template <class T>
void Sketch<T>::span(const Features<T>& features, index_t p, Scratch& own) {
  const auto [m, C, F, P] = layout_.sizes;
  const index_t n_channel_panels = divide_up(C, B<T>), panel = rank_ * P * B<T>;
  T* rows = own.rows.get();
  std::fill_n(rows, n_channel_panels * panel, T(0));
  for (index_t g = 0; g < rank_; ++g) {
    const auto [share, begin, group_end] = at(groups_, g);
    const index_t end = std::min(group_end, begin + kTilesPerGroup * B<T>);
    T* sum = own.sum.get();
    std::fill_n(sum, C * P * B<T>, T(0));
    for (index_t tile = begin / B<T>; tile * B<T> < end; ++tile) {
      const T* v = features.panel(tile, p);
      const index_t from = std::max<index_t>(0, begin - tile * B<T>), to = std::min(B<T>, end - tile * B<T>);
      for (index_t row = 0; row < C * P; ++row)
        for (index_t lane = from; lane < to; ++lane) sum[row * B<T> + lane] += v[row * B<T> + lane];
    }
    double square = 0;
    for (index_t row = 0; row < C * P; ++row) {
      T total = 0;
      for (index_t lane = 0; lane < B<T>; ++lane) total += sum[row * B<T> + lane];
      sum[row * B<T>] = total;
      square += double(total) * double(total);
    }
    const T scale = square > 0 ? static_cast<T>(std::sqrt(kScale / square)) : T(0);
    for (index_t c = 0; c < C; ++c) {
      T* to = rows + c / B<T> * panel + g * P * B<T> + c % B<T>;
      to[0] = scale * sum[c * P * B<T>];
      if (P == 2) to[B<T>] = -scale * sum[(c * P + 1) * B<T>];
    }
  }
  Gram<T> g{};
  g.v = rows, g.panel_stride = panel, g.n_panels = n_channel_panels;
  g.row_end = rank_, g.planes = P;
  g.G = own.gram.get(), g.row_stride = rank_ * P, g.col_stride = P, g.imag_offset = 1;
  gram_in_parts(kernels_, g);
  own.matrix->read(own.gram.get(), rank_ * P, P, 1, T(1), T(1));
  const bool good = std::isfinite(own.matrix->cholesky());
  own.matrix->write(own.gram.get(), rank_ * P, T(1), false);
  if (good)
    substitute_in_parts<T>(kernels_,
                           {own.gram.get(), rank_ * P, P, 1, false, rank_, P, rows, 1, panel, n_channel_panels});
  T* columns = columns_.get() + p * rank_ * C * P;
  for (index_t r = 0; r < rank_; ++r)
    for (index_t c = 0; c < C; ++c) {
      const T* from = rows + c / B<T> * panel + r * P * B<T> + c % B<T>;
      T* to = columns + (r / B<T> * C + c) * P * B<T> + r % B<T>;
      to[0] = good ? from[0] : T(0);  // W = 0 bounds nothing, which is right
      if (P == 2) to[B<T>] = good ? -from[B<T>] : T(0);
    }
}

template <class T>
void Sketch<T>::prepare(const Features<T>& features, const LayerOperators<T>& ops) {
  const auto [m, C, F, P] = layout_.sizes;
  const double work = double(F * rank_) * double(C * P) * double(rank_ * P);
  parallel_.run(F, work, [&](index_t p, int thread) { span(features, p, at(scratch_, thread)); });
  parallel_.run(F * k_, work, [&, C = C, P = P](index_t task, int) {
    const index_t p = task / k_, j = task % k_;
    if (at(layout_.ranks, j + 1) != 0) return;
    Product<T> q{};
    q.A = layout_.dense(ops, j + 1, p);
    q.row_stride = C * P, q.col_stride = P, q.imag_offset = 1;
    q.n_in = C, q.planes = P;
    q.x = columns_.get() + p * rank_ * C * P, q.x_stride = C * P * B<T>, q.n_panels = n_panels_;
    q.epilogue = Epilogue::kStore;
    q.out = sketch(j, p), q.out_stride = q.x_stride;
    const index_t row_work = C * P * P * n_panels_ * B<T>, together = std::max(kFewestRows, kPartWork / row_work);
    for (; q.row_begin < C; q.row_begin = q.row_end) {
      q.row_end = std::min(C, q.row_begin + together);
      kernels_.product(q);
      checkpoint((q.row_end - q.row_begin) * row_work);
    }
  });
}

template <class T>
void Sketch<T>::respond(const Features<T>& features, index_t first_tile, const T* freq_weights, T* squares,
                        index_t slab_tiles, std::vector<ClassRun>& runs, const std::function<void(ClassRun&)>& look) {
  const auto [m, C, F, P] = layout_.sizes;
  index_t since_checkpoint = 0;
  for (index_t panel = 0; panel < n_panels_ && !runs.empty(); ++panel)
    for (index_t p = 0; p < F && !runs.empty(); ++p) {
      for (ClassRun& run : runs) {
        Product<T> q{};
        q.A = sketch(run.j, p) + panel * C * P * B<T>;
        q.row_stride = 1, q.col_stride = P * B<T>, q.imag_offset = B<T>, q.conj = true;
        q.row_end = B<T>, q.n_in = C, q.planes = P;
        q.x = features.panel(first_tile + run.begin, p), q.x_stride = features.tile_stride();
        q.n_panels = run.end - run.begin;
        q.epilogue = Epilogue::kSquaredNorm;
        q.weight = static_cast<T>(1 - kSlack) * freq_weights[p];
        q.squares = squares + (run.j * slab_tiles + run.begin) * B<T>;
        kernels_.product(q);
        checkpoint(C * P * P * B<T> * q.n_panels * B<T>, since_checkpoint);
        look(run);
      }
      std::erase_if(runs, [](const ClassRun& run) { return run.begin == run.end; });
    }
}

template class Sketch<float>;
template class Sketch<double>;

}  // namespace redunet
