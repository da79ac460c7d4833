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
  index_t sample(index_t position) const { return order_.empty() ? position : at(order_, position); }

  // From and to V (m, C, F), interleaved.
  void read(const T* V, Parallel& parallel) { move<true>(V, nullptr, parallel); }
  void write(T* V, Parallel& parallel) const {
    const_cast<Features*>(this)->template move<false>(nullptr, V, parallel);
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

  template <bool In>
  void move(const T* from, T* to, Parallel& parallel) {
    const auto [m, C, F, P] = sizes_;
    parallel.run(n_tiles_, size(), [&, C = C, F = F, P = P, m = m](index_t tile, int) {
      const index_t first = tile * kPanel<T>, lanes = std::min(kPanel<T>, m - first);
      index_t start[kPanel<T>];
      for (index_t lane = 0; lane < lanes; ++lane) start[lane] = sample(first + lane) * C * F * P;
      for (index_t c = 0; c < C; ++c)
        for (index_t p = 0; p < F; ++p) {
          T* row = panel(tile, p) + c * P * kPanel<T>;
          for (index_t plane = 0; plane < P; ++plane)
            for (index_t lane = 0; lane < lanes; ++lane) {
              const index_t at = start[lane] + (c * F + p) * P + plane;
              if constexpr (In)
                row[plane * kPanel<T> + lane] = from[at];
              else
                to[at] = row[plane * kPanel<T> + lane];
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
