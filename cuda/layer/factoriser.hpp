// Hermitian matrices on the device: factors, inverses and log dets of a batch, in shared memory where one fits, by
// blocks otherwise. And the one way to call cuBLAS.
#pragma once

#include "kernels/factorise.hpp"
#include "platform/device.hpp"

namespace redunet::cuda {

enum class Op { kNone = CUBLAS_OP_N, kTranspose = CUBLAS_OP_T, kAdjoint = CUBLAS_OP_C };

// A batch of row-major matrices: element (i, j) of matrix b is at p + b * stride + i * ld + j.
template <class P>
struct Matrices {
  P* p;
  index_t ld, stride;
};

// C (rows, columns) <- alpha op(A) op(B) + beta C; `inner` is what is summed over.
template <class N>
void gemm(Op op_a, Op op_b, index_t rows, index_t columns, index_t inner, Real<N> alpha, Matrices<const N> A,
          Matrices<const N> B, Real<N> beta, Matrices<N> C, index_t batch);

// `count` whole Hermitian matrices of their lower triangles, times scale[matrix / group], in place or not; where there
// are `terms`, the first group is the sum of so many others.
template <class N>
void make_hermitian(const N* M, index_t count, index_t group, int terms, index_t n, const double* scale, N* to);

// Does what a request asks for, for `count` matrices, and holds the memory for it. Matrices that must be done by blocks
// lie one after the other, n numbers a row.
template <class N>
class Factoriser {
 public:
  void run(const Factorise<N>& request, index_t count);
  // Whether matrices of this size are factored by one launch.
  static bool fits(int n);
  // Bytes that a matrix takes by blocks, beside what the request has.
  static std::size_t bytes_per_matrix(int n);

 private:
  void by_blocks(const Factorise<N>& request, index_t count);

  DeviceArray<N> rest_, factor_, inverse_factor_, product_;
};

}  // namespace redunet::cuda
