// DLPack's structures, as its specification lays them out, and their way in and out of Python's capsules.
// https://dmlc.github.io/dlpack/latest/c_api.html
#pragma once

#include <cstdint>

namespace redunet::cuda::dlpack {

constexpr std::int32_t kCuda = 2, kCudaManaged = 13;
constexpr std::uint8_t kFloat = 2, kComplex = 5;
// Name of a capsule before and after its tensor has been taken over.
constexpr const char* kFresh = "dltensor";
constexpr const char* kUsed = "used_dltensor";

struct Device {
  std::int32_t type, number;
};
struct DataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};
struct Tensor {
  void* data;
  Device device;
  std::int32_t n_axes;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // in numbers; null: C order
  std::uint64_t byte_offset;
};
struct ManagedTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};

}  // namespace redunet::cuda::dlpack
