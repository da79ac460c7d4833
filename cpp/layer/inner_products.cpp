#include "layer/inner_products.hpp"

#include <algorithm>

namespace redunet {
namespace {

template <class T>
constexpr index_t B = kPanel<T>;

// Tiles that an operator which is read serves.
constexpr index_t kTilesTogether = 8;

// dots (lanes of n_tiles tiles) += weight * Re <v, operator v> of a column.
template <class T>
class Dots {
 public:
  Dots(const Kernels<T>& kernels, const OperatorLayout& layout, const double* alphas, const LayerOperators<T>& ops,
       const Features<T>& v)
      : kernels_(kernels), layout_(layout), alphas_(alphas), ops_(ops), v_(v) {}

  void add(index_t number, index_t p, index_t tile, index_t n_tiles, T weight, T* dots) const {
    const auto [m, C, F, P] = layout_.sizes;
    const index_t rank = at(layout_.ranks, number);
    Product<T> q{};
    q.planes = P, q.n_panels = n_tiles, q.row_begin = 0, q.row_end = C, q.n_in = C;
    q.x = v_.panel(tile, p), q.x_stride = v_.tile_stride();
    q.x0 = q.x, q.x0_stride = q.x_stride;
    q.squares = dots, q.epilogue = Epilogue::kDot, q.imag_offset = 1;
    if (rank == 0) {
      q.A = layout_.dense(ops_, number, p / layout_.d), q.row_stride = C * P, q.col_stride = P, q.weight = weight;
      kernels_.product(q);
      return;
    }
    // alpha (v - Q Q* v)
    const T alpha = weight * static_cast<T>(alphas_[number]);
    Buffer<T> reduced(n_tiles * rank * P * B<T>);
    Product<T> inner = q;
    inner.epilogue = Epilogue::kStore, inner.conj = true, inner.row_end = rank;
    inner.A = layout_.factor(ops_, number, p), inner.row_stride = P, inner.col_stride = layout_.n_columns * P;
    inner.out = reduced.get(), inner.out_stride = rank * P * B<T>;
    kernels_.product(inner);
    q.A = inner.A, q.row_stride = layout_.n_columns * P, q.col_stride = P, q.n_in = rank;
    q.x = reduced.get(), q.x_stride = inner.out_stride, q.weight = -alpha;
    kernels_.product(q);
    for (index_t t = 0; t < n_tiles; ++t) {
      const T* v = v_.panel(tile + t, p);
      for (index_t row = 0; row < C * P; ++row)
        for (index_t lane = 0; lane < B<T>; ++lane)
          dots[t * B<T> + lane] += alpha * v[row * B<T> + lane] * v[row * B<T> + lane];
    }
  }

 private:
  const Kernels<T>& kernels_;
  const OperatorLayout& layout_;
  const double* alphas_;
  const LayerOperators<T>& ops_;
  const Features<T>& v_;
};

}  // namespace

template <class T>
void inner_products(const Kernels<T>& kernels, Parallel& parallel, const OperatorLayout& layout, const double* alphas,
                    const double* freq_weights, const LayerOperators<T>& ops, const Features<T>& v, double* dots) {
  const auto [m, C, F, P] = layout.sizes;
  const index_t k = static_cast<index_t>(layout.ranks.size()) - 1, columns = F * layout.d,
                n_slabs = divide_up(v.n_tiles(), kTilesTogether);
  const Dots<T> of(kernels, layout, alphas, ops, v);
  const double work = double(m * layout.d) * double(k * F * C * C * P);
  parallel.run(k * n_slabs, work, [&, m = m, C = C, P = P](index_t task, int) {
    const index_t j = task / n_slabs, tile = task % n_slabs * kTilesTogether,
                  n_tiles = std::min(kTilesTogether, v.n_tiles() - tile);
    alignas(kCacheLine) T sums[kTilesTogether * B<T>] = {};
    for (index_t p = 0; p < columns; ++p) {
      of.add(j + 1, p, tile, n_tiles, static_cast<T>(freq_weights[p / layout.d]), sums);
      checkpoint(C * C * P * P * n_tiles * B<T>);
    }
    for (index_t i = 0; i < n_tiles * B<T> && tile * B<T> + i < m; ++i)
      dots[v.sample(tile * B<T> + i) * k + j] = static_cast<double>(sums[i]);
  });
}

#define REDUNET_INSTANTIATE(T)                                                                                       \
  template void inner_products<T>(const Kernels<T>&, Parallel&, const OperatorLayout&, const double*, const double*, \
                                  const LayerOperators<T>&, const Features<T>&, double*);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)

}  // namespace redunet
