// Arrays of the device between this module and other libraries: DLPack, and __cuda_array_interface__ for those without.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "arrays/array.hpp"

namespace redunet::cuda {

namespace py = pybind11;

py::dtype dtype_of(const Array& array);

// A view of an object's device memory, which keeps the object; what other libraries do with it before is done. The
// producer may make the engine's stream wait, so that no other call may be at work. Throws
// TypeError or ValueError, naming the object, if it is not C-contiguous numbers of single or double precision.
Array view_of(const py::object& object, const std::string& name);

py::capsule to_dlpack(const Array& array, const py::object& dl_device);
py::dict cuda_array_interface(const Array& array);

}  // namespace redunet::cuda
