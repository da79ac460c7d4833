// Linux asks for huge pages, other POSIX systems have aligned memory of C. Windows has a heap of its own for aligned
// memory, gives large pages to privileged users only, and doesn't fork.

#include "base/system.hpp"

#include <new>

#include "kernels/kernels.hpp"

#if defined(_WIN32)
#include <malloc.h>
#else
#include <pthread.h>

#include <cstdlib>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace redunet::system {

#if defined(_WIN32)

void* allocate(std::size_t bytes) {
  void* memory = _aligned_malloc(bytes, as_size(kCacheLine));
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void release(void* memory) noexcept { _aligned_free(memory); }

int in_forked_children(void (*)()) { return 0; }

#else

void* allocate(std::size_t bytes) {
  constexpr std::size_t kHuge = std::size_t{1} << 21;
  const std::size_t alignment = bytes >= 4 * kHuge ? kHuge : as_size(kCacheLine);
  bytes = (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, bytes);
  if (memory == nullptr) throw std::bad_alloc();
#if defined(__linux__)
  if (alignment == kHuge) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  return memory;
}

void release(void* memory) noexcept { std::free(memory); }

int in_forked_children(void (*f)()) { return pthread_atfork(nullptr, nullptr, f); }

#endif

}  // namespace redunet::system
