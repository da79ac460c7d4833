// The one parallel primitive: run tasks 0..n-1 on a few threads, the caller among them.
//
// Which thread runs a task is left open, so tasks must not depend on it: that makes results the same for any number of
// threads. Threads are started on first use, as many as the system gives, spin for a short while between runs, then
// sleep. Waking them must pay, and a run does not wait for those that come too late. When another caller holds them (a
// second Python thread), a run goes on the caller's thread alone. After fork the child starts its own.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <utility>

#include "kernels/kernels.hpp"

namespace redunet {

// About 10 microseconds of one core: handing tasks over and waiting for the last costs two or three.
constexpr double kSerialWork = 5e5;
// About 60 microseconds, as long as threads that sleep take to wake, or a little more.
constexpr double kWakingWork = 3e6;

// A reference to what runs a task, body(task, thread); it must outlive the run. Unlike std::function it never
// allocates.
class TaskBody {
 public:
  template <class F>
  TaskBody(const F& body)
      : body_(&body),
        call_([](const void* f, index_t task, int thread) { (*static_cast<const F*>(f))(task, thread); }) {}
  void operator()(index_t task, int thread) const { call_(body_, task, thread); }

 private:
  const void* body_;
  void (*call_)(const void*, index_t, int);
};

// What arithmetic does with numbers below the smallest normal one, which cost a hundred times as much as others: layers
// drive whole channels towards zero and take them for it; a matrix of small numbers that a user hands over is exact.
enum class Subnormals { kKeep, kFlush };

class Parallel {
 public:
  // poll is called on the caller's thread, about ten times a second, between tasks, at their checkpoints and while the
  // last ones of other threads end; it stops the run by throwing.
  explicit Parallel(int n_threads, std::function<void()> poll = {}, Subnormals subnormals = Subnormals::kKeep);

  // body(task, thread) with thread in [0, n_threads). The first exception of a task is thrown here, after all have
  // ended. work: multiply-adds, or numbers moved, of all tasks together; below kSerialWork the caller's thread does it
  // alone.
  void run(index_t n_tasks, double work, TaskBody body);

  // At most so many; fewer than asked for once the system has given fewer.
  int n_threads() const { return n_threads_; }

 private:
  friend void checkpoint(index_t work);
  struct Run;

  void poll_if_due();

  int n_threads_;
  std::function<void()> poll_;
  Subnormals subnormals_;
  std::chrono::steady_clock::time_point last_poll_;
  double unpolled_work_ = 0;        // of short runs: a look at the clock costs as much as one of them
  double unshared_work_ = 0;        // of runs that others could have shared, since others last did
  std::uint64_t callers_mode_ = 0;  // of the arithmetic of the caller's thread, for poll
  bool shared_ = false;             // other threads work on the run
};

// About 100 microseconds, beside which looking at the clock costs nothing.
constexpr index_t kCheckpointWork = 1 << 22;

// For a task that may take longer than a tenth of a second, to call after every few `work` multiply-adds: polls on the
// caller's thread, and ends the task by an exception where its run is stopped. Does nothing outside of a task.
void checkpoint(index_t work);

// The same for short pieces of work, with a count of the caller's own: it costs an addition.
inline void checkpoint(index_t work, index_t& since) {
  if ((since += work) >= kCheckpointWork) checkpoint(std::exchange(since, 0));
}

}  // namespace redunet
