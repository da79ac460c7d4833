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

// Multiply-adds of one task: few microseconds, beside which the handing out of tasks costs nothing.
constexpr double kTaskWork = 1e5;

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
    const index_t groups = divide_up(count, B), work_space = (matrix + n + (task == Task::kSolve ? rhs : 1)) * B;
    const index_t together = static_cast<index_t>(std::clamp(kTaskWork / cost * double(groups), 1.0, double(groups)));
    std::vector<Buffer<T>> work(threads);
    const auto run_group = [&](index_t group, T* memory) {
      const Lanes<T> lanes{memory, n, planes, memory + matrix * B};
      T* x = lanes.pivots + n * B;
      const index_t used = std::min(B, count - group * B);
      kernels.read_lanes(A + group * B * matrix, used, lanes);
      if (!kernels.cholesky_lanes(lanes))
        for (index_t e = 0; e < n * B; ++e)
          if (const T pivot = lanes.pivots[e]; e % B < used && (!(pivot > 0) || !std::isfinite(pivot)))
            bad(group * B + e % B);
      if (task == Task::kLogdet) {
        kernels.logdet_lanes(lanes, x);
        std::copy_n(x, used, out + group * B);
      } else if (task == Task::kSolve) {
        T* b = out + group * B * rhs;
        kernels.to_lanes(b, rhs, used, rhs, x);
        kernels.solve_lanes(lanes, x, n_rhs);
        kernels.from_lanes(x, rhs, b, rhs, used);
      } else {
        if (task == Task::kInverse) kernels.invert_lanes(lanes);
        kernels.write_lanes(lanes, out + group * B * matrix, used, task == Task::kInverse);
      }
    };
    parallel.run(divide_up(groups, together), cost, [&](index_t run, int thread) {
      Buffer<T>& mine = work[static_cast<std::size_t>(thread)];
      if (mine.get() == nullptr) mine = Buffer<T>(work_space);
      for (index_t group = run * together; group < std::min(groups, (run + 1) * together); ++group)
        run_group(group, mine.get());
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
