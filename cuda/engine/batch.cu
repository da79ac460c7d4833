// The batches of redunet.linalg, as many matrices at a time as have room.

#include <cmath>
#include <vector>

#include "engine/engine.hpp"
#include "engine/numbers.hpp"
#include "layer/factoriser.hpp"

namespace redunet::cuda {
namespace {

template <class N>
void hermitian_batch(Task task, const N* A, index_t count, index_t n, Real<N>* logdets, N* out, index_t n_rhs) {
  const index_t size = n * n, rhs = n * n_rhs;
  const std::size_t per_matrix =
      as_size(4 * size + 2 * rhs) * sizeof(N) + Factoriser<N>::bytes_per_matrix(static_cast<int>(n)) + sizeof(double);
  const std::size_t free = Device::get().free_bytes();
  const index_t most = static_cast<index_t>(0.8 * double(free) / double(per_matrix));
  if (most == 0)
    throw CudaError("a matrix of size " + std::to_string(n) + " needs " + in_gib(per_matrix) +
                    " of device memory, and " + Device::get().what_is_free());
  Factoriser<N> factoriser;
  const index_t room = std::min(count, most);
  // Matrices of the device are read, and results written, where they lie.
  const bool there = Device::get().holds(A);
  const index_t copies = there ? 0 : room;
  const DeviceArray<N> M(copies * size), result(there && task != Task::kSolve ? 0 : room * size), B(copies * rhs),
      X(room * rhs);
  const DeviceArray<double> logs(room);
  std::vector<double> found(as_size(room));
  const cudaStream_t stream = Device::get().stream();
  const auto copy = [&](void* to, const void* from, index_t numbers) {
    if (to != from && numbers > 0)
      REDUNET_CHECK(cudaMemcpyAsync(to, from, as_size(numbers) * sizeof(N), cudaMemcpyDefault, stream));
  };
  for (index_t begin = 0; begin < count; begin += room) {
    const index_t some = std::min(room, count - begin);
    if (!there) copy(M.get(), A + begin * size, some * size);
    N* const made = there && task != Task::kSolve ? out + begin * size : result.get();
    Factorise<N> q{};
    q.M = there ? A + begin * size : M.get();
    q.stride = size, q.n = q.ld = q.out_ld = static_cast<int>(n), q.group = static_cast<int>(some);
    q.out_stride = size, q.logdets = logs.get();
    if (task == Task::kCholesky) q.L = made;
    if (task == Task::kInverse) q.inverse = made;
    if (task == Task::kSolve) q.W = made;
    factoriser.run(q, some);
    if (task == Task::kSolve) {
      N* const sides = there ? out + begin * rhs : B.get();
      copy(sides, out + begin * rhs, some * rhs);
      const Matrices<const N> W{made, n, size};
      gemm<N>(Op::kNone, Op::kNone, n, n_rhs, n, 1, W, {sides, n_rhs, rhs}, 0, {X.get(), n_rhs, rhs}, some);
      gemm<N>(Op::kAdjoint, Op::kNone, n, n_rhs, n, 1, W, {X.get(), n_rhs, rhs}, 0, {sides, n_rhs, rhs}, some);
      copy(out + begin * rhs, sides, some * rhs);
    } else if (task != Task::kLogdet && !there) {
      copy(out + begin * size, made, some * size);
    }
    REDUNET_CHECK(
        cudaMemcpyAsync(found.data(), logs.get(), as_size(some) * sizeof(double), cudaMemcpyDeviceToHost, stream));
    Device::get().synchronise();
    for (index_t i = 0; i < some; ++i) {
      if (!std::isfinite(at(found, i)))
        throw NotPositiveDefinite("matrix " + std::to_string(begin + i) + " of " + std::to_string(count) +
                                  " is not positive definite");
      if (task == Task::kLogdet) logdets[begin + i] = static_cast<Real<N>>(at(found, i));
    }
  }
}

}  // namespace

template <class T>
void hermitian(Task task, const T* A, index_t count, index_t n, index_t planes, T* out, index_t n_rhs) {
  if (count == 0 || n == 0) return;
  with_numbers<T>(planes, [&]<class N>(N) {
    hermitian_batch<N>(task, as<N>(A), count, n, task == Task::kLogdet ? out : nullptr,
                       task == Task::kLogdet ? nullptr : as<N>(out), n_rhs);
  });
}

#define REDUNET_INSTANTIATE(T) template void hermitian<T>(Task, const T*, index_t, index_t, index_t, T*, index_t);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)

}  // namespace redunet::cuda
