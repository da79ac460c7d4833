// Batches of Hermitian matrices (count, n, n), interleaved row-major: kPanel at a time side by side in lanes, or one at
// a time in blocks; each task goes through a Cholesky factorisation, whose pivots also say whether it is definite.

#include "hermitian.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

namespace redunet {
namespace {

// The same in lanes: x is (n, n_rhs) panel rows.
template <class T>
void solve_lanes(const Lanes<T>& L, T* x, index_t n_rhs) {
  constexpr index_t B = kPanel<T>;
  const index_t n = L.n, P = L.planes;
  const auto subtract = [&](T* to, const T* a, const T* from, T sign) {  // to -= (a or conj a) * from
    for (index_t lane = 0; lane < B; ++lane) {
      if (P == 1) {
        to[lane] -= a[lane] * from[lane];
      } else {
        to[lane] -= a[lane] * from[lane] - sign * a[B + lane] * from[B + lane];
        to[B + lane] -= a[lane] * from[B + lane] + sign * a[B + lane] * from[lane];
      }
    }
  };
  const auto divide = [&](index_t i) {
    const T* diagonal = L.M + (i * n + i) * P * B;
    for (index_t r = 0; r < n_rhs * P; ++r)
      for (index_t lane = 0; lane < B; ++lane) x[(i * n_rhs * P + r) * B + lane] /= diagonal[lane];
  };
  const auto row = [&](index_t i, index_t r) { return x + (i * n_rhs + r) * P * B; };
  for (index_t i = 0; i < n; ++i) {
    for (index_t k = 0; k < i; ++k)
      for (index_t r = 0; r < n_rhs; ++r) subtract(row(i, r), L.M + (i * n + k) * P * B, row(k, r), 1);
    divide(i);
  }
  for (index_t i = n - 1; i >= 0; --i) {
    divide(i);
    for (index_t k = 0; k < i; ++k)
      for (index_t r = 0; r < n_rhs; ++r) subtract(row(k, r), L.M + (i * n + k) * P * B, row(i, r), -1);
  }
}

[[noreturn]] void fail(index_t index, index_t count) {
  throw NotPositiveDefinite("matrix " + std::to_string(index) + " of " + std::to_string(count) +
                            " is not positive definite");
}

}  // namespace

template <class T>
void batched(Task task, const Kernels<T>& kernels, Parallel& parallel, const T* A, index_t count, index_t n,
             index_t planes, T* out, index_t n_rhs) {
  if (count == 0 || n == 0) return;
  constexpr index_t B = kPanel<T>;
  const index_t matrix = n * n * planes, rhs = n * n_rhs * planes;
  std::atomic<index_t> first_bad{count};
  const auto bad = [&](index_t index) {
    for (index_t seen = first_bad; index < seen && !first_bad.compare_exchange_weak(seen, index);) {
    }
  };
  const auto threads = static_cast<std::size_t>(parallel.n_threads());
  const double cost = double(count * n) * double(n * planes) * double(n + n_rhs);
  if (in_lanes<T>(count, n, planes)) {
    std::vector<Buffer<T>> work(threads), pivots(threads), solutions(threads);
    parallel.run((count + B - 1) / B, cost, [&](index_t group, int thread) {
      const auto mine = static_cast<std::size_t>(thread);
      if (work[mine].get() == nullptr) {
        work[mine] = Buffer<T>(matrix * B);
        pivots[mine] = Buffer<T>(n * B);
        solutions[mine] = Buffer<T>(rhs * B);
      }
      const Lanes<T> lanes{work[mine].get(), n, planes, pivots[mine].get()};
      const index_t used = std::min(B, count - group * B);
      for (index_t i = 0; i < n; ++i)
        for (index_t j = 0; j <= i; ++j)
          for (index_t plane = 0; plane < planes; ++plane) {
            T* row = lanes.M + ((i * n + j) * planes + plane) * B;
            const T* from = A + group * B * matrix + (i * n + j) * planes + plane;
            for (index_t lane = 0; lane < B; ++lane)
              row[lane] = lane < used ? (i == j && plane == 1 ? T(0) : from[lane * matrix])
                                      : (i == j && plane == 0 ? T(1) : T(0));
          }
      kernels.cholesky_lanes(lanes);
      for (index_t lane = 0; lane < used; ++lane)
        for (index_t i = 0; i < n; ++i) {
          const T pivot = lanes.pivots[i * B + lane];
          if (!(pivot > 0) || !std::isfinite(pivot)) bad(group * B + lane);
        }
      if (task == Task::kLogdet) {
        for (index_t lane = 0; lane < used; ++lane)
          out[group * B + lane] = static_cast<T>(log_of_product(lanes.pivots + lane, n, B));
        return;
      }
      if (task == Task::kSolve) {
        T* x = solutions[mine].get();
        for (index_t e = 0; e < n * n_rhs; ++e)
          for (index_t plane = 0; plane < planes; ++plane)
            for (index_t lane = 0; lane < used; ++lane)
              x[(e * planes + plane) * B + lane] = out[(group * B + lane) * rhs + e * planes + plane];
        solve_lanes(lanes, x, n_rhs);
        for (index_t e = 0; e < n * n_rhs; ++e)
          for (index_t plane = 0; plane < planes; ++plane)
            for (index_t lane = 0; lane < used; ++lane)
              out[(group * B + lane) * rhs + e * planes + plane] = x[(e * planes + plane) * B + lane];
        return;
      }
      if (task == Task::kInverse) kernels.invert_lanes(lanes);
      for (index_t i = 0; i < n; ++i)
        for (index_t j = 0; j <= i; ++j)
          for (index_t plane = 0; plane < planes; ++plane) {
            const T* row = lanes.M + ((i * n + j) * planes + plane) * B;
            T* lower = out + group * B * matrix + (i * n + j) * planes + plane;
            T* upper = out + group * B * matrix + (j * n + i) * planes + plane;
            const bool mirror = task == Task::kInverse;
            for (index_t lane = 0; lane < used; ++lane) {
              const T z = i == j && plane == 1 ? T(0) : row[lane];
              upper[lane * matrix] = mirror ? (plane == 0 ? z : -z) : T(0);
              lower[lane * matrix] = z;
            }
          }
    });
  } else {
    std::vector<std::unique_ptr<BlockedMatrix<T>>> work(threads);
    parallel.run(count, cost, [&](index_t index, int thread) {
      auto& M = work[static_cast<std::size_t>(thread)];
      if (!M) M = std::make_unique<BlockedMatrix<T>>(kernels, n, planes);
      M->read(A + index * matrix, n * planes, planes, 1, 1, 0);
      const double logdet = task == Task::kInverse ? M->invert() : M->cholesky();
      if (!std::isfinite(logdet)) return bad(index);
      if (task == Task::kLogdet)
        out[index] = static_cast<T>(logdet);
      else if (task == Task::kSolve)
        M->solve(out + index * rhs, n_rhs);
      else
        M->write(out + index * matrix, n * planes, 1, task == Task::kInverse);
    });
  }
  if (first_bad < count) fail(first_bad, count);
}

#define REDUNET_INSTANTIATE(T) \
  template void batched<T>(Task, const Kernels<T>&, Parallel&, const T*, index_t, index_t, index_t, T*, index_t);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)

}  // namespace redunet
