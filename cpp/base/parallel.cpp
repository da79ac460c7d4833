// A pool of threads that hands out tasks by a counter. One run at a time uses it. A worker joins while the run is open,
// is counted in busy_ from then on, and touches the run only before it is counted off; one that the system wakes too
// late finds the run closed, and nobody waits for it.

#include "base/parallel.hpp"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/system.hpp"

namespace redunet {
namespace {

// Between two runs of a layer loop pass a few microseconds: sleeping there would cost more than the work.
constexpr auto kSpin = std::chrono::microseconds(50);
constexpr auto kPollInterval = std::chrono::milliseconds(100);
// Multiply-adds that a run counts for at least, when it is time to poll.
constexpr double kFewestWork = 1e3;

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// What the arithmetic of a thread does with subnormal numbers is part of a register; kFlush are its bits that flush.
#if defined(__x86_64__) || defined(__i386__)
constexpr std::uint64_t kFlush = 0x8040;  // of MXCSR: results and operands
std::uint64_t arithmetic_mode() { return __builtin_ia32_stmxcsr(); }
void set_arithmetic_mode(std::uint64_t mode) { __builtin_ia32_ldmxcsr(static_cast<unsigned>(mode)); }
#elif defined(__aarch64__)
constexpr std::uint64_t kFlush = 1 << 24;  // of FPCR: both
std::uint64_t arithmetic_mode() {
  std::uint64_t mode;
  asm volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
}
void set_arithmetic_mode(std::uint64_t mode) { asm volatile("msr fpcr, %0" : : "r"(mode)); }
#else
constexpr std::uint64_t kFlush = 0;
std::uint64_t arithmetic_mode() { return 0; }
void set_arithmetic_mode(std::uint64_t) {}
#endif

// While it lives, its thread computes in this mode.
class ArithmeticMode {
 public:
  explicit ArithmeticMode(std::uint64_t mode) : before_(arithmetic_mode()) { set_arithmetic_mode(mode); }
  ~ArithmeticMode() { set_arithmetic_mode(before_); }
  ArithmeticMode(const ArithmeticMode&) = delete;
  ArithmeticMode& operator=(const ArithmeticMode&) = delete;

 private:
  std::uint64_t before_;
};

// Ends a task of a run that is stopped, by an error that is kept already.
struct Stopped {};

}  // namespace

struct Parallel::Run {
  Parallel& parallel;
  index_t n_tasks;
  TaskBody body;
  bool polls;  // on the caller's thread, before each task
  std::atomic<index_t> next{0};
  std::atomic<bool> stop{false};
  std::mutex error_mutex;
  std::exception_ptr error;

  // What a thread works on, and multiply-adds since its last checkpoint.
  struct Place {
    Run* run;
    int thread;
    index_t work;
  };
  static thread_local Place place;

  void fail(std::exception_ptr e) {
    {
      const std::lock_guard lock(error_mutex);
      if (!error) error = std::move(e);
    }
    stop = true;  // after the error: who sees it ends with another
  }

  void work(int thread) {
    const Place before = std::exchange(place, {this, thread, 0});
    try {
      const bool flush = parallel.subnormals_ == Subnormals::kFlush;
      for (index_t task; !stop && (task = next.fetch_add(1)) < n_tasks;) {
        if (thread == 0 && polls) parallel.poll_if_due();
        const ArithmeticMode mode(arithmetic_mode() | (flush ? kFlush : 0));
        body(task, thread);
      }
    } catch (...) {
      fail(std::current_exception());
    }
    place = before;
  }
};

constinit thread_local Parallel::Run::Place Parallel::Run::place{nullptr, 0, 0};

void checkpoint(index_t work) {
  Parallel::Run::Place& place = Parallel::Run::place;
  place.work += work;
  if (place.run == nullptr || place.work < kCheckpointWork) return;
  place.work = 0;
  if (place.thread == 0) place.run->parallel.poll_if_due();
  if (place.run->stop) throw Stopped{};
}

namespace {

class Pool {
 public:
  std::mutex in_use;

  // Has at most n_workers threads call work(0, thread), thread >= 1. Returns how many: the system may give fewer.
  int start(const TaskBody& work, int n_workers) {
    try {
      while (static_cast<int>(threads_.size()) < n_workers) {
        const int thread = static_cast<int>(threads_.size()) + 1;
        threads_.emplace_back([this, thread, seen = generation_.load()] { serve(thread, seen); });
      }
    } catch (const std::system_error&) {  // a limit of threads or of memory
      n_workers = static_cast<int>(threads_.size());
    }
    {
      const std::lock_guard lock(mutex_);
      work_ = &work;
      n_workers_ = n_workers;
      ++generation_;
    }
    wake_.notify_all();
    return n_workers;
  }

  // Whether threads look out for work; otherwise they sleep, and waking them takes a while.
  bool awake() const { return awake_ > 0; }

  // No more threads join.
  void close() {
    const std::lock_guard lock(mutex_);
    work_ = nullptr;
  }

  // Whether the threads that joined have ended, after kPollInterval at the latest.
  bool wait() {
    for (const auto begin = std::chrono::steady_clock::now(); busy_ > 0;) {
      relax();
      if (std::chrono::steady_clock::now() - begin > kSpin) {
        std::unique_lock lock(mutex_);
        return done_.wait_for(lock, kPollInterval, [this] { return busy_ == 0; });
      }
    }
    return true;
  }

 private:
  void serve(int thread, unsigned seen) {
    ++awake_;
    for (;;) {
      for (auto begin = std::chrono::steady_clock::now(); generation_ == seen;) {
        relax();
        if (std::chrono::steady_clock::now() - begin > kSpin) {
          std::unique_lock lock(mutex_);
          --awake_;
          wake_.wait(lock, [&] { return generation_ != seen; });
          ++awake_;
        }
      }
      const TaskBody* work;
      {
        const std::lock_guard lock(mutex_);
        seen = generation_;
        work = thread <= n_workers_ ? work_ : nullptr;
        if (work == nullptr) continue;
        ++busy_;
      }
      (*work)(0, thread);
      if (--busy_ == 0) {
        const std::lock_guard lock(mutex_);
        done_.notify_one();
      }
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::atomic<unsigned> generation_{0};
  std::atomic<int> busy_{0}, awake_{0};
  const TaskBody* work_ = nullptr;
  int n_workers_ = 0;
  std::vector<std::thread> threads_;
};

// The pool of this process. It is never destroyed: its threads sleep when the process ends. A forked child has none of
// the threads and maybe a locked mutex: it leaves its parent's pool alone and makes another. Process ids would not tell
// a child from its parent: both can be 1, each in a namespace of its own.
constinit std::atomic<Pool*> current{nullptr};
[[maybe_unused]] const int at_fork = system::in_forked_children([] { current = nullptr; });

Pool& pool() {
  Pool* found = current;
  if (found != nullptr) return *found;
  auto* fresh = new Pool;
  if (current.compare_exchange_strong(found, fresh)) return *fresh;
  delete fresh;
  return *found;
}

}  // namespace

Parallel::Parallel(int n_threads, std::function<void()> poll, Subnormals subnormals)
    : n_threads_(n_threads),
      poll_(std::move(poll)),
      subnormals_(subnormals),
      last_poll_(std::chrono::steady_clock::now()) {}

void Parallel::poll_if_due() {
  const auto now = std::chrono::steady_clock::now();
  if (!poll_ || now - last_poll_ <= kPollInterval) return;
  last_poll_ = now;
  const ArithmeticMode mode(callers_mode_);
  const Pool* before = current;
  poll_();
  if (shared_ && current != before)
    throw std::runtime_error(
        "the process was forked while the engine was at work: the child can't go on with what threads of its parent "
        "have in hand");
}

void Parallel::run(index_t n_tasks, double work, TaskBody body) {
  callers_mode_ = arithmetic_mode();
  unpolled_work_ += work + kFewestWork;
  const bool polls = unpolled_work_ >= kSerialWork;
  if (polls) unpolled_work_ = 0;
  Run run{.parallel = *this, .n_tasks = n_tasks, .body = body, .polls = polls, .error_mutex = {}, .error = {}};
  const auto on_worker = [&](index_t, int thread) { run.work(thread); };
  const TaskBody worker(on_worker);
  const int n_workers = work < kSerialWork ? 0 : static_cast<int>(std::min<index_t>(n_threads_, n_tasks)) - 1;
  std::unique_lock<std::mutex> held;
  Pool* used = nullptr;
  if (n_workers > 0) {
    used = &pool();
    // Sleeping threads are woken by the run that is worth it, or once as much was done without them: this one or the
    // next are then shared, and those after it find them awake.
    unshared_work_ += work;
    if (used->awake() || unshared_work_ >= kWakingWork) held = std::unique_lock(used->in_use, std::try_to_lock);
  }
  if (held.owns_lock()) {
    const int started = used->start(worker, n_workers);
    if (started < n_workers) n_threads_ = 1 + started;
    shared_ = started > 0;
    unshared_work_ = 0;
  }
  run.work(0);
  if (held.owns_lock() && current == used) used->close();
  while (held.owns_lock() && current == used && !used->wait()) {
    try {
      poll_if_due();
    } catch (...) {
      run.fail(std::current_exception());
    }
  }
  shared_ = false;
  if (run.error) std::rethrow_exception(run.error);
}

}  // namespace redunet
