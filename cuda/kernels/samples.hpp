// What happens to samples outside of matrix products: the way in and out, gates, step, projection onto the sphere.
//
// Spectra are V[p][c][i], samples innermost, so that neighbouring threads take neighbouring samples. A "row" is one (p,
// c): row r has frequency r / C. Norms over rows are summed in chunks of rows, then over chunks, in an order that
// depends on the sizes alone.
#pragma once

#include "kernels/number.hpp"

namespace redunet::cuda {

constexpr int kTransposeRows = 8;

// to[f][c][i] = from[order[i]][c][f], or back: to[order[i]][c][f] = from[f][c][i]. One block per 32 x 32 tile of (f, i)
// of one channel (blockIdx.z).
template <class N>
__global__ void __launch_bounds__(kWarp* kTransposeRows, 4)
    transpose_kernel(const N* from, N* to, const int* order, index_t m, index_t C, index_t F, bool back) {
  SharedMemory shared;
  N* tile = shared.array<N>(kWarp * (kWarp + 1));
  const index_t c = blockIdx.z, i0 = index_t{blockIdx.x} * kWarp, f0 = index_t{blockIdx.y} * kWarp;
  const int x = static_cast<int>(threadIdx.x);
  for (int y = static_cast<int>(threadIdx.y); y < kWarp; y += kTransposeRows) {
    const index_t i = i0 + (back ? x : y), f = f0 + (back ? y : x);
    if (i < m && f < F) tile[y * (kWarp + 1) + x] = back ? from[(f * C + c) * m + i] : from[(order[i] * C + c) * F + f];
  }
  __syncthreads();
  for (int y = static_cast<int>(threadIdx.y); y < kWarp; y += kTransposeRows) {
    const index_t i = i0 + (back ? y : x), f = f0 + (back ? x : y);
    if (i >= m || f >= F) continue;
    const N z = tile[x * (kWarp + 1) + y];
    if (back)
      to[(order[i] * C + c) * F + f] = z;
    else
      to[(f * C + c) * m + i] = z;
  }
}

// to[row][u] = by[u] * from[row][index[u]]
template <class N>
__global__ void gather_kernel(const N* from, index_t m, N* to, index_t count, index_t rows, const int* index,
                              const Real<N>* by) {
  const index_t u = index_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (u >= count) return;
  for (index_t row = index_t{blockIdx.y} * blockDim.y + threadIdx.y; row < rows; row += index_t{gridDim.y} * blockDim.y)
    to[row * count + u] = scaled(by[u], from[row * m + index[u]]);
}

// to[row][i] = by[i] from[row][i], in the precision of `to`: m samples, of which `from` has ld numbers a row.
template <class N, class M>
__global__ void weigh_kernel(const N* from, index_t ld, M* to, index_t m, index_t rows, const Real<M>* by) {
  const index_t i = index_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= m) return;
  for (index_t row = index_t{blockIdx.y} * blockDim.y + threadIdx.y; row < rows; row += index_t{gridDim.y} * blockDim.y)
    to[row * m + i] = scaled(by[i], converted<M>(from[row * ld + i]));
}

// The operators' responses to a tile of samples: Y[number][row][i], numbers from `first` on.
template <class N>
struct Responses {
  const N* Y;
  index_t stride;  // from one number to the next
  index_t rows;    // F * C
  int C, m;        // samples of the tile
  const N* V;      // the samples of the tile, ld numbers a row
  index_t ld;
  const Real<N>* weights;  // of frequencies
  const double* factored;  // per number: alpha of a factored operator, whose response is alpha (v - Y); 0: dense
  index_t rows_per_chunk;
};

// The response of an operator.
template <class N>
__device__ inline N response(const Responses<N>& q, int number, index_t row, int i) {
  const N y = q.Y[number * q.stride + row * q.m + i];
  const auto alpha = static_cast<Real<N>>(q.factored[number]);
  if (alpha == 0) return y;
  return scaled(alpha, add_scaled(q.V[row * q.ld + i], Real<N>(-1), y));
}

constexpr int kSampleRows = 8;

// The sum over the threads of a block with the same x, in all of them that have y = 0.
template <class T>
__device__ inline T sum_over_y(T value, T* shared) {
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  shared[y * kWarp + x] = value;
  __syncthreads();
  T sum = 0;
  if (y == 0)
    for (int other = 0; other < kSampleRows; ++other) sum += shared[other * kWarp + x];
  return sum;
}

// partial[chunk][j][i] = sum over the rows of a chunk of w_p |response of class j|^2. Block (chunk, class, 32 samples).
template <class N>
__global__ void __launch_bounds__(kWarp* kSampleRows, 4)
    response_norms_kernel(Responses<N> q, Real<N>* partial, int k) {
  using T = Real<N>;
  SharedMemory shared;
  T* sums = shared.array<T>(kWarp * kSampleRows);
  const int i = static_cast<int>(blockIdx.x) * kWarp + static_cast<int>(threadIdx.x), j = static_cast<int>(blockIdx.z);
  const index_t chunk = blockIdx.y, begin = chunk * q.rows_per_chunk;
  const index_t end = begin + q.rows_per_chunk < q.rows ? begin + q.rows_per_chunk : q.rows;
  T sum = 0;
  if (i < q.m)
    for (index_t row = begin + threadIdx.y; row < end; row += kSampleRows)
      sum += q.weights[row / q.C] * squared(response(q, j + 1, row, i));
  sum = sum_over_y(sum, sums);
  if (threadIdx.y == 0 && i < q.m) partial[(chunk * k + j) * q.m + i] = sum;
}

// sums[j][i] = the sum over chunks of partial[chunk][j][i].
template <class T>
__global__ void sum_chunks_kernel(const T* partial, index_t chunks, int k, int m, T* sums, index_t ld) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= m) return;
  for (int j = 0; j < k; ++j) {
    T sum = 0;
    for (index_t chunk = 0; chunk < chunks; ++chunk) sum += partial[(chunk * k + j) * m + i];
    sums[j * ld + i] = sum;
  }
}

// pi[j][i] = softmax_j(-lambda rho_j), rho_j^2 the sum over chunks of partial[chunk][j][i].
template <class T>
__global__ void gates_kernel(const T* partial, index_t chunks, int k, int m, T lambda, T* pi, index_t pi_ld) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= m) return;
  T least = 0;
  for (int j = 0; j < k; ++j) {
    T square = 0;
    for (index_t chunk = 0; chunk < chunks; ++chunk) square += partial[(chunk * k + j) * m + i];
    const T rho = square_root(square);
    pi[j * pi_ld + i] = rho;
    if (j == 0 || rho < least) least = rho;
  }
  T sum = 0;
  for (int j = 0; j < k; ++j) {
    const T e = exponential(lambda * (least - pi[j * pi_ld + i]));
    pi[j * pi_ld + i] = e;
    sum += e;
  }
  for (int j = 0; j < k; ++j) pi[j * pi_ld + i] /= sum;
}

// out = base v + by_i (eta E v - sum_j eta gamma_j pi_ij C^j v); partial[chunk][i] = sum of w_p |out|^2 unless null.
template <class N>
struct Move {
  N* out;  // of the tile; may be V
  index_t out_ld;
  const Real<N>* pi;  // [j][pi_ld]
  index_t pi_ld;
  int k;
  const double* gammas;
  const double* eta;
  Real<N> base;
  const Real<N>* by;  // or null: 1
  Real<N>* partial;
};

template <class N>
__global__ void __launch_bounds__(kWarp* kSampleRows, 4) move_kernel(Responses<N> q, Move<N> move) {
  using T = Real<N>;
  SharedMemory shared;
  T* sums = shared.array<T>(kWarp * kSampleRows);
  const int i = static_cast<int>(blockIdx.x) * kWarp + static_cast<int>(threadIdx.x);
  const index_t chunk = blockIdx.y, begin = chunk * q.rows_per_chunk;
  const index_t end = begin + q.rows_per_chunk < q.rows ? begin + q.rows_per_chunk : q.rows;
  T sum = 0;
  if (i < q.m) {
    const T eta = static_cast<T>(*move.eta) * (move.by == nullptr ? T(1) : move.by[i]);
    for (index_t row = begin + threadIdx.y; row < end; row += kSampleRows) {
      N step = response(q, 0, row, i);
      for (int j = 0; j < move.k; ++j) {
        const T pi = move.pi[j * move.pi_ld + i];
        if (pi != 0) step = add_scaled(step, -static_cast<T>(move.gammas[j]) * pi, response(q, j + 1, row, i));
      }
      const N z = add_scaled(scaled(move.base, q.V[row * q.ld + i]), eta, step);
      move.out[row * move.out_ld + i] = z;
      sum += q.weights[row / q.C] * squared(z);
    }
  }
  sum = sum_over_y(sum, sums);
  if (move.partial != nullptr && threadIdx.y == 0 && i < q.m) move.partial[chunk * q.m + i] = sum;
}

// v <- v + beta (v - before), before <- v; partial[chunk][i] = sum of w_p |v|^2 of the new ones. m numbers a row.
template <class N>
__global__ void __launch_bounds__(kWarp* kSampleRows, 4)
    extrapolate_kernel(N* V, N* before, index_t rows, int C, int m, const Real<N>* weights, Real<N> beta,
                       Real<N>* partial, index_t rows_per_chunk) {
  using T = Real<N>;
  SharedMemory shared;
  T* sums = shared.array<T>(kWarp * kSampleRows);
  const int i = static_cast<int>(blockIdx.x) * kWarp + static_cast<int>(threadIdx.x);
  const index_t chunk = blockIdx.y, begin = chunk * rows_per_chunk;
  const index_t end = begin + rows_per_chunk < rows ? begin + rows_per_chunk : rows;
  T sum = 0;
  if (i < m)
    for (index_t row = begin + threadIdx.y; row < end; row += kSampleRows) {
      const N v = V[row * m + i];
      const N beyond = add_scaled(v, beta, add_scaled(v, T(-1), before[row * m + i]));
      before[row * m + i] = v;
      V[row * m + i] = beyond;
      sum += weights[row / C] * squared(beyond);
    }
  sum = sum_over_y(sum, sums);
  if (threadIdx.y == 0 && i < m) partial[chunk * m + i] = sum;
}

// v <- v / max(||v||, smallest)
template <class N>
__global__ void __launch_bounds__(kWarp* kSampleRows, 4)
    normalise_kernel(N* V, index_t ld, index_t rows, int m, const Real<N>* partial, index_t chunks,
                     index_t rows_per_chunk, Real<N> smallest) {
  using T = Real<N>;
  const int i = static_cast<int>(blockIdx.x) * kWarp + static_cast<int>(threadIdx.x);
  if (i >= m) return;
  T square = 0;
  for (index_t chunk = 0; chunk < chunks; ++chunk) square += partial[chunk * m + i];
  const T norm = square_root(square), by = T(1) / (norm > smallest ? norm : smallest);
  const index_t begin = index_t{blockIdx.y} * rows_per_chunk;
  const index_t end = begin + rows_per_chunk < rows ? begin + rows_per_chunk : rows;
  for (index_t row = begin + threadIdx.y; row < end; row += kSampleRows) V[row * ld + i] = scaled(by, V[row * ld + i]);
}

}  // namespace redunet::cuda
