// The devices of this process: errors, memory, and of each the one stream with its cuBLAS handle.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "platform/error.hpp"
#include "platform/gpu.hpp"
#include "platform/libraries.hpp"
#include "platform/pool.hpp"
#include "platform/staging.hpp"

namespace redunet::cuda {

void check(cudaError_t error, const char* call, const char* file, int line);
void check(cublasStatus_t status, const char* call, const char* file, int line);
void check(cufftResult result, const char* call, const char* file, int line);
#define REDUNET_CHECK(call) ::redunet::cuda::check(call, #call, __FILE__, __LINE__)

// Whether a device answers; else the reason why not.
std::string why_unusable();

// Whether this process is the child of one that had used CUDA, none of which it may use.
bool is_forked();

class Device {
 public:
  // The device that this thread works on (OnDevice), or CUDA's own choice for it; made on first use. It throws
  // CudaError, also in a child that was forked after that: CUDA's state doesn't survive a fork.
  static Device& get();
  static Device& of(int number);

  cudaStream_t stream() const { return stream_; }
  cublasHandle_t blas();
  void synchronise() const;
  // To memory of the host, of which nothing is known. Waits.
  void download(void* to, const void* from, std::size_t bytes);
  // With what lies idle in the pool.
  std::size_t free_bytes() const;
  std::size_t total_bytes() const;
  // "1.25 GiB are free", and what else there may be.
  std::string what_is_free() const;
  Pool& pool() { return *pool_; }
  int number() const { return number_; }
  // The number of the device that this address is memory of, or -1.
  static int number_of(const void* p);
  // Whether this address is memory of this device.
  bool holds(const void* p) const { return number_of(p) == number_; }
  int multiprocessors() const { return multiprocessors_; }
  // Dynamic shared memory that a block can ask for.
  int shared_limit() const { return shared_limit_; }

  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

 private:
  explicit Device(int number);

  cudaStream_t stream_ = nullptr;
  cublasHandle_t blas_ = nullptr;
  std::unique_ptr<Pool> pool_;
  Staging staging_;
  int number_ = 0, multiprocessors_ = 0, shared_limit_ = 0;
};

// While it lives, its thread works on this device, and CUDA knows.
class OnDevice {
 public:
  explicit OnDevice(int number);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  Device* before_;
  int number_before_ = 0;
};

// "1.25 GiB"
std::string in_gib(std::size_t bytes);

// Throws the CudaError that says that there is no room for so many.
[[noreturn]] void refuse_memory(std::size_t bytes);

// Memory of the device; filled with nothing.
template <class T>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(index_t size) : size_(size) {
    if (size == 0) return;
    Device& device = Device::get();
    const std::size_t bytes = as_size(size) * sizeof(T);
    data_ = static_cast<T*>(device.pool().take(bytes));
    pool_ = &device.pool();
    if (data_ == nullptr) refuse_memory(bytes);
  }
  // A copy of numbers of the host, there when the stream gets to it. CUDA has read them when it returns, as it does
  // all that is not pinned.
  explicit DeviceArray(const std::vector<T>& numbers) : DeviceArray(static_cast<index_t>(numbers.size())) {
    upload(numbers.data());
  }
  DeviceArray(DeviceArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        pool_(other.pool_),
        shown_(other.shown_) {}
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(pool_, other.pool_);
    std::swap(shown_, other.shown_);
    return *this;
  }
  ~DeviceArray() {
    if (pool_ != nullptr) pool_->give_back(data_, shown_);
  }

  T* get() const { return data_; }
  index_t size() const { return size_; }
  // Another library sees it, and may have work on it that has not ended when it goes.
  void show() { shown_ = true; }
  // From the host, or any device.
  void upload(const T* from) const { copy(data_, from, cudaMemcpyDefault); }
  // Waits, so that `to` may go whatever happens next.
  void download(T* to) const { Device::get().download(to, data_, as_size(size_) * sizeof(T)); }
  void copy_from(const DeviceArray& other) const { copy(data_, other.data_, cudaMemcpyDeviceToDevice); }

 private:
  void copy(T* to, const T* from, cudaMemcpyKind kind) const {
    if (size_ == 0) return;
    REDUNET_CHECK(cudaMemcpyAsync(to, from, as_size(size_) * sizeof(T), kind, Device::get().stream()));
  }

  T* data_ = nullptr;
  index_t size_ = 0;
  Pool* pool_ = nullptr;
  bool shown_ = false;
};

}  // namespace redunet::cuda
