// The one size type, signed, so that differences and loops downwards are what they look like; and its two ways to the
// standard library, whose sizes are unsigned.
#pragma once

#include <cstddef>

namespace redunet {

using index_t = std::ptrdiff_t;

constexpr std::size_t as_size(index_t n) { return static_cast<std::size_t>(n); }

// container[i]
template <class Container>
constexpr decltype(auto) at(Container&& container, index_t i) {
  return container[as_size(i)];
}

}  // namespace redunet
