// Leaving and entering Python, on a thread that survives the end of the interpreter.
//
// When Python ends, a thread that asks for the GIL never gets it: up to 3.13 pthread_exit ends the thread, which
// unwinds its frames like an exception, ends the process at the first that may not throw, and would release Python
// objects without the GIL; from 3.14 on the thread sleeps for good. Here it always sleeps: the process ends without it.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <utility>

namespace redunet::bindings {

[[noreturn]] inline void sleep_for_good() {
  for (;;) pause();
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

  // What this thread left Python with; null while it has the GIL.
  static inline thread_local PyThreadState* left = nullptr;

 private:
  PyThreadState* before_;
};

// Calls f, which calls Python, on a thread that may be WithoutGil.
template <class F>
auto in_python(const F& f) {
  struct Guard {
    PyThreadState* state = std::exchange(WithoutGil::left, nullptr);
    Guard() {
      if (state != nullptr) enter(state);
    }
    ~Guard() {
      if (state != nullptr) WithoutGil::left = PyEval_SaveThread();
    }
  };
  const Guard guard;
  try {
    return f();
  } catch (const std::exception&) {
    throw;
  } catch (...) {  // Python gave up the GIL in between, and is not to have it again
    sleep_for_good();
  }
}

}  // namespace redunet::bindings
