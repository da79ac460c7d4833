// Every entry point of CUDA that the engine uses, with its exact type, and nothing else of CUDA's headers.
//
// The runtime is linked into the module (statically), so that importing it needs no NVIDIA package. cuBLAS and cuFFT
// are opened when the first call needs them (libraries.cpp); their types are written down here once, so that neither
// the build nor the emulation needs their headers. emulation/conformity.cpp compares every line with the real ones.
#pragma once

#include <cstddef>

#if defined(REDUNET_CONFORMITY)
#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <cufft.h>
#elif defined(REDUNET_EMULATED)
#include "emulation/runtime.hpp"
#include "platform/library_types.hpp"
#else
#include <cuda_runtime.h>

#include "platform/library_types.hpp"
#endif

// clang-format off

#define REDUNET_GEMM(X, letter, number)                                                                      \
  X(cublas##letter##gemmStridedBatched, cublasStatus_t,                                                      \
    (cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const number*, const number*, int, \
     long long, const number*, int, long long, const number*, number*, int, long long, int))

// X(name, result, (arguments))
#define REDUNET_CUBLAS_ENTRIES(X)                                       \
  X(cublasCreate_v2, cublasStatus_t, (cublasHandle_t*))                 \
  X(cublasDestroy_v2, cublasStatus_t, (cublasHandle_t))                 \
  X(cublasSetStream_v2, cublasStatus_t, (cublasHandle_t, cudaStream_t)) \
  REDUNET_GEMM(X, S, float)                                             \
  REDUNET_GEMM(X, D, double)                                            \
  REDUNET_GEMM(X, C, cuComplex)                                         \
  REDUNET_GEMM(X, Z, cuDoubleComplex)

#define REDUNET_CUFFT_ENTRIES(X)                                                                           \
  X(cufftCreate, cufftResult, (cufftHandle*))                                                              \
  X(cufftSetAutoAllocation, cufftResult, (cufftHandle, int))                                               \
  X(cufftMakePlanMany, cufftResult,                                                                        \
    (cufftHandle, int, int*, int*, int, int, int*, int, int, cufftType, int, std::size_t*))                \
  X(cufftSetWorkArea, cufftResult, (cufftHandle, void*))                                                   \
  X(cufftDestroy, cufftResult, (cufftHandle))                                                              \
  X(cufftSetStream, cufftResult, (cufftHandle, cudaStream_t))                                              \
  X(cufftExecR2C, cufftResult, (cufftHandle, cufftReal*, cufftComplex*))                                   \
  X(cufftExecC2R, cufftResult, (cufftHandle, cufftComplex*, cufftReal*))                                   \
  X(cufftExecD2Z, cufftResult, (cufftHandle, cufftDoubleReal*, cufftDoubleComplex*))                       \
  X(cufftExecZ2D, cufftResult, (cufftHandle, cufftDoubleComplex*, cufftDoubleReal*))                       \
  X(cufftExecC2C, cufftResult, (cufftHandle, cufftComplex*, cufftComplex*, int))                           \
  X(cufftExecZ2Z, cufftResult, (cufftHandle, cufftDoubleComplex*, cufftDoubleComplex*, int))

// X(name, result, (arguments)); these are called by name.
#define REDUNET_RUNTIME_ENTRIES(X)                                                                 \
  X(cudaGetDeviceCount, cudaError_t, (int*))                                                       \
  X(cudaGetDevice, cudaError_t, (int*))                                                            \
  X(cudaSetDevice, cudaError_t, (int))                                                             \
  X(cudaDeviceGetAttribute, cudaError_t, (int*, cudaDeviceAttr, int))                              \
  X(cudaMemGetInfo, cudaError_t, (std::size_t*, std::size_t*))                                     \
  X(cudaGetErrorName, const char*, (cudaError_t))                                                  \
  X(cudaGetErrorString, const char*, (cudaError_t))                                                \
  X(cudaGetLastError, cudaError_t, ())                                                             \
  X(cudaMalloc, cudaError_t, (void**, std::size_t))                                                \
  X(cudaFree, cudaError_t, (void*))                                                                \
  X(cudaMallocHost, cudaError_t, (void**, std::size_t))                                            \
  X(cudaPointerGetAttributes, cudaError_t, (cudaPointerAttributes*, const void*))                  \
  X(cudaDeviceSynchronize, cudaError_t, ())                                                        \
  X(cudaStreamCreateWithFlags, cudaError_t, (cudaStream_t*, unsigned))                             \
  X(cudaStreamDestroy, cudaError_t, (cudaStream_t))                                                \
  X(cudaStreamSynchronize, cudaError_t, (cudaStream_t))                                            \
  X(cudaEventCreateWithFlags, cudaError_t, (cudaEvent_t*, unsigned))                               \
  X(cudaEventRecord, cudaError_t, (cudaEvent_t, cudaStream_t))                                     \
  X(cudaEventSynchronize, cudaError_t, (cudaEvent_t))                                              \
  X(cudaMemcpyAsync, cudaError_t, (void*, const void*, std::size_t, cudaMemcpyKind, cudaStream_t)) \
  X(cudaMemsetAsync, cudaError_t, (void*, int, std::size_t, cudaStream_t))                         \
  X(cudaStreamBeginCapture, cudaError_t, (cudaStream_t, cudaStreamCaptureMode))                    \
  X(cudaStreamEndCapture, cudaError_t, (cudaStream_t, cudaGraph_t*))                               \
  X(cudaGraphLaunch, cudaError_t, (cudaGraphExec_t, cudaStream_t))                                 \
  X(cudaGraphDestroy, cudaError_t, (cudaGraph_t))                                                  \
  X(cudaGraphExecDestroy, cudaError_t, (cudaGraphExec_t))
// clang-format on
