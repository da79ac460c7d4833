#include "layer/backward.hpp"

#include <algorithm>

#include "base/parts.hpp"

namespace redunet {
namespace {

template <class T>
constexpr index_t B = kPanel<T>;

// Rows of a cross Gram matrix that make one task; tiles that an operator which is read serves.
constexpr index_t kTaskRows = 8 * kGramRows;
constexpr index_t kTilesTogether = 8;

struct Tiles {
  index_t first, last;
};

// Runs of tiles where a row of weights is not all zero.
template <class T>
std::vector<Tiles> tiles_of(const T* weights, index_t n_tiles) {
  std::vector<Tiles> runs;
  for (index_t tile = 0; tile < n_tiles; ++tile) {
    const T* mine = weights + tile * B<T>;
    if (std::all_of(mine, mine + B<T>, [](T w) { return w == 0; })) continue;
    if (!runs.empty() && runs.back().last == tile)
      ++runs.back().last;
    else
      runs.push_back({tile, tile + 1});
  }
  return runs;
}

// G (F, C, C), interleaved, <- sum of weight * g v* over the samples, d columns of each; weights: lanes of all tiles.
template <class T>
void cross_grams(const Kernels<T>& kernels, Parallel& parallel, index_t d, const Features<T>& v, const Features<T>& g,
                 const Buffer<T>& weights, T* G) {
  const auto [m, C, columns, P] = v.sizes();
  const index_t F = columns / d;
  const index_t matrix = C * C * P, n_blocks = divide_up(C, kTaskRows);
  const std::vector<Tiles> runs = tiles_of(weights.get(), v.n_tiles());
  parallel.run(F * n_blocks, double(m * columns) * double(matrix * P), [&, C = C, P = P](index_t task, int) {
    const index_t block = task % n_blocks, p = task / n_blocks;
    Gram<T> q{};
    q.panel_stride = v.tile_stride(), q.planes = P, q.n_columns = C;
    q.row_begin = block * kTaskRows, q.row_end = std::min(q.row_begin + kTaskRows, C);
    q.G = G + p * matrix, q.row_stride = C * P, q.col_stride = P, q.imag_offset = 1;
    if (runs.empty()) std::fill_n(q.G + q.row_begin * C * P, (q.row_end - q.row_begin) * C * P, T(0));
    for (const Tiles& run : runs) {
      q.n_panels = run.last - run.first;
      q.weights = weights.get() + run.first * B<T>;
      for (index_t column = p * d; column < (p + 1) * d; ++column) {
        q.v = v.panel(run.first, column), q.u = g.panel(run.first, column);
        gram_in_parts(kernels, q);
        q.accumulate = true;
      }
    }
  });
}

// dots (lanes of n_tiles tiles) += Re <g, operator v> of a column.
template <class T>
class Dots {
 public:
  Dots(const Kernels<T>& kernels, const OperatorLayout& layout, const double* alphas, const Features<T>& v,
       const Features<T>& g)
      : kernels_(kernels), layout_(layout), alphas_(alphas), v_(v), g_(g) {}

  void add(const LayerOperators<T>& ops, index_t number, index_t p, index_t tile, index_t n_tiles, T* dots) const {
    const auto [m, C, F, P] = layout_.sizes;
    const index_t rank = at(layout_.ranks, number);
    Product<T> q{};
    q.planes = P, q.n_panels = n_tiles, q.row_begin = 0, q.row_end = C, q.n_in = C;
    q.x = v_.panel(tile, p), q.x_stride = v_.tile_stride();
    q.x0 = g_.panel(tile, p), q.x0_stride = g_.tile_stride();
    q.squares = dots, q.epilogue = Epilogue::kDot, q.imag_offset = 1;
    if (rank == 0) {
      q.A = layout_.dense(ops, number, p / layout_.d), q.row_stride = C * P, q.col_stride = P;
      kernels_.product(q);
      return;
    }
    // alpha (v - Q Q* v)
    const auto alpha = static_cast<T>(alphas_[number]);
    Buffer<T> reduced(n_tiles * rank * P * B<T>);
    Product<T> inner = q;
    inner.epilogue = Epilogue::kStore, inner.conj = true, inner.row_end = rank;
    inner.A = layout_.factor(ops, number, p), inner.row_stride = P, inner.col_stride = layout_.n_columns * P;
    inner.out = reduced.get(), inner.out_stride = rank * P * B<T>;
    kernels_.product(inner);
    q.A = inner.A, q.row_stride = layout_.n_columns * P, q.col_stride = P, q.n_in = rank;
    q.x = reduced.get(), q.x_stride = inner.out_stride, q.weight = -alpha;
    kernels_.product(q);
    for (index_t t = 0; t < n_tiles; ++t) {
      const T *a = v_.panel(tile + t, p), *b = g_.panel(tile + t, p);
      for (index_t row = 0; row < C * P; ++row)
        for (index_t lane = 0; lane < B<T>; ++lane)
          dots[t * B<T> + lane] += alpha * a[row * B<T> + lane] * b[row * B<T> + lane];
    }
  }

 private:
  const Kernels<T>& kernels_;
  const OperatorLayout& layout_;
  const double* alphas_;
  const Features<T>&v_, &g_;
};

}  // namespace

template <class T>
void pullback(const Kernels<T>& kernels, Parallel& parallel, const OperatorLayout& layout, const double* alphas,
              const Features<T>& v, const Features<T>& g, const LayerRequest<T>& layer, const std::vector<T>& pi,
              const PullbackRoom<T>& room) {
  const auto [m, C, F, P] = layout.sizes;
  const index_t columns = F * layout.d;
  const index_t k = static_cast<index_t>(layout.ranks.size()) - 1, lanes = v.n_tiles() * B<T>, matrix = F * C * C * P;
  Buffer<T> weights(lanes);
  std::fill_n(weights.get(), lanes, static_cast<T>(layer.eta));
  cross_grams(kernels, parallel, layout.d, v, g, weights, room.E);
  for (index_t j = 0; j < k; ++j) {
    const auto by = static_cast<T>(-layer.eta * layer.gammas[j]);
    for (index_t i = 0; i < lanes; ++i) weights[i] = by * at(pi, j * lanes + i);
    cross_grams(kernels, parallel, layout.d, v, g, weights, room.Cs + j * matrix);
  }
  const Dots<T> dots(kernels, layout, alphas, v, g);
  const index_t n_slabs = divide_up(v.n_tiles(), kTilesTogether);
  const double work = double(m * layout.d) * double(k * matrix * P);
  parallel.run(k * n_slabs, work, [&, m = m, C = C, P = P](index_t task, int) {
    const index_t j = task / n_slabs, tile = task % n_slabs * kTilesTogether,
                  n_tiles = std::min(kTilesTogether, v.n_tiles() - tile);
    alignas(kCacheLine) T sums[kTilesTogether * B<T>] = {};
    for (index_t p = 0; p < columns; ++p) {
      dots.add(layer.ops, j + 1, p, tile, n_tiles, sums);
      checkpoint(C * C * P * P * n_tiles * B<T>);
    }
    for (index_t i = 0; i < n_tiles * B<T> && tile * B<T> + i < m; ++i)
      room.pi[v.sample(tile * B<T> + i) * k + j] = -layer.eta * layer.gammas[j] * static_cast<double>(sums[i]);
  });
}

#define REDUNET_INSTANTIATE(T)                                                                                      \
  template void pullback<T>(const Kernels<T>&, Parallel&, const OperatorLayout&, const double*, const Features<T>&, \
                            const Features<T>&, const LayerRequest<T>&, const std::vector<T>&,                      \
                            const PullbackRoom<T>&);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)

}  // namespace redunet
