// Runs CUDA kernels on the host, for tests: what gpu.hpp gives to a file with kernels when nvcc isn't there.
//
// Blocks run one after another; the threads of a block are fibers of one system thread, which run from one
// synchronisation to the next in an order that REDUNET_EMULATION_SEED shuffles (0: in order, -1: reversed). A run is
// repeatable.
//   plain          deadlocks, lanes missing from a mask, threads at different barriers, unwritten memory (NaN), wrong
//   sizes AddressSanitizer   an index outside of its array in shared or device memory, the host reading device memory
//   ThreadSanitizer    every kernel thread is a thread of the sanitizer whose only order is that of the barriers: a
//   missing
//                      one is a data race, in whatever order the threads ran
// REDUNET_EMULATION_LAZY=1 lets the work of a stream wait for a synchronisation, so that a forgotten one is seen.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "emulation/runtime.hpp"

#define REDUNET_DECLARE(name, result, arguments) result name arguments;
extern "C" {
REDUNET_RUNTIME_ENTRIES(REDUNET_DECLARE)
}
#undef REDUNET_DECLARE

// Kernels read these; they are set whenever a thread is switched to.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace redunet::cuda {

namespace emulation {

enum class Exchange : unsigned char { kNone, kXor, kDown, kIndex };

void sync_block(const char* file, int line);
// Waits for the lanes of the mask; an exchange returns the bits of the lane that `argument` points to.
std::uint64_t meet_warp(Exchange exchange, unsigned mask, std::uint64_t bits, int argument, const char* file, int line);
void* shared_array(std::size_t bytes);
// Runs body(), one call per thread, for every block; `name` for messages.
void run_grid(dim3 grid, dim3 block, std::size_t shared, cudaStream_t stream, const void* kernel,
              std::function<void()> body);
cudaError_t allow_shared(const void* kernel, int bytes);
// Does it now, or when the stream is next waited for, or records it while the stream is captured.
cudaError_t submit(cudaStream_t stream, std::function<void()> work);
// The emulation has two devices; the number of the one that a stream belongs to, and of the one of the calling thread.
int device_of(cudaStream_t stream);
int current_device();
// Whether [p, p + bytes) lies in one live allocation.
bool is_device_memory(const void* p, std::size_t bytes);
// What the host has asked for so far: waits for a stream, copies from or to the host and their bytes, memory, plans of
// cuFFT, launches of kernels and of graphs; and what waited for the device while its thread kept others from Python.
struct Counts {
  long waits = 0, host_copies = 0, host_bytes = 0, allocations = 0, frees = 0, plans = 0, launches = 0,
       graph_launches = 0, waits_with_gil = 0;
};
inline bool (*holds_gil)() = nullptr;
// The numbers of the devices that the process has contexts on.
std::vector<int> contexts();
Counts counts();
void count_plan();
// The error that REDUNET_EMULATION_FAULT ("cufft=2") wants of these calls, or 0.
int fault(const std::string& of);
// Reports a fault of the code under test.
[[noreturn]] void fail(const std::string& what);

template <class T>
T exchange(Exchange kind, unsigned mask, T value, int argument, const char* file, int line) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t) && std::is_trivially_copyable_v<T>);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = meet_warp(kind, mask, bits, argument, file, line);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace emulation

template <class T>
constexpr std::size_t shared_bytes(index_t n) {
  return (static_cast<std::size_t>(n) * sizeof(T) + kSharedAlignment - 1) / kSharedAlignment * kSharedAlignment;
}

// The arrays of a block lie apart, with red zones between them, and are NaN until they are written.
class SharedMemory {
 public:
  template <class T>
  T* array(index_t n) {
    return static_cast<T*>(emulation::shared_array(static_cast<std::size_t>(n) * sizeof(T)));
  }
};

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared, cudaStream_t stream, A... arguments) {
  std::tuple<P...> given{arguments...};
  emulation::run_grid(grid, block, shared, stream, reinterpret_cast<const void*>(kernel),
                      [kernel, given] { std::apply(kernel, given); });
}

template <class... P>
cudaError_t allow_shared(void (*kernel)(P...), int bytes) {
  return emulation::allow_shared(reinterpret_cast<const void*>(kernel), bytes);
}

cudaError_t instantiate(cudaGraphExec_t* executable, cudaGraph_t graph);

// Memory that nobody uses is none, though it was not freed; what is taken again is NaN.
void given_back(void* p);
void taken_again(void* p);

}  // namespace redunet::cuda

#define __syncthreads() ::redunet::cuda::emulation::sync_block(__FILE__, __LINE__)
#define __syncwarp()                                                                                              \
  ::redunet::cuda::emulation::meet_warp(::redunet::cuda::emulation::Exchange::kNone, 0xffffffffU, 0, 0, __FILE__, \
                                        __LINE__)
#define __shfl_xor_sync(mask, value, lanes)                                                                      \
  ::redunet::cuda::emulation::exchange(::redunet::cuda::emulation::Exchange::kXor, mask, value, lanes, __FILE__, \
                                       __LINE__)
#define __shfl_down_sync(mask, value, lanes)                                                                      \
  ::redunet::cuda::emulation::exchange(::redunet::cuda::emulation::Exchange::kDown, mask, value, lanes, __FILE__, \
                                       __LINE__)
#define __shfl_sync(mask, value, lane)                                                                            \
  ::redunet::cuda::emulation::exchange(::redunet::cuda::emulation::Exchange::kIndex, mask, value, lane, __FILE__, \
                                       __LINE__)

template <class T>
inline T __ldg(const T* p) {
  return *p;
}
