// The Python module redunet._cuda: the contract on the CUDA engine, or, where REDUNET_EMULATED is set, on the same
// sources run on the host, for tests.

#include <mutex>

#include "bindings.hpp"
#include "engine.hpp"
#include "error.hpp"

namespace py = pybind11;
using namespace redunet;

namespace {

#ifdef REDUNET_EMULATED
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif

// One call at a time: there is one stream. A callback between layers may call again.
std::recursive_mutex& in_use() {
  static std::recursive_mutex mutex;
  return mutex;
}

class CudaEngine {
 public:
  explicit CudaEngine(int) : lock_(in_use()) {}

  template <class T>
  index_t build(const Problem& problem, const Sizes& sizes, T* V, const BuildRequest<T>& request) const {
    return cuda::build(problem, sizes, V, request, bindings::check_signals);
  }
  template <class T>
  void apply(const OperatorLayout& layout, index_t n_layers, const T* dense, const T* factors, const double* alphas,
             const double* gammas, const double* etas, double lam, const double* freq_weights, T* V,
             double* assignments, const Shortcuts& shortcuts) const {
    cuda::apply(layout, n_layers, dense, factors, alphas, gammas, etas, lam, freq_weights, V, assignments,
                bindings::check_signals, shortcuts);
  }
  template <class T>
  void layer_operators(const Problem& problem, const Sizes& sizes, const T* V,
                       const std::optional<LayerOperators<T>>& out, double* rates) const {
    cuda::layer_operators(problem, sizes, V, out, rates);
  }
  template <class T>
  void rate_gradient(const Problem& problem, const Sizes& sizes, const T* V, T* gradient) const {
    cuda::rate_gradient(problem, sizes, V, gradient);
  }
  template <class T>
  void hermitian(Task task, const T* A, index_t count, index_t n, index_t planes, T* out, index_t n_rhs) const {
    cuda::hermitian(task, A, count, n, planes, out, n_rhs);
  }

 private:
  std::lock_guard<std::recursive_mutex> lock_;
};

}  // namespace

PYBIND11_MODULE(_cuda, m) {
  m.doc() = "The CUDA engine; use it through the functions of redunet.";
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const cuda::CudaError& error) {
      py::set_error(bindings::contract("CudaError"), error.what());
    }
  });
  bindings::define_backend<CudaEngine>(m);
  m.attr("emulated") = kEmulated;
  m.def("why_unusable", cuda::why_unusable);
  m.def("open_libraries", cuda::open_libraries);
  m.def("set_library_folder", cuda::set_library_folder, py::arg("folder"));
}
