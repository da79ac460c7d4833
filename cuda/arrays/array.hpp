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

class Array {
 public:
  // New memory, of undefined content. `type` is a character code of NumPy: f, d, F or D.
  Array(char type, std::vector<index_t> shape);
  // Somebody's memory, which `owner` keeps.
  Array(char type, std::vector<index_t> shape, void* data, std::shared_ptr<void> owner);

  char type() const { return type_; }
  const std::vector<index_t>& shape() const { return shape_; }
  void* data() const { return data_; }
  index_t size() const;  // numbers
  std::size_t bytes() const;
  // The same memory.
  Array rows(index_t first, index_t count) const;
  void upload(const void* from) const;  // from the host or a device; both wait
  void download(void* to) const;

 private:
  char type_;
  std::vector<index_t> shape_;
  void* data_;
  std::shared_ptr<void> owner_;
};

// Memory for arrays that networks keep, or nothing where it would be more than their share: half of what is free, and
// with what is kept already half of the device.
std::optional<std::vector<Array>> room_to_keep(char type, const std::vector<std::vector<index_t>>& shapes);
// Bytes of a number.
std::size_t bytes_of(char type);
// The number of the device of this process.
int device_number();
// The stream that all work goes to, as DLPack's consumers name it to producers.
std::uintptr_t stream_number();
// Waits for what another library has put on a stream: 1 is the legacy default stream, 2 the thread's, else a pointer.
void wait_for_stream(std::uintptr_t stream);

}  // namespace redunet::cuda
