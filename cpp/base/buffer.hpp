// Memory for panels: cache-line aligned, in huge pages where it is large, zeroed. Allocated once per call, never in a
// loop.
#pragma once

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "kernels/kernels.hpp"

namespace redunet {

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(index_t size) {
    constexpr std::size_t kHuge = std::size_t{1} << 21;
    std::size_t bytes = as_size(size) * sizeof(T);
    const std::size_t alignment = bytes >= 4 * kHuge ? kHuge : as_size(kCacheLine);
    bytes = (bytes + alignment - 1) / alignment * alignment;
    if (bytes == 0) return;
    data_ = static_cast<T*>(std::aligned_alloc(alignment, bytes));
    if (data_ == nullptr) throw std::bad_alloc();
#if defined(__linux__)
    if (alignment == kHuge) madvise(data_, bytes, MADV_HUGEPAGE);
#endif
    std::memset(static_cast<void*>(data_), 0, bytes);
  }
  Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    return *this;
  }
  ~Buffer() { std::free(data_); }

  T* get() { return data_; }
  const T* get() const { return data_; }
  T& operator[](index_t i) { return data_[i]; }
  const T& operator[](index_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
};

}  // namespace redunet
