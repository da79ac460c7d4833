// Samples to spectra and back, as redunet/transforms/cyclic.py does on the host: unit norm, then the unitary DFT along
// the signal axes, half of it where samples are real.
#pragma once

#include "arrays/array.hpp"

namespace redunet::cuda {

// X, C-contiguous numbers of the host or of the device, (m, C, *signal), of real or complex type; left as it is.
// V is (m, C, F). `bad` is the first sample that holds NaN or infinity, or -1.
Array forward(char type, const std::vector<std::int64_t>& shape, const void* X, bool normalize, std::int64_t& bad);

// The samples, of this type and shape, of V; V is lost.
Array inverse(const Array& V, char type, const std::vector<std::int64_t>& shape);

}  // namespace redunet::cuda
