// The features of all samples in panels: tile t holds kPanel samples, with all frequencies of a tile together:
// [tile][p][C][planes][kPanel]. Hard-labelled samples are kept sorted by class, so that most tiles share one class;
// lanes past the last sample are zero.
#pragma once

#include <vector>

#include "base/buffer.hpp"
#include "base/parallel.hpp"
#include "shared/problem.hpp"

namespace redunet {

template <class T>
class Features {
 public:
  // order[position] = sample; empty means as they come.
  Features(const Sizes& sizes, std::vector<index_t> order)
      : sizes_(sizes),
        order_(std::move(order)),
        n_tiles_((sizes.m + kPanel<T> - 1) / kPanel<T>),
        panel_size_(sizes.C * sizes.planes * kPanel<T>),
        data_(n_tiles_ * sizes.F * panel_size_) {}

  const Sizes& sizes() const { return sizes_; }
  index_t n_tiles() const { return n_tiles_; }
  index_t tile_stride() const { return sizes_.F * panel_size_; }
  T* panel(index_t tile, index_t p) { return data_.get() + tile * tile_stride() + p * panel_size_; }
  const T* panel(index_t tile, index_t p) const { return data_.get() + tile * tile_stride() + p * panel_size_; }
  const std::vector<index_t>& order() const { return order_; }
  index_t sample(index_t position) const { return order_.empty() ? position : at(order_, position); }

  // From and to V (m, C, F), interleaved.
  void read(const T* V, Parallel& parallel) { move<true>(V, nullptr, nullptr, parallel); }
  void write(T* V, Parallel& parallel) const { add_to(V, nullptr, parallel); }
  // V <- these + by V, by one number for every position (null: zeros); where it is zero V may be anything.
  void add_to(T* V, const T* by, Parallel& parallel) const {
    const_cast<Features*>(this)->template move<false>(nullptr, V, by, parallel);
  }

  // The same samples in other places: what was at position old_position[i] comes to position i.
  void permute(const std::vector<index_t>& old_position, Parallel& parallel) {
    Features other(sizes_, std::vector<index_t>(old_position.size()));
    parallel.run(n_tiles_, size(), [&](index_t tile, int) {
      const index_t first = tile * kPanel<T>, lanes = std::min(kPanel<T>, sizes_.m - first);
      const T* from[kPanel<T>];
      for (index_t lane = 0; lane < lanes; ++lane) {
        const index_t old = at(old_position, first + lane);
        from[lane] = panel(old / kPanel<T>, 0) + old % kPanel<T>;
        at(other.order_, first + lane) = sample(old);
      }
      T* to = other.panel(tile, 0);
      for (index_t row = 0; row < tile_stride(); row += kPanel<T>)
        for (index_t lane = 0; lane < lanes; ++lane) to[row + lane] = from[lane][row];
    });
    std::swap(order_, other.order_);
    std::swap(data_, other.data_);
  }

  // Exchanges numbers with features of the same samples.
  void swap_numbers(Features& other) { std::swap(data_, other.data_); }
  void copy_numbers(const Features& other, Parallel& parallel) {
    parallel.run(n_tiles_, size(), [&](index_t tile, int) { copy_tile(panel(tile, 0), other.panel(tile, 0)); });
  }

  // A copy of all tiles, and back: whole tiles in `room`, which has as many numbers as V, and a last one that is not
  // full in `rest`, which has tile_stride() of them.
  void save(T* room, T* rest, Parallel& parallel) const {
    each_tile(room, rest, parallel, [&](index_t tile, T* copy) { copy_tile(copy, panel(tile, 0)); });
  }
  void restore(T* room, T* rest, Parallel& parallel) {
    each_tile(room, rest, parallel, [&](index_t tile, const T* copy) { copy_tile(panel(tile, 0), copy); });
  }

 private:
  void copy_tile(T* to, const T* from) const { std::memcpy(to, from, as_size(tile_stride()) * sizeof(T)); }
  template <class F>
  void each_tile(T* room, T* rest, Parallel& parallel, const F& f) const {
    const index_t whole = sizes_.m / kPanel<T>;
    parallel.run(n_tiles_, size(),
                 [&](index_t tile, int) { f(tile, tile < whole ? room + tile * tile_stride() : rest); });
  }
  double size() const { return static_cast<double>(n_tiles_) * static_cast<double>(tile_stride()); }

  // At most kPanel numbers, mostly all of them: a size that is known needs no call.
  static void copy_row(T* to, const T* from, index_t count) {
    if (count == kPanel<T>)
      std::memcpy(to, from, kPanel<T> * sizeof(T));
    else
      std::copy_n(from, count, to);
  }

  // A square of numbers at a time, kPanel of each sample: those of a sample are neighbours on one side, those of the
  // samples on the other. Channels of the same frequencies follow each other, so that a tile is gone through once.
  template <bool In>
  void move(const T* from, T* to, const T* by, Parallel& parallel) {
    constexpr index_t B = kPanel<T>;
    const auto [m, C, F, P] = sizes_;
    const index_t size = C * F * P;
    // One frequency has its channels, and else a channel its frequencies, as neighbours in V.
    const index_t n_runs = F == 1 ? 1 : C, length = size / n_runs;
    std::vector<index_t> rows;  // of the numbers of the first run; those of run c begin c P rows later
    for (index_t e = 0; e < length; ++e) rows.push_back(F == 1 ? e : e / P * C * P + e % P);
    parallel.run(n_tiles_, this->size(), [&, m = m, P = P](index_t tile, int) {
      const index_t first = tile * B, lanes = std::min(B, m - first);
      index_t start[B];
      for (index_t lane = 0; lane < lanes; ++lane) start[lane] = sample(first + lane) * size;
      alignas(kCacheLine) T square[B][B];
      for (index_t begin = 0; begin < length; begin += B)
        for (index_t run = 0; run < n_runs; ++run) {
          const index_t count = std::min(B, length - begin), place = run * length + begin;
          T* const panels = panel(tile, 0) + run * P * B;
          if constexpr (In) {
            for (index_t lane = 0; lane < lanes; ++lane) {
              const T* here = from + start[lane] + place;
              __builtin_prefetch(here + 2 * B);  // the square after this channel's next, which lies far away
              copy_row(square[lane], here, count);
            }
            for (index_t e = 0; e < count; ++e) {
              T* row = panels + at(rows, begin + e) * B;
              for (index_t lane = 0; lane < lanes; ++lane) row[lane] = square[lane][e];
            }
          } else {
            for (index_t e = 0; e < count; ++e) {
              const T* row = panels + at(rows, begin + e) * B;
              for (index_t lane = 0; lane < B; ++lane) square[lane][e] = row[lane];
            }
            for (index_t lane = 0; lane < lanes; ++lane) {
              T* there = to + start[lane] + place;
              __builtin_prefetch(there + 2 * B, 1);
              const T factor = by == nullptr ? T(0) : by[first + lane];
              if (factor != 0)
                for (index_t e = 0; e < count; ++e) square[lane][e] += factor * there[e];
              copy_row(there, square[lane], count);
            }
          }
        }
    });
  }

  Sizes sizes_;
  std::vector<index_t> order_;
  index_t n_tiles_, panel_size_;
  Buffer<T> data_;
};

}  // namespace redunet
