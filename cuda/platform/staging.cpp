#include "platform/staging.hpp"

#include <algorithm>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#include "platform/device.hpp"

namespace redunet::cuda {
namespace {

// One thread copies to fresh memory at a few GB/s; PCIe 5 brings ten times that.
constexpr std::size_t kThreads = 4;

void carry(char* to, const char* from, std::size_t bytes) {
  const std::size_t part = (bytes + kThreads - 1) / kThreads;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  std::size_t begin = part;
  try {
    for (; begin < bytes; begin += part)
      threads.emplace_back([=] { std::memcpy(to + begin, from + begin, std::min(part, bytes - begin)); });
  } catch (const std::system_error&) {  // a limit of threads: what is left is for this one
    std::memcpy(to + begin, from + begin, bytes - begin);
  }
  std::memcpy(to, from, std::min(part, bytes));
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

bool Staging::make_room() {
  for (void*& buffer : buffers_) {
    if (buffer != nullptr) continue;
    if (cudaMallocHost(&buffer, kBuffer) == cudaSuccess) continue;
    cudaGetLastError();  // it would be reported again
    buffer = nullptr;
    return false;
  }
  for (cudaEvent_t& event : filled_)
    if (event == nullptr) REDUNET_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return true;
}

bool Staging::download(void* to, const void* from, std::size_t bytes, cudaStream_t stream) {
  if (!make_room()) return false;
  auto* const out = static_cast<char*>(to);
  const auto* const in = static_cast<const char*>(from);
  const std::size_t n_pieces = (bytes + kBuffer - 1) / kBuffer;
  const auto size = [&](std::size_t piece) { return std::min(kBuffer, bytes - piece * kBuffer); };
  for (std::size_t piece = 0; piece <= n_pieces; ++piece) {
    if (piece < n_pieces) {
      REDUNET_CHECK(cudaMemcpyAsync(buffers_[piece % 2], in + piece * kBuffer, size(piece), cudaMemcpyDefault, stream));
      REDUNET_CHECK(cudaEventRecord(filled_[piece % 2], stream));
    }
    if (piece == 0) continue;
    const std::size_t before = piece - 1;  // it is carried on while the device fills the other buffer
    REDUNET_CHECK(cudaEventSynchronize(filled_[before % 2]));
    carry(out + before * kBuffer, static_cast<const char*>(buffers_[before % 2]), size(before));
  }
  return true;
}

}  // namespace redunet::cuda
