// Samples to spectra and back by cuFFT.

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "kernels/unit_norm.hpp"
#include "layer/fourier.hpp"
#include "platform/device.hpp"

namespace redunet::cuda {
namespace {

bool is_real(char type) { return type == 'f' || type == 'd'; }
bool is_single(char type) { return type == 'f' || type == 'F'; }

// Numbers of the signal axes: of samples, and of the half spectrum of real ones.
struct Signal {
  std::vector<int> axes;
  index_t points = 1, kept = 1, batch;  // batch: m * C
  std::vector<index_t> spectrum;        // (m, C, F)
  char spectral;                        // type of the spectrum

  Signal(const std::vector<index_t>& shape, char type) : batch(shape[0] * shape[1]), spectral(type) {
    for (std::size_t i = 2; i < shape.size(); ++i) {
      axes.push_back(static_cast<int>(shape[i]));
      points *= shape[i];
    }
    kept = points;
    if (is_real(type) && !axes.empty()) kept = points / axes.back() * (axes.back() / 2 + 1);
    spectrum = {shape[0], shape[1], kept};
    if (!axes.empty()) spectral = is_single(type) ? 'F' : 'D';
    if (std::max({points, kept, batch}) > std::numeric_limits<int>::max())
      throw CudaError("cuFFT counts with 32 bits: samples of " + std::to_string(points) + " points, " +
                      std::to_string(batch) + " of them, are too many");
  }
};

// cufftDestroy frees the plan's memory, which waits for the device.
class Plan {
 public:
  Plan(Signal signal, cufftType type) {
    REDUNET_CHECK(cufft().cufftPlanMany(&handle_, static_cast<int>(signal.axes.size()), signal.axes.data(), nullptr, 1,
                                        0, nullptr, 1, 0, type, static_cast<int>(signal.batch)));
    REDUNET_CHECK(cufft().cufftSetStream(handle_, Device::get().stream()));
  }
  ~Plan() { cufft().cufftDestroy(handle_); }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  cufftHandle get() const { return handle_; }

 private:
  cufftHandle handle_ = 0;
};

template <class T>
T* as(void* p) {
  return static_cast<T*>(p);
}

void run_forward(const Signal& signal, char type, void* X, void* V) {
  const Cufft& fft = cufft();
  switch (type) {
    case 'f':
      REDUNET_CHECK(fft.cufftExecR2C(Plan(signal, CUFFT_R2C).get(), as<cufftReal>(X), as<cufftComplex>(V)));
      break;
    case 'd':
      REDUNET_CHECK(fft.cufftExecD2Z(Plan(signal, CUFFT_D2Z).get(), as<cufftDoubleReal>(X), as<cufftDoubleComplex>(V)));
      break;
    case 'F':
      REDUNET_CHECK(
          fft.cufftExecC2C(Plan(signal, CUFFT_C2C).get(), as<cufftComplex>(X), as<cufftComplex>(V), CUFFT_FORWARD));
      break;
    default:
      REDUNET_CHECK(fft.cufftExecZ2Z(Plan(signal, CUFFT_Z2Z).get(), as<cufftDoubleComplex>(X),
                                     as<cufftDoubleComplex>(V), CUFFT_FORWARD));
  }
}

void run_inverse(const Signal& signal, char type, void* V, void* X) {
  const Cufft& fft = cufft();
  switch (type) {
    case 'f':
      REDUNET_CHECK(fft.cufftExecC2R(Plan(signal, CUFFT_C2R).get(), as<cufftComplex>(V), as<cufftReal>(X)));
      break;
    case 'd':
      REDUNET_CHECK(fft.cufftExecZ2D(Plan(signal, CUFFT_Z2D).get(), as<cufftDoubleComplex>(V), as<cufftDoubleReal>(X)));
      break;
    case 'F':
      REDUNET_CHECK(
          fft.cufftExecC2C(Plan(signal, CUFFT_C2C).get(), as<cufftComplex>(V), as<cufftComplex>(X), CUFFT_INVERSE));
      break;
    default:
      REDUNET_CHECK(fft.cufftExecZ2Z(Plan(signal, CUFFT_Z2Z).get(), as<cufftDoubleComplex>(V),
                                     as<cufftDoubleComplex>(X), CUFFT_INVERSE));
  }
}

// Calls f(T*) for the real numbers that an array of this type is made of.
template <class F>
void with_reals(char type, void* data, const F& f) {
  if (is_single(type))
    f(as<float>(data));
  else
    f(as<double>(data));
}

// Samples and their spectrum, which is their own memory where there is no transform.
void check_room(const Signal& signal, std::size_t of_sample, std::size_t of_spectrum) {
  std::size_t need = as_size(signal.batch * signal.points) * of_sample;
  if (!signal.axes.empty()) need += as_size(signal.batch * signal.kept) * of_spectrum;
  const std::size_t free = Device::get().free_bytes();
  if (need > free)
    throw CudaError("the spectra of " + std::to_string(signal.batch) + " channels of " + std::to_string(signal.points) +
                    " points need at least " + in_gib(need) + " of device memory, and " + in_gib(free) + " are free");
}

}  // namespace

Array forward(char type, const std::vector<index_t>& shape, const void* X, bool normalize, index_t& bad) {
  const Signal signal(shape, type);
  const index_t m = shape[0];
  check_room(signal, bytes_of(type), bytes_of(signal.spectral));
  const cudaStream_t stream = Device::get().stream();
  Array samples(type, shape);
  REDUNET_CHECK(cudaMemcpyAsync(samples.data(), X, samples.bytes(), cudaMemcpyDefault, stream));
  const DeviceArray<int> flags(m);
  with_reals(type, samples.data(), [&]<class T>(T* x) {
    const index_t reals = samples.size() / m * (is_real(type) ? 1 : 2);
    launch(unit_norm_kernel<T>, dim3(static_cast<unsigned>(m)), dim3(kNormThreads), shared_bytes<T>(kNormThreads),
           stream, x, reals, normalize, static_cast<T>(1 / std::sqrt(double(signal.points))), flags.get());
  });
  REDUNET_CHECK(cudaGetLastError());
  std::vector<int> found(as_size(m));
  flags.download(found.data());
  const auto first = std::find(found.begin(), found.end(), 1);
  bad = first == found.end() ? -1 : first - found.begin();
  if (bad >= 0) return samples;
  if (signal.axes.empty()) return Array(type, signal.spectrum, samples.data(), std::make_shared<Array>(samples));
  Array V(signal.spectral, signal.spectrum);
  run_forward(signal, type, samples.data(), V.data());
  Device::get().synchronise();
  return V;
}

Array inverse(const Array& V, char type, const std::vector<index_t>& shape) {
  const Signal signal(shape, type);
  if (V.type() != signal.spectral || V.shape() != signal.spectrum)
    throw std::invalid_argument("V is not the spectrum of samples of this dtype and shape");
  if (signal.axes.empty()) return Array(type, shape, V.data(), std::make_shared<Array>(V));
  Array X(type, shape);
  run_inverse(signal, type, V.data(), X.data());
  with_reals(type, X.data(), [&]<class T>(T* x) {
    const index_t reals = X.size() * (is_real(type) ? 1 : 2);
    const auto blocks = static_cast<unsigned>(std::min<index_t>((reals + kNormThreads - 1) / kNormThreads, 1 << 16));
    launch(scale_kernel<T>, dim3(blocks), dim3(kNormThreads), std::size_t{0}, Device::get().stream(), x, reals,
           static_cast<T>(1 / std::sqrt(double(signal.points))));
  });
  REDUNET_CHECK(cudaGetLastError());
  Device::get().synchronise();
  return X;
}

}  // namespace redunet::cuda
