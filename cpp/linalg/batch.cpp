// Batches of Hermitian matrices (count, n, n), interleaved row-major: kPanel at a time side by side in lanes, or one at
// a time in blocks; each task goes through a Cholesky factorisation, whose pivots also say whether it is definite.
// Matrices are given one after the other, or are sums of two that are given.

#include "linalg/batch.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

namespace redunet {
namespace {

// Multiply-adds of one task: few microseconds, beside which the handing out of tasks costs nothing.
constexpr double kTaskWork = 1e5;

[[noreturn]] void fail(index_t index, index_t count) {
  throw NotPositiveDefinite("matrix " + std::to_string(index) + " of " + std::to_string(count) +
                            " is not positive definite");
}

// Where matrices are.
template <class T>
struct Matrices {
  const T* A;
  index_t size;  // numbers of one
  const std::int64_t *first = nullptr, *second = nullptr;

  bool are_sums() const { return first != nullptr; }
  // `n` of them from number i on, side by side: where they lie, or their sums in `room`, of another precision where
  // that is wanted.
  template <class Wide>
  const Wide* get(index_t i, index_t n, Wide* room) const {
    if constexpr (std::is_same_v<Wide, T>)
      if (!are_sums()) return A + i * size;
    for (index_t k = i; k < i + n; ++k, room += size) {
      const T *a = A + (are_sums() ? first[k] : k) * size, *b = are_sums() ? A + second[k] * size : nullptr;
      for (index_t e = 0; e < size; ++e) room[e] = are_sums() ? Wide(a[e]) + Wide(b[e]) : Wide(a[e]);
    }
    return room - n * size;
  }
};

// What was not positive definite, with its right-hand sides.
template <class T>
struct Refused {
  index_t index;
  std::vector<T> rhs;
};

// What one matrix in blocks gives for a task; false if it is not positive definite. out is (n, n_rhs) b for kSolve.
template <class T>
bool in_blocks(Task task, BlockedMatrix<T>& M, const T* A, index_t n, index_t planes, T* out, index_t n_rhs) {
  M.read(A, n * planes, planes, 1, 1, 0);
  const double logdet = task == Task::kInverse ? M.invert() : M.cholesky();
  if (!std::isfinite(logdet)) return false;
  if (task == Task::kLogdet)
    out[0] = static_cast<T>(logdet);
  else if (task == Task::kSolve)
    M.solve(out, n_rhs);
  else
    M.write(out, n * planes, 1, task == Task::kInverse);
  return true;
}

// Single precision refuses conditions that double does not: those matrices, in double.
void in_double(Task task, const KernelSet& kernels, Parallel& parallel, std::vector<Refused<float>>& refused,
               const Matrices<float>& matrices, index_t count, index_t n, index_t planes, float* out, index_t n_rhs) {
  std::sort(refused.begin(), refused.end(), [](const auto& a, const auto& b) { return a.index < b.index; });
  const index_t matrix = n * n * planes, rhs = n * n_rhs * planes;
  const index_t size = task == Task::kLogdet ? 1 : task == Task::kSolve ? rhs : matrix;
  BlockedMatrix<double> M(kernels_of<double>(kernels), n, planes);
  std::vector<double> given(as_size(matrix)), result(as_size(size));
  parallel.run(1, 0, [&](index_t, int) {
    for (const Refused<float>& one : refused) {
      matrices.get(one.index, 1, given.data());
      std::copy(one.rhs.begin(), one.rhs.end(), result.begin());
      if (!in_blocks(task, M, given.data(), n, planes, result.data(), n_rhs)) fail(one.index, count);
      std::transform(result.begin(), result.end(), out + one.index * size,
                     [](double x) { return static_cast<float>(x); });
    }
  });
}

template <class T>
void run_batch(Task task, const KernelSet& set, Parallel& parallel, const Matrices<T>& matrices, index_t count,
               index_t n, index_t planes, T* out, index_t n_rhs) {
  if (count == 0 || n == 0) return;
  constexpr index_t B = kPanel<T>;
  const Kernels<T>& kernels = kernels_of<T>(set);
  const index_t matrix = n * n * planes, rhs = n * n_rhs * planes;
  std::mutex refusing;
  std::vector<Refused<T>> refused;
  const auto refuse = [&](index_t index) {
    const T* b = out + index * rhs;
    const std::lock_guard lock(refusing);
    refused.push_back({index, task == Task::kSolve ? std::vector<T>(b, b + rhs) : std::vector<T>()});
  };
  const auto threads = as_size(parallel.n_threads());
  const double cost = double(count * n) * double(n * planes) * double(n + n_rhs);
  if (interleaves<T>(count, n, planes)) {
    const index_t groups = divide_up(count, B), sums = matrices.are_sums() ? matrix : 0,
                  work_space = (matrix + n + (task == Task::kSolve ? rhs : 1) + sums) * B;
    const index_t together = static_cast<index_t>(std::clamp(kTaskWork / cost * double(groups), 1.0, double(groups)));
    std::vector<Buffer<T>> work(threads);
    const auto run_group = [&](index_t group, T* memory) {
      const Interleaved<T> lanes{.M = memory, .n = n, .planes = planes, .pivots = memory + matrix * B};
      T *x = lanes.pivots + n * B, *room = memory + work_space - sums * B;
      const index_t used = std::min(B, count - group * B);
      kernels.read_interleaved(matrices.get(group * B, used, room), used, lanes);
      if (!kernels.cholesky_interleaved(lanes))
        for (index_t lane = 0; lane < used; ++lane)
          if (!std::isfinite(log_of_product(lanes.pivots + lane, n, B, T(0)))) refuse(group * B + lane);
      if (task == Task::kLogdet) {
        kernels.logdet_interleaved(lanes, x);
        std::copy_n(x, used, out + group * B);
      } else if (task == Task::kSolve) {
        T* b = out + group * B * rhs;
        kernels.interleave(b, rhs, used, rhs, x);
        kernels.solve_interleaved(lanes, x, n_rhs);
        kernels.deinterleave(x, rhs, b, rhs, used);
      } else {
        if (task == Task::kInverse) kernels.invert_interleaved(lanes);
        kernels.write_interleaved(lanes, out + group * B * matrix, used, task == Task::kInverse);
      }
    };
    parallel.run(divide_up(groups, together), cost, [&](index_t run, int thread) {
      Buffer<T>& mine = at(work, thread);
      if (mine.get() == nullptr) mine = Buffer<T>(work_space);
      for (index_t group = run * together; group < std::min(groups, (run + 1) * together); ++group)
        run_group(group, mine.get());
    });
  } else {
    std::vector<std::unique_ptr<BlockedMatrix<T>>> work(threads);
    std::vector<std::vector<T>> sums(threads);
    parallel.run(count, cost, [&](index_t index, int thread) {
      auto& M = at(work, thread);
      if (!M) M = std::make_unique<BlockedMatrix<T>>(kernels, n, planes);
      const index_t size = task == Task::kLogdet ? 1 : task == Task::kSolve ? rhs : matrix;
      std::vector<T>& sum = at(sums, thread);
      if (matrices.are_sums()) sum.resize(as_size(matrix));
      if (!in_blocks(task, *M, matrices.get(index, 1, sum.data()), n, planes, out + index * size, n_rhs)) refuse(index);
    });
  }
  if (refused.empty()) return;
  if constexpr (sizeof(T) == 4)
    in_double(task, set, parallel, refused, matrices, count, n, planes, out, n_rhs);
  else
    fail(
        std::min_element(refused.begin(), refused.end(), [](const auto& a, const auto& b) { return a.index < b.index; })
            ->index,
        count);
}

}  // namespace

template <class T>
void batched(Task task, const KernelSet& set, Parallel& parallel, const T* A, index_t count, index_t n, index_t planes,
             T* out, index_t n_rhs) {
  run_batch<T>(task, set, parallel, {.A = A, .size = n * n * planes}, count, n, planes, out, n_rhs);
}

template <class T>
void logdet_of_sums(const KernelSet& set, Parallel& parallel, const T* A, const std::int64_t* first,
                    const std::int64_t* second, index_t count, index_t n, index_t planes, T* logdets) {
  run_batch<T>(Task::kLogdet, set, parallel, {A, n * n * planes, first, second}, count, n, planes, logdets, 0);
}

#define REDUNET_INSTANTIATE(T)                                                                                     \
  template void batched<T>(Task, const KernelSet&, Parallel&, const T*, index_t, index_t, index_t, T*, index_t);   \
  template void logdet_of_sums<T>(const KernelSet&, Parallel&, const T*, const std::int64_t*, const std::int64_t*, \
                                  index_t, index_t, index_t, T*);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)

}  // namespace redunet
