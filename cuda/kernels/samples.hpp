// What happens to samples outside of matrix products: the way in and out, gates, step, projection onto the sphere.
//
// Spectra are V[p][c][i], i a column: those of a sample, d of them, are neighbours, and to all but its norms and its
// membership every column is a sample of its own. Columns are innermost, so that neighbouring threads take neighbouring
// ones. A "row" is one (p, c): row r has frequency r / C. Norms are summed in chunks of rows, then over chunks and the
// columns of a sample, in an order that depends on the sizes alone.
#pragma once

#include "kernels/number.hpp"
#include "kernels/progress.hpp"

namespace redunet::cuda {

constexpr int kTransposeRows = 8;

// Where spectra of m samples have the column f % d of sample i at frequency f / d.
__device__ inline index_t place_in_spectrum(index_t f, index_t c, index_t i, index_t m, index_t C, index_t d) {
  return ((f / d * C + c) * m + i) * d + f % d;
}

// The spectrum V of from[order[i]][c][f], or back: to[order[i]][c][f], F columns f of all frequencies. One block per 32
// x 32 tile of (f, i) of one channel (blockIdx.z).
template <class N>
__global__ void __launch_bounds__(kWarp* kTransposeRows, 4)
    transpose_kernel(const N* from, N* to, const int* order, index_t m, index_t C, index_t F, index_t d, bool back) {
  SharedMemory shared;
  N* tile = shared.array<N>(kWarp * (kWarp + 1));
  const index_t c = blockIdx.z, i0 = index_t{blockIdx.x} * kWarp, f0 = index_t{blockIdx.y} * kWarp;
  const int x = static_cast<int>(threadIdx.x);
  for (int y = static_cast<int>(threadIdx.y); y < kWarp; y += kTransposeRows) {
    const index_t i = i0 + (back ? x : y), f = f0 + (back ? y : x);
    if (i < m && f < F)
      tile[y * (kWarp + 1) + x] = from[back ? place_in_spectrum(f, c, i, m, C, d) : (order[i] * C + c) * F + f];
  }
  __syncthreads();
  for (int y = static_cast<int>(threadIdx.y); y < kWarp; y += kTransposeRows) {
    const index_t i = i0 + (back ? y : x), f = f0 + (back ? x : y);
    if (i >= m || f >= F) continue;
    to[back ? (order[i] * C + c) * F + f : place_in_spectrum(f, c, i, m, C, d)] = tile[x * (kWarp + 1) + y];
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

// to[row][i] = by[i / d] from[row][i], in the precision of `to`: m columns, of which `from` has ld numbers a row.
template <class N, class M>
__global__ void weigh_kernel(const N* from, index_t ld, M* to, index_t m, index_t rows, const Real<M>* by, index_t d) {
  const index_t i = index_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= m) return;
  const Real<M> factor = by[i / d];
  for (index_t row = index_t{blockIdx.y} * blockDim.y + threadIdx.y; row < rows; row += index_t{gridDim.y} * blockDim.y)
    to[row * m + i] = scaled(factor, converted<M>(from[row * ld + i]));
}

// The operators' responses to a tile of samples: Y[number][row][i], numbers from `first` on.
template <class N>
struct Responses {
  const N* Y;
  index_t stride;  // from one number to the next
  index_t rows;    // F * C
  int m, d;        // columns of the tile, and of a sample
  const N* V;      // the columns of the tile, ld numbers a row
  index_t ld;
  const Real<N>* weights;   // w of rows: of their frequencies, for each of d columns
  const Real<N>* factored;  // per number: alpha of a factored operator, whose response is alpha (v - Y); 0: dense
  index_t rows_per_chunk;
  When when = {};
};

// The response of an operator.
template <class N>
__device__ inline N response(const Responses<N>& q, int number, index_t row, int i) {
  const N y = q.Y[number * q.stride + row * q.m + i];
  const Real<N> alpha = q.factored[number];
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

// What a kernel over rows and columns leaves: sums[chunk][j][i] of the rows of a chunk, i one of m columns.
template <class T>
struct Partial {
  T* sums;
  index_t chunks;
  int k, m, d;

  __device__ T& at(index_t chunk, int j, int i) const { return sums[(chunk * k + j) * m + i]; }
  // The sum over all rows and the columns of a sample: of up to 64 chunks, whose numbers no other waits for.
  __device__ T of_sample(int j, int sample) const {
    const index_t stride = index_t{k} * m;
    T sum = 0;
    for (int c = 0; c < d; ++c) {
      const T* from = &at(0, j, sample * d + c);
      REDUNET_UNROLL_8
      for (int chunk = 0; chunk < static_cast<int>(chunks); ++chunk, from += stride) sum += *from;
    }
    return sum;
  }
};

// partial (unless null) = sums of f(row, i) over the rows of a chunk, for columns i < m. Block (32 columns, chunk,
// class), of 32 x kSampleRows threads.
template <class T, class F>
__device__ void sum_rows(index_t rows, index_t rows_per_chunk, int m, const Partial<T>& partial, const F& f) {
  SharedMemory shared;
  T* sums = shared.array<T>(kWarp * kSampleRows);
  const int i = static_cast<int>(blockIdx.x) * kWarp + static_cast<int>(threadIdx.x);
  const index_t chunk = blockIdx.y, begin = chunk * rows_per_chunk;
  // Counted in 32 bits: the registers of 64 are more than four blocks a multiprocessor have.
  const int count = static_cast<int>(begin + rows_per_chunk < rows ? rows_per_chunk : rows - begin);
  T sum = 0;
  if (i < m)
    for (int row = static_cast<int>(threadIdx.y); row < count; row += kSampleRows) sum += f(begin + row, i);
  sum = sum_over_y(sum, sums);
  if (partial.sums != nullptr && threadIdx.y == 0 && i < m) partial.at(chunk, static_cast<int>(blockIdx.z), i) = sum;
}

// partial = sums of w_p |response of class j|^2.
template <class N>
__global__ void __launch_bounds__(kWarp* kSampleRows, 4)
    response_norms_kernel(Responses<N> q, Partial<Real<N>> partial) {
  if (!q.when.now()) return;
  const int number = static_cast<int>(blockIdx.z) + 1;
  sum_rows(q.rows, q.rows_per_chunk, q.m, partial,
           [&](index_t row, int i) { return q.weights[row] * squared(response(q, number, row, i)); });
}

// sums[j][i] of the samples of `partial`.
template <class T>
__global__ void sum_chunks_kernel(Partial<T> partial, T* sums, index_t ld) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= partial.m / partial.d) return;
  for (int j = 0; j < partial.k; ++j) sums[j * ld + i] = partial.of_sample(j, i);
}

// pi[j][i] = softmax_j(-lambda rho_j), rho_j^2 the sums of sample i. Threads with the same x share a sample and take
// turns at its classes.
template <class T>
__global__ void __launch_bounds__(kWarp* kSampleRows) gates_kernel(Partial<T> partial, T lambda, T* pi, index_t pi_ld) {
  const int i = static_cast<int>(blockIdx.x) * kWarp + static_cast<int>(threadIdx.x), k = partial.k;
  const bool here = i < partial.m / partial.d;
  for (int j = static_cast<int>(threadIdx.y); j < k && here; j += kSampleRows)
    pi[j * pi_ld + i] = square_root(partial.of_sample(j, i));
  __syncthreads();
  if (!here || threadIdx.y != 0) return;
  T least = pi[i];
  REDUNET_NO_UNROLL
  for (int j = 1; j < k; ++j) least = pi[j * pi_ld + i] < least ? pi[j * pi_ld + i] : least;
  T sum = 0;
  REDUNET_NO_UNROLL
  for (int j = 0; j < k; ++j) {
    const T e = exponential(lambda * (least - pi[j * pi_ld + i]));
    pi[j * pi_ld + i] = e;
    sum += e;
  }
  REDUNET_NO_UNROLL
  for (int j = 0; j < k; ++j) pi[j * pi_ld + i] /= sum;
}

// out = base v + by_i (eta E v - sum_j eta gamma_j pi_ij C^j v); partial = sums of w_p |out|^2 unless null.
template <class N>
struct Move {
  N* out;  // of the tile; may be V
  index_t out_ld;
  const Real<N>* pi;  // [j][pi_ld], of samples
  index_t pi_ld;
  int k;
  const Real<N>* gammas;
  const double* eta;
  Real<N> base;
  const Real<N>* by;  // of samples, or null: 1
  Partial<Real<N>> partial;
};

template <class N>
__global__ void __launch_bounds__(kWarp* kSampleRows, 4) move_kernel(Responses<N> q, Move<N> move) {
  using T = Real<N>;
  if (!q.when.now()) return;
  const int column = static_cast<int>(blockIdx.x) * kWarp + static_cast<int>(threadIdx.x);
  const int sample = column < q.m ? column / q.d : 0;
  const T eta = static_cast<T>(*move.eta) * (move.by == nullptr ? T(1) : move.by[sample]);
  sum_rows(q.rows, q.rows_per_chunk, q.m, move.partial, [&](index_t row, int i) {
    N step = response(q, 0, row, i);
    for (int j = 0; j < move.k; ++j) {
      const T pi = move.pi[j * move.pi_ld + sample];
      if (pi != 0) step = add_scaled(step, -move.gammas[j] * pi, response(q, j + 1, row, i));
    }
    const N z = add_scaled(scaled(move.base, q.V[row * q.ld + i]), eta, step);
    move.out[row * move.out_ld + i] = z;
    return q.weights[row] * squared(z);
  });
}

// v <- v + beta (v - before), before <- v; partial = sums of w_p |v|^2 of the new ones. m numbers a row. With progress
// its beta, and nothing where that is zero.
template <class N>
__global__ void __launch_bounds__(kWarp* kSampleRows, 4)
    extrapolate_kernel(N* V, N* before, index_t rows, int m, const Real<N>* weights, Real<N> given,
                       Partial<Real<N>> partial, index_t rows_per_chunk, When when) {
  if (!when.now() || (when.progress != nullptr && when.progress->beta == 0)) return;
  const Real<N> beta = when.progress == nullptr ? given : static_cast<Real<N>>(when.progress->beta);
  sum_rows(rows, rows_per_chunk, m, partial, [&](index_t row, int i) {
    const N v = V[row * m + i];
    const N beyond = add_scaled(v, beta, add_scaled(v, Real<N>(-1), before[row * m + i]));
    before[row * m + i] = v;
    V[row * m + i] = beyond;
    return weights[row] * squared(beyond);
  });
}

// v <- v / max(||v||, smallest), the squared norms of samples from `partial`. In kBuild only ahead of the features.
template <class N>
__global__ void __launch_bounds__(kWarp* kSampleRows, 4)
    normalise_kernel(N* V, index_t ld, index_t rows, Partial<Real<N>> partial, index_t rows_per_chunk, Real<N> smallest,
                     When when) {
  using T = Real<N>;
  if (!when.now() || (when.turns == kBuild && when.progress->beta == 0)) return;
  const int i = static_cast<int>(blockIdx.x) * kWarp + static_cast<int>(threadIdx.x);
  if (i >= partial.m) return;
  const T norm = square_root(partial.of_sample(0, i / partial.d)), by = T(1) / (norm > smallest ? norm : smallest);
  const index_t begin = index_t{blockIdx.y} * rows_per_chunk;
  const index_t end = begin + rows_per_chunk < rows ? begin + rows_per_chunk : rows;
  for (index_t row = begin + threadIdx.y; row < end; row += kSampleRows) V[row * ld + i] = scaled(by, V[row * ld + i]);
}

}  // namespace redunet::cuda
