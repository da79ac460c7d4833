// Stand-ins for cuBLAS and cuFFT, stricter than the originals: every operand must lie in one live allocation of the
// device, leading dimensions must fit, results must not overlap operands, beta = 0 must not read the result.

#include "platform/libraries.hpp"

#include <cmath>
#include <complex>
#include <limits>
#include <map>
#include <set>
#include <type_traits>
#include <vector>

#include "platform/gpu.hpp"

namespace {

using redunet::cuda::emulation::current_device;
using redunet::cuda::emulation::device_of;
using redunet::cuda::emulation::fail;
using redunet::cuda::emulation::is_device_memory;
using redunet::cuda::emulation::submit;

// --- cuBLAS
// -------------------------------------------------------------------------------------------------------------

// NVIDIA documents no limit; grids have this one.
constexpr int kMostInABatch = 65535;

std::set<cublasHandle_t>& handles() {
  static auto* all = new std::set<cublasHandle_t>;  // never destroyed: threads may outlive the statics
  return *all;
}

std::map<cublasHandle_t, cudaStream_t>& streams() {
  static auto* all = new std::map<cublasHandle_t, cudaStream_t>;
  return *all;
}

template <class T>
struct Scalar {
  using type = T;
};
template <>
struct Scalar<float2> {
  using type = std::complex<float>;
};
template <>
struct Scalar<double2> {
  using type = std::complex<double>;
};

template <class S>
S conjugate_if(bool yes, S x) {
  if constexpr (std::is_floating_point_v<S>)
    return x;
  else
    return yes ? std::conj(x) : x;
}

// Columns of `rows` numbers, `ld` apart, `batch` times.
void check_operand(const char* name, const void* p, std::size_t size, int rows, int columns, int ld, long long stride,
                   int batch) {
  if (ld < rows || ld < 1) fail(std::string("gemm: the leading dimension of ") + name + " is less than its rows");
  const long long numbers = stride * (batch - 1) + static_cast<long long>(ld) * (columns - 1) + rows;
  if (rows > 0 && columns > 0 && !is_device_memory(p, static_cast<std::size_t>(numbers) * size))
    fail(std::string("gemm: ") + name + " lies outside of its allocation");
}

template <class N>
cublasStatus_t gemm(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                    const N* alpha, const N* A, int lda, long long stride_a, const N* B, int ldb, long long stride_b,
                    const N* beta, N* C, int ldc, long long stride_c, int batch) {
  using S = typename Scalar<N>::type;
  if (handles().count(handle) == 0) fail("gemm: no such handle");
  if (streams().count(handle) == 0) fail("gemm: the handle was given no stream");
  if (device_of(streams()[handle]) != current_device()) fail("gemm: the handle is one of another device");
  if (const int error = redunet::cuda::emulation::fault("cublas")) return static_cast<cublasStatus_t>(error);
  if (batch > kMostInABatch) fail("gemm: a batch of " + std::to_string(batch) + ", which no GPU may bear");
  if (m < 0 || n < 0 || k < 0 || batch < 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (m == 0 || n == 0 || batch == 0) return CUBLAS_STATUS_SUCCESS;
  check_operand("A", A, sizeof(N), op_a == CUBLAS_OP_N ? m : k, op_a == CUBLAS_OP_N ? k : m, lda, stride_a, batch);
  check_operand("B", B, sizeof(N), op_b == CUBLAS_OP_N ? k : n, op_b == CUBLAS_OP_N ? n : k, ldb, stride_b, batch);
  check_operand("C", C, sizeof(N), m, n, ldc, stride_c, batch);
  if (batch > 1 && stride_c < static_cast<long long>(ldc) * (n - 1) + m && stride_c < m) fail("gemm: results overlap");
  const S by = *reinterpret_cast<const S*>(alpha), keep = *reinterpret_cast<const S*>(beta);
  submit(streams()[handle], [=] {
    for (int b = 0; b < batch; ++b) {
      const S* a = reinterpret_cast<const S*>(A) + b * stride_a;
      const S* x = reinterpret_cast<const S*>(B) + b * stride_b;
      S* c = reinterpret_cast<S*>(C) + b * stride_c;
      const auto at_a = [&](int i, int l) {
        return op_a == CUBLAS_OP_N ? a[i + static_cast<long long>(l) * lda]
                                   : conjugate_if(op_a == CUBLAS_OP_C, a[l + static_cast<long long>(i) * lda]);
      };
      const auto at_b = [&](int l, int j) {
        return op_b == CUBLAS_OP_N ? x[l + static_cast<long long>(j) * ldb]
                                   : conjugate_if(op_b == CUBLAS_OP_C, x[j + static_cast<long long>(l) * ldb]);
      };
      std::vector<S> column(static_cast<std::size_t>(m));
      for (int j = 0; j < n; ++j) {
        std::fill(column.begin(), column.end(), S(0));
        for (int l = 0; l < k; ++l) {
          const S factor = at_b(l, j);
          for (int i = 0; i < m; ++i) column[static_cast<std::size_t>(i)] += at_a(i, l) * factor;
        }
        S* out = c + static_cast<long long>(j) * ldc;
        for (int i = 0; i < m; ++i) {
          const S sum = by * column[static_cast<std::size_t>(i)];
          out[i] = keep == S(0) ? sum : sum + keep * out[i];
        }
      }
    }
  });
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t create_handle(cublasHandle_t* handle) {
  *handle = reinterpret_cast<cublasHandle_t>(new char);
  handles().insert(*handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t destroy_handle(cublasHandle_t handle) {
  if (handles().erase(handle) == 0) return CUBLAS_STATUS_INVALID_VALUE;
  streams().erase(handle);
  delete reinterpret_cast<char*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t use_stream(cublasHandle_t handle, cudaStream_t stream) {
  streams()[handle] = stream;
  return CUBLAS_STATUS_SUCCESS;
}

// --- cuFFT
// --------------------------------------------------------------------------------------------------------------

struct Plan {
  std::vector<int> n;
  cufftType type;
  int batch;
  std::size_t work_bytes;
  void* work = nullptr;
  cudaStream_t stream = nullptr;

  long long points() const {
    long long product = 1;
    for (const int length : n) product *= length;
    return product;
  }
  long long half() const { return points() / n.back() * (n.back() / 2 + 1); }
};

std::map<cufftHandle, Plan>& plans() {
  static auto* all = new std::map<cufftHandle, Plan>;
  return *all;
}

cufftResult create_plan(cufftHandle* handle) {
  static cufftHandle next = 1;
  *handle = next++;
  plans()[*handle] = {};
  return CUFFT_SUCCESS;
}
cufftResult set_auto_allocation(cufftHandle handle, int yes) {
  return plans().count(handle) == 1 && yes == 0 ? CUFFT_SUCCESS : CUFFT_INVALID_PLAN;
}
// Packed data only: the engine uses no other. The work area is as large as the spectrum, as NVIDIA's is for odd sizes.
cufftResult make_plan_many(cufftHandle handle, int rank, int* n, int* inembed, int, int, int* onembed, int, int,
                           cufftType type, int batch, std::size_t* work_bytes) {
  if (rank < 1 || rank > 2 || batch < 1 || inembed != nullptr || onembed != nullptr) return CUFFT_INVALID_VALUE;
  if (plans().count(handle) == 0) return CUFFT_INVALID_PLAN;
  if (const int error = redunet::cuda::emulation::fault("cufft")) return static_cast<cufftResult>(error);
  Plan& plan = plans()[handle];
  plan = {std::vector<int>(n, n + rank), type, batch, 0};
  *work_bytes = plan.work_bytes = static_cast<std::size_t>(plan.points() * batch) * sizeof(float2);
  redunet::cuda::emulation::count_plan();
  return CUFFT_SUCCESS;
}
cufftResult set_work_area(cufftHandle handle, void* work) {
  if (plans().count(handle) == 0) return CUFFT_INVALID_PLAN;
  plans()[handle].work = work;
  return CUFFT_SUCCESS;
}
cufftResult destroy_plan(cufftHandle handle) { return plans().erase(handle) == 1 ? CUFFT_SUCCESS : CUFFT_INVALID_PLAN; }
cufftResult set_plan_stream(cufftHandle handle, cudaStream_t stream) {
  if (plans().count(handle) == 0) return CUFFT_INVALID_PLAN;
  plans()[handle].stream = stream;
  return CUFFT_SUCCESS;
}

using Complex = std::complex<double>;

// Along one axis of an array (outer, n, inner), in place; sign -1 is forward.
void transform_axis(std::vector<Complex>& x, int n, long long inner, double sign) {
  const auto outer = static_cast<long long>(x.size()) / n / inner;
  std::vector<Complex> root(static_cast<std::size_t>(n)), y(static_cast<std::size_t>(n));
  for (int t = 0; t < n; ++t) root[static_cast<std::size_t>(t)] = std::polar(1.0, sign * 2 * M_PI * t / n);
  for (long long o = 0; o < outer; ++o)
    for (long long i = 0; i < inner; ++i) {
      Complex* at = x.data() + o * n * inner + i;
      for (int f = 0; f < n; ++f) {
        Complex sum = 0;
        for (int t = 0; t < n; ++t)
          sum += at[t * inner] * root[static_cast<std::size_t>(static_cast<long long>(f) * t % n)];
        y[static_cast<std::size_t>(f)] = sum;
      }
      for (int f = 0; f < n; ++f) at[f * inner] = y[static_cast<std::size_t>(f)];
    }
}

void transform(std::vector<Complex>& x, const Plan& plan, double sign) {
  if (plan.n.size() == 2) transform_axis(x, plan.n[0], plan.n[1], sign);
  transform_axis(x, plan.n.back(), 1, sign);
}

template <class In, class Out, class F>
cufftResult execute(cufftHandle handle, cufftType type, In* in, long long in_size, Out* out, long long out_size,
                    const F& one) {
  const Plan& plan = plans().at(handle);
  if (plan.type != type) return CUFFT_INVALID_TYPE;
  if (device_of(plan.stream) != current_device()) fail("cufft: the plan is one of another device");
  if (!is_device_memory(in, static_cast<std::size_t>(in_size * plan.batch) * sizeof(In)) ||
      !is_device_memory(out, static_cast<std::size_t>(out_size * plan.batch) * sizeof(Out)))
    fail("cufft: an array lies outside of its allocation");
  if (!is_device_memory(plan.work, plan.work_bytes)) fail("cufft: the work area lies outside of its allocation");
  submit(plan.stream, [=, plan = plan] {
    for (int b = 0; b < plan.batch; ++b) one(plan, in + b * in_size, out + b * out_size);
  });
  return CUFFT_SUCCESS;
}

template <class R, class C>
cufftResult forward(cufftHandle handle, cufftType type, R* in, C* out) {
  if (plans().count(handle) == 0) return CUFFT_INVALID_PLAN;
  const Plan& found = plans().at(handle);
  return execute(handle, type, in, found.points(), out, found.half(), [](const Plan& plan, const R* x, C* y) {
    std::vector<Complex> full(x, x + plan.points());
    transform(full, plan, -1);
    const int n = plan.n.back(), kept = n / 2 + 1;
    for (long long row = 0; row < plan.points() / n; ++row)
      for (int f = 0; f < kept; ++f) {
        const Complex z = full[static_cast<std::size_t>(row * n + f)];
        y[row * kept + f] = {static_cast<R>(z.real()), static_cast<R>(z.imag())};
      }
  });
}

// The input is destroyed, as cuFFT's documentation allows itself.
template <class C, class R>
cufftResult backward(cufftHandle handle, cufftType type, C* in, R* out) {
  if (plans().count(handle) == 0) return CUFFT_INVALID_PLAN;
  const Plan& found = plans().at(handle);
  return execute(handle, type, in, found.half(), out, found.points(), [](const Plan& plan, C* x, R* y) {
    const int n = plan.n.back(), kept = n / 2 + 1;
    const long long rows = plan.points() / n;
    std::vector<Complex> full(static_cast<std::size_t>(plan.points()));
    for (long long row = 0; row < rows; ++row)
      for (int f = 0; f < n; ++f) {
        const bool mirrored = f >= kept;
        const long long from = mirrored ? (rows - row) % rows * kept + n - f : row * kept + f;
        const Complex z(x[from].x, x[from].y);
        full[static_cast<std::size_t>(row * n + f)] = mirrored ? std::conj(z) : z;
      }
    transform(full, plan, 1);
    for (long long i = 0; i < plan.points(); ++i) y[i] = static_cast<R>(full[static_cast<std::size_t>(i)].real());
    const R nan = std::numeric_limits<R>::quiet_NaN();
    for (long long i = 0; i < plan.half(); ++i) x[i] = {nan, nan};
  });
}

// To and from the whole spectrum; `direction` is the sign of the exponent.
template <class C>
cufftResult both_ways(cufftHandle handle, cufftType type, C* in, C* out, int direction) {
  if (plans().count(handle) == 0) return CUFFT_INVALID_PLAN;
  if (direction != CUFFT_FORWARD && direction != CUFFT_INVERSE) return CUFFT_INVALID_VALUE;
  const Plan& found = plans().at(handle);
  return execute(handle, type, in, found.points(), out, found.points(),
                 [direction](const Plan& plan, const C* x, C* y) {
                   using R = decltype(C::x);
                   std::vector<Complex> full;
                   for (long long i = 0; i < plan.points(); ++i) full.emplace_back(x[i].x, x[i].y);
                   transform(full, plan, direction);
                   for (long long i = 0; i < plan.points(); ++i) {
                     const Complex z = full[static_cast<std::size_t>(i)];
                     y[i] = {static_cast<R>(z.real()), static_cast<R>(z.imag())};
                   }
                 });
}

cufftResult r2c(cufftHandle h, float* in, float2* out) { return forward(h, CUFFT_R2C, in, out); }
cufftResult d2z(cufftHandle h, double* in, double2* out) { return forward(h, CUFFT_D2Z, in, out); }
cufftResult c2r(cufftHandle h, float2* in, float* out) { return backward(h, CUFFT_C2R, in, out); }
cufftResult z2d(cufftHandle h, double2* in, double* out) { return backward(h, CUFFT_Z2D, in, out); }
cufftResult c2c(cufftHandle h, float2* in, float2* out, int sign) { return both_ways(h, CUFFT_C2C, in, out, sign); }
cufftResult z2z(cufftHandle h, double2* in, double2* out, int sign) { return both_ways(h, CUFFT_Z2Z, in, out, sign); }

}  // namespace

namespace redunet::cuda {

void set_library_folders(std::vector<std::string>) {}

const Cublas& cublas() {
  static const Cublas table{create_handle, destroy_handle, use_stream,   gemm<float>,
                            gemm<double>,  gemm<float2>,   gemm<double2>};
  return table;
}

const Cufft& cufft() {
  static const Cufft table{create_plan,
                           set_auto_allocation,
                           make_plan_many,
                           set_work_area,
                           destroy_plan,
                           set_plan_stream,
                           r2c,
                           c2r,
                           d2z,
                           z2d,
                           c2c,
                           z2z};
  return table;
}

}  // namespace redunet::cuda
