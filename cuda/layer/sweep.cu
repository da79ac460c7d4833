// A tile of samples at a time: all operators' responses by matrix products, then the kernels of samples.hpp. A tile is
// all samples where the responses have room, and fewer where memory is short.

#include <algorithm>
#include <utility>

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
    : layout_(layout),
      k_(static_cast<index_t>(layout.ranks.size()) - 1),
      tile_(0),
      columns_(layout.sizes.m * layout.d) {
  const index_t F = layout.sizes.F, rows = F * layout.sizes.C;
  rows_per_chunk_ = std::max(kFewestRows, divide_up(rows, kMostChunks));
  chunks_ = divide_up(rows, rows_per_chunk_);
  std::vector<Real<N>> factored(as_size(k_ + 1), 0);
  for (index_t number = 0; number <= k_; ++number)
    if (at(layout.ranks, number) != 0) at(factored, number) = static_cast<Real<N>>(alphas[number]);
  factored_ = DeviceArray<Real<N>>(factored);
  one_ = DeviceArray<double>(std::vector<double>{1.0});
  std::vector<Real<N>> weights, of_rows;
  for (index_t p = 0; p < F; ++p) {
    weights.push_back(static_cast<Real<N>>(freq_weights[p] / double(layout.d)));
    of_rows.insert(of_rows.end(), as_size(layout.sizes.C), weights.back());
  }
  freq_weights_ = DeviceArray<Real<N>>(std::move(weights));
  row_weights_ = DeviceArray<Real<N>>(std::move(of_rows));
}

// Room for the responses to as many samples as there is memory for.
template <class N>
void Sweep<N>::plan() {
  if (tile_ > 0) return;
  const auto [m, C, F, P] = layout_.sizes;
  const index_t d = layout_.d, most = *std::max_element(layout_.ranks.begin(), layout_.ranks.end());
  const std::size_t per_sample =
      as_size(d * ((k_ + 1) * F * C + F * most)) * sizeof(N) + as_size((d * chunks_ + 1) * k_) * sizeof(Real<N>);
  const std::size_t free = Device::get().free_bytes();
  const auto room = static_cast<index_t>(kShare * static_cast<double>(free) / static_cast<double>(per_sample));
  if (room < std::min<index_t>(m, kWarp))
    throw CudaError("the responses to " + std::to_string(std::min<index_t>(m, kWarp)) + " samples need " +
                    in_gib(as_size(std::min<index_t>(m, kWarp)) * per_sample) + " of device memory, and " +
                    Device::get().what_is_free());
  tile_ = room >= m ? m : room / kWarp * kWarp;
  responses_ = DeviceArray<N>((k_ + 1) * F * C * tile_ * d);
  reduced_ = DeviceArray<N>(F * most * tile_ * d);
  partial_ = DeviceArray<Real<N>>(chunks_ * k_ * tile_ * d);
  pi_ = DeviceArray<Real<N>>(k_ * tile_);
}

template <class N>
void Sweep<N>::release() {
  tile_ = 0;
  responses_ = {}, reduced_ = {}, partial_ = {}, pi_ = {}, norms_ = {};
}

template <class N>
typename Sweep<N>::Tile Sweep<N>::tile_at(index_t begin) const {
  const index_t width = std::min(tile_, layout_.sizes.m - begin);
  return {begin, width, begin * layout_.d, width * layout_.d};
}

template <class N>
Responses<N> Sweep<N>::respond(const N* V, const Operators<N>& ops, const Tile& tile) {
  const auto [m, C, F, P] = layout_.sizes;
  const index_t w = tile.columns, stride = F * C * w, ld = columns_;
  const Matrices<const N> v{V + tile.first_column, ld, C * ld};
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
  return {.Y = responses_.get(),
          .stride = stride,
          .rows = F * C,
          .m = static_cast<int>(w),
          .d = static_cast<int>(layout_.d),
          .V = v.p,
          .ld = ld,
          .weights = row_weights_.get(),
          .factored = factored_.get(),
          .rows_per_chunk = rows_per_chunk_};
}

template <class N>
dim3 Sweep<N>::grid(index_t columns, index_t depth) const {
  return dim3(blocks_of(columns, kWarp), static_cast<unsigned>(chunks_), static_cast<unsigned>(depth));
}

template <class N>
Partial<Real<N>> Sweep<N>::partial(const DeviceArray<Real<N>>& memory, index_t columns, index_t k) const {
  return {memory.get(), chunks_, static_cast<int>(k), static_cast<int>(columns), static_cast<int>(layout_.d)};
}

template <class N>
void Sweep<N>::sum_chunks(const Tile& tile, index_t k, Real<N>* sums) {
  constexpr unsigned kThreads = 128;
  launch(sum_chunks_kernel<Real<N>>, dim3(blocks_of(tile.width, kThreads)), dim3(kThreads), 0, Device::get().stream(),
         partial(partial_, tile.columns, k), sums + tile.begin, layout_.sizes.m);
  REDUNET_CHECK(cudaGetLastError());
}

template <class N>
void Sweep<N>::response_norms(const Spectrum<N>& features, const Operators<N>& ops, Real<N>* squares) {
  plan();
  const index_t m = layout_.sizes.m;
  for (index_t begin = 0; begin < m; begin += tile_) {
    const Tile tile = tile_at(begin);
    const Responses<N> q = respond(features.get(), ops, tile);
    launch(response_norms_kernel<N>, grid(tile.columns, k_), dim3(kWarp, kSampleRows),
           shared_bytes<Real<N>>(kWarp * kSampleRows), Device::get().stream(), q, partial(partial_, tile.columns, k_));
    REDUNET_CHECK(cudaGetLastError());
    sum_chunks(tile, k_, squares);
  }
}

template <class N>
void Sweep<N>::step(Spectrum<N>& features, const Operators<N>& ops, const Step<N>& step, Real<N>* squares) {
  plan();
  const index_t m = layout_.sizes.m;
  for (index_t begin = 0; begin < m; begin += tile_) {
    const Tile tile = tile_at(begin);
    const Responses<N> q = respond(features.get(), ops, tile);
    launch(move_kernel<N>, grid(tile.columns), dim3(kWarp, kSampleRows), shared_bytes<Real<N>>(kWarp * kSampleRows),
           Device::get().stream(), q,
           Move<N>{features.get() + tile.first_column, columns_, step.given + begin, m, static_cast<int>(k_),
                   step.gammas, step.eta, 1, nullptr, partial(partial_, tile.columns, 1)});
    REDUNET_CHECK(cudaGetLastError());
    sum_chunks(tile, 1, squares);
  }
}

template <class N>
void Sweep<N>::move(Spectrum<N>& features, const Operators<N>& ops, const Step<N>& step, Real<N>* pi,
                    const When& when) {
  using T = Real<N>;
  plan();
  const index_t m = layout_.sizes.m;
  const int k = static_cast<int>(k_);
  const cudaStream_t stream = Device::get().stream();
  const std::size_t shared = shared_bytes<T>(kWarp * kSampleRows);
  for (index_t begin = 0; begin < m; begin += tile_) {
    const Tile tile = tile_at(begin);
    Responses<N> q = respond(features.get(), ops, tile);
    q.when = when;
    const dim3 block(kWarp, kSampleRows);
    const T* used = step.given == nullptr ? nullptr : step.given + begin;
    index_t pi_ld = m;
    if (used == nullptr) {
      T* out = pi == nullptr ? pi_.get() : pi + begin;
      pi_ld = pi == nullptr ? tile_ : m;
      const Partial<T> squares = partial(partial_, tile.columns, k_);
      launch(response_norms_kernel<N>, grid(tile.columns, k_), block, shared, stream, q, squares);
      REDUNET_CHECK(cudaGetLastError());
      launch(gates_kernel<T>, dim3(blocks_of(tile.width, kWarp)), block, 0, stream, squares, static_cast<T>(step.lam),
             out, pi_ld);
      REDUNET_CHECK(cudaGetLastError());
      used = out;
    }
    N* V = features.get() + tile.first_column;
    const Partial<T> squares = partial(partial_, tile.columns, 1);
    launch(move_kernel<N>, grid(tile.columns), block, shared, stream, q,
           Move<N>{V, columns_, used, pi_ld, k, step.gammas, step.eta, 1, nullptr, squares});
    REDUNET_CHECK(cudaGetLastError());
    launch(normalise_kernel<N>, grid(tile.columns), block, 0, stream, V, columns_, q.rows, squares, rows_per_chunk_,
           static_cast<T>(kSmallestNorm), when);
    REDUNET_CHECK(cudaGetLastError());
  }
}

template <class N>
void Sweep<N>::gradient(Spectrum<N>& features, const Operators<N>& ops, const Real<N>* gammas, const Real<N>* pi,
                        const Real<N>* by) {
  using T = Real<N>;
  plan();
  const index_t m = layout_.sizes.m;
  for (index_t begin = 0; begin < m; begin += tile_) {
    const Tile tile = tile_at(begin);
    const Responses<N> q = respond(features.get(), ops, tile);
    N* V = features.get() + tile.first_column;
    launch(move_kernel<N>, grid(tile.columns), dim3(kWarp, kSampleRows), shared_bytes<T>(kWarp * kSampleRows),
           Device::get().stream(), q,
           Move<N>{V, columns_, pi + begin, m, static_cast<int>(k_), gammas, one_.get(), 0, by + begin, {}});
    REDUNET_CHECK(cudaGetLastError());
  }
}

template <class N>
void Sweep<N>::make_room_ahead() {
  if (norms_.size() == 0) norms_ = DeviceArray<Real<N>>(chunks_ * columns_);
}

template <class N>
void Sweep<N>::extrapolate(Spectrum<N>& features, N* before, double beta, const When& when) {
  using T = Real<N>;
  const index_t rows = layout_.sizes.F * layout_.sizes.C;
  if (columns_ == 0) return;
  make_room_ahead();
  const Partial<T> squares = partial(norms_, columns_, 1);
  const dim3 block(kWarp, kSampleRows);
  const cudaStream_t stream = Device::get().stream();
  launch(extrapolate_kernel<N>, grid(columns_), block, shared_bytes<T>(kWarp * kSampleRows), stream, features.get(),
         before, rows, squares.m, row_weights_.get(), static_cast<T>(beta), squares, rows_per_chunk_, when);
  REDUNET_CHECK(cudaGetLastError());
  launch(normalise_kernel<N>, grid(columns_), block, 0, stream, features.get(), columns_, rows, squares,
         rows_per_chunk_, static_cast<T>(kSmallestNorm), when);
  REDUNET_CHECK(cudaGetLastError());
}

template <class N>
bool Sweep<N>::fused_fits(const OperatorLayout& layout) {
  constexpr std::size_t kEveryDevice = 48 << 10;
  const auto k = static_cast<int>(layout.ranks.size()) - 1;
  return layout.sizes.C <= kFewChannels && layout.n_columns == 0 && layout.d == 1 &&
         fused_sweep_shared<N>(k) <= kEveryDevice;
}

template <class N>
void Sweep<N>::move_fused(Spectrum<N>& features, const N* dense, const Step<N>& step, Real<N>* pi, const When& when) {
  const auto [m, C, F, P] = layout_.sizes;
  const int k = static_cast<int>(k_);
  FusedSweep<N> q{};
  q.V = features.get(), q.m = static_cast<int>(m), q.F = static_cast<int>(F), q.k = k;
  q.weights = freq_weights_.get(), q.operators = dense, q.when = when;
  q.eta = step.eta, q.gammas = step.gammas;
  q.lambda = static_cast<Real<N>>(step.lam), q.smallest = static_cast<Real<N>>(kSmallestNorm);
  q.given = step.given, q.pi = pi;
  with_channels(C, [&, m = m]<int kC>() {
    launch(fused_sweep_kernel<N, kC>, dim3(blocks_of(m, kWarp)), dim3(kWarp, kFusedRows), fused_sweep_shared<N>(k),
           Device::get().stream(), q);
  });
  REDUNET_CHECK(cudaGetLastError());
}

template class Sweep<float>;
template class Sweep<double>;
template class Sweep<Complex<float>>;
template class Sweep<Complex<double>>;

}  // namespace redunet::cuda
