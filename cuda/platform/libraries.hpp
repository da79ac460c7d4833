// cuBLAS and cuFFT as tables of typed entry points, filled on first use: libraries.cpp opens the libraries, the
// emulation (emulation/libraries.cpp) has stand-ins.
#pragma once

#include <string>
#include <vector>

#include "platform/api.hpp"

namespace redunet::cuda {

struct Cublas {
#define REDUNET_POINTER(name, result, arguments) result(*name) arguments = nullptr;
  REDUNET_CUBLAS_ENTRIES(REDUNET_POINTER)
};

struct Cufft {
  REDUNET_CUFFT_ENTRIES(REDUNET_POINTER)
#undef REDUNET_POINTER
};

// They throw CudaError, saying where they looked, if the library can't be opened.
const Cublas& cublas();
const Cufft& cufft();

// Whether this process has a context on a device, which the driver knows and the runtime can't be asked; true where it
// can't be known.
bool has_context(int number);

// Where to look first for a library that the process hasn't loaded already: the folders of the pip wheels.
void set_library_folders(std::vector<std::string> folders);

}  // namespace redunet::cuda
