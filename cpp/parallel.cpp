// A pool of threads that hands out tasks by a counter. One run at a time uses it; busy_ counts the workers that have
// not finished, and a worker touches the run only before it is counted off.

#include "parallel.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace redunet {
namespace {

// Between two runs of a layer loop pass a few microseconds: sleeping there would cost more than the work.
constexpr auto kSpin = std::chrono::microseconds(50);
constexpr auto kPollInterval = std::chrono::milliseconds(100);

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// While it lives, its thread takes subnormal numbers for zero.
class FlushSubnormals {
 public:
  explicit FlushSubnormals(bool flush) : before_(get()) {
    if (flush) set(before_ | kBits);
  }
  ~FlushSubnormals() { set(before_); }
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;

 private:
#if defined(__x86_64__) || defined(__i386__)
  static constexpr unsigned kBits = 0x8040;  // of MXCSR: results and operands
  static unsigned get() { return __builtin_ia32_stmxcsr(); }
  static void set(unsigned control) { __builtin_ia32_ldmxcsr(control); }
  unsigned before_;
#elif defined(__aarch64__)
  static constexpr std::uint64_t kBits = 1 << 24;  // of FPCR: both
  static std::uint64_t get() {
    std::uint64_t control;
    asm volatile("mrs %0, fpcr" : "=r"(control));
    return control;
  }
  static void set(std::uint64_t control) { asm volatile("msr fpcr, %0" : : "r"(control)); }
  std::uint64_t before_;
#else
  static constexpr int kBits = 0;
  static int get() { return 0; }
  static void set(int) {}
  int before_;
#endif
};

struct Run {
  index_t n_tasks;
  TaskBody body;
  std::atomic<index_t> next{0};
  std::atomic<bool> stop{false};
  std::mutex error_mutex;
  std::exception_ptr error;

  void fail(std::exception_ptr e) {
    stop = true;
    const std::lock_guard lock(error_mutex);
    if (!error) error = std::move(e);
  }

  void work(int thread) {
    try {
      for (index_t task; !stop && (task = next.fetch_add(1)) < n_tasks;) body(task, thread);
    } catch (...) {
      fail(std::current_exception());
    }
  }
};

class Pool {
 public:
  std::mutex in_use;

  void start(Run& run, int n_workers) {
    while (static_cast<int>(threads_.size()) < n_workers) {
      const int thread = static_cast<int>(threads_.size()) + 1;
      threads_.emplace_back([this, thread, seen = generation_.load()] { serve(thread, seen); });
    }
    {
      const std::lock_guard lock(mutex_);
      run_ = &run;
      n_workers_ = n_workers;
      busy_ = n_workers;
      ++generation_;
    }
    wake_.notify_all();
  }

  void wait() {
    for (auto begin = std::chrono::steady_clock::now(); busy_ > 0;) {
      relax();
      if (std::chrono::steady_clock::now() - begin > kSpin) {
        std::unique_lock lock(mutex_);
        done_.wait(lock, [this] { return busy_ == 0; });
      }
    }
  }

 private:
  void serve(int thread, unsigned seen) {
    for (;;) {
      for (auto begin = std::chrono::steady_clock::now(); generation_ == seen;) {
        relax();
        if (std::chrono::steady_clock::now() - begin > kSpin) {
          std::unique_lock lock(mutex_);
          wake_.wait(lock, [&] { return generation_ != seen; });
        }
      }
      Run* run;
      bool mine;
      {
        const std::lock_guard lock(mutex_);
        seen = generation_;
        run = run_;
        mine = thread <= n_workers_;
      }
      if (!mine) continue;
      run->work(thread);
      if (--busy_ == 0) {
        const std::lock_guard lock(mutex_);
        done_.notify_one();
      }
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::atomic<unsigned> generation_{0};
  std::atomic<int> busy_{0};
  Run* run_ = nullptr;
  int n_workers_ = 0;
  std::vector<std::thread> threads_;
};

// The pool of this process. It is never destroyed: its threads sleep when the process ends. A forked child, which has
// none of the threads and maybe a locked mutex, leaves its parent's pool alone and makes another.
Pool& pool() {
  struct Owned {
    pid_t owner;
    Pool pool;
  };
  static std::atomic<Owned*> current{nullptr};
  const pid_t self = getpid();
  Owned* owned = current.load();
  while (owned == nullptr || owned->owner != self) {
    auto* fresh = new Owned{self, {}};
    if (current.compare_exchange_strong(owned, fresh)) return fresh->pool;
    delete fresh;
  }
  return owned->pool;
}

}  // namespace

Parallel::Parallel(int n_threads, std::function<void()> poll, Subnormals subnormals)
    : n_threads_(n_threads),
      poll_(std::move(poll)),
      subnormals_(subnormals),
      last_poll_(std::chrono::steady_clock::now()) {}

void Parallel::poll_if_due() {
  const auto now = std::chrono::steady_clock::now();
  if (poll_ && now - last_poll_ > kPollInterval) {
    last_poll_ = now;
    poll_();
  }
}

void Parallel::run(index_t n_tasks, double work, TaskBody body) {
  const auto polled = [&](index_t task, int thread) {
    if (thread == 0) poll_if_due();
    const FlushSubnormals flush(subnormals_ == Subnormals::kFlush);
    body(task, thread);
  };
  Run run{.n_tasks = n_tasks, .body = polled, .error_mutex = {}, .error = {}};
  const int n_workers = work < kSerialWork ? 0 : static_cast<int>(std::min<index_t>(n_threads_, n_tasks)) - 1;
  std::unique_lock<std::mutex> held;
  if (n_workers > 0) held = std::unique_lock(pool().in_use, std::try_to_lock);
  if (held.owns_lock()) pool().start(run, n_workers);
  run.work(0);
  if (held.owns_lock()) pool().wait();
  if (run.error) std::rethrow_exception(run.error);
}

}  // namespace redunet
