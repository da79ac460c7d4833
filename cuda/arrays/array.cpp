#include "arrays/array.hpp"

#include "platform/device.hpp"

namespace redunet::cuda {

std::size_t bytes_of(char type) {
  switch (type) {
    case 'f':
      return 4;
    case 'D':
      return 16;
    default:
      return 8;
  }
}

Array::Array(char type, std::vector<index_t> shape) : type_(type), shape_(std::move(shape)) {
  auto memory = std::make_shared<DeviceArray<char>>(static_cast<index_t>(bytes()));
  data_ = memory->get();
  owner_ = std::move(memory);
}

Array::Array(char type, std::vector<index_t> shape, void* data, std::shared_ptr<void> owner)
    : type_(type), shape_(std::move(shape)), data_(data), owner_(std::move(owner)) {}

index_t Array::size() const {
  index_t numbers = 1;
  for (const index_t n : shape_) numbers *= n;
  return numbers;
}

std::size_t Array::bytes() const { return as_size(size()) * bytes_of(type_); }

void Array::upload(const void* from) const {
  if (bytes() == 0) return;
  REDUNET_CHECK(cudaMemcpyAsync(data_, from, bytes(), cudaMemcpyHostToDevice, Device::get().stream()));
  Device::get().synchronise();
}

void Array::download(void* to) const {
  if (bytes() == 0) return;
  REDUNET_CHECK(cudaMemcpyAsync(to, data_, bytes(), cudaMemcpyDeviceToHost, Device::get().stream()));
  Device::get().synchronise();
}

int device_number() { return Device::get().number(); }

std::uintptr_t stream_number() { return reinterpret_cast<std::uintptr_t>(Device::get().stream()); }

void wait_for_stream(std::uintptr_t stream) {
  Device::get();  // the error after a fork comes from here
  REDUNET_CHECK(cudaStreamSynchronize(reinterpret_cast<cudaStream_t>(stream)));
}

}  // namespace redunet::cuda
