// Opens cuBLAS and cuFFT: a copy that the process has loaded already (CuPy's or PyTorch's), then the one in the pip
// wheels, then the system's. Of CUDA 13 first, else of CUDA 12: what is used of them has not changed.

#include "platform/libraries.hpp"

#include <dlfcn.h>

#include "platform/device.hpp"

namespace redunet::cuda {
namespace {

std::vector<std::string>& folders() {
  static auto* paths = new std::vector<std::string>;  // never destroyed: threads may outlive the statics
  return *paths;
}

// names: of what serves, the first the best.
void* open(const std::vector<std::string>& names, const char* package) {
  std::vector<std::string> paths;
  for (const std::string& name : names) {
    if (void* handle = dlopen(name.c_str(), RTLD_NOLOAD | RTLD_NOW | RTLD_LOCAL)) return handle;
    for (const std::string& folder : folders()) paths.push_back(folder + "/" + name);
  }
  paths.insert(paths.end(), names.begin(), names.end());
  std::string tried;
  for (const std::string& path : paths) {
    if (void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
    const char* reason = dlerror();
    tried += "\n  " + std::string(reason == nullptr ? path : reason);
  }
  throw CudaError(names.front() + " could not be opened; `pip install 'redunet[cuda]'` brings it (" + package +
                  "). Tried:" + tried);
}

template <class F>
void find(void* handle, const char* name, F*& entry) {
  entry = reinterpret_cast<F*>(dlsym(handle, name));
  if (entry == nullptr) throw CudaError(std::string("the library opened has no function ") + name);
}

}  // namespace

void set_library_folders(std::vector<std::string> paths) { folders() = std::move(paths); }

bool has_context(int number) {
  using State = int (*)(int device, unsigned* flags, int* active);  // cuDevicePrimaryCtxGetState
  static const State state = [] {
    void* const driver = dlopen("libcuda.so.1", RTLD_NOLOAD | RTLD_NOW | RTLD_LOCAL);
    return driver == nullptr ? nullptr : reinterpret_cast<State>(dlsym(driver, "cuDevicePrimaryCtxGetState"));
  }();
  unsigned flags = 0;
  int active = 0;
  return state == nullptr || (state(number, &flags, &active) == 0 && active != 0);
}

#define REDUNET_FIND(name, result, arguments) find(handle, #name, table.name);

const Cublas& cublas() {
  static const Cublas found = [] {
    void* handle = open({"libcublas.so.13", "libcublas.so.12"}, "nvidia-cublas");
    Cublas table;
    REDUNET_CUBLAS_ENTRIES(REDUNET_FIND)
    return table;
  }();
  return found;
}

const Cufft& cufft() {
  static const Cufft found = [] {
    void* handle = open({"libcufft.so.12", "libcufft.so.11"}, "nvidia-cufft");
    Cufft table;
    REDUNET_CUFFT_ENTRIES(REDUNET_FIND)
    return table;
  }();
  return found;
}

}  // namespace redunet::cuda
