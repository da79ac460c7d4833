// The Python module redunet._cuda: the contract on the CUDA engine, or, where REDUNET_EMULATED is set, on the same
// sources run on the host, for tests.

#include <exception>
#include <mutex>

#include "arrays/exchange.hpp"
#include "engine/engine.hpp"
#include "layer/fourier.hpp"
#include "platform/device.hpp"
#include "shared/state_bindings.hpp"

namespace py = pybind11;
using namespace redunet;

namespace {

#ifdef REDUNET_EMULATED
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif

// One call at a time: a device has one stream, and what anybody puts on it while a call captures its launches becomes a
// part of them. Nothing of the device is done without it, and nobody waits for it with the GIL, which a callback
// between layers takes. That may call again.
std::recursive_mutex& in_use() {
  static std::recursive_mutex mutex;
  return mutex;
}

class CudaEngine {
 public:
  // place: the number of the device.
  CudaEngine(int /*n_threads*/, int place) : lock_(in_use()), here_(place) {}
  // A call that fails leaves no copy behind that has the caller's memory still to read.
  ~CudaEngine() {
    if (std::uncaught_exceptions() > exceptions_) cuda::wait_quietly();
  }
  static int place_of(const void* data) { return cuda::device_number(data); }
  static int place_of(const void* data, int of_host) { return cuda::device_number(data, of_host); }

  // Features lie on the device, or in arrays of NumPy.
  static bindings::Numbers features(const py::object& V, const char* name = "V") {
    if (!py::isinstance<cuda::Array>(V)) return bindings::HostFeatures::features(V, name);
    const auto& array = V.cast<const cuda::Array&>();
    return {cuda::dtype_of(array), array.shape(), array.data()};
  }
  static bindings::Numbers writable(const py::object& V) {
    return py::isinstance<cuda::Array>(V) ? features(V) : bindings::HostFeatures::writable(V);
  }
  // Operators that lie on the device stay there.
  static bindings::OperatorNumbers operators(const py::object& of) {
    const py::object there = of.attr("there");
    if (there.is_none()) return bindings::HostFeatures::operators(of);
    return {features(there[py::int_(0)]), features(there[py::int_(1)])};
  }
  static bindings::OperatorNumbers writable_operators(const py::object& of) {
    return of.attr("there").is_none() ? bindings::HostFeatures::writable_operators(of) : operators(of);
  }
  static py::object room(const py::dtype& dtype, const std::vector<index_t>& shape, bool on_host, int place) {
    if (on_host) return bindings::HostFeatures::room(dtype, shape, true, place);
    const char type = dtype.char_();
    const auto make = [&] {
      const bindings::WithoutGil without;
      const CudaEngine engine(1, place);
      return cuda::Array(type, shape);
    };
    return py::cast(make());
  }
  static py::object like(const py::object& V, const char* name = "V") {
    const bindings::Numbers numbers = features(V, name);
    return room(numbers.dtype, numbers.shape, !py::isinstance<cuda::Array>(V), place_of(numbers.data));
  }

  static py::object copy_of(const py::object& V) {
    if (!py::isinstance<cuda::Array>(V)) return bindings::HostFeatures::copy_of(V);
    return py::cast(copied(V.cast<const cuda::Array&>()));
  }
  static cuda::Array copied(const cuda::Array& array) {
    const bindings::WithoutGil without;
    const CudaEngine engine(1, array.device());
    return array.copy();
  }

  template <class T>
  void build(const Problem& problem, const Sizes& sizes, T* V, const BuildRequest<T>& request) const {
    cuda::build(problem, sizes, V, request, bindings::check_signals);
  }
  template <class T>
  void apply(const OperatorLayout& layout, T* V, const ApplyRequest<T>& request) const {
    cuda::apply(layout, V, request, bindings::check_signals);
  }
  template <class T>
  void layer_operators(const Problem& problem, const Sizes& sizes, const T* V,
                       const std::optional<LayerOperators<T>>& out, double* rates) const {
    cuda::layer_operators(problem, sizes, V, out, rates);
  }
  template <class T>
  void rates_and_gradient(const Problem& problem, const Sizes& sizes, const T* V, const RateGradient<T>& out) const {
    cuda::rates_and_gradient(problem, sizes, V, out);
  }
  template <class T>
  using State = cuda::Verbs<T>;
  template <class T>
  std::unique_ptr<State<T>> make_state(const Problem& problem, const Sizes& sizes, const Shortcuts& shortcuts) const {
    return cuda::make_state<T>(problem, sizes, shortcuts);
  }
  template <class T>
  std::unique_ptr<State<T>> make_state(const OperatorLayout& layout, const double* alphas, const double* freq_weights,
                                       const std::vector<std::int64_t>& /*nearest*/, const Shortcuts& shortcuts) const {
    return cuda::make_state<T>(layout, alphas, freq_weights, shortcuts);
  }
  void operators_of_grams(const Problem& problem, const Sizes& sizes, const double* grams, double* dense,
                          double* rates) const {
    cuda::operators_of_grams(problem, sizes, grams, dense, rates);
  }
  template <class T>
  void hermitian(Task task, const T* A, index_t count, index_t n, index_t planes, T* out, index_t n_rhs) const {
    cuda::hermitian(task, A, count, n, planes, out, n_rhs);
  }

 private:
  const int exceptions_ = std::uncaught_exceptions();
  std::lock_guard<std::recursive_mutex> lock_;
  cuda::OnDevice here_;
};

// A call that needs nothing of Python, alone on the device that has these data, or on that of the thread.
template <class F>
auto alone(const void* data, const F& call) {
  const bindings::WithoutGil without;
  const CudaEngine engine(1, CudaEngine::place_of(data));
  return call();
}

py::tuple forward(const py::object& X, bool normalize) {
  const bindings::Numbers numbers = CudaEngine::features(X);
  if (numbers.shape.size() < 2) throw py::value_error("X is not an (m, C, ...) array");
  const char type = numbers.dtype.char_();
  return bindings::with_type(numbers.dtype, "X", [&](auto, index_t) {
    index_t bad = -1;
    cuda::Array V =
        alone(numbers.data, [&] { return cuda::forward(type, numbers.shape, numbers.data, normalize, bad); });
    return py::make_tuple(std::move(V), bad);
  });
}

cuda::Array inverse(const cuda::Array& V, const py::dtype& dtype, const std::vector<index_t>& shape) {
  return bindings::with_type(dtype, "dtype", [&](auto, index_t) {
    return alone(V.data(), [&] { return cuda::inverse(V, dtype.char_(), shape); });
  });
}

cuda::Array view(const py::object& object, const std::string& name) {
  const bindings::WithoutGil without;
  const std::lock_guard alone(in_use());
  const bindings::WithGil gil;
  return cuda::view_of(object, name);
}

std::size_t release_idle() {
  const bindings::WithoutGil without;
  const std::lock_guard alone(in_use());
  return cuda::release_idle();
}

// Of array[first:last].
cuda::Array part_of(const cuda::Array& array, const py::slice& rows) {
  py::ssize_t first = 0, last = 0, step = 0, count = 0;
  if (array.shape().empty() || !rows.compute(array.shape()[0], &first, &last, &step, &count))
    throw py::error_already_set();
  if (step != 1) throw py::value_error("rows of an array on a CUDA device are neighbours");
  return array.rows(first, count);
}

cuda::Array reshaped(const cuda::Array& array, const std::vector<index_t>& shape) {
  cuda::Array other = array.reshaped(shape);
  if (other.size() != array.size()) throw py::value_error("an array of another size can't have this shape");
  return other;
}

// array[rows] = numbers, which lie on the host or on the device.
void write_part(const cuda::Array& array, const py::slice& rows, const py::object& from) {
  const bindings::Numbers numbers = CudaEngine::features(from);
  const cuda::Array part = part_of(array, rows);
  if (!numbers.dtype.equal(cuda::dtype_of(part)) || numbers.shape != part.shape())
    throw py::value_error("numbers of another dtype or shape than the rows that they are written to");
  alone(part.data(), [&] { part.upload(numbers.data); });
}

// On the device of what is near, or if it is on the host on that of the thread; so many bytes beside it stay free.
py::object room_to_keep(const std::vector<std::vector<index_t>>& shapes, const py::dtype& dtype, const py::object& near,
                        std::size_t beside) {
  const void* const data = CudaEngine::features(near).data;
  return bindings::with_type(dtype, "dtype", [&](auto, index_t) -> py::object {
    const auto room = alone(data, [&] { return cuda::room_to_keep(dtype.char_(), shapes, beside); });
    return room ? py::object(py::tuple(py::cast(*room))) : py::object(py::none());
  });
}

py::array numbers_on_host(const cuda::Array& array) {
  py::array host(cuda::dtype_of(array), array.shape());
  void* to = host.mutable_data();
  alone(array.data(), [&] { array.download(to); });
  return host;
}

void define_array(py::module_& m) {
  const auto text = [](const cuda::Array& array) { return py::str(py::tuple(py::cast(array.shape()))); };
  py::class_<cuda::Array>(m, "Array", py::metaclass(reinterpret_cast<PyObject*>(&PyType_Type)),  // of no subclasses
                          "Numbers on the CUDA device, in C order: a copy of an array of NumPy.")
      .def(py::init([](const py::object& host, const cuda::Array* near) {
             const bindings::Numbers numbers = bindings::numbers_of(host, "host");
             const char type = numbers.dtype.char_();
             return bindings::with_type(numbers.dtype, "host", [&](auto, index_t) {
               return alone(near == nullptr ? nullptr : near->data(), [&] {
                 cuda::Array array(type, numbers.shape);
                 array.upload(numbers.data);
                 return array;
               });
             });
           }),
           py::arg("host"), py::arg("near") = py::none())
      .def_property_readonly("shape", [](const cuda::Array& a) { return py::tuple(py::cast(a.shape())); })
      .def_property_readonly("ndim", [](const cuda::Array& a) { return a.shape().size(); })
      .def_property_readonly("dtype", &cuda::dtype_of)
      .def_property_readonly("nbytes", &cuda::Array::bytes)
      .def("__len__", [](const cuda::Array& a) { return a.shape().at(0); })
      .def("__getitem__", part_of, py::arg("rows"))
      .def("reshape", reshaped, py::arg("shape"))
      .def("__setitem__", write_part, py::arg("rows"), py::arg("numbers"))
      .def("__repr__",
           [text](const cuda::Array& a) {
             return py::str("redunet array {} of {} on CUDA device {}").format(text(a), cuda::dtype_of(a), a.device());
           })
      .def(
          "__array__",
          [](const cuda::Array& a, const py::object& dtype, const py::object& copy) -> py::object {
            if (!copy.is_none() && !copy.cast<bool>())
              throw py::value_error("an array on a CUDA device can't be had on the host without a copy");
            py::array host = numbers_on_host(a);
            return dtype.is_none() ? host : host.attr("astype")(dtype, py::arg("copy") = false);
          },
          py::arg("dtype") = py::none(), py::arg("copy") = py::none())
      .def_property_readonly("__cuda_array_interface__", &cuda::cuda_array_interface)
      // Numbers are there when a call has returned, and so for any stream; capsules are of the version that all know.
      .def(
          "__dlpack__",
          [](const cuda::Array& a, const py::object&, const py::object&, const py::object& dl_device,
             const py::object& copy) {
            return cuda::to_dlpack(!copy.is_none() && copy.cast<bool>() ? CudaEngine::copied(a) : a, dl_device);
          },
          py::kw_only(), py::arg("stream") = py::none(), py::arg("max_version") = py::none(),
          py::arg("dl_device") = py::none(), py::arg("copy") = py::none())
      .def("__dlpack_device__", [](const cuda::Array& a) { return py::make_tuple(2, a.device()); });
}

// What the emulation has counted, and no device does; and the thread's device, which other libraries choose.
void define_emulation([[maybe_unused]] py::module_& m) {
#ifdef REDUNET_EMULATED
  m.def("set_device", [](int number) { REDUNET_CHECK(cudaSetDevice(number)); }, py::arg("number"));
  m.def("contexts", cuda::emulation::contexts);
  cuda::emulation::holds_gil = [] { return PyGILState_Check() != 0; };
  m.def("counts", [] {
    const cuda::emulation::Counts counts = cuda::emulation::counts();
    return py::dict(py::arg("waits") = counts.waits, py::arg("host_copies") = counts.host_copies,
                    py::arg("host_bytes") = counts.host_bytes, py::arg("allocations") = counts.allocations,
                    py::arg("frees") = counts.frees, py::arg("plans") = counts.plans,
                    py::arg("launches") = counts.launches, py::arg("graph_launches") = counts.graph_launches,
                    py::arg("waits_with_gil") = counts.waits_with_gil);
  });
#endif
}

}  // namespace

PYBIND11_MODULE(engine, m) {
  m.doc() = "The CUDA engine; use it through the functions of redunet.";
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const cuda::CudaError& error) {
      py::set_error(bindings::contract("CudaError"), error.what());
    }
  });
  bindings::define_backend<CudaEngine>(m);
  define_array(m);
  bindings::define_state<CudaEngine>(m);
  m.def("forward", forward, py::arg("X"), py::kw_only(), py::arg("normalize"));
  m.def("inverse", inverse, py::arg("V"), py::arg("dtype"), py::arg("shape"));
  m.def("room_to_keep", room_to_keep, py::arg("shapes"), py::arg("dtype"), py::arg("near"), py::arg("beside"));
  m.def("view", view, py::arg("object"), py::arg("name"));
  m.def("release_idle", release_idle);
  m.attr("emulated") = kEmulated;
  define_emulation(m);
  m.def("why_unusable", cuda::why_unusable);
  m.def("open_libraries", cuda::open_libraries);
  m.def("set_library_folders", cuda::set_library_folders, py::arg("folders"));
}

REDUNET_ENTRY_POINT(_cuda)
