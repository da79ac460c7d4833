// Memory of one device that is taken again and again: what a call gives back, the next of its kind finds.
//
// cudaMalloc and cudaFree cost microseconds to milliseconds, and cudaFree waits for the whole device. All work of the
// engine on a device is in one stream, in the order of the host's calls, so that memory can be taken again while the
// work that used it is still to come. Only what other libraries have seen may be in use on their streams.
//
// Memory comes back at any time, from threads that have Python's lock, or none of CUDA's contexts: that calls nothing
// of CUDA. What waits for the device is left to calls of the engine, and none waits with the mutex.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>

namespace redunet::cuda {

class Pool {
 public:
  // most: bytes that may lie idle when a call ends.
  explicit Pool(std::size_t most) : most_(most) {}

  // Null where there is no more; throws CudaError for all else.
  void* take(std::size_t bytes);
  // shown: to another library, whose work on it may not have ended. From any thread.
  void give_back(void* p, bool shown) noexcept;
  // What lies idle beyond its most goes back to the driver, or all of it; how many bytes. Waits for the device.
  std::size_t shrink() noexcept { return shrink(most_); }
  std::size_t release() noexcept { return shrink(0); }
  std::size_t idle() const;
  std::size_t used() const;

 private:
  void* find(std::size_t bytes);
  void* allocate(std::size_t bytes);
  void wait_for_others();
  std::size_t shrink(std::size_t most) noexcept;

  using Blocks = std::multimap<std::size_t, void*>;

  std::size_t most_, idle_ = 0, used_ = 0;
  mutable std::mutex mutex_;
  std::map<void*, std::size_t> sizes_;  // of all blocks
  Blocks free_, shown_;                 // those that are idle
};

}  // namespace redunet::cuda
