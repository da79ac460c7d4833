// Which kernels this process uses: the best instruction set that the processor has, or the one that REDUNET_SIMD names.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.hpp"

namespace redunet {

// Compiled in and supported by this processor, from the plainest to the best.
std::vector<const KernelSet*> usable_kernel_sets();

// Chosen once, on first use. Throws std::invalid_argument if REDUNET_SIMD names a set that can't be used.
const KernelSet& selected_kernels();

// Forces a set from here on: for tests that compare them.
void select_kernels(const std::string& name);

}  // namespace redunet
