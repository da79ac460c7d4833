// Which layer is being made. For one file to include: not templates.
#pragma once

#include "kernels/fused.hpp"

namespace redunet::cuda {

static __global__ void advance_kernel(Progress* progress, int n_slots) {
  progress->layer += 1;
  progress->slot = (progress->slot + 1) % n_slots;
}
static __global__ void set_progress_kernel(Progress* progress, int layer, int slot) { *progress = {layer, slot}; }
static __global__ void set_number_kernel(double* to, double value) { *to = value; }

}  // namespace redunet::cuda
