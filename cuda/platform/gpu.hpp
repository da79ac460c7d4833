// What a file with kernels includes: the same source is compiled by nvcc for the device and by a C++ compiler for the
// emulation (emulation/emulation.hpp), which runs it on the host.
//
//   launch(kernel, grid, block, shared_bytes, stream, arguments...)
//   SharedMemory shared; T* x = shared.array<T>(n);    in a kernel: arrays in dynamic shared memory, in the order in
//                                                      which the launch summed their shared_bytes<T>(n)
#pragma once

#include <cstddef>
#include <cstdint>

#include "platform/api.hpp"
#include "shared/index.hpp"

namespace redunet::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffU;

// Arrays in shared memory begin at multiples of this.
constexpr std::size_t kSharedAlignment = 16;

}  // namespace redunet::cuda

#ifndef REDUNET_EMULATED

#define REDUNET_UNROLL _Pragma("unroll")
#define REDUNET_UNROLL_8 _Pragma("unroll 8")
#define REDUNET_NO_UNROLL _Pragma("unroll 1")

namespace redunet::cuda {

template <class T>
__host__ __device__ constexpr std::size_t shared_bytes(index_t n) {
  return (static_cast<std::size_t>(n) * sizeof(T) + kSharedAlignment - 1) / kSharedAlignment * kSharedAlignment;
}

#ifdef __CUDACC__
class SharedMemory {
 public:
  template <class T>
  __device__ T* array(index_t n) {
    extern __shared__ __align__(16) unsigned char redunet_shared[];
    T* const begin = reinterpret_cast<T*>(redunet_shared + used_);
    used_ += shared_bytes<T>(n);
    return begin;
  }

 private:
  std::size_t used_ = 0;
};

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared, cudaStream_t stream, A... arguments) {
  kernel<<<grid, block, shared, stream>>>(arguments...);
}
#endif

// Lets a kernel ask for more dynamic shared memory than 48 KiB.
template <class... P>
cudaError_t allow_shared(void (*kernel)(P...), int bytes) {
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

// The emulation knows that the numbers are gone.
inline void given_back(void*) {}
inline void taken_again(void*) {}

inline cudaError_t instantiate(cudaGraphExec_t* executable, cudaGraph_t graph) {
  return cudaGraphInstantiate(executable, graph, 0);
}

}  // namespace redunet::cuda

#else
#define REDUNET_UNROLL
#define REDUNET_UNROLL_8
#define REDUNET_NO_UNROLL
#include "emulation/emulation.hpp"
#endif
