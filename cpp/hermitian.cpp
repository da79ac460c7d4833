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

// The upper triangle of matrices in lanes: the mirror image of the lower, or zero.
template <class T>
void complete(const Lanes<T>& q, bool hermitian) {
  constexpr index_t B = kPanel<T>;
  const index_t n = q.n, P = q.planes;
  for (index_t i = 0; i < n; ++i) {
    if (P == 2) std::fill_n(q.M + ((i * n + i) * P + 1) * B, B, T(0));
    for (index_t j = 0; j < i; ++j) {
      const T* lower = q.M + (i * n + j) * P * B;
      T* upper = q.M + (j * n + i) * P * B;
      for (index_t lane = 0; lane < B; ++lane) {
        upper[lane] = hermitian ? lower[lane] : T(0);
        if (P == 2) upper[B + lane] = hermitian ? -lower[B + lane] : T(0);
      }
    }
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
      kernels.to_lanes(A + group * B * matrix, matrix, used, matrix, lanes.M);
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
        kernels.to_lanes(out + group * B * rhs, rhs, used, rhs, x);
        kernels.solve_lanes(lanes, x, n_rhs);
        kernels.from_lanes(x, rhs, out + group * B * rhs, rhs, used);
        return;
      }
      if (task == Task::kInverse) kernels.invert_lanes(lanes);
      complete(lanes, task == Task::kInverse);
      kernels.from_lanes(lanes.M, matrix, out + group * B * matrix, matrix, used);
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
