#include "platform/pool.hpp"

#include <iterator>

#include "platform/device.hpp"

namespace redunet::cuda {
namespace {

// Blocks are multiples of this, so that sizes which nearly agree share them.
constexpr std::size_t kGrain = 512;

// A block that is larger by a part is as good.
bool serves(std::size_t block, std::size_t bytes) { return block <= bytes + bytes / 8 + kGrain; }

}  // namespace

void* Pool::take(std::size_t bytes) {
  bytes = (bytes + kGrain - 1) / kGrain * kGrain;
  void* p = find(bytes);
  if (p == nullptr) {
    wait_for_others();
    p = find(bytes);
  }
  if (p == nullptr) p = allocate(bytes);
  if (p != nullptr) taken_again(p);
  return p;
}

void* Pool::find(std::size_t bytes) {
  const std::lock_guard alone(mutex_);
  const auto found = free_.lower_bound(bytes);
  if (found == free_.end() || !serves(found->first, bytes)) return nullptr;
  void* const p = found->second;
  idle_ -= found->first, used_ += found->first;
  free_.erase(found);
  return p;
}

// What others have seen is everybody's when all work of the device has ended.
void Pool::wait_for_others() {
  Blocks seen;
  {
    const std::lock_guard alone(mutex_);
    seen.swap(shown_);
  }
  if (seen.empty()) return;
  const cudaError_t error = cudaDeviceSynchronize();
  {
    const std::lock_guard alone(mutex_);
    (error == cudaSuccess ? free_ : shown_).merge(seen);
  }
  check(error, "cudaDeviceSynchronize", __FILE__, __LINE__);
}

void* Pool::allocate(std::size_t bytes) {
  void* p = nullptr;
  cudaError_t error = cudaMalloc(&p, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it would be reported again
    if (release() == 0) return nullptr;
    error = cudaMalloc(&p, bytes);
  }
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(error, "cudaMalloc", __FILE__, __LINE__);
  const std::lock_guard alone(mutex_);
  sizes_[p] = bytes, used_ += bytes;
  return p;
}

void Pool::give_back(void* p, bool shown) noexcept {
  if (p == nullptr || is_forked()) return;  // a forked child has neither the device nor, maybe, the mutex
  const std::lock_guard alone(mutex_);
  const std::size_t bytes = sizes_.at(p);
  used_ -= bytes, idle_ += bytes;
  (shown ? shown_ : free_).emplace(bytes, p);
  given_back(p);
}

// The largest first.
std::size_t Pool::shrink(std::size_t most) noexcept {
  if (is_forked()) return 0;
  Blocks gone;
  std::size_t sum = 0;
  {
    const std::lock_guard alone(mutex_);
    for (Blocks* blocks : {&shown_, &free_})
      while (idle_ > most && !blocks->empty()) {
        const auto largest = std::prev(blocks->end());
        idle_ -= largest->first, sum += largest->first;
        sizes_.erase(largest->second);
        gone.insert(blocks->extract(largest));
      }
  }
  for (const auto& [bytes, p] : gone) cudaFree(p);  // waits for the device
  return sum;
}

std::size_t Pool::idle() const {
  const std::lock_guard alone(mutex_);
  return idle_;
}

std::size_t Pool::used() const {
  const std::lock_guard alone(mutex_);
  return used_;
}

}  // namespace redunet::cuda
