#include "platform/device.hpp"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <map>
#include <mutex>

namespace redunet::cuda {
namespace {

// The part of a device's memory that may lie idle in the pool.
constexpr double kMostIdle = 0.25;

// Whether CUDA has been used, and whether in an ancestor of this process. Process ids would not tell a child from its
// parent: both can be 1, each in a namespace of its own.
bool started = false, forked = false;
[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, [] { forked = started; });

[[noreturn]] void refuse(const std::string& reason, const char* call, const char* file, int line) {
  const std::string path(file);
  throw CudaError(reason + ", from " + call + " at " + path.substr(path.rfind('/') + 1) + ":" + std::to_string(line));
}

void refuse_after_fork() {
  if (is_forked())
    throw CudaError(
        "CUDA was used before this process was forked, and can't be used in the child; start it with "
        "multiprocessing's method \"spawn\" or \"forkserver\"");
}

thread_local Device* current = nullptr;

std::mutex making;
// Those that were used, by their numbers. Never destroyed: the driver may be gone before the process ends.
std::map<int, std::unique_ptr<Device>>& devices() {
  static auto* all = new std::map<int, std::unique_ptr<Device>>;
  return *all;
}

// CUDA's choice for this thread.
int current_number() {
  if (forked) return 0;  // where nothing of CUDA may be asked, and Device::of says so
  int number = 0;
  REDUNET_CHECK(cudaGetDevice(&number));
  return number;
}

// A device that this process has a context on, the thread's if that is one; else -1.
int number_with_context() {
  const int number = current_number();
  if (has_context(number)) return number;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) cudaGetLastError();  // it leaves count alone
  for (int other = 0; other < count; ++other)
    if (has_context(other)) return other;
  return -1;
}

#define REDUNET_NAME(error) \
  case error:               \
    return #error;
std::string name_of(cublasStatus_t status) {
  switch (status) {
    REDUNET_NAME(CUBLAS_STATUS_NOT_INITIALIZED)
    REDUNET_NAME(CUBLAS_STATUS_INVALID_VALUE)
    REDUNET_NAME(CUBLAS_STATUS_ARCH_MISMATCH)
    REDUNET_NAME(CUBLAS_STATUS_EXECUTION_FAILED)
    REDUNET_NAME(CUBLAS_STATUS_INTERNAL_ERROR)
    REDUNET_NAME(CUBLAS_STATUS_NOT_SUPPORTED)
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "CUBLAS_STATUS_ALLOC_FAILED, no room for what it works in; " + Device::get().what_is_free();
    default:
      return "status " + std::to_string(int(status));
  }
}
std::string name_of(cufftResult result) {
  switch (result) {
    REDUNET_NAME(CUFFT_INVALID_PLAN)
    REDUNET_NAME(CUFFT_INVALID_TYPE)
    REDUNET_NAME(CUFFT_INVALID_VALUE)
    REDUNET_NAME(CUFFT_INTERNAL_ERROR)
    REDUNET_NAME(CUFFT_EXEC_FAILED)
    REDUNET_NAME(CUFFT_SETUP_FAILED)
    REDUNET_NAME(CUFFT_INVALID_SIZE)
    case CUFFT_ALLOC_FAILED:
      return "CUFFT_ALLOC_FAILED, no room for what it works in; " + Device::get().what_is_free();
    default:
      return "result " + std::to_string(int(result));
  }
}
#undef REDUNET_NAME

// What no call after it does any more: CUDA's programming guide, on errors that leave the process inconsistent.
bool is_lasting(cudaError_t error) {
  for (const int lasting : {214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 999})
    if (static_cast<int>(error) == lasting) return true;
  return false;
}

// The first error that lasts, or null; never freed, since any thread may be reading it.
std::atomic<const std::string*> broken_by{nullptr};

}  // namespace

bool is_forked() { return forked; }

void check(cudaError_t error, const char* call, const char* file, int line) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // it would be reported again by the next call
  std::string reason = std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error);
  if (is_lasting(error)) {
    const std::string* none = nullptr;
    const auto* const text = new std::string(reason);
    if (!broken_by.compare_exchange_strong(none, text)) delete text;
    reason += "; CUDA is of no more use to this process, which must be started again";
  }
  refuse(reason, call, file, line);
}
void check(cublasStatus_t status, const char* call, const char* file, int line) {
  if (status != CUBLAS_STATUS_SUCCESS) refuse("cuBLAS: " + name_of(status), call, file, line);
}
void check(cufftResult result, const char* call, const char* file, int line) {
  if (result != CUFFT_SUCCESS) refuse("cuFFT: " + name_of(result), call, file, line);
}

void refuse_memory(std::size_t bytes) {
  throw CudaError("no room for " + in_gib(bytes) + " of device memory; " + Device::get().what_is_free());
}

std::string in_gib(std::size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g GiB", static_cast<double>(bytes) / (1 << 30));
  return text;
}

std::string why_unusable() {
  if (const std::string* reason = broken_by) return "CUDA is of no more use to this process, since " + *reason;
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);  // it leaves count alone where it fails
  if (error != cudaSuccess) {
    cudaGetLastError();
    return std::string("no device answers: ") + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) + ")";
  }
  return count > 0 ? "" : "there is no CUDA device";
}

Device::Device(int number) : number_(number) {
  REDUNET_CHECK(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, number_));
  REDUNET_CHECK(cudaDeviceGetAttribute(&shared_limit_, cudaDevAttrMaxSharedMemoryPerBlockOptin, number_));
  REDUNET_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  pool_ = std::make_unique<Pool>(static_cast<std::size_t>(kMostIdle * static_cast<double>(total_bytes())));
}

Device& Device::of(int number) {
  refuse_after_fork();
  started = true;
  const std::lock_guard alone(making);
  std::unique_ptr<Device>& device = devices()[number];
  if (device == nullptr) {
    if (const std::string reason = why_unusable(); !reason.empty()) throw CudaError(reason);
    device.reset(new Device(number));
  }
  return *device;
}

Device& Device::get() { return current != nullptr && !forked ? *current : of(current_number()); }

std::size_t Device::release_all() {
  if (forked) return 0;
  std::vector<int> numbers;
  {
    const std::lock_guard alone(making);
    for (const auto& [number, device] : devices())
      if (device != nullptr) numbers.push_back(number);
  }
  std::size_t sum = 0;
  for (const int number : numbers) {
    const OnDevice here(number);
    sum += get().pool().release();
  }
  return sum;
}

Chosen::Chosen(int number) : before_(current_number()), changed_(number != before_) {
  refuse_after_fork();
  if (changed_) REDUNET_CHECK(cudaSetDevice(number));
}

Chosen::~Chosen() {
  if (changed_ && has_context(before_)) cudaSetDevice(before_);
}

OnDevice::OnDevice(int number) : chosen_(number), before_(current) { current = &Device::of(number); }

OnDevice::~OnDevice() {
  current->pool().shrink();
  current = before_;
}

cublasHandle_t Device::blas() {
  if (blas_ == nullptr) {
    cublasHandle_t handle = nullptr;
    REDUNET_CHECK(cublas().cublasCreate_v2(&handle));
    REDUNET_CHECK(cublas().cublasSetStream_v2(handle, stream_));
    blas_ = handle;
  }
  return blas_;
}

int Device::number_of(const void* p) {
  if (p == nullptr) return -1;
  refuse_after_fork();
  // To ask makes a context on the thread's device; and where there is no context there is no memory.
  const int asked = number_with_context();
  if (asked < 0) return -1;
  const Chosen there(asked);
  cudaPointerAttributes attributes{};
  REDUNET_CHECK(cudaPointerGetAttributes(&attributes, p));
  return attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged ? attributes.device : -1;
}

void Device::synchronise() {
  REDUNET_CHECK(cudaStreamSynchronize(stream_));
  to_be_read_.clear();
}

void Device::download(void* to, const void* from, std::size_t bytes) {
  if (bytes >= Staging::kFewest && staging_.download(to, from, bytes, stream_)) return;
  if (bytes > 0) REDUNET_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_));
  synchronise();
}

std::string Device::what_is_free() const {
  std::size_t free = 0, total = 0;
  const bool known = cudaMemGetInfo(&free, &total) == cudaSuccess;  // part of a message about another error
  if (!known) cudaGetLastError();
  return (known ? in_gib(free) + " are free" : "what is free is unknown") +
         " (what PyTorch caches is not: torch.cuda.empty_cache())";
}

std::size_t Device::free_bytes() const {
  std::size_t free = 0, total = 0;
  REDUNET_CHECK(cudaMemGetInfo(&free, &total));
  return std::min(free + pool_->idle(), total - std::min(total, pool_->used()));
}

std::size_t Device::total_bytes() const {
  std::size_t free = 0, total = 0;
  REDUNET_CHECK(cudaMemGetInfo(&free, &total));
  return total;
}

}  // namespace redunet::cuda
