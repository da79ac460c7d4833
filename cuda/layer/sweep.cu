// A tile of samples at a time: all operators' responses by matrix products, then the kernels of samples.hpp. A tile is
// all samples where the responses have room, and fewer where memory is short.

#include <algorithm>

#include "layer/sweep.hpp"

namespace redunet::cuda {
namespace {

// Rows that one block sums, at least; and sums per sample, at most.
constexpr index_t kFewestRows = 64, kMostChunks = 64;
// Of what is free when a network begins, responses take no more than this part.
constexpr double kShare = 0.8;

}  // namespace

template <class N>
Sweep<N>::Sweep(const OperatorLayout& layout, const double* alphas, const double* freq_weights)
    : layout_(layout), k_(static_cast<index_t>(layout.ranks.size()) - 1), tile_(0) {
  const index_t F = layout.sizes.F, rows = F * layout.sizes.C;
  rows_per_chunk_ = std::max(kFewestRows, divide_up(rows, kMostChunks));
  chunks_ = divide_up(rows, rows_per_chunk_);
  std::vector<double> factored(as_size(k_ + 1), 0.0);
  for (index_t number = 0; number <= k_; ++number)
    if (at(layout.ranks, number) != 0) at(factored, number) = alphas[number];
  factored_ = DeviceArray<double>(factored);
  one_ = DeviceArray<double>(std::vector<double>{1.0});
  freq_weights_ = DeviceArray<Real<N>>(std::vector<Real<N>>(freq_weights, freq_weights + F));
}

// Room for the responses to as many samples as there is memory for.
template <class N>
void Sweep<N>::plan() {
  if (tile_ > 0) return;
  const auto [m, C, F, P] = layout_.sizes;
  const index_t most = *std::max_element(layout_.ranks.begin(), layout_.ranks.end());
  const std::size_t per_sample =
      as_size((k_ + 1) * F * C + F * most) * sizeof(N) + as_size((chunks_ + 1) * k_) * sizeof(Real<N>);
  const std::size_t free = Device::get().free_bytes();
  const auto room = static_cast<index_t>(kShare * static_cast<double>(free) / static_cast<double>(per_sample));
  if (room < std::min<index_t>(m, kWarp))
    throw CudaError("the responses to " + std::to_string(std::min<index_t>(m, kWarp)) + " samples need " +
                    in_gib(as_size(std::min<index_t>(m, kWarp)) * per_sample) + " of device memory, and " +
                    in_gib(free) + " are free");
  tile_ = room >= m ? m : room / kWarp * kWarp;
  responses_ = DeviceArray<N>((k_ + 1) * F * C * tile_);
  reduced_ = DeviceArray<N>(F * most * tile_);
  partial_ = DeviceArray<Real<N>>(chunks_ * k_ * tile_);
  pi_ = DeviceArray<Real<N>>(k_ * tile_);
}

template <class N>
void Sweep<N>::release() {
  tile_ = 0;
  responses_ = {}, reduced_ = {}, partial_ = {}, pi_ = {}, norms_ = {};
}

template <class N>
Responses<N> Sweep<N>::respond(const N* V, index_t ld, const Operators<N>& ops, Tile tile) {
  const auto [m, C, F, P] = layout_.sizes;
  const index_t w = tile.width, stride = F * C * w;
  const Matrices<const N> v{V + tile.begin, ld, C * ld};
  for (index_t number = 0; number <= k_; ++number) {
    const Matrices<N> y{responses_.get() + number * stride, w, C * w};
    const index_t r = at(layout_.ranks, number);
    if (r == 0) {
      const N* A = ops.dense + at(layout_.slot, number) * F * C * C;
      gemm<N>(Op::kNone, Op::kNone, C, w, C, 1, {A, C, C * C}, v, 0, y, F);
    } else {
      const index_t R = layout_.n_columns;
      const Matrices<const N> Q{ops.factors + at(layout_.column, number), R, C * R};
      gemm<N>(Op::kAdjoint, Op::kNone, r, w, C, 1, Q, v, 0, {reduced_.get(), w, r * w}, F);
      gemm<N>(Op::kNone, Op::kNone, C, w, r, 1, Q, {reduced_.get(), w, r * w}, 0, y, F);
    }
  }
  return {responses_.get(),    stride,          F * C,          static_cast<int>(C), static_cast<int>(w), v.p, ld,
          freq_weights_.get(), factored_.get(), rows_per_chunk_};
}

template <class N>
dim3 Sweep<N>::grid(index_t width, index_t depth) const {
  return dim3(blocks_of(width, kWarp), static_cast<unsigned>(chunks_), static_cast<unsigned>(depth));
}

template <class N>
void Sweep<N>::sum_chunks(index_t width, index_t k, Real<N>* sums, index_t ld) {
  constexpr unsigned kThreads = 128;
  launch(sum_chunks_kernel<Real<N>>, dim3(blocks_of(width, kThreads)), dim3(kThreads), 0, Device::get().stream(),
         partial_.get(), chunks_, static_cast<int>(k), static_cast<int>(width), sums, ld);
  REDUNET_CHECK(cudaGetLastError());
}

template <class N>
void Sweep<N>::response_norms(const Spectrum<N>& features, const Operators<N>& ops, Real<N>* squares) {
  plan();
  const index_t m = layout_.sizes.m;
  for (index_t begin = 0; begin < m; begin += tile_) {
    const index_t width = std::min(tile_, m - begin);
    const Responses<N> q = respond(features.get(), m, ops, {begin, width});
    launch(response_norms_kernel<N>, grid(width, k_), dim3(kWarp, kSampleRows),
           shared_bytes<Real<N>>(kWarp * kSampleRows), Device::get().stream(), q, partial_.get(), static_cast<int>(k_));
    REDUNET_CHECK(cudaGetLastError());
    sum_chunks(width, k_, squares + begin, m);
  }
}

template <class N>
void Sweep<N>::step(Spectrum<N>& features, const Operators<N>& ops, const Step<N>& step, Real<N>* squares) {
  plan();
  const index_t m = layout_.sizes.m;
  for (index_t begin = 0; begin < m; begin += tile_) {
    const index_t width = std::min(tile_, m - begin);
    const Responses<N> q = respond(features.get(), m, ops, {begin, width});
    launch(move_kernel<N>, grid(width), dim3(kWarp, kSampleRows), shared_bytes<Real<N>>(kWarp * kSampleRows),
           Device::get().stream(), q,
           Move<N>{features.get() + begin, m, step.given + begin, m, static_cast<int>(k_), step.gammas, step.eta, 1,
                   nullptr, partial_.get()});
    REDUNET_CHECK(cudaGetLastError());
    sum_chunks(width, 1, squares + begin, m);
  }
}

template <class N>
void Sweep<N>::move(Spectrum<N>& features, const Operators<N>& ops, const Step<N>& step, Real<N>* pi) {
  using T = Real<N>;
  plan();
  const index_t m = layout_.sizes.m;
  const int k = static_cast<int>(k_);
  const cudaStream_t stream = Device::get().stream();
  const std::size_t shared = shared_bytes<T>(kWarp * kSampleRows);
  for (index_t begin = 0; begin < m; begin += tile_) {
    const index_t width = std::min(tile_, m - begin);
    const Responses<N> q = respond(features.get(), m, ops, {begin, width});
    const dim3 block(kWarp, kSampleRows);
    const T* used = step.given == nullptr ? nullptr : step.given + begin;
    index_t pi_ld = m;
    if (used == nullptr) {
      T* out = pi == nullptr ? pi_.get() : pi + begin;
      pi_ld = pi == nullptr ? tile_ : m;
      launch(response_norms_kernel<N>, grid(width, k_), block, shared, stream, q, partial_.get(), k);
      REDUNET_CHECK(cudaGetLastError());
      constexpr unsigned kThreads = 128;
      launch(gates_kernel<T>, dim3(blocks_of(width, kThreads)), dim3(kThreads), 0, stream, partial_.get(), chunks_, k,
             static_cast<int>(width), static_cast<T>(step.lam), out, pi_ld);
      REDUNET_CHECK(cudaGetLastError());
      used = out;
    }
    N* V = features.get() + begin;
    launch(move_kernel<N>, grid(width), block, shared, stream, q,
           Move<N>{V, m, used, pi_ld, k, step.gammas, step.eta, 1, nullptr, partial_.get()});
    REDUNET_CHECK(cudaGetLastError());
    launch(normalise_kernel<N>, grid(width), block, 0, stream, V, m, q.rows, static_cast<int>(width), partial_.get(),
           chunks_, rows_per_chunk_, static_cast<T>(kSmallestNorm));
    REDUNET_CHECK(cudaGetLastError());
  }
}

template <class N>
void Sweep<N>::gradient(const Spectrum<N>& features, const Operators<N>& ops, const double* gammas, const Real<N>* pi,
                        const Real<N>* by, N* out) {
  using T = Real<N>;
  plan();
  const index_t m = layout_.sizes.m;
  for (index_t begin = 0; begin < m; begin += tile_) {
    const index_t width = std::min(tile_, m - begin);
    const Responses<N> q = respond(features.get(), m, ops, {begin, width});
    launch(move_kernel<N>, grid(width), dim3(kWarp, kSampleRows), shared_bytes<T>(kWarp * kSampleRows),
           Device::get().stream(), q,
           Move<N>{out + begin, m, pi + begin, m, static_cast<int>(k_), gammas, one_.get(), 0, by + begin, nullptr});
    REDUNET_CHECK(cudaGetLastError());
  }
}

template <class N>
void Sweep<N>::extrapolate(Spectrum<N>& features, N* before, double beta) {
  using T = Real<N>;
  const auto [m, C, F, P] = layout_.sizes;
  const index_t rows = F * C;
  const int width = static_cast<int>(m);
  if (m == 0) return;
  if (norms_.size() == 0) norms_ = DeviceArray<T>(chunks_ * m);
  const dim3 block(kWarp, kSampleRows);
  const cudaStream_t stream = Device::get().stream();
  launch(extrapolate_kernel<N>, grid(m), block, shared_bytes<T>(kWarp * kSampleRows), stream, features.get(), before,
         rows, static_cast<int>(C), width, freq_weights_.get(), static_cast<T>(beta), norms_.get(), rows_per_chunk_);
  REDUNET_CHECK(cudaGetLastError());
  launch(normalise_kernel<N>, grid(m), block, 0, stream, features.get(), m, rows, width, norms_.get(), chunks_,
         rows_per_chunk_, static_cast<T>(kSmallestNorm));
  REDUNET_CHECK(cudaGetLastError());
}

template <class N>
bool Sweep<N>::few_channels_fit(const OperatorLayout& layout) {
  constexpr std::size_t kEveryDevice = 48 << 10;
  const auto k = static_cast<int>(layout.ranks.size()) - 1;
  return layout.sizes.C <= kFewChannels && layout.n_columns == 0 && few_sweep_shared<N>(k) <= kEveryDevice;
}

template <class N>
void Sweep<N>::move_few(Spectrum<N>& features, const N* dense, const Step<N>& step, Real<N>* pi,
                        const Progress* progress) {
  const auto [m, C, F, P] = layout_.sizes;
  const int k = static_cast<int>(k_);
  FewSweep<N> q{};
  q.V = features.get(), q.m = static_cast<int>(m), q.F = static_cast<int>(F), q.k = k;
  q.weights = freq_weights_.get(), q.operators = dense, q.progress = progress;
  q.etas = step.eta, q.gammas = step.gammas;
  q.lambda = static_cast<Real<N>>(step.lam), q.smallest = static_cast<Real<N>>(kSmallestNorm);
  q.given = step.given, q.pi = pi;
  with_channels(C, [&, m = m]<int kC>() {
    launch(few_sweep_kernel<N, kC>, dim3(blocks_of(m, kWarp)), dim3(kWarp, kFewRows), few_sweep_shared<N>(k),
           Device::get().stream(), q);
  });
  REDUNET_CHECK(cudaGetLastError());
}

template class Sweep<float>;
template class Sweep<double>;
template class Sweep<Complex<float>>;
template class Sweep<Complex<double>>;

}  // namespace redunet::cuda
