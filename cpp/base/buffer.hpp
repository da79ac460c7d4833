// Memory for panels: cache-line aligned, in huge pages where it is large, zeroed. Allocated once per call, never in a
// loop.
#pragma once

#include <cstring>
#include <utility>

#include "base/system.hpp"
#include "kernels/kernels.hpp"

namespace redunet {

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(index_t size) {
    if (size == 0) return;
    const std::size_t bytes = as_size(size) * sizeof(T);
    data_ = static_cast<T*>(system::allocate(bytes));
    std::memset(static_cast<void*>(data_), 0, bytes);
  }
  Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    return *this;
  }
  ~Buffer() { system::release(data_); }

  T* get() { return data_; }
  const T* get() const { return data_; }
  T& operator[](index_t i) { return data_[i]; }
  const T& operator[](index_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
};

}  // namespace redunet
