#include "layer/backward.hpp"

#include <algorithm>

#include "base/parts.hpp"
#include "layer/inner_products.hpp"

namespace redunet {
namespace {

template <class T>
constexpr index_t B = kPanel<T>;

// Rows of a cross Gram matrix that make one task.
constexpr index_t kTaskRows = 8 * kGramRows;

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

}  // namespace

template <class T>
void pullback(const Kernels<T>& kernels, Parallel& parallel, const OperatorLayout& layout, const double* alphas,
              const Features<T>& v, const Features<T>& g, const LayerRequest<T>& layer, const std::vector<T>& pi,
              const PullbackRoom<T>& room) {
  const auto [m, C, F, P] = layout.sizes;
  const index_t k = static_cast<index_t>(layout.ranks.size()) - 1, lanes = v.n_tiles() * B<T>, matrix = F * C * C * P;
  Buffer<T> weights(lanes);
  std::fill_n(weights.get(), lanes, static_cast<T>(layer.eta));
  cross_grams(kernels, parallel, layout.d, v, g, weights, room.E);
  for (index_t j = 0; j < k; ++j) {
    const auto by = static_cast<T>(-layer.eta * layer.gammas[j]);
    for (index_t i = 0; i < lanes; ++i) weights[i] = by * at(pi, j * lanes + i);
    cross_grams(kernels, parallel, layout.d, v, g, weights, room.Cs + j * matrix);
  }
  inner_products(kernels, parallel, layout, alphas, nullptr, layer.ops, v, g, room.pi);
  for (index_t i = 0; i < m; ++i)
    for (index_t j = 0; j < k; ++j) room.pi[i * k + j] *= -layer.eta * layer.gammas[j];
}

#define REDUNET_INSTANTIATE(T)                                                                                      \
  template void pullback<T>(const Kernels<T>&, Parallel&, const OperatorLayout&, const double*, const Features<T>&, \
                            const Features<T>&, const LayerRequest<T>&, const std::vector<T>&,                      \
                            const PullbackRoom<T>&);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)

}  // namespace redunet
