// Samples to spectra and back by cuFFT.

#include <algorithm>
#include <cmath>
#include <limits>
#include <list>
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

cufftType kind_of(char type, bool back) {
  switch (type) {
    case 'f':
      return back ? CUFFT_C2R : CUFFT_R2C;
    case 'd':
      return back ? CUFFT_Z2D : CUFFT_D2Z;
    case 'F':
      return CUFFT_C2C;
    default:
      return CUFFT_Z2Z;
  }
}

// The memory that a plan works in is nobody's between two calls.
struct Plan {
  int device;
  std::vector<int> axes;
  index_t batch;
  cufftType kind;
  cufftHandle handle = 0;
  std::size_t work_bytes = 0;
};

// The plans that were used last, the latest first: to make one takes as long as many transforms.
class Plans {
 public:
  static const Plan& of(const Signal& signal, cufftType kind) {
    static auto* plans = new std::list<Plan>;  // never destroyed: the driver may be gone before the process ends
    Plan wanted{.device = Device::get().number(), .axes = signal.axes, .batch = signal.batch, .kind = kind};
    const auto same = [&](const Plan& plan) {
      return plan.device == wanted.device && plan.axes == wanted.axes && plan.batch == wanted.batch &&
             plan.kind == wanted.kind;
    };
    const auto found = std::find_if(plans->begin(), plans->end(), same);
    if (found != plans->end()) {
      plans->splice(plans->begin(), *plans, found);
    } else {
      make(wanted);
      plans->push_front(wanted);
    }
    if (plans->size() > kMost) {
      cufft().cufftDestroy(plans->back().handle);
      plans->pop_back();
    }
    return plans->front();
  }

 private:
  static constexpr std::size_t kMost = 16;

  static void make(Plan& plan) {
    const Cufft& fft = cufft();
    REDUNET_CHECK(fft.cufftCreate(&plan.handle));
    try {
      REDUNET_CHECK(fft.cufftSetAutoAllocation(plan.handle, 0));
      REDUNET_CHECK(fft.cufftMakePlanMany(plan.handle, static_cast<int>(plan.axes.size()), plan.axes.data(), nullptr, 1,
                                          0, nullptr, 1, 0, plan.kind, static_cast<int>(plan.batch), &plan.work_bytes));
      REDUNET_CHECK(fft.cufftSetStream(plan.handle, Device::get().stream()));
    } catch (...) {
      fft.cufftDestroy(plan.handle);
      throw;
    }
  }
};

template <class T>
T* as(void* p) {
  return static_cast<T*>(p);
}

// Of samples X in V, or back: the stream's work on the area is done before what takes its memory next.
void transform(const Signal& signal, char type, void* from, void* to, bool back) {
  const Cufft& fft = cufft();
  const Plan& plan = Plans::of(signal, kind_of(type, back));
  const DeviceArray<char> area(static_cast<index_t>(plan.work_bytes));
  REDUNET_CHECK(fft.cufftSetWorkArea(plan.handle, area.get()));
  const int direction = back ? CUFFT_INVERSE : CUFFT_FORWARD;
  switch (plan.kind) {
    case CUFFT_R2C:
      REDUNET_CHECK(fft.cufftExecR2C(plan.handle, as<cufftReal>(from), as<cufftComplex>(to)));
      break;
    case CUFFT_C2R:
      REDUNET_CHECK(fft.cufftExecC2R(plan.handle, as<cufftComplex>(from), as<cufftReal>(to)));
      break;
    case CUFFT_D2Z:
      REDUNET_CHECK(fft.cufftExecD2Z(plan.handle, as<cufftDoubleReal>(from), as<cufftDoubleComplex>(to)));
      break;
    case CUFFT_Z2D:
      REDUNET_CHECK(fft.cufftExecZ2D(plan.handle, as<cufftDoubleComplex>(from), as<cufftDoubleReal>(to)));
      break;
    case CUFFT_C2C:
      REDUNET_CHECK(fft.cufftExecC2C(plan.handle, as<cufftComplex>(from), as<cufftComplex>(to), direction));
      break;
    default:
      REDUNET_CHECK(fft.cufftExecZ2Z(plan.handle, as<cufftDoubleComplex>(from), as<cufftDoubleComplex>(to), direction));
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

// Samples and their spectrum, which is their own memory where there is no transform; and what that works in.
void check_room(const Signal& signal, char type) {
  std::size_t need = as_size(signal.batch * signal.points) * bytes_of(type);
  if (!signal.axes.empty())
    need += as_size(signal.batch * signal.kept) * bytes_of(signal.spectral) +
            Plans::of(signal, kind_of(type, false)).work_bytes;
  const std::size_t free = Device::get().free_bytes();
  if (need > free)
    throw CudaError("the spectra of " + std::to_string(signal.batch) + " channels of " + std::to_string(signal.points) +
                    " points need at least " + in_gib(need) + " of device memory, and " + Device::get().what_is_free());
}

}  // namespace

Array forward(char type, const std::vector<index_t>& shape, const void* X, bool normalize, index_t& bad) {
  const Signal signal(shape, type);
  const index_t m = shape[0];
  check_room(signal, type);
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
  if (signal.axes.empty()) return samples.reshaped(signal.spectrum);
  Array V(signal.spectral, signal.spectrum);
  transform(signal, type, samples.data(), V.data(), false);
  Device::get().synchronise();
  return V;
}

Array inverse(const Array& V, char type, const std::vector<index_t>& shape) {
  const Signal signal(shape, type);
  if (V.type() != signal.spectral || V.shape() != signal.spectrum)
    throw std::invalid_argument("V is not the spectrum of samples of this dtype and shape");
  if (signal.axes.empty()) return V.reshaped(shape);
  Array X(type, shape);
  transform(signal, type, V.data(), X.data(), true);
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
