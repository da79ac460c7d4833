// Numbers on the device, in C order, with a shape: what Python holds between two calls. No word of CUDA here:
// module.cpp is compiled by a C++ compiler.
#pragma once

#include <complex>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "shared/index.hpp"

namespace redunet::cuda {

// What keeps the memory of arrays.
class Memory {
 public:
  virtual ~Memory() = default;
  virtual void show() {}
};

class Array {
 public:
  // New memory of the device that the thread works on, of undefined content. `type` is a character code of NumPy: f, d,
  // F or D.
  Array(char type, std::vector<index_t> shape);
  // Somebody's memory, which `owner` keeps.
  Array(char type, std::vector<index_t> shape, void* data, int device, std::shared_ptr<Memory> owner);

  char type() const { return type_; }
  const std::vector<index_t>& shape() const { return shape_; }
  void* data() const { return data_; }
  // The number of the device that it lies on.
  int device() const { return device_; }
  index_t size() const;  // numbers
  std::size_t bytes() const;
  // Of the same memory: some of its rows, and all of it in another shape.
  Array rows(index_t first, index_t count) const;
  Array reshaped(std::vector<index_t> shape) const { return {type_, std::move(shape), data_, device_, owner_}; }
  Array copy() const;                   // on the same device
  void upload(const void* from) const;  // from the host or a device; both wait
  void download(void* to) const;
  // Another library is about to see it.
  void show() const { owner_->show(); }

 private:
  char type_;
  std::vector<index_t> shape_;
  void* data_;
  int device_;
  std::shared_ptr<Memory> owner_;
};

// Memory for arrays that networks keep, or nothing where it would be more than their share: half of what is free, and
// with what is kept already half of the device; or where it would leave less than `beside` bytes free.
std::optional<std::vector<Array>> room_to_keep(char type, const std::vector<std::vector<index_t>>& shapes,
                                               std::size_t beside);
// Bytes of a number.
std::size_t bytes_of(char type);
// The number of the device that the thread works on, and of the one that an address is memory of: the same, or
// `of_host`, where it is of none.
int device_number();
int device_number(const void* p);
int device_number(const void* p, int of_host);
// What the engine holds idle on all devices goes back to them; how many bytes.
std::size_t release_idle();
// Waits for the work of the thread's device.
void wait_quietly() noexcept;
// The stream that all work of that device goes to, as DLPack's consumers name it to producers.
std::uintptr_t stream_number();
// Waits for what another library has put on a stream of it: 1 is the legacy default stream, 2 the thread's, else a
// pointer.
void wait_for_stream(std::uintptr_t stream);

}  // namespace redunet::cuda
