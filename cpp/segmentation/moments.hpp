// Sizes, means and scatter of the regions of an image, of features that filters make of its windows, in one pass: no
// image of features is kept.
#pragma once

#include <cstdint>

#include "base/parallel.hpp"
#include "kernels/kernels.hpp"

namespace redunet {

// (H, W) pixels with D features each. With filters, feature d is the inner product of filter d with the window whose
// upper left pixel is the pixel's own in an image of H + window - 1 by W + window - 1; without, the image is features.
template <class T>
struct Pixels {
  index_t H, W, D;
  const T* image;              // (channels, H + window - 1, W + window - 1); without filters (H, W, D)
  const T* filters = nullptr;  // (channels, window, window, D)
  index_t channels = 0, window = 1;
};

// labels (H, W): regions 0..n_regions-1, or negative for none. Results in double precision: sizes (n_regions), means
// (n_regions, D), scatters (n_regions, D, D) about the means; of a region without pixels zeros.
template <class T>
void region_moments(const KernelSet& kernels, Parallel& parallel, const Pixels<T>& pixels, const std::int64_t* labels,
                    index_t n_regions, double* sizes, double* means, double* scatters);

}  // namespace redunet
