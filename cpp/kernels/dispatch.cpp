// The SIMD levels that were compiled, which of them this processor has, and the one in use.

#include "kernels/dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace redunet {

namespace baseline {
extern const KernelSet kKernelSet;
}
#if defined(REDUNET_HAVE_AVX2)
namespace avx2 {
extern const KernelSet kKernelSet;
}
#endif
#if defined(REDUNET_HAVE_AVX512)
namespace avx512 {
extern const KernelSet kKernelSet;
}
#endif

namespace {

std::atomic<const KernelSet*> selected{nullptr};

// `origin` says where the name comes from.
const KernelSet& find(const std::string& origin, const std::string& name) {
  std::string names;
  for (const KernelSet* set : usable_kernel_sets()) {
    if (name == set->name) return *set;
    names += (names.empty() ? "'" : ", '") + std::string(set->name) + "'";
  }
  throw std::invalid_argument(origin + " is '" + name + "'; expected one that can be used here: " + names);
}

}  // namespace

std::vector<const KernelSet*> usable_kernel_sets() {
  std::vector<const KernelSet*> sets{&baseline::kKernelSet};
#if defined(REDUNET_HAVE_AVX2)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) sets.push_back(&avx2::kKernelSet);
#endif
#if defined(REDUNET_HAVE_AVX512)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl"))
    sets.push_back(&avx512::kKernelSet);
#endif
  return sets;
}

const KernelSet& selected_kernels() {
  const KernelSet* set = selected.load();
  if (set == nullptr) {
    const char* name = std::getenv("REDUNET_SIMD");
    set = name != nullptr && *name != '\0' ? &find("REDUNET_SIMD", name) : usable_kernel_sets().back();
    selected = set;
  }
  return *set;
}

void select_kernels(const std::string& name) { selected = &find("SIMD level", name); }

}  // namespace redunet
