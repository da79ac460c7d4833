// Batched Cholesky factors, inverses and log dets of Hermitian matrices that fit shared memory: one block per matrix.
#pragma once

#include "kernels/number.hpp"
#include "kernels/progress.hpp"

namespace redunet::cuda {

// Matrix q of `count` is number s = q / group, and lies at M + q * stride, row-major with `ld` numbers a row; the lower
// triangle is read. What is factored is A = shift I + scale[s] * matrix (scale null: 1); the shift, 0 or 1, is never
// added up, so that a small matrix loses nothing beside it. Where terms > 0, the matrices of number 0 are the sums of
// those of numbers 1 .. terms.
template <class N>
struct Factorise {
  const N* M;
  index_t stride;
  int n, ld, group, terms;
  Real<N> shift;
  const double* scale;
  // A = L L*. Each is left out where null. L and its inverse W are lower triangular, zero above the diagonal.
  N *L, *W;
  index_t out_stride;
  int out_ld;
  // out_scale[s] A^-1 (out_scale null: 1), n numbers a row and n * n a matrix; with progress, from slot * slot_stride
  // on.
  N* inverse;
  const double* out_scale;
  When when;  // with progress, what is wanted beside the log dets is said there
  index_t slot_stride;
  // log det A; NaN where a pivot is not a positive finite number. accumulate: added to what is there.
  double* logdets;
  bool accumulate;
};

constexpr int kFactoriseWarps = 4;

template <class N>
__host__ __device__ constexpr int factorise_stride(int n) {
  return n | 1;  // odd: neighbouring rows begin in other banks
}

template <class N>
constexpr std::size_t factorise_shared(int n) {
  return shared_bytes<N>(index_t{n} * factorise_stride<N>(n)) + shared_bytes<Real<N>>(n);
}

// One matrix in shared memory: rows `step` numbers apart, and the block's threads.
template <class N>
struct FactoriseBlock {
  N* A;
  Real<N>* reciprocal;  // of the diagonal of L
  int n, step, lane, warp, n_warps;
};

// The lower triangle of the matrix, or of the sum of others, scaled.
template <class N>
__device__ void load_matrix(const Factorise<N>& q, const FactoriseBlock<N>& block, index_t matrix) {
  using T = Real<N>;
  const index_t s = matrix / q.group;
  const T scale = q.scale == nullptr ? T(1) : static_cast<T>(q.scale[s]);
  const bool summed = s == 0 && q.terms > 0;
  for (int i = block.warp; i < block.n; i += block.n_warps)
    for (int j = block.lane; j <= i; j += kWarp) {
      const index_t entry = index_t{i} * q.ld + j;
      N sum = number<N>(0);
      if (summed)
        for (int t = 1; t <= q.terms; ++t)
          sum = add_scaled(sum, T(1), q.M[(matrix + index_t{t} * q.group) * q.stride + entry]);
      else
        sum = q.M[matrix * q.stride + entry];
      sum = scaled(scale, sum);
      block.A[i * block.step + j] = i == j ? number<N>(real_part(sum)) : sum;
    }
}

// A[row][column] += x(row) y in the rows of the warp from `begin` to `end`, but not above `top`. A column is a lane's.
// Rows come a few at a time, so that their numbers are on their way together: one by one each would wait for the last.
template <class N, class X>
__device__ void add_outer_product(const FactoriseBlock<N>& block, int begin, int end, int column, int top, N y,
                                  const X& x) {
  constexpr int kRows = 4;
  const auto [A, reciprocal, n, step, lane, warp, n_warps] = block;
  for (int first = begin + warp; first < end; first += kRows * n_warps) {
    N factor[kRows], sum[kRows];
    REDUNET_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int row = first + r * n_warps;
      const bool mine = row < end && row >= top;
      factor[r] = mine ? x(row) : number<N>(0);
      sum[r] = mine ? A[row * step + column] : number<N>(0);
    }
    REDUNET_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int row = first + r * n_warps;
      if (row < end && row >= top) A[row * step + column] = add_product(sum[r], factor[r], y);
    }
  }
}

// A <- L below the diagonal, right-looking; the pivots, less the shift, stay on the diagonal. Ends with a barrier.
template <class N>
__device__ void factor_in_place(const FactoriseBlock<N>& block, Real<N> shift) {
  using T = Real<N>;
  const auto [A, reciprocal, n, step, lane, warp, n_warps] = block;
  for (int j = 0; j < n; ++j) {
    __syncthreads();
    const T pivot = real_part(A[j * step + j]) + shift;
    const T by = T(1) / square_root(pivot);
    if (lane == 0 && warp == 0) reciprocal[j] = by;
    for (int i = j + 1 + warp * kWarp + lane; i < n; i += n_warps * kWarp)
      A[i * step + j] = scaled(by, A[i * step + j]);
    __syncthreads();
    const N* const column = A + j;
    const int stride = step;
    for (int first = j + 1; first < n; first += kWarp) {
      const int l = first + lane;
      const N y = l < n ? scaled(T(-1), conjugate(column[l * stride])) : number<N>(0);
      add_outer_product(block, first, n, l, l, y, [&](int i) { return column[i * stride]; });
    }
  }
  __syncthreads();
}

// By the first warp.
template <class N>
__device__ void write_log_det(const Factorise<N>& q, const FactoriseBlock<N>& block, index_t matrix) {
  if (block.warp != 0 || q.logdets == nullptr) return;
  double sum = 0;
  for (int j = block.lane; j < block.n; j += kWarp) {
    const double excess = real_part(block.A[j * block.step + j]), pivot = excess + double(q.shift);
    sum += !(pivot > 0 && is_finite(pivot)) ? NAN : q.shift == 0 ? log(pivot) : log1p(excess);
  }
  for (int distance = kWarp / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(kAllLanes, sum, distance);
  if (block.lane == 0) q.logdets[matrix] = q.accumulate ? q.logdets[matrix] + sum : sum;
}

template <class N>
__device__ void write_factor(const Factorise<N>& q, const FactoriseBlock<N>& block, index_t matrix) {
  const auto [A, reciprocal, n, step, lane, warp, n_warps] = block;
  N* L = q.L + matrix * q.out_stride;
  for (int i = warp; i < n; i += n_warps)
    for (int j = lane; j < n; j += kWarp)
      L[index_t{i} * q.out_ld + j] = j < i    ? A[i * step + j]
                                     : j == i ? number<N>(square_root(real_part(A[i * step + i]) + q.shift))
                                              : number<N>(0);
}

// The upper triangle <- W = L^-1, transposed: S[i, j] = sum over l of W[i, l] L[l, j], j < l <= i, gathers there,
// column l after column l of W is known from the end, and W[i, j] = -S[i, j] / L[j, j]. That solves W L = I and not L W
// = I: then W* W is as accurate as two substitutions, where the other's error would grow by the root of the condition.
// Ends with a barrier.
template <class N>
__device__ void invert_in_place(const FactoriseBlock<N>& block) {
  const auto [A, reciprocal, n, step, lane, warp, n_warps] = block;
  for (int j = warp; j < n; j += n_warps)
    for (int i = j + 1 + lane; i < n; i += kWarp) A[j * step + i] = number<N>(0);
  for (int l = n - 1; l > 0; --l) {
    __syncthreads();
    const N* const row = A + l * step;  // of L up to the diagonal, then of S
    for (int first = l; first < n; first += kWarp) {
      const int i = first + lane;
      const N w = i == l ? number<N>(reciprocal[l]) : i < n ? scaled(-reciprocal[l], row[i]) : number<N>(0);
      add_outer_product(block, 0, l, i, i < n ? 0 : l, w, [&](int j) { return row[j]; });
    }
  }
  __syncthreads();
  for (int j = warp; j < n; j += n_warps)
    for (int i = j + 1 + lane; i < n; i += kWarp) A[j * step + i] = scaled(-reciprocal[j], A[j * step + i]);
  __syncthreads();
}

template <class N>
__device__ void write_inverse_factor(const Factorise<N>& q, const FactoriseBlock<N>& block, index_t matrix) {
  const auto [A, reciprocal, n, step, lane, warp, n_warps] = block;
  N* W = q.W + matrix * q.out_stride;
  for (int i = warp; i < n; i += n_warps)
    for (int j = lane; j < n; j += kWarp)
      W[index_t{i} * q.out_ld + j] = j < i ? A[j * step + i] : j == i ? number<N>(reciprocal[i]) : number<N>(0);
}

// W* W, scaled.
template <class N>
__device__ void write_inverse(const Factorise<N>& q, const FactoriseBlock<N>& block, index_t matrix) {
  using T = Real<N>;
  const auto [A, reciprocal, n, step, lane, warp, n_warps] = block;
  const T by = q.out_scale == nullptr ? T(1) : static_cast<T>(q.out_scale[matrix / q.group]);
  const Progress* progress = q.when.progress;
  N* inverse = q.inverse + matrix * n * n;
  if (progress != nullptr) inverse += progress->row % progress->n_slots * q.slot_stride;
  for (int i = warp; i < n; i += n_warps)
    for (int j = lane; j <= i; j += kWarp) {
      // sum over l >= i of conj(W[l, i]) W[l, j]
      N sum = i == j ? number<N>(reciprocal[i] * reciprocal[i]) : scaled(reciprocal[i], A[j * step + i]);
      for (int l = i + 1; l < n; ++l) sum = add_conj_product(sum, A[j * step + l], A[i * step + l]);
      if (i == j) sum = number<N>(real_part(sum));
      inverse[index_t{i} * n + j] = scaled(by, sum);
      inverse[index_t{j} * n + i] = conjugate(scaled(by, sum));
    }
}

template <class N>
__global__ void __launch_bounds__(kWarp* kFactoriseWarps, 4) factorise_kernel(Factorise<N> q) {
  if (!q.when.now()) return;
  SharedMemory shared;
  const int step = factorise_stride<N>(q.n);
  N* A = shared.array<N>(index_t{q.n} * step);
  const FactoriseBlock<N> block{A,
                                shared.array<Real<N>>(q.n),
                                q.n,
                                step,
                                static_cast<int>(threadIdx.x),
                                static_cast<int>(threadIdx.y),
                                static_cast<int>(blockDim.y)};
  const index_t matrix = blockIdx.x;
  load_matrix(q, block, matrix);
  factor_in_place(block, q.shift);
  write_log_det(q, block, matrix);
  if (q.L != nullptr) write_factor(q, block, matrix);
  if (q.W == nullptr && q.inverse == nullptr) return;
  if (q.when.progress != nullptr && !q.when.progress->wanted) return;
  invert_in_place(block);
  if (q.W != nullptr) write_inverse_factor(q, block, matrix);
  if (q.inverse != nullptr) write_inverse(q, block, matrix);
}

}  // namespace redunet::cuda
