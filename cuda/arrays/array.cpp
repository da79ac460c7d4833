#include "arrays/array.hpp"

#include "platform/device.hpp"

namespace redunet::cuda {
namespace {

constexpr double kShareToKeep = 0.5;

struct Own : Memory {
  explicit Own(std::size_t bytes) : array(static_cast<index_t>(bytes)) {}
  void show() override { array.show(); }

  DeviceArray<char> array;
};

// Memory that counts as kept while it lives.
struct Kept : Own {
  explicit Kept(std::size_t bytes) : Own(bytes), device(Device::get()) { device.bytes_kept() += bytes; }
  ~Kept() override { device.bytes_kept() -= as_size(array.size()); }

  Device& device;
};

}  // namespace

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

Array::Array(char type, std::vector<index_t> shape) : type_(type), shape_(std::move(shape)), device_(device_number()) {
  auto memory = std::make_shared<Own>(bytes());
  data_ = memory->array.get();
  owner_ = std::move(memory);
}

Array::Array(char type, std::vector<index_t> shape, void* data, int device, std::shared_ptr<Memory> owner)
    : type_(type), shape_(std::move(shape)), data_(data), device_(device), owner_(std::move(owner)) {}

index_t Array::size() const {
  index_t numbers = 1;
  for (const index_t n : shape_) numbers *= n;
  return numbers;
}

std::size_t Array::bytes() const { return as_size(size()) * bytes_of(type_); }

Array Array::rows(index_t first, index_t count) const {
  std::vector<index_t> shape = shape_;
  const std::size_t row = shape[0] == 0 ? 0 : bytes() / as_size(shape[0]);
  shape[0] = count;
  return {type_, std::move(shape), static_cast<char*>(data_) + as_size(first) * row, device_, owner_};
}

Array Array::copy() const {
  const OnDevice here(device_);
  Array other(type_, shape_);
  other.upload(data_);
  return other;
}

void Array::upload(const void* from) const {
  if (bytes() == 0) return;
  const OnDevice here(device_);
  REDUNET_CHECK(cudaMemcpyAsync(data_, from, bytes(), cudaMemcpyDefault, Device::get().stream()));
  Device::get().synchronise();
}

void Array::download(void* to) const {
  const OnDevice here(device_);
  Device::get().download(to, data_, bytes());
}

std::optional<std::vector<Array>> room_to_keep(char type, const std::vector<std::vector<index_t>>& shapes,
                                               std::size_t beside) {
  std::vector<Array> room;
  std::size_t bytes = 0;
  for (const auto& shape : shapes) bytes += Array(type, shape, nullptr, 0, nullptr).bytes();
  const auto share = [](std::size_t of) { return static_cast<std::size_t>(kShareToKeep * static_cast<double>(of)); };
  Device& device = Device::get();
  const std::size_t free = device.free_bytes();
  if (bytes > share(free) || bytes + beside > free || device.bytes_kept() + bytes > share(device.total_bytes()))
    return {};
  try {
    for (const auto& shape : shapes) {
      auto kept = std::make_shared<Kept>(Array(type, shape, nullptr, 0, nullptr).bytes());
      void* const data = kept->array.get();
      room.emplace_back(type, shape, data, device.number(), std::move(kept));
    }
  } catch (const CudaError&) {  // what is free lies in pieces
    return {};
  }
  return room;
}

int device_number() { return Device::get().number(); }

int device_number(const void* p) {
  const int number = Device::number_of(p);
  return number >= 0 ? number : device_number();
}

int device_number(const void* p, int of_host) {
  const int number = Device::number_of(p);
  return number >= 0 ? number : of_host;
}

std::size_t release_idle() { return Device::release_all(); }

void wait_quietly() noexcept {
  try {
    Device::get().synchronise();
  } catch (const CudaError&) {  // there is an error under way already
  }
}

std::uintptr_t stream_number() { return reinterpret_cast<std::uintptr_t>(Device::get().stream()); }

void wait_for_stream(std::uintptr_t stream) {
  Device::get();  // the error after a fork comes from here
  REDUNET_CHECK(cudaStreamSynchronize(reinterpret_cast<cudaStream_t>(stream)));
}

}  // namespace redunet::cuda
