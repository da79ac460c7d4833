#include <algorithm>

#include "kernels/blocks.hpp"
#include "layer/factoriser.hpp"

namespace redunet::cuda {
namespace {

// Rows of a block: two of complex doubles fit the shared memory that every device has.
constexpr int kBlock = 32;
// The largest matrix of one launch: beyond, one block of threads is too few for its work.
constexpr int kLargest = 128;
// Of matrices in one call of cuBLAS: NVIDIA documents no limit, but some of its kernels have the batch in a dimension
// of the grid that has this one.
constexpr index_t kMostInABatch = 65535;

int dimension(index_t x) { return static_cast<int>(x); }

template <class T>
void call_gemm(const Cublas& blas, Op a, Op b, index_t m, index_t n, index_t k, T alpha, Matrices<const T> A,
               Matrices<const T> B, T beta, Matrices<T> C, index_t batch) {
  const auto entry = [&] {
    if constexpr (sizeof(T) == 4)
      return blas.cublasSgemmStridedBatched;
    else
      return blas.cublasDgemmStridedBatched;
  }();
  REDUNET_CHECK(entry(Device::get().blas(), static_cast<cublasOperation_t>(b), static_cast<cublasOperation_t>(a),
                      dimension(n), dimension(m), dimension(k), &alpha, B.p, dimension(B.ld), B.stride, A.p,
                      dimension(A.ld), A.stride, &beta, C.p, dimension(C.ld), C.stride, dimension(batch)));
}

template <class T>
void call_gemm(const Cublas& blas, Op a, Op b, index_t m, index_t n, index_t k, T alpha, Matrices<const Complex<T>> A,
               Matrices<const Complex<T>> B, T beta, Matrices<Complex<T>> C, index_t batch) {
  using V = std::conditional_t<sizeof(T) == 4, cuComplex, cuDoubleComplex>;
  const auto entry = [&] {
    if constexpr (sizeof(T) == 4)
      return blas.cublasCgemmStridedBatched;
    else
      return blas.cublasZgemmStridedBatched;
  }();
  const V by{alpha, 0}, keep{beta, 0};
  REDUNET_CHECK(entry(Device::get().blas(), static_cast<cublasOperation_t>(b), static_cast<cublasOperation_t>(a),
                      dimension(n), dimension(m), dimension(k), &by, reinterpret_cast<const V*>(B.p), dimension(B.ld),
                      B.stride, reinterpret_cast<const V*>(A.p), dimension(A.ld), A.stride, &keep,
                      reinterpret_cast<V*>(C.p), dimension(C.ld), C.stride, dimension(batch)));
}

}  // namespace

// cuBLAS takes matrices by columns: what lies there is the transpose, and C' = op(B)' op(A)'.
template <class N>
void gemm(Op op_a, Op op_b, index_t rows, index_t columns, index_t inner, Real<N> alpha, Matrices<const N> A,
          Matrices<const N> B, Real<N> beta, Matrices<N> C, index_t batch) {
  if (rows == 0 || columns == 0 || batch == 0) return;
  for (index_t first = 0; first < batch; first += kMostInABatch) {
    const auto from = [&](auto matrices) {
      matrices.p += first * matrices.stride;
      return matrices;
    };
    call_gemm(cublas(), op_a, op_b, rows, columns, inner, alpha, from(A), from(B), beta, from(C),
              std::min(kMostInABatch, batch - first));
  }
}

template <class N>
void make_hermitian(const N* M, index_t count, index_t group, int terms, index_t n, const double* scale, N* to) {
  const index_t tiles = tiles_of(n);
  if (count * tiles == 0) return;
  launch(hermitian_kernel<N>, dim3(static_cast<unsigned>(count * tiles)), dim3(kTile, kTileRows),
         shared_bytes<N>(kTile * (kTile + 1)), Device::get().stream(), M, group, terms, dimension(n),
         static_cast<unsigned>(tiles), scale, to);
  REDUNET_CHECK(cudaGetLastError());
}

template <class N>
bool Factoriser<N>::fits(int n) {
  return n <= kLargest && factorise_shared<N>(n) <= as_size(Device::get().shared_limit());
}

template <class N>
std::size_t Factoriser<N>::bytes_per_matrix(int n) {
  return fits(n) ? 0 : (3 * as_size(n) + kBlock) * as_size(n) * sizeof(N);
}

template <class N>
void Factoriser<N>::run(const Factorise<N>& request, index_t count) {
  if (count == 0 || request.n == 0) return;
  if (!fits(request.n)) return by_blocks(request, count);
  constexpr std::size_t kWithoutAsking = 48 << 10;
  const std::size_t shared = factorise_shared<N>(request.n);
  if (shared > kWithoutAsking) REDUNET_CHECK(allow_shared(factorise_kernel<N>, static_cast<int>(shared)));
  const unsigned warps = request.n <= 16 ? 1 : kFactoriseWarps;
  launch(factorise_kernel<N>, dim3(static_cast<unsigned>(count)), dim3(kWarp, warps), shared, Device::get().stream(),
         request);
  REDUNET_CHECK(cudaGetLastError());
}

template <class N>
void Factoriser<N>::by_blocks(const Factorise<N>& request, index_t count) {
  const index_t n = request.n, size = n * n;
  const cudaStream_t stream = Device::get().stream();
  const auto room = [](DeviceArray<N>& array, index_t numbers) {
    if (array.size() < numbers) array = DeviceArray<N>(numbers);
    return array.get();
  };
  const bool inverting = request.W != nullptr || request.inverse != nullptr;
  N* S = room(rest_, count * size);
  N* L = request.L != nullptr ? request.L : room(factor_, count * size);
  N* W = request.W != nullptr ? request.W : room(inverse_factor_, count * size);
  const std::size_t bytes = as_size(count * size) * sizeof(N);
  REDUNET_CHECK(cudaMemsetAsync(L, 0, bytes, stream));
  REDUNET_CHECK(cudaMemsetAsync(W, 0, bytes, stream));
  make_hermitian<N>(request.M, count, request.group, request.terms, n, request.scale, S);
  const auto at = [&](N* matrices, index_t i, index_t j) { return Matrices<N>{matrices + i * n + j, n, size}; };
  const auto from = [&](const N* matrices, index_t i, index_t j) {
    return Matrices<const N>{matrices + i * n + j, n, size};
  };
  for (index_t begin = 0; begin < n; begin += kBlock) {
    const index_t end = std::min(begin + kBlock, n), width = end - begin;
    Factorise<N> diagonal{};
    diagonal.M = at(S, begin, begin).p, diagonal.stride = size;
    diagonal.n = dimension(width), diagonal.ld = request.n, diagonal.group = dimension(count);
    diagonal.shift = request.shift;
    diagonal.L = at(L, begin, begin).p, diagonal.W = at(W, begin, begin).p;
    diagonal.out_stride = size, diagonal.out_ld = request.n;
    diagonal.logdets = request.logdets, diagonal.accumulate = request.accumulate || begin > 0;
    run(diagonal, count);
    gemm<N>(Op::kNone, Op::kAdjoint, n - end, width, width, 1, from(S, end, begin), from(W, begin, begin), 0,
            at(L, end, begin), count);
    gemm<N>(Op::kNone, Op::kAdjoint, n - end, n - end, width, -1, from(L, end, begin), from(L, end, begin), 1,
            at(S, end, end), count);
  }
  if (!inverting) return;
  N* T = room(product_, count * kBlock * n);
  for (index_t begin = (n - 1) / kBlock * kBlock - kBlock; begin >= 0; begin -= kBlock) {
    const index_t end = begin + kBlock, rest = n - end;  // W[> j, j] = -W[> j, > j] L[> j, j] W[j, j]: W L = I
    gemm<N>(Op::kNone, Op::kNone, rest, kBlock, rest, 1, from(W, end, end), from(L, end, begin), 0,
            Matrices<N>{T, kBlock, rest * kBlock}, count);
    gemm<N>(Op::kNone, Op::kNone, rest, kBlock, kBlock, -1, Matrices<const N>{T, kBlock, rest * kBlock},
            from(W, begin, begin), 0, at(W, end, begin), count);
  }
  if (request.inverse == nullptr) return;
  gemm<N>(Op::kAdjoint, Op::kNone, n, n, n, 1, from(W, 0, 0), from(W, 0, 0), 0, at(request.inverse, 0, 0), count);
  make_hermitian<N>(request.inverse, count, request.group, 0, n, request.out_scale, request.inverse);
}

#define REDUNET_INSTANTIATE(N)                                                                                     \
  template void gemm<N>(Op, Op, index_t, index_t, index_t, Real<N>, Matrices<const N>, Matrices<const N>, Real<N>, \
                        Matrices<N>, index_t);                                                                     \
  template void make_hermitian<N>(const N*, index_t, index_t, int, index_t, const double*, N*);                    \
  template class Factoriser<N>;
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)
REDUNET_INSTANTIATE(Complex<float>)
REDUNET_INSTANTIATE(Complex<double>)

}  // namespace redunet::cuda
