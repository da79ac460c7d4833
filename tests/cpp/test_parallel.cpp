// Every task runs exactly once, errors reach the caller, and several callers can run at once.

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>

#include "check.hpp"
#include "parallel.hpp"

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

TEST(several_callers_at_once) {
  std::vector<std::thread> callers;
  std::atomic<long> total{0};
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&] {
      Parallel parallel(3);
      for (int round = 0; round < 100; ++round) parallel.run(10, 1e9, [&](index_t task, int) { total += task; });
    });
  for (auto& caller : callers) caller.join();
  CHECK(total == 4 * 100 * 45);
}
