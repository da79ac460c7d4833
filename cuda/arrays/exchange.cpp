#include "arrays/exchange.hpp"

#include <optional>

#include "arrays/dlpack.hpp"
#include "platform/device.hpp"
#include "shared/gil.hpp"

namespace redunet::cuda {
namespace {

// The character code of numbers of this kind ('f' or 'c') and size, where there is one.
std::optional<char> type_of(char kind, std::size_t bytes) {
  if (kind == 'f' && bytes == 4) return 'f';
  if (kind == 'f' && bytes == 8) return 'd';
  if (kind == 'c' && bytes == 8) return 'F';
  if (kind == 'c' && bytes == 16) return 'D';
  return {};
}

[[noreturn]] void refuse_dtype(const std::string& name, const std::string& dtype) {
  throw py::type_error(name + " has dtype " + dtype +
                       "; expected float32, float64, complex64 or complex128 of what lies on a CUDA device");
}

// Strides in units of `unit`.
void check_order(const std::string& name, const std::vector<index_t>& shape, const index_t* strides, index_t unit) {
  index_t expected = unit;
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (shape[i] == 0) return;
    if (shape[i] > 1 && strides[i] != expected)
      throw py::value_error(name + " is not C-contiguous; expected that of what lies on a CUDA device");
    expected *= shape[i];
  }
}

// What Python owns, given up from any thread.
struct OfPython : Memory {
  explicit OfPython(py::object object) : held(new py::object(std::move(object))) {}
  ~OfPython() override {
    bindings::with_gil([&] { delete held; });
  }

  py::object* held;
};

// What another library has handed over.
struct HandedOver : Memory {
  explicit HandedOver(dlpack::ManagedTensor* managed) : tensor(managed) {}
  ~HandedOver() override {
    if (tensor->deleter != nullptr) bindings::with_gil([&] { tensor->deleter(tensor); });
  }

  dlpack::ManagedTensor* tensor;
};

Array from_dlpack(const py::object& object, const std::string& name) {
  const OnDevice here(object.attr("__dlpack_device__")().cast<py::tuple>()[1].cast<int>());
  // The producer lets our stream wait for its own work; 1 would be the legacy default stream.
  const auto capsule =
      py::reinterpret_steal<py::object>(object.attr("__dlpack__")(py::arg("stream") = stream_number()).release());
  auto* managed = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), dlpack::kFresh));
  if (managed == nullptr) throw py::error_already_set();
  const dlpack::Tensor& tensor = managed->tensor;
  const char kind = tensor.dtype.code == dlpack::kFloat ? 'f' : tensor.dtype.code == dlpack::kComplex ? 'c' : '?';
  const std::optional<char> type = type_of(kind, tensor.dtype.bits / 8U);
  if (!type || tensor.dtype.lanes != 1) refuse_dtype(name, py::str(object.attr("dtype")));
  const std::vector<index_t> shape(tensor.shape, tensor.shape + tensor.n_axes);
  if (tensor.strides != nullptr) check_order(name, shape, tensor.strides, 1);
  if (PyCapsule_SetName(capsule.ptr(), dlpack::kUsed) != 0) throw py::error_already_set();
  return {*type, shape, static_cast<char*>(tensor.data) + tensor.byte_offset, tensor.device.number,
          std::make_shared<HandedOver>(managed)};
}

Array from_interface(const py::object& object, const std::string& name) {
  const py::dict interface = object.attr("__cuda_array_interface__");
  if (interface.contains("mask") && !interface["mask"].is_none())
    throw py::type_error(name + " has masked entries; expected an array without a mask");
  const auto typestr = interface["typestr"].cast<std::string>();
  const py::dtype dtype(typestr);
  const std::optional<char> type = type_of(dtype.kind(), as_size(dtype.itemsize()));
  if (!type || typestr[0] == '>') refuse_dtype(name, py::str(dtype));
  const auto shape = interface["shape"].cast<std::vector<index_t>>();
  if (interface.contains("strides") && !interface["strides"].is_none())
    check_order(name, shape, interface["strides"].cast<std::vector<index_t>>().data(), dtype.itemsize());
  const auto address = interface["data"].cast<py::tuple>()[0].cast<std::uintptr_t>();
  auto* const data = reinterpret_cast<void*>(address);
  const OnDevice here(device_number(data));
  // Version 3 names the stream to wait for, or None; before, it is the default stream.
  const py::object stream = interface.contains("stream") ? py::object(interface["stream"]) : py::int_(1);
  if (!stream.is_none()) {
    const auto number = stream.cast<std::uintptr_t>();
    const bindings::WithoutGil without;
    wait_for_stream(number);
  }
  return {*type, shape, data, device_number(), std::make_shared<OfPython>(object)};
}

// An Array that a consumer of DLPack holds.
struct Exported {
  Array array;
  std::vector<index_t> shape;
  dlpack::ManagedTensor managed;
};

}  // namespace

py::dtype dtype_of(const Array& array) { return py::dtype(std::string(1, array.type())); }

Array view_of(const py::object& object, const std::string& name) {
  if (py::hasattr(object, "__dlpack_device__")) return from_dlpack(object, name);
  return from_interface(object, name);
}

py::capsule to_dlpack(const Array& array, const py::object& dl_device) {
  if (!dl_device.is_none()) {
    const auto [type, number] = dl_device.cast<std::pair<int, int>>();
    if (type != dlpack::kCuda || number != array.device())
      throw py::buffer_error("an array on CUDA device " + std::to_string(array.device()) + " is not given to device " +
                             std::to_string(number) + " of DLPack's kind " + std::to_string(type));
  }
  array.show();
  auto* held = new Exported{array, array.shape(), {}};
  const bool real = array.type() == 'f' || array.type() == 'd';
  held->managed.tensor = {
      array.data(),
      {dlpack::kCuda, array.device()},
      static_cast<std::int32_t>(held->shape.size()),
      {real ? dlpack::kFloat : dlpack::kComplex, static_cast<std::uint8_t>(8 * bytes_of(array.type())), 1},
      held->shape.data(),
      nullptr,
      0};
  held->managed.context = held;
  held->managed.deleter = [](dlpack::ManagedTensor* managed) { delete static_cast<Exported*>(managed->context); };
  return py::capsule(&held->managed, dlpack::kFresh, [](PyObject* capsule) {
    if (PyCapsule_IsValid(capsule, dlpack::kFresh) == 0) return;  // taken over
    auto* managed = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule, dlpack::kFresh));
    managed->deleter(managed);
  });
}

py::dict cuda_array_interface(const Array& array) {
  array.show();
  py::dict interface;
  interface["shape"] = py::tuple(py::cast(array.shape()));
  interface["typestr"] = dtype_of(array).attr("str");
  interface["data"] = py::make_tuple(reinterpret_cast<std::uintptr_t>(array.data()), false);
  interface["strides"] = py::none();
  interface["stream"] = py::none();  // all work on it is done
  interface["version"] = 3;
  return interface;
}

}  // namespace redunet::cuda
