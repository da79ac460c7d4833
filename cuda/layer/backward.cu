// The pullback of a layer: a tile of samples at a time, as the layer itself. What the gates do to the gradient is a
// number for each sample and class, and worked out on the host between two passes.

#include <algorithm>

#include "kernels/backward.hpp"
#include "layer/sweep.hpp"

namespace redunet::cuda {
namespace {

// A norm this close to the floor is on it.
constexpr double kRounding = 1e-6;

}  // namespace

template <class N>
void Sweep<N>::project(Spectrum<N>& upstream, Spectrum<N>& after, const Real<N>* scale) {
  using T = Real<N>;
  plan();
  const auto [m, C, F, P] = layout_.sizes;
  const index_t rows = F * C;
  const cudaStream_t stream = Device::get().stream();
  const dim3 block(kWarp, kSampleRows);
  for (index_t begin = 0; begin < m; begin += tile_) {
    const Tile tile = tile_at(begin);
    N *g = upstream.get() + tile.first_column, *z = after.get() + tile.first_column;
    const Partial<T> sums = partial(partial_, tile.columns, 1);
    launch(column_products_kernel<N>, grid(tile.columns), block, shared_bytes<T>(kWarp * kSampleRows), stream, z, g,
           columns_, rows, rows_per_chunk_, sums);
    REDUNET_CHECK(cudaGetLastError());
    launch(project_kernel<N>, grid(tile.columns), block, 0, stream, g, z, columns_, rows, rows_per_chunk_,
           row_weights_.get(), scale + begin, static_cast<T>((1 - kRounding) / kSmallestNorm), sums);
    REDUNET_CHECK(cudaGetLastError());
  }
}

template <class N>
void Sweep<N>::inner_products(const Spectrum<N>& features, const Spectrum<N>& upstream, const Operators<N>& ops,
                              Real<N>* products, bool weighted) {
  plan();
  for (index_t begin = 0; begin < layout_.sizes.m; begin += tile_) {
    const Tile tile = tile_at(begin);
    const Responses<N> q = respond(features.get(), ops, tile);
    launch(inner_products_kernel<N>, grid(tile.columns, k_), dim3(kWarp, kSampleRows),
           shared_bytes<Real<N>>(kWarp * kSampleRows), Device::get().stream(), q, upstream.get() + tile.first_column,
           weighted ? row_weights_.get() : static_cast<const Real<N>*>(nullptr), partial(partial_, tile.columns, k_));
    REDUNET_CHECK(cudaGetLastError());
    sum_chunks(tile, k_, products);
  }
}

template <class N>
void Sweep<N>::pullback(const Spectrum<N>& features, const Spectrum<N>& upstream, Spectrum<N>& to_features,
                        const Operators<N>& ops, double eta, const Real<N>* a, const Real<N>* b,
                        const Gradients<N>& to) {
  using T = Real<N>;
  plan();
  const auto [m, C, F, P] = layout_.sizes;
  const index_t rows = F * C, ld = columns_;
  const cudaStream_t stream = Device::get().stream();
  const dim3 block(kWarp, kSampleRows);
  for (index_t begin = 0; begin < m; begin += tile_) {
    const Tile tile = tile_at(begin);
    const index_t n = tile.columns;
    const N* g = upstream.get() + tile.first_column;
    const Matrices<const N> v{features.get() + tile.first_column, ld, C * ld};
    const Matrices<N> back{to_features.get() + tile.first_column, ld, C * ld};
    const T keep = begin == 0 ? T(0) : T(1);  // of what the tiles before have summed
    const auto add = [&](index_t number, const Matrices<const N>& left, N* sum) {
      const N* A = ops.dense + number * rows * C;
      gemm<N>(Op::kNone, Op::kAdjoint, C, C, n, T(1), left, v, keep, {sum, C, C * C}, F);
      gemm<N>(Op::kAdjoint, Op::kNone, C, n, C, static_cast<T>(eta), {A, C, C * C}, left, T(1), back, F);
    };
    respond(features.get(), ops, tile);
    add(0, {g, ld, C * ld}, to.E);
    for (index_t j = 0; j < k_; ++j) {
      N* responses = responses_.get() + (j + 1) * rows * n;
      launch(response_gradient_kernel<N>, grid(n), block, 0, stream, responses, g, ld, rows, rows_per_chunk_,
             static_cast<int>(n), static_cast<int>(layout_.d), row_weights_.get(), a + j * m + begin,
             b + j * m + begin);
      REDUNET_CHECK(cudaGetLastError());
      add(j + 1, {responses, n, C * n}, to.Cs + j * rows * C);
    }
  }
}

#define REDUNET_INSTANTIATE(N)                                                                                         \
  template void Sweep<N>::project(Spectrum<N>&, Spectrum<N>&, const Real<N>*);                                         \
  template void Sweep<N>::inner_products(const Spectrum<N>&, const Spectrum<N>&, const Operators<N>&, Real<N>*, bool); \
  template void Sweep<N>::pullback(const Spectrum<N>&, const Spectrum<N>&, Spectrum<N>&, const Operators<N>&, double,  \
                                   const Real<N>*, const Real<N>*, const Gradients<N>&);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)
REDUNET_INSTANTIATE(Complex<float>)
REDUNET_INSTANTIATE(Complex<double>)

}  // namespace redunet::cuda
