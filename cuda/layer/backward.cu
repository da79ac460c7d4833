// The pullback of a layer's step: a tile of samples at a time, as the layer itself.

#include <algorithm>

#include "kernels/backward.hpp"
#include "layer/sweep.hpp"

namespace redunet::cuda {

template <class N>
void Sweep<N>::pullback(const Spectrum<N>& features, Spectrum<N>& upstream, const Operators<N>& ops,
                        const Step<N>& step, const std::vector<double>& by, const Gradients<N>& to) {
  using T = Real<N>;
  plan();
  const auto [m, C, F, P] = layout_.sizes;
  const index_t rows = F * C, ld = columns_;
  const cudaStream_t stream = Device::get().stream();
  const dim3 block(kWarp, kSampleRows);
  const std::size_t shared = shared_bytes<T>(kWarp * kSampleRows);
  for (index_t begin = 0; begin < m; begin += tile_) {
    const Tile tile = tile_at(begin);
    const index_t n = tile.columns;
    N* g = upstream.get() + tile.first_column;
    const Matrices<const N> v{features.get() + tile.first_column, ld, C * ld};
    const Responses<N> to_features = respond(features.get(), ops, tile);
    launch(inner_products_kernel<N>, grid(n, k_), block, shared, stream, to_features, g, static_cast<const T*>(nullptr),
           partial(partial_, n, k_));
    REDUNET_CHECK(cudaGetLastError());
    sum_chunks(tile, k_, to.pi);

    const T keep = begin == 0 ? T(0) : T(1);  // of what the tiles before have summed
    const auto outer = [&](index_t number, const Matrices<const N>& left, N* sum) {
      gemm<N>(Op::kNone, Op::kAdjoint, C, C, n, static_cast<T>(at(by, number)), left, v, keep, {sum, C, C * C}, F);
    };
    outer(0, {g, ld, C * ld}, to.E);
    N* weighted = responses_.get();  // which aren't needed any more
    for (index_t j = 0; j < k_; ++j) {
      launch(weigh_kernel<N, N>, grid(n), block, 0, stream, g, ld, weighted, n, rows, step.given + j * m + begin,
             layout_.d);
      REDUNET_CHECK(cudaGetLastError());
      outer(j + 1, {weighted, n, C * n}, to.Cs + j * rows * C);
    }

    const Responses<N> to_upstream = respond(upstream.get(), ops, tile);
    launch(move_kernel<N>, grid(n), block, shared, stream, to_upstream,
           Move<N>{g, ld, step.given + begin, m, static_cast<int>(k_), step.gammas, step.eta, 1, nullptr, {}});
    REDUNET_CHECK(cudaGetLastError());
  }
}

#define REDUNET_INSTANTIATE(N)                                                                            \
  template void Sweep<N>::pullback(const Spectrum<N>&, Spectrum<N>&, const Operators<N>&, const Step<N>&, \
                                   const std::vector<double>&, const Gradients<N>&);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)
REDUNET_INSTANTIATE(Complex<float>)
REDUNET_INSTANTIATE(Complex<double>)

}  // namespace redunet::cuda
