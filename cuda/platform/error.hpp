#pragma once

#include <stdexcept>

namespace redunet::cuda {

// What CUDA refused; what() names the call, the file and the line.
struct CudaError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace redunet::cuda
