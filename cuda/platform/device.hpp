// The devices of this process: errors, memory, and of each the one stream with its cuBLAS handle.
#pragma once

#include <atomic>
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

  cudaStream_t stream() const { return stream_; }
  cublasHandle_t blas();
  void synchronise();
  // Keeps memory of the host until the stream is waited for: CUDA promises for no copy that it has been read before,
  // not even where it isn't pinned.
  void keep(std::shared_ptr<const void> memory) { to_be_read_.push_back(std::move(memory)); }
  // To memory of the host, of which nothing is known. Waits.
  void download(void* to, const void* from, std::size_t bytes);
  // With what lies idle in the pool.
  std::size_t free_bytes() const;
  std::size_t total_bytes() const;
  // "1.25 GiB are free", and what else there may be.
  std::string what_is_free() const;
  Pool& pool() { return *pool_; }
  // Of networks that lie here.
  std::atomic<std::size_t>& bytes_kept() { return bytes_kept_; }
  int number() const { return number_; }
  // What lies idle in the pools of all devices goes back to them; how many bytes.
  static std::size_t release_all();
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
  friend class OnDevice;
  explicit Device(int number);
  // That of the thread, as CUDA has it.
  static Device& of(int number);

  cudaStream_t stream_ = nullptr;
  cublasHandle_t blas_ = nullptr;
  std::unique_ptr<Pool> pool_;
  Staging staging_;
  std::vector<std::shared_ptr<const void>> to_be_read_;
  std::atomic<std::size_t> bytes_kept_{0};
  int number_ = 0, multiprocessors_ = 0, shared_limit_ = 0;
};

// While it lives, CUDA has this device as that of its thread. Then that of before, but for one that this process has no
// context on: to choose it would make one, of half a GB.
class Chosen {
 public:
  explicit Chosen(int number);
  ~Chosen();
  Chosen(const Chosen&) = delete;
  Chosen& operator=(const Chosen&) = delete;

 private:
  int before_;
  bool changed_;
};

// While it lives, its thread works on this device. At its end no more than the pool's most lies idle there.
class OnDevice {
 public:
  explicit OnDevice(int number);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  Chosen chosen_;
  Device* before_;
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
  // A copy of numbers of the host, there when the stream gets to it.
  explicit DeviceArray(std::vector<T> numbers) : DeviceArray(static_cast<index_t>(numbers.size())) {
    if (size_ == 0) return;
    const auto kept = std::make_shared<const std::vector<T>>(std::move(numbers));
    Device::get().keep(kept);
    upload(kept->data());
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
  // From the host, or any device. What is on the host stays there until the stream has been waited for.
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
