// Opens cuBLAS and cuFFT: a copy that the process has loaded already (CuPy's or PyTorch's), then the one in the pip
// wheels, then the system's.

#include "platform/libraries.hpp"

#include <dlfcn.h>

#include "platform/device.hpp"

namespace redunet::cuda {
namespace {

std::string& folder() {
  static auto* path = new std::string;  // never destroyed: threads may outlive the statics
  return *path;
}

void* open(const std::string& name, const char* package) {
  if (void* handle = dlopen(name.c_str(), RTLD_NOLOAD | RTLD_NOW | RTLD_LOCAL)) return handle;
  std::string tried;
  for (const std::string& path : {folder().empty() ? std::string() : folder() + "/" + name, name}) {
    if (path.empty()) continue;
    if (void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
    const char* reason = dlerror();
    tried += "\n  " + std::string(reason == nullptr ? path : reason);
  }
  throw CudaError(name + " could not be opened; `pip install 'redunet[cuda]'` brings it (" + package +
                  "). Tried:" + tried);
}

template <class F>
void find(void* handle, const char* name, F*& entry) {
  entry = reinterpret_cast<F*>(dlsym(handle, name));
  if (entry == nullptr) throw CudaError(std::string("the library opened has no function ") + name);
}

}  // namespace

void set_library_folder(std::string path) { folder() = std::move(path); }

#define REDUNET_FIND(name, result, arguments) find(handle, #name, table.name);

const Cublas& cublas() {
  static const Cublas found = [] {
    void* handle = open("libcublas.so.13", "nvidia-cublas");
    Cublas table;
    REDUNET_CUBLAS_ENTRIES(REDUNET_FIND)
    return table;
  }();
  return found;
}

const Cufft& cufft() {
  static const Cufft found = [] {
    void* handle = open("libcufft.so.12", "nvidia-cufft");
    Cufft table;
    REDUNET_CUFFT_ENTRIES(REDUNET_FIND)
    return table;
  }();
  return found;
}

}  // namespace redunet::cuda
