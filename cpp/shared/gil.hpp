// Leaving and entering Python, on a thread that survives the end of the interpreter.
//
// When Python ends, a thread that asks for the GIL never gets it: up to 3.13 pthread_exit ends the thread, which
// unwinds its frames like an exception, ends the process at the first that may not throw, and would release Python
// objects without the GIL; from 3.14 on the thread sleeps for good. Here it always sleeps: the process ends without it.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <thread>
#include <utility>

namespace redunet::bindings {

[[noreturn]] inline void sleep_for_good() {
  for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

// Takes the GIL, or never returns.
inline void enter(PyThreadState* state) {
  try {
    PyEval_RestoreThread(state);
  } catch (...) {  // an unwinding by pthread_exit: there is nothing else to be caught here
    sleep_for_good();
  }
}

// While it lives, its thread is without the GIL.
class WithoutGil {
 public:
  WithoutGil() : before_(std::exchange(left, PyEval_SaveThread())) {}
  ~WithoutGil() { enter(std::exchange(left, before_)); }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  friend class WithGil;
  static inline thread_local PyThreadState* left = nullptr;  // null while this thread has the GIL

  PyThreadState* before_;
};

// While it lives, its thread, which was WithoutGil, has the GIL.
class WithGil {
 public:
  WithGil() { enter(std::exchange(WithoutGil::left, nullptr)); }
  ~WithGil() { WithoutGil::left = PyEval_SaveThread(); }
  WithGil(const WithGil&) = delete;
  WithGil& operator=(const WithGil&) = delete;
};

// Calls `work` with the GIL, whether this thread has it or not; where there is none to be had any more, never returns.
template <class F>
void with_gil(const F& work) {
  try {
    const pybind11::gil_scoped_acquire gil;
    work();
  } catch (...) {
    sleep_for_good();
  }
}

// callable(*arguments): Python's code gives up the GIL in between. Caught here, before the destructors of any caller.
inline pybind11::object call(const pybind11::object& callable, const pybind11::tuple& arguments) {
  PyObject* result = nullptr;
  try {
    result = PyObject_CallObject(callable.ptr(), arguments.ptr());
  } catch (...) {
    sleep_for_good();
  }
  if (result == nullptr) throw pybind11::error_already_set();
  return pybind11::reinterpret_steal<pybind11::object>(result);
}

}  // namespace redunet::bindings
