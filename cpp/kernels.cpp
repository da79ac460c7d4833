// The kernels of kernels.hpp for one instruction set: compiled several times, each time with other flags and another
// namespace REDUNET_ISA. No std containers here: an inline function compiled for AVX-512 must not be merged into the
// rest of the program.

#include "kernel_gram.hpp"
#include "kernel_lanes.hpp"
#include "kernel_product.hpp"
#include "kernel_samples.hpp"
#include "kernel_tiles.hpp"

namespace redunet {
namespace REDUNET_ISA {
namespace {

template <class T>
constexpr Kernels<T> kTable{
    product<T>,          gram<T>,  cholesky_lanes<T>, invert_lanes<T>, forward_substitute<T>, softmax<T>,
    reciprocal_norms<T>, scale<T>, settle<T>,         tile_gates<T>,   tile_move<T>,          tile_gram<T>};

}  // namespace

#define REDUNET_STRING_(x) #x
#define REDUNET_STRING(x) REDUNET_STRING_(x)
extern const KernelSet kKernelSet;
const KernelSet kKernelSet{REDUNET_STRING(REDUNET_ISA), kTable<float>, kTable<double>};

}  // namespace REDUNET_ISA
}  // namespace redunet
