// The device of this process: errors, memory, and the one stream with its cuBLAS handle.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "platform/error.hpp"
#include "platform/gpu.hpp"
#include "platform/libraries.hpp"
#include "platform/staging.hpp"

namespace redunet::cuda {

void check(cudaError_t error, const char* call, const char* file, int line);
void check(cublasStatus_t status, const char* call, const char* file, int line);
void check(cufftResult result, const char* call, const char* file, int line);
#define REDUNET_CHECK(call) ::redunet::cuda::check(call, #call, __FILE__, __LINE__)

// Whether a device answers; else the reason why not.
std::string why_unusable();

class Device {
 public:
  // The device of this process, made on first use. It throws CudaError, also in a child that was forked after that:
  // CUDA's state doesn't survive a fork.
  static Device& get();

  cudaStream_t stream() const { return stream_; }
  cublasHandle_t blas();
  void synchronise() const;
  // To memory of the host, of which nothing is known. Waits.
  void download(void* to, const void* from, std::size_t bytes);
  std::size_t free_bytes() const;
  std::size_t total_bytes() const;
  int number() const { return number_; }
  // Whether this address is memory of a device.
  static bool holds(const void* p);
  int multiprocessors() const { return multiprocessors_; }
  // Dynamic shared memory that a block can ask for.
  int shared_limit() const { return shared_limit_; }

  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

 private:
  Device();

  cudaStream_t stream_ = nullptr;
  cublasHandle_t blas_ = nullptr;
  Staging staging_;
  int number_ = 0, multiprocessors_ = 0, shared_limit_ = 0;
};

// "1.25 GiB"
std::string in_gib(std::size_t bytes);

// Memory of the device; filled with nothing.
template <class T>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(index_t size) : size_(size) {
    if (size == 0) return;
    void* p = nullptr;
    const std::size_t bytes = as_size(size) * sizeof(T);
    if (const cudaError_t error = cudaMalloc(&p, bytes); error == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // it would be reported again
      throw CudaError("no room for " + in_gib(bytes) + " of device memory; " + in_gib(Device::get().free_bytes()) +
                      " are free");
    } else {
      check(error, "cudaMalloc", __FILE__, __LINE__);
    }
    data_ = static_cast<T*>(p);
  }
  // A copy of numbers of the host, there when the stream gets to it; waits for the copy.
  explicit DeviceArray(const std::vector<T>& numbers) : DeviceArray(static_cast<index_t>(numbers.size())) {
    upload(numbers.data());
    Device::get().synchronise();
  }
  DeviceArray(DeviceArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~DeviceArray() { cudaFree(data_); }

  T* get() const { return data_; }
  index_t size() const { return size_; }
  void upload(const T* from) const { copy(data_, from, cudaMemcpyHostToDevice); }
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
};

}  // namespace redunet::cuda
