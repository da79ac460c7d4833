#include "layer/fused.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace redunet {
namespace {

template <class T>
constexpr index_t B = kPanel<T>;

// A chunk stays in the L2 cache from the gates to the Gram matrices; of tiny tiles not more than kMostTiles, whose
// lanes then stay in the L1 cache.
constexpr index_t kChunkBytes = 1 << 20;
constexpr index_t kFewestTiles = 2, kMostTiles = 128;

// A task sums the Gram matrices of its chunks. More tasks share better among threads, fewer leave less to add up: from
// kTaskWork multiply-adds on (about 25 microseconds) a task is long enough, and kMostTasks serve any machine.
constexpr double kTaskWork = 1 << 21;
constexpr index_t kMostTasks = 128;

// From here on classes are left early: with fewer, all of them at once cost less than two passes.
constexpr index_t kManyClasses = 4;
// Frequencies between two looks at whether a class can be left.
constexpr index_t kFrequenciesBetweenLooks = 16;

}  // namespace

template <class T>
bool FusedLayer<T>::fits(const OperatorLayout& layout) {
  return layout.sizes.C <= few_channels(layout.sizes.planes) && layout.d == 1;
}

template <class T>
FusedLayer<T>::FusedLayer(const Kernels<T>& kernels, Parallel& parallel, const OperatorLayout& layout,
                          const double* alphas, const double* freq_weights, const Features<T>& features,
                          const OperatorBuilder<T>* builder)
    : kernels_(kernels),
      parallel_(parallel),
      layout_(layout),
      alphas_(alphas),
      k_(static_cast<index_t>(layout.ranks.size()) - 1),
      scratch_(as_size(parallel.n_threads())) {
  const auto [m, C, F, P] = layout.sizes;
  for (index_t p = 0; p < F; ++p) freq_weights_.push_back(static_cast<T>(freq_weights[p]));
  // Chunks and tasks depend on the problem alone: results must not depend on the number of threads.
  const index_t n_tiles = features.n_tiles(), tile_bytes = features.tile_stride() * static_cast<index_t>(sizeof(T));
  n_tasks_ = static_cast<index_t>(std::clamp(work() / kTaskWork, 1.0, double(kMostTasks)));
  chunk_tiles_ = std::clamp(kChunkBytes / tile_bytes, kFewestTiles, kMostTiles);
  chunk_tiles_ = std::min(chunk_tiles_, divide_up(n_tiles, n_tasks_));
  n_chunks_ = divide_up(n_tiles, chunk_tiles_);
  n_tasks_ = std::min(n_tasks_, n_chunks_);
  nearest_.assign(as_size(n_chunks_), 0);
  const index_t operators = k_ * F * C * C * P, lanes = chunk_tiles_ * B<T>;
  merged_ = Buffer<T>(operators);
  if (layout.n_columns > 0) expanded_ = Buffer<T>(operators), total_ = Buffer<T>(F * C * C * P);
  for (auto& own : scratch_) {
    own.squares = Buffer<T>(k_ * lanes);
    own.pi = Buffer<T>(k_ * lanes);
    own.limits = Buffer<T>(lanes);
    own.scale = Buffer<T>(lanes);
    own.live.assign(as_size(k_), 0);
    own.classes.reserve(as_size(k_));
  }
  if (builder == nullptr) return;
  const index_t sum_size = F * gram_entries<T>(C, P) + B<T>;
  const auto list_sums = [&] {
    sums_.clear(), first_sum_.clear();
    for (index_t task = 0; task < n_tasks_; ++task) {
      first_sum_.push_back(static_cast<index_t>(sums_.size()));
      const index_t begin = n_chunks_ * task / n_tasks_ * chunk_tiles_,
                    end = std::min(n_tiles, n_chunks_ * (task + 1) / n_tasks_ * chunk_tiles_);
      for (const index_t number : builder->summed_numbers()) {
        const Members<T>& members = builder->members(number);
        if (members.first < end && begin < members.last) sums_.push_back({number, &members, nullptr});
      }
    }
    first_sum_.push_back(static_cast<index_t>(sums_.size()));
    return static_cast<index_t>(sums_.size()) * sum_size;
  };
  // With soft labels every task has sums of every class: not more memory than a quarter of the features, or than one
  // sum for each class and half as many where tasks share a class.
  const auto n_sums = static_cast<index_t>(builder->summed_numbers().size());
  const index_t room = std::max(n_tiles * features.tile_stride() / 4, (n_sums + n_sums / 2) * sum_size);
  while (list_sums() > room && n_tasks_ > 1) n_tasks_ /= 2;
  sums_size_ = static_cast<index_t>(sums_.size()) * sum_size;
  sums_data_ = Buffer<T>(sums_size_);
  for (std::size_t i = 0; i < sums_.size(); ++i) sums_[i].G = sums_data_.get() + static_cast<index_t>(i) * sum_size;
}

// Multiply-adds of the gates and the step.
template <class T>
double FusedLayer<T>::work() const {
  const auto [m, C, F, P] = layout_.sizes;
  return double(m) * double(F * C * C * P * P) * double(2 * k_);
}

// responses_ and merged_ of this layer.
template <class T>
void FusedLayer<T>::merge(const LayerOperators<T>& ops, const Step<T>& step) {
  const auto [m, C, F, P] = layout_.sizes;
  const index_t matrix = C * C * P, size = F * matrix;
  const T* E = layout_.dense(ops, 0, 0);
  responses_ = layout_.dense(ops, 1, 0);
  if (layout_.n_columns > 0) {
    layout_.expand(ops, 0, alphas_[0], total_.get());
    for (index_t j = 0; j < k_; ++j) layout_.expand(ops, j + 1, alphas_[j + 1], expanded_.get() + j * size);
    E = total_.get(), responses_ = expanded_.get();
  }
  const auto eta = static_cast<T>(step.eta);
  for (index_t j = 0; j < k_; ++j) {
    const auto by = static_cast<T>(step.eta * step.gammas[j]);
    const T* Cj = responses_ + j * size;
    T* Bj = merged_.get() + j * size;
    for (index_t e = 0; e < size; ++e) Bj[e] = eta * E[e] - by * Cj[e];
    for (index_t p = 0; p < F; ++p)
      for (index_t i = 0; i < C; ++i) Bj[p * matrix + i * (C + 1) * P] += 1;
  }
}

// own.squares <- the residuals of all classes: those of the class that the chunk gated to, then the others' until they
// are out.
template <class T>
void FusedLayer<T>::respond_nearest_first(T beyond, Chunk chunk, TileGates<T> q, Scratch& own) {
  const index_t F = layout_.sizes.F, lanes = chunk.n_tiles * B<T>, stride = chunk_tiles_ * B<T>;
  T* squares = own.squares.get();
  std::vector<index_t>& classes = own.classes;
  const auto respond = [&](index_t p_begin, index_t p_end) {
    q.classes = classes.data(), q.n_classes = static_cast<index_t>(classes.size());
    q.p_begin = p_begin, q.p_end = p_end;
    kernels_.tile_gates(q);
  };
  index_t& nearest = at(nearest_, chunk.tile / chunk_tiles_);
  const index_t first = nearest;
  classes.assign(1, first);
  respond(0, F);
  for (index_t i = 0; i < lanes; ++i) {
    const T limit = gate_limit(squares[first * stride + i], beyond);
    // Interleaved without a sample pass at once.
    own.limits[i] = chunk.tile * B<T> + i < layout_.sizes.m ? limit : T(-1);
  }
  classes.clear();
  for (index_t j = 0; j < k_; ++j)
    if (j != first) classes.push_back(j);
  for (index_t p = 0; p < F && !classes.empty(); p += kFrequenciesBetweenLooks) {
    respond(p, std::min(F, p + kFrequenciesBetweenLooks));
    std::erase_if(classes, [&](index_t j) {
      T* mine = squares + j * stride;
      bool all = true;
      for (index_t i = 0; i < lanes; ++i) all &= mine[i] > own.limits[i];
      if (all) std::fill_n(mine, lanes, std::numeric_limits<T>::infinity());
      return all;
    });
  }
  for (index_t j = 0; j < k_; ++j)
    if (squares[j * stride] < squares[nearest * stride]) nearest = j;
}

template <class T>
void FusedLayer<T>::gates(const Features<T>& features, const Step<T>& step, Chunk chunk, Scratch& own) {
  const auto [m, C, F, P] = layout_.sizes;
  const index_t stride = chunk_tiles_ * B<T>;
  const T beyond = gate_margin<T>(step.lam);
  TileGates<T> q{.C = C,
                 .planes = P,
                 .p_begin = 0,
                 .p_end = F,
                 .v = features.panel(chunk.tile, 0),
                 .tile_stride = features.tile_stride(),
                 .n_tiles = chunk.n_tiles,
                 .operators = responses_,
                 .class_stride = F * C * C * P,
                 .classes = nullptr,
                 .n_classes = k_,
                 .freq_weights = freq_weights_.data(),
                 .squares = own.squares.get(),
                 .stride = stride};
  if (k_ < kManyClasses || !step.shortcuts.early_stop) {
    own.classes.resize(as_size(k_));
    std::iota(own.classes.begin(), own.classes.end(), index_t{0});
    q.classes = own.classes.data();
    kernels_.tile_gates(q);
  } else {
    respond_nearest_first(beyond, chunk, q, own);
  }
  kernels_.softmax({.squares = own.squares.get(),
                    .pi = own.pi.get(),
                    .stride = stride,
                    .k = k_,
                    .lanes = chunk.n_tiles * B<T>,
                    .n_samples = m - chunk.tile * B<T>,
                    .lambda = static_cast<T>(step.lam),
                    .beyond = beyond,
                    .live = own.live.data()});
}

// Projection to the sphere, and the Gram matrices of the chunk.
template <class T>
void FusedLayer<T>::finish(Features<T>& features, index_t task, Chunk chunk, Scratch& own) {
  const auto [m, C, F, P] = layout_.sizes;
  TileGram<T> q{};
  q.C = C, q.planes = P, q.F = F;
  q.v = features.panel(chunk.tile, 0), q.tile_stride = features.tile_stride(), q.n_tiles = chunk.n_tiles;
  q.scale = own.scale.get();
  const auto sum_begin = sums_.begin() + (sums_.empty() ? 0 : at(first_sum_, task)),
             sum_end = sums_.begin() + (sums_.empty() ? 0 : at(first_sum_, task + 1));
  for (auto sum = sum_begin; sum != sum_end; ++sum) {
    const Members<T>& members = *sum->members;
    const index_t begin = std::max(chunk.tile, members.first), end = std::min(chunk.tile + chunk.n_tiles, members.last);
    if (begin >= end) continue;
    if (q.scale != nullptr && end - begin < chunk.n_tiles) {  // other classes have tiles here
      kernels_.tile_gram(q);
      q.scale = nullptr;
    }
    const bool plain = members.plain_first <= begin && end <= members.plain_last;
    q.v = features.panel(begin, 0), q.n_tiles = end - begin;
    q.weights = plain ? nullptr : members.weights.get() + (begin - members.first) * B<T>;
    q.G = sum->G;
    kernels_.tile_gram(q);
    q.scale = nullptr;
  }
  if (q.scale != nullptr) kernels_.tile_gram(q);
}

// f(task, chunk, scratch) for all chunks; every task begins with its Gram matrices at zero.
template <class T>
template <class F>
void FusedLayer<T>::each_chunk(const Features<T>& features, double work, const F& f) {
  const auto [m, C, F_, P] = layout_.sizes;
  const index_t n_tiles = features.n_tiles(), sum_size = F_ * gram_entries<T>(C, P) + B<T>;
  parallel_.run(n_tasks_, work, [&](index_t task, int thread) {
    if (!sums_.empty()) {
      T* begin = sums_data_.get();
      std::fill(begin + at(first_sum_, task) * sum_size, begin + at(first_sum_, task + 1) * sum_size, T(0));
    }
    for (index_t index = n_chunks_ * task / n_tasks_; index < n_chunks_ * (task + 1) / n_tasks_; ++index)
      f(task, Chunk{index * chunk_tiles_, std::min(chunk_tiles_, n_tiles - index * chunk_tiles_)},
        at(scratch_, thread));
  });
}

// own.pi <- the assignment of the chunk's samples, own.classes <- the classes that are not zero.
template <class T>
void FusedLayer<T>::assign(const Features<T>& features, const Step<T>& step, Chunk chunk, Scratch& own) {
  const index_t stride = chunk_tiles_ * B<T>, lanes = chunk.n_tiles * B<T>, first_lane = chunk.tile * B<T>;
  std::fill(own.live.begin(), own.live.end(), char{0});
  if (step.membership == nullptr) {
    gates(features, step, chunk, own);
  } else {
    for (index_t j = 0; j < k_; ++j) {
      const T* given = step.membership + j * features.n_tiles() * B<T> + first_lane;
      std::copy_n(given, lanes, own.pi.get() + j * stride);
      at(own.live, j) = std::any_of(given, given + lanes, [](T pi) { return pi != 0; });
    }
  }
  own.classes.clear();
  for (index_t j = 0; j < k_; ++j)
    if (at(own.live, j)) own.classes.push_back(j);
}

template <class T>
void FusedLayer<T>::move(Features<T>& features, const LayerOperators<T>& ops, const Step<T>& step, const Taken& taken) {
  const auto [m, C, F, P] = layout_.sizes;
  const index_t stride = chunk_tiles_ * B<T>;
  merge(ops, step);
  each_chunk(features, work(), [&, m = m, C = C, F = F, P = P](index_t task, Chunk chunk, Scratch& own) {
    assign(features, step, chunk, own);
    const auto give = [&](index_t rows, const T* lanes, double* numbers) {
      if (numbers == nullptr) return;
      for (index_t i = 0; i < chunk.n_tiles * B<T> && chunk.tile * B<T> + i < m; ++i)
        for (index_t j = 0; j < rows; ++j)
          numbers[features.sample(chunk.tile * B<T> + i) * rows + j] = lanes[j * stride + i];
    };
    give(k_, own.pi.get(), taken.pi);
    give(k_, own.squares.get(), taken.squares);
    kernels_.tile_move({.C = C,
                        .planes = P,
                        .F = F,
                        .v = features.panel(chunk.tile, 0),
                        .tile_stride = features.tile_stride(),
                        .n_tiles = chunk.n_tiles,
                        .operators = merged_.get(),
                        .class_stride = F * C * C * P,
                        .classes = own.classes.data(),
                        .n_classes = static_cast<index_t>(own.classes.size()),
                        .pi = own.pi.get(),
                        .stride = stride,
                        .freq_weights = freq_weights_.data(),
                        .smallest_norm = static_cast<T>(kSmallestNorm),
                        .scale = own.scale.get()});
    give(1, own.scale.get(), taken.scale);
    finish(features, task, chunk, own);
  });
}

template <class T>
void FusedLayer<T>::extrapolate(Features<T>& features, Features<T>& before, double beta) {
  const index_t tile_numbers = features.tile_stride();
  features.swap_numbers(before);
  each_chunk(features, double(features.n_tiles() * tile_numbers), [&](index_t task, Chunk chunk, Scratch& own) {
    extrapolate_tiles(kernels_, before.panel(chunk.tile, 0), features.panel(chunk.tile, 0), chunk.n_tiles,
                      layout_.sizes, freq_weights_.data(), static_cast<T>(beta), own.scale.get());
    finish(features, task, chunk, own);
  });
}

template class FusedLayer<float>;
template class FusedLayer<double>;

}  // namespace redunet
