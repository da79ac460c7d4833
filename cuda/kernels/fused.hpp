// Networks with few channels, whose layers take microseconds: a layer is a handful of launches, which find everything
// that changes from layer to layer in device memory (progress.hpp), so that one CUDA graph serves them all.
#pragma once

#include "kernels/progress.hpp"
#include "kernels/samples.hpp"

namespace redunet::cuda {

constexpr int kFewChannels = 8;

constexpr int kGramThreads = 128;

// The lower triangle of G[j + 1][p] (C, C) = sum over the samples of class j, begin[j] .. begin[j + 1], of w_i v v*.
// One block per (p, j).
template <class N, int C>
__global__ void __launch_bounds__(kGramThreads, 2)
    fused_gram_kernel(const N* V, int m, int F, const int* begin, const Real<N>* weights, N* G, When when) {
  if (!when.now()) return;
  constexpr int kEntries = C * (C + 1) / 2, kWarps = kGramThreads / kWarp;
  SharedMemory shared;
  N* sums = shared.array<N>(kEntries * kWarps);
  const int p = static_cast<int>(blockIdx.x), j = static_cast<int>(blockIdx.y), t = static_cast<int>(threadIdx.x);
  const N* row = V + index_t{p} * C * m;
  N sum[kEntries];
  for (int e = 0; e < kEntries; ++e) sum[e] = number<N>(0);
  for (int i = begin[j] + t; i < begin[j + 1]; i += kGramThreads) {
    N v[C];
    for (int c = 0; c < C; ++c) v[c] = row[index_t{c} * m + i];
    const Real<N> w = weights == nullptr ? Real<N>(1) : weights[i];
    int e = 0;
    REDUNET_UNROLL
    for (int a = 0; a < C; ++a) {
      const N x = scaled(w, v[a]);
      REDUNET_UNROLL
      for (int b = 0; b <= a; ++b, ++e) sum[e] = add_conj_product(sum[e], x, v[b]);
    }
  }
  REDUNET_UNROLL
  for (int e = 0; e < kEntries; ++e) {
    for (int distance = kWarp / 2; distance > 0; distance /= 2) {
      if constexpr (NumberTraits<N>::is_complex) {
        sum[e].re += __shfl_xor_sync(kAllLanes, sum[e].re, distance);
        sum[e].im += __shfl_xor_sync(kAllLanes, sum[e].im, distance);
      } else {
        sum[e] += __shfl_xor_sync(kAllLanes, sum[e], distance);
      }
    }
    if (t % kWarp == 0) sums[e * kWarps + t / kWarp] = sum[e];
  }
  __syncthreads();
  for (int e = t; e < C * C; e += kGramThreads) {
    const int a = e / C, b = e % C;
    if (b > a) continue;
    N total = number<N>(0);
    for (int w = 0; w < kWarps; ++w) total = add_scaled(total, Real<N>(1), sums[(a * (a + 1) / 2 + b) * kWarps + w]);
    G[((index_t{j} + 1) * F + p) * C * C + e] = total;
  }
}

// The whole layer for 32 samples: gates, step, projection onto the sphere. Threads with the same x share a sample and
// take turns at its frequencies.
template <class N>
struct FusedSweep {
  N* V;
  int m, F, k;
  const Real<N>* weights;  // of frequencies
  const N* operators;      // [slot][k + 1][F][C][C]
  When when;               // with progress the operators are those of its layer, else those of slot 0
  const double* eta;
  const Real<N>* gammas;
  Real<N> lambda, smallest;
  const Real<N>* given;  // pi[k][m], or null: estimated
  Real<N>* pi;           // out [k][m], or null
};

constexpr int kFusedRows = 8;

template <class N>
constexpr std::size_t fused_sweep_shared(int k) {
  return shared_bytes<Real<N>>(index_t{k} * kFusedRows * kWarp) + shared_bytes<Real<N>>(kFusedRows * kWarp);
}

// What a thread of fused_sweep_kernel works on: its sample, its turn among the sample's threads, and the layer.
template <class N>
struct FusedThread {
  int x, y, i;
  bool here;     // whether there is such a sample
  const N* E;    // operators of the layer: E, then C^j
  Real<N>* rho;  // shared [k][kFusedRows][kWarp]; then its first row is pi
};

template <class N, int C>
__device__ void load_sample(const FusedSweep<N>& q, int i, int p, N* v) {
  for (int c = 0; c < C; ++c) v[c] = q.V[(index_t{p} * C + c) * q.m + i];
}

template <class N, int C>
__device__ N row_times(const N* row, const N* v) {
  N sum = number<N>(0);
  for (int d = 0; d < C; ++d) sum = add_product(sum, row[d], v[d]);
  return sum;
}

// rho <- the squared residuals of a sample at every kFusedRows-th frequency.
template <class N, int C>
__device__ void fused_responses(const FusedSweep<N>& q, const FusedThread<N>& t) {
  using T = Real<N>;
  REDUNET_NO_UNROLL
  for (int j = 0; j < q.k; ++j) t.rho[(j * kFusedRows + t.y) * kWarp + t.x] = 0;
  REDUNET_NO_UNROLL
  for (int p = t.y; p < q.F && t.here; p += kFusedRows) {
    N v[C];
    load_sample<N, C>(q, t.i, p, v);
    REDUNET_NO_UNROLL
    for (int j = 0; j < q.k; ++j) {
      const N* A = t.E + (index_t{j + 1} * q.F + p) * C * C;
      T square = 0;
      REDUNET_NO_UNROLL
      for (int c = 0; c < C; ++c) square += squared(row_times<N, C>(A + c * C, v));
      t.rho[(j * kFusedRows + t.y) * kWarp + t.x] += q.weights[p] * square;
    }
  }
}

// The first row of rho <- the soft assignment of the sample, by its first thread.
template <class N>
__device__ void fused_gates(const FusedSweep<N>& q, const FusedThread<N>& t) {
  using T = Real<N>;
  T least = 0, sum = 0;
  REDUNET_NO_UNROLL
  for (int j = 0; j < q.k; ++j) {
    T square = 0;
    for (int other = 0; other < kFusedRows; ++other) square += t.rho[(j * kFusedRows + other) * kWarp + t.x];
    const T norm = square_root(square);
    t.rho[j * kFusedRows * kWarp + t.x] = norm;
    if (j == 0 || norm < least) least = norm;
  }
  REDUNET_NO_UNROLL
  for (int j = 0; j < q.k; ++j) {
    const T e = exponential(q.lambda * (least - t.rho[j * kFusedRows * kWarp + t.x]));
    t.rho[j * kFusedRows * kWarp + t.x] = e;
    sum += e;
  }
  REDUNET_NO_UNROLL
  for (int j = 0; j < q.k; ++j) t.rho[j * kFusedRows * kWarp + t.x] /= sum;
}

// The step of a sample at every kFusedRows-th frequency; returns its squared norm there.
template <class N, int C>
__device__ Real<N> fused_step(const FusedSweep<N>& q, const FusedThread<N>& t, Real<N> eta) {
  using T = Real<N>;
  T sum = 0;
  REDUNET_NO_UNROLL
  for (int p = t.y; p < q.F && t.here; p += kFusedRows) {
    N v[C];
    load_sample<N, C>(q, t.i, p, v);
    REDUNET_NO_UNROLL
    for (int c = 0; c < C; ++c) {
      const index_t row = (index_t{p} * C + c) * C;
      N step = row_times<N, C>(t.E + row, v);
      REDUNET_NO_UNROLL
      for (int j = 0; j < q.k; ++j) {
        const T pi = t.rho[j * kFusedRows * kWarp + t.x];
        if (pi == 0) continue;
        const N* A = t.E + index_t{j + 1} * q.F * C * C;
        step = add_scaled(step, -q.gammas[j] * pi, row_times<N, C>(A + row, v));
      }
      N& z = q.V[(index_t{p} * C + c) * q.m + t.i];  // v[c], but registers have no index
      z = add_scaled(z, eta, step);
      sum += q.weights[p] * squared(z);
    }
  }
  return sum;
}

template <class N, int C>
__global__ void __launch_bounds__(kWarp* kFusedRows, 2) fused_sweep_kernel(FusedSweep<N> q) {
  using T = Real<N>;
  if (!q.when.now()) return;
  SharedMemory shared;
  T* rho = shared.array<T>(index_t{q.k} * kFusedRows * kWarp);
  T* norms = shared.array<T>(kFusedRows * kWarp);
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const int i = static_cast<int>(blockIdx.x) * kWarp + x;
  const Progress* progress = q.when.progress;
  const int slot = progress == nullptr ? 0 : progress->layer % progress->n_slots;
  const FusedThread<N> t{x, y, i, i < q.m, q.operators + index_t{slot} * (q.k + 1) * q.F * C * C, rho};

  if (q.given == nullptr) {
    fused_responses<N, C>(q, t);
    __syncthreads();
    if (y == 0) fused_gates(q, t);
  } else if (y == 0) {
    REDUNET_NO_UNROLL
    for (int j = 0; j < q.k; ++j) rho[j * kFusedRows * kWarp + x] = t.here ? q.given[index_t{j} * q.m + i] : T(0);
  }
  __syncthreads();
  if (y == 0 && t.here && q.pi != nullptr) REDUNET_NO_UNROLL
  for (int j = 0; j < q.k; ++j) q.pi[index_t{j} * q.m + i] = rho[j * kFusedRows * kWarp + x];

  norms[y * kWarp + x] = fused_step<N, C>(q, t, static_cast<T>(*q.eta));
  __syncthreads();
  T square = 0;
  for (int other = 0; other < kFusedRows; ++other) square += norms[other * kWarp + x];
  const T norm = square_root(square), by = T(1) / (norm > q.smallest ? norm : q.smallest);
  REDUNET_NO_UNROLL
  for (int p = y; p < q.F && t.here; p += kFusedRows) {
    N z[C];  // all are on their way before the first is written
    load_sample<N, C>(q, i, p, z);
    for (int c = 0; c < C; ++c) q.V[(index_t{p} * C + c) * q.m + i] = scaled(by, z[c]);
  }
}

}  // namespace redunet::cuda
