// The way of many numbers from the device to memory of the host that may never have been touched.
//
// cudaMemcpy to such memory takes one thread's page faults and copies, a few GB/s. Here the device writes to two pinned
// buffers in turn, at its own pace, while several threads carry the other one's numbers on and take the faults.
#pragma once

#include <cstddef>

#include "platform/gpu.hpp"

namespace redunet::cuda {

class Staging {
 public:
  // Bytes of a buffer. Less than a part of that is not worth the detour.
  static constexpr std::size_t kBuffer = std::size_t{32} << 20, kFewest = std::size_t{1} << 20;

  // False where there is no pinned memory to be had: nothing was copied then. Waits for the stream.
  bool download(void* to, const void* from, std::size_t bytes, cudaStream_t stream);

 private:
  bool make_room();

  // Made when they are first needed, and kept for good.
  void* buffers_[2] = {};
  cudaEvent_t filled_[2] = {};
};

}  // namespace redunet::cuda
