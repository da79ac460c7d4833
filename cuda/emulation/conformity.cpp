// Compiled, never linked: everything that api.hpp, library_types.hpp and runtime.hpp say of NVIDIA's functions, types
// and numbers is what NVIDIA's own headers say.
//
//   g++ -std=c++20 -fsyntax-only -DREDUNET_CONFORMITY -I cuda -I <CUDA headers> cuda/emulation/conformity.cpp

#include <cuda.h>

#include <type_traits>

#include "platform/api.hpp"

namespace ours {
#include "emulation/runtime.hpp"
#include "platform/library_types.hpp"
}  // namespace ours

#define REDUNET_SAME_FUNCTION(name, result, arguments) \
  static_assert(std::is_same_v<decltype(static_cast<result(*) arguments>(&::name)), result(*) arguments>);
REDUNET_RUNTIME_ENTRIES(REDUNET_SAME_FUNCTION)
REDUNET_CUBLAS_ENTRIES(REDUNET_SAME_FUNCTION)
REDUNET_CUFFT_ENTRIES(REDUNET_SAME_FUNCTION)

#define REDUNET_SAME_NUMBER(name) static_assert(static_cast<int>(ours::name) == static_cast<int>(::name));
REDUNET_SAME_NUMBER(cudaSuccess)
REDUNET_SAME_NUMBER(cudaErrorInvalidValue)
REDUNET_SAME_NUMBER(cudaErrorMemoryAllocation)
REDUNET_SAME_NUMBER(cudaErrorInvalidConfiguration)
REDUNET_SAME_NUMBER(cudaErrorInsufficientDriver)
REDUNET_SAME_NUMBER(cudaErrorNoDevice)
REDUNET_SAME_NUMBER(cudaErrorInvalidResourceHandle)
REDUNET_SAME_NUMBER(cudaErrorLaunchFailure)
REDUNET_SAME_NUMBER(cudaErrorStreamCaptureUnsupported)
REDUNET_SAME_NUMBER(cudaMemcpyHostToHost)
REDUNET_SAME_NUMBER(cudaMemcpyHostToDevice)
REDUNET_SAME_NUMBER(cudaMemcpyDeviceToHost)
REDUNET_SAME_NUMBER(cudaMemcpyDeviceToDevice)
REDUNET_SAME_NUMBER(cudaMemcpyDefault)
REDUNET_SAME_NUMBER(cudaMemoryTypeUnregistered)
REDUNET_SAME_NUMBER(cudaMemoryTypeHost)
REDUNET_SAME_NUMBER(cudaMemoryTypeDevice)
REDUNET_SAME_NUMBER(cudaMemoryTypeManaged)
REDUNET_SAME_NUMBER(cudaDevAttrMultiProcessorCount)
REDUNET_SAME_NUMBER(cudaDevAttrComputeCapabilityMajor)
REDUNET_SAME_NUMBER(cudaDevAttrComputeCapabilityMinor)
REDUNET_SAME_NUMBER(cudaDevAttrMaxSharedMemoryPerBlockOptin)
REDUNET_SAME_NUMBER(cudaStreamCaptureModeThreadLocal)
static_assert(cudaStreamNonBlocking == 0x01U && cudaEventDisableTiming == 0x02U);
static_assert(offsetof(ours::cudaPointerAttributes, type) == offsetof(::cudaPointerAttributes, type));
REDUNET_SAME_NUMBER(CUBLAS_STATUS_SUCCESS)
REDUNET_SAME_NUMBER(CUBLAS_STATUS_INVALID_VALUE)
REDUNET_SAME_NUMBER(CUBLAS_STATUS_NOT_INITIALIZED)
REDUNET_SAME_NUMBER(CUBLAS_STATUS_ALLOC_FAILED)
REDUNET_SAME_NUMBER(CUBLAS_STATUS_ARCH_MISMATCH)
REDUNET_SAME_NUMBER(CUBLAS_STATUS_EXECUTION_FAILED)
REDUNET_SAME_NUMBER(CUBLAS_STATUS_INTERNAL_ERROR)
REDUNET_SAME_NUMBER(CUBLAS_STATUS_NOT_SUPPORTED)
REDUNET_SAME_NUMBER(CUBLAS_OP_N)
REDUNET_SAME_NUMBER(CUBLAS_OP_T)
REDUNET_SAME_NUMBER(CUBLAS_OP_C)
REDUNET_SAME_NUMBER(CUFFT_SUCCESS)
REDUNET_SAME_NUMBER(CUFFT_INVALID_PLAN)
REDUNET_SAME_NUMBER(CUFFT_INVALID_TYPE)
REDUNET_SAME_NUMBER(CUFFT_INVALID_VALUE)
REDUNET_SAME_NUMBER(CUFFT_ALLOC_FAILED)
REDUNET_SAME_NUMBER(CUFFT_INTERNAL_ERROR)
REDUNET_SAME_NUMBER(CUFFT_EXEC_FAILED)
REDUNET_SAME_NUMBER(CUFFT_SETUP_FAILED)
REDUNET_SAME_NUMBER(CUFFT_INVALID_SIZE)
REDUNET_SAME_NUMBER(CUFFT_C2C)
REDUNET_SAME_NUMBER(CUFFT_R2C)
REDUNET_SAME_NUMBER(CUFFT_C2R)
REDUNET_SAME_NUMBER(CUFFT_D2Z)
REDUNET_SAME_NUMBER(CUFFT_Z2D)
REDUNET_SAME_NUMBER(CUFFT_Z2Z)
static_assert(CUFFT_FORWARD == -1 && CUFFT_INVERSE == 1);

// What libraries.cpp asks the driver, whose numbers of devices are the runtime's.
static_assert(std::is_same_v<decltype(&::cuDevicePrimaryCtxGetState), CUresult (*)(CUdevice, unsigned*, int*)>);
static_assert(std::is_same_v<CUdevice, int> && sizeof(CUresult) == sizeof(int) && CUDA_SUCCESS == 0);

static_assert(sizeof(ours::float2) == sizeof(::float2) && alignof(ours::float2) == alignof(::float2));
static_assert(sizeof(ours::double2) == sizeof(::double2) && alignof(ours::double2) == alignof(::double2));
static_assert(sizeof(ours::dim3) == sizeof(::dim3));
static_assert(std::is_same_v<::cuComplex, ::float2> && std::is_same_v<::cuDoubleComplex, ::double2>);
static_assert(std::is_same_v<ours::cufftHandle, ::cufftHandle>);
