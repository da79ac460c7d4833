#include "platform/device.hpp"

#include <pthread.h>

#include <cstdio>

namespace redunet::cuda {
namespace {

// Whether CUDA has been used, and whether in an ancestor of this process. Process ids would not tell a child from its
// parent: both can be 1, each in a namespace of its own.
bool started = false, forked = false;
[[maybe_unused]] const int at_fork = pthread_atfork(nullptr, nullptr, [] { forked = started; });

[[noreturn]] void refuse(const std::string& reason, const char* call, const char* file, int line) {
  const std::string path(file);
  throw CudaError(reason + ", from " + call + " at " + path.substr(path.rfind('/') + 1) + ":" + std::to_string(line));
}

}  // namespace

void check(cudaError_t error, const char* call, const char* file, int line) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // it would be reported again by the next call
  refuse(std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error), call, file, line);
}
void check(cublasStatus_t status, const char* call, const char* file, int line) {
  if (status != CUBLAS_STATUS_SUCCESS) refuse("cuBLAS status " + std::to_string(int(status)), call, file, line);
}
void check(cufftResult result, const char* call, const char* file, int line) {
  if (result != CUFFT_SUCCESS) refuse("cuFFT result " + std::to_string(int(result)), call, file, line);
}

std::string in_gib(std::size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g GiB", static_cast<double>(bytes) / (1 << 30));
  return text;
}

std::string why_unusable() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);  // it leaves count alone where it fails
  if (error != cudaSuccess) {
    cudaGetLastError();
    return std::string("no device answers: ") + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) + ")";
  }
  return count > 0 ? "" : "there is no CUDA device";
}

Device::Device() {
  if (const std::string reason = why_unusable(); !reason.empty()) throw CudaError(reason);
  REDUNET_CHECK(cudaGetDevice(&number_));
  REDUNET_CHECK(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, number_));
  REDUNET_CHECK(cudaDeviceGetAttribute(&shared_limit_, cudaDevAttrMaxSharedMemoryPerBlockOptin, number_));
  REDUNET_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
}

Device& Device::get() {
  if (forked)
    throw CudaError(
        "CUDA was used before this process was forked, and can't be used in the child; start it with "
        "multiprocessing's method \"spawn\" or \"forkserver\"");
  started = true;
  static auto* device = new Device;  // never destroyed: the driver may be gone before the process ends
  return *device;
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

bool Device::holds(const void* p) {
  if (p == nullptr) return false;
  cudaPointerAttributes attributes{};
  REDUNET_CHECK(cudaPointerGetAttributes(&attributes, p));
  return attributes.type == cudaMemoryTypeDevice;
}

void Device::synchronise() const { REDUNET_CHECK(cudaStreamSynchronize(stream_)); }

void Device::download(void* to, const void* from, std::size_t bytes) {
  if (bytes >= Staging::kFewest && staging_.download(to, from, bytes, stream_)) return;
  if (bytes > 0) REDUNET_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_));
  synchronise();
}

std::size_t Device::free_bytes() const {
  std::size_t free = 0, total = 0;
  REDUNET_CHECK(cudaMemGetInfo(&free, &total));
  return free;
}

std::size_t Device::total_bytes() const {
  std::size_t free = 0, total = 0;
  REDUNET_CHECK(cudaMemGetInfo(&free, &total));
  return total;
}

}  // namespace redunet::cuda
