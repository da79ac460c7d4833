// All that differs between operating systems: large aligned memory, and what becomes of a process that forks.
#pragma once

#include <cstddef>

namespace redunet::system {

// Memory at a cache line at least, in huge pages where it is large and the system has them for the asking. Throws
// std::bad_alloc.
void* allocate(std::size_t bytes);
void release(void* memory) noexcept;

// Has every child that this process forks call f, which only stores; where processes don't fork, nobody does. Returns a
// number, so that it can initialise what is global.
int in_forked_children(void (*f)());

}  // namespace redunet::system
