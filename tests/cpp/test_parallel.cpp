// Every task runs exactly once, errors reach the caller, several callers can run at once, and processes fork.

#if !defined(_WIN32)
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>

#include "base/parallel.hpp"
#include "check.hpp"

using namespace redunet;

TEST(every_task_runs_once) {
  for (const int n_threads : {1, 2, 3, 7}) {
    Parallel parallel(n_threads);
    for (const index_t n : {0, 1, 2, 5, 100, 1000}) {
      std::vector<int> runs(static_cast<std::size_t>(n), 0);
      std::atomic<int> strangers{0};
      parallel.run(n, 1e9, [&](index_t task, int thread) {
        ++runs[static_cast<std::size_t>(task)];
        if (thread < 0 || thread >= n_threads) ++strangers;
      });
      for (const int count : runs) CHECK(count == 1);
      CHECK(strangers == 0);
    }
  }
}

TEST(what_tasks_write_is_seen_by_the_caller_and_by_later_tasks) {
  Parallel parallel(4);
  std::vector<int> values(64, 0);
  for (int round = 0; round < 200; ++round) {
    parallel.run(64, 1e9, [&](index_t task, int) { values[static_cast<std::size_t>(63 - task)] += 1; });
    parallel.run(64, 1e9, [&](index_t task, int) { values[static_cast<std::size_t>(task)] += 1; });
  }
  for (const int value : values) CHECK(value == 400);
}

TEST(threads_that_sleep_are_woken_where_that_pays) {
  using namespace std::chrono;
  Parallel parallel(2);
  std::atomic<int> helped{0};
  // The first task waits for another thread, for a while; the second is for that thread.
  const auto run = [&](double work, milliseconds patience) {
    helped = 0;
    const auto end = steady_clock::now() + patience;
    parallel.run(2, work, [&](index_t task, int thread) {
      if (thread != 0) ++helped;
      while (task == 0 && helped == 0 && steady_clock::now() < end) std::this_thread::yield();
    });
    return helped > 0;
  };
  bool slept = false;
  for (int turn = 0; turn < 10 && !slept; ++turn) {
    CHECK(run(1e9, seconds(20)));
    std::this_thread::sleep_for(milliseconds(100));  // long enough for it to sleep, if the system lets it get there
    slept = true;
    for (double sum = kSerialWork; sum < kWakingWork; sum += kSerialWork) slept &= !run(kSerialWork, milliseconds(5));
    CHECK(run(kSerialWork, seconds(20)));
  }
  CHECK(slept);
}

TEST(an_error_reaches_the_caller) {
  Parallel parallel(3);
  for (int round = 0; round < 20; ++round) {
    std::string message;
    try {
      parallel.run(50, 1e9, [](index_t task, int) {
        if (task == 17) throw std::runtime_error("seventeen");
      });
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
    CHECK(message == "seventeen");
  }
}

TEST(subnormal_numbers_are_flushed_where_asked_and_nowhere_else) {
  volatile float small = 1e-30F;
  for (const Subnormals subnormals : {Subnormals::kKeep, Subnormals::kFlush}) {
    int wrong_polls = 0;
    Parallel parallel(3, [&] { wrong_polls += small * 1e-10F == 0; }, subnormals);
    std::atomic<int> zeros{0};
    parallel.run(1000, 1e9, [&](index_t, int) { zeros += small * 1e-10F == 0; });
    CHECK(zeros == (subnormals == Subnormals::kFlush ? 1000 : 0));
    CHECK(small * 1e-10F != 0);
    CHECK(wrong_polls == 0);
  }
}

TEST(polling_can_stop_a_run) {
  int polls = 0;
  Parallel parallel(1, [&] {
    ++polls;
    throw std::runtime_error("stop");
  });
  std::atomic<int> ran{0};
  bool stopped = false;
  try {
    parallel.run(1000, 1e9, [&](index_t, int) {
      ++ran;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    });
  } catch (const std::runtime_error&) {
    stopped = true;
  }
  CHECK(stopped);
  CHECK(polls == 1);
  CHECK(ran < 200);
}

// Works for ten seconds, in steps that end with a checkpoint.
void work_long() {
  for (int step = 0; step < 10000; ++step) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    checkpoint(1 << 30);
  }
}

TEST(polling_can_stop_one_long_task_wherever_it_runs) {
  for (const index_t n_tasks : {1, 2, 3}) {
    Parallel parallel(3, [] { throw std::runtime_error("stop"); });
    std::string message;
    const auto begin = std::chrono::steady_clock::now();
    try {
      parallel.run(n_tasks, 1e9, [](index_t, int) { work_long(); });
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
    CHECK(message == "stop");
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(5));
  }
}

TEST(polling_can_stop_a_task_that_the_caller_waits_for) {
  Parallel parallel(2, [] { throw std::runtime_error("stop"); });
  std::atomic<bool> begun{false};
  bool stopped = false;
  const auto begin = std::chrono::steady_clock::now();
  try {
    parallel.run(2, 1e9, [&](index_t, int thread) {
      if (thread == 0) {
        while (!begun && std::chrono::steady_clock::now() - begin < std::chrono::seconds(5)) std::this_thread::yield();
        return;  // and the caller has nothing more to do
      }
      begun = true;
      work_long();
    });
  } catch (const std::runtime_error&) {
    stopped = true;
  }
  CHECK(stopped);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(5));
}

TEST(an_error_stops_the_long_tasks_of_other_threads) {
  Parallel parallel(3);
  std::string message;
  const auto begin = std::chrono::steady_clock::now();
  try {
    parallel.run(3, 1e9, [](index_t task, int) {
      if (task == 2) throw std::runtime_error("two");
      work_long();
    });
  } catch (const std::runtime_error& error) {
    message = error.what();
  }
  CHECK(message == "two");
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(5));
}

TEST(a_checkpoint_outside_of_a_run_does_nothing) { checkpoint(index_t{1} << 40); }

TEST(polls_of_a_task_see_the_callers_arithmetic) {
  volatile float small = 1e-30F;
  int polls = 0, wrong = 0;
  Parallel parallel(
      1,
      [&] {
        ++polls;
        wrong += small * 1e-10F == 0;
      },
      Subnormals::kFlush);
  parallel.run(1, 1e9, [&](index_t, int) {
    for (int step = 0; step < 250; ++step) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      checkpoint(1 << 30);
      wrong += small * 1e-10F != 0;
    }
  });
  CHECK(polls > 0);
  CHECK(wrong == 0);
}

#if defined(__GLIBC__)
TEST(a_run_makes_do_with_the_threads_that_the_system_gives) {
  pthread_attr_t attributes;
  std::size_t usual = 0;
  pthread_getattr_default_np(&attributes);
  pthread_attr_getstacksize(&attributes, &usual);
  pthread_attr_setstacksize(&attributes, std::size_t{1} << 46);  // more than there are addresses
  CHECK(pthread_setattr_default_np(&attributes) == 0);
  Parallel parallel(200);
  std::vector<int> runs(1000, 0);
  for (int round = 0; round < 3; ++round)
    parallel.run(1000, 1e9, [&](index_t task, int) { ++runs[static_cast<std::size_t>(task)]; });
  pthread_attr_setstacksize(&attributes, usual);
  CHECK(pthread_setattr_default_np(&attributes) == 0);
  pthread_attr_destroy(&attributes);
  for (const int count : runs) CHECK(count == 3);
  CHECK(parallel.n_threads() < 200);
}
#endif

#if !defined(_WIN32)  // where processes don't fork
// Runs f in a forked child and waits for it. 0: f returned true.
template <class F>
int in_child(const F& f) {
  const pid_t child = fork();
  if (child == 0) _exit(f() ? 0 : 1);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool runs_fifty_tasks() {
  std::atomic<int> ran{0};
  Parallel(3).run(50, 1e9, [&](index_t, int) { ++ran; });
  return ran == 50;
}

#if !defined(__SANITIZE_THREAD__)  // which allows no threads in a child of threads
TEST(a_child_and_its_child_have_threads_of_their_own) {
  CHECK(runs_fifty_tasks());
  CHECK(in_child([] { return runs_fifty_tasks() && in_child(runs_fifty_tasks) == 0 && runs_fifty_tasks(); }) == 0);
  CHECK(runs_fifty_tasks());
}

TEST(a_child_that_comes_back_into_a_run_is_an_error) {
  pid_t child = -1;
  Parallel parallel(2, [&] {
    if (child < 0) child = fork();
  });
  std::atomic<int> ran{0};
  bool refused = false;
  try {
    parallel.run(200, 1e9, [&](index_t, int) {
      ++ran;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    });
  } catch (const std::runtime_error& error) {
    refused = std::string(error.what()).find("forked") != std::string::npos;
  }
  if (child == 0) _exit(refused && runs_fifty_tasks() ? 0 : 1);
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(child > 0);
  CHECK(status == 0);
  CHECK(!refused && ran == 200);
}
#endif
#endif

TEST(several_callers_at_once) {
  std::vector<std::thread> callers;
  std::atomic<index_t> total{0};
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&] {
      Parallel parallel(3);
      for (int round = 0; round < 100; ++round) parallel.run(10, 1e9, [&](index_t task, int) { total += task; });
    });
  for (auto& caller : callers) caller.join();
  CHECK(total == 4 * 100 * 45);
}
