// The kernels of kernels.hpp for one instruction set: compiled several times, each time with other flags and another
// namespace REDUNET_ISA. No std containers here: an inline function compiled for AVX-512 must not be merged into the
// rest of the program.

#include "kernels/block.hpp"
#include "kernels/few_channels.hpp"
#include "kernels/gram.hpp"
#include "kernels/interleaved.hpp"
#include "kernels/interleaved_io.hpp"
#include "kernels/merging.hpp"
#include "kernels/moments.hpp"
#include "kernels/neighbours.hpp"
#include "kernels/product_single.hpp"
#include "kernels/samples.hpp"

namespace redunet {
namespace REDUNET_ISA {
namespace {

template <class T>
constexpr Kernels<T> kTable{.product = product<T>,
                            .gram = gram<T>,
                            .cholesky_interleaved = cholesky_interleaved<T>,
                            .invert_interleaved = invert_interleaved<T>,
                            .factor_block = factor_block<T, 1>,
                            .factor_complex_block = factor_block<T, 2>,
                            .substitute = substitute<T>,
                            .solve_interleaved = solve_interleaved<T>,
                            .forms_interleaved = forms_interleaved<T>,
                            .interleave = interleave<T>,
                            .deinterleave = deinterleave<T>,
                            .read_interleaved = read_interleaved<T>,
                            .write_interleaved = write_interleaved<T>,
                            .logdet_interleaved = logdet_interleaved<T>,
                            .softmax = softmax<T>,
                            .reciprocal_norms = reciprocal_norms<T>,
                            .scale = scale<T>,
                            .energies = energies<T>,
                            .settle = settle<T>,
                            .tile_gates = tile_gates<T>,
                            .tile_move = tile_move<T>,
                            .tile_gram = tile_gram<T>,
                            .about_origin = about_origin<T>,
                            .nearer = nearer<T>,
                            .window = window<T>,
                            .filter_row = filter_row<T>};

}  // namespace

#define REDUNET_STRING_(x) #x
#define REDUNET_STRING(x) REDUNET_STRING_(x)
extern const KernelSet kKernelSet;
const KernelSet kKernelSet{REDUNET_STRING(REDUNET_ISA), kTable<float>, kTable<double>, kMerge, add_moments};

}  // namespace REDUNET_ISA
}  // namespace redunet
