#include "platform/pool.hpp"

#include "platform/device.hpp"

namespace redunet::cuda {
namespace {

// Blocks are multiples of this, so that sizes which nearly agree share them.
constexpr std::size_t kGrain = 512;

// A block that is larger by a part is as good.
bool serves(std::size_t block, std::size_t bytes) { return block <= bytes + bytes / 8 + kGrain; }

}  // namespace

void* Pool::find(std::size_t bytes) {
  const auto found = free_.lower_bound(bytes);
  if (found == free_.end() || !serves(found->first, bytes)) return nullptr;
  void* const p = found->second;
  idle_ -= found->first, used_ += found->first;
  free_.erase(found);
  return p;
}

void* Pool::take(std::size_t bytes) {
  const std::lock_guard alone(mutex_);
  bytes = (bytes + kGrain - 1) / kGrain * kGrain;
  void* p = find(bytes);
  if (p == nullptr && !shown_.empty()) {
    wait_for_others();
    p = find(bytes);
  }
  if (p == nullptr) {
    cudaError_t error = cudaMalloc(&p, bytes);
    if (error == cudaErrorMemoryAllocation && idle_ > 0) {
      cudaGetLastError();  // it would be reported again
      release();
      error = cudaMalloc(&p, bytes);
    }
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return nullptr;
    }
    check(error, "cudaMalloc", __FILE__, __LINE__);
    sizes_[p] = bytes, used_ += bytes;
  }
  taken_again(p);
  return p;
}

void Pool::give_back(void* p, bool shown) noexcept {
  if (p == nullptr || is_forked()) return;  // a forked child has neither the device nor, maybe, the mutex
  const std::lock_guard alone(mutex_);
  const std::size_t bytes = sizes_.at(p);
  used_ -= bytes;
  if (idle_ + bytes > most_) {
    sizes_.erase(p);
    cudaFree(p);
    return;
  }
  idle_ += bytes;
  (shown ? shown_ : free_).emplace(bytes, p);
  given_back(p);
}

void Pool::wait_for_others() {
  REDUNET_CHECK(cudaDeviceSynchronize());
  free_.merge(shown_);
}

void Pool::release() {
  free_.merge(shown_);
  for (const auto& [bytes, p] : free_) {
    sizes_.erase(p);
    cudaFree(p);  // waits for the device
  }
  free_.clear();
  idle_ = 0;
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
