// The machine behind emulation.hpp: fibers, barriers, shared memory, streams, graphs, and the CUDA runtime's functions.

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "platform/gpu.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned);
void __tsan_switch_to_fiber(void*, unsigned);
void __tsan_acquire(void*);
void __tsan_release(void*);
void AnnotateIgnoreReadsBegin(const char*, int);
void AnnotateIgnoreReadsEnd(const char*, int);
void AnnotateIgnoreWritesBegin(const char*, int);
void AnnotateIgnoreWritesEnd(const char*, int);
}
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace redunet::cuda::emulation {
namespace {

constexpr std::size_t kStack = std::size_t{128} << 10, kPage = 4096;
constexpr std::size_t kRedZone = 64;
constexpr int kSharedDefault = 48 << 10, kSharedLimit = 99 << 10;  // of a launch, and of allow_shared (sm_86)
constexpr std::size_t kDeviceBytes = std::size_t{1} << 30;
constexpr int kDevices = 2;

// --- What the sanitizers are told
// -------------------------------------------------------------------------------------

#if defined(__SANITIZE_THREAD__)
void acquire(char& token) { __tsan_acquire(&token); }
void release(char& token) { __tsan_release(&token); }
// The machine's own memory is not the kernel's.
struct Unobserved {
  Unobserved() {
    AnnotateIgnoreReadsBegin("", 0);
    AnnotateIgnoreWritesBegin("", 0);
  }
  ~Unobserved() {
    AnnotateIgnoreWritesEnd("", 0);
    AnnotateIgnoreReadsEnd("", 0);
  }
};
#else
void acquire(char&) {}
void release(char&) {}
struct Unobserved {
  Unobserved() {}
};
#endif

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kPoisons = true;
#else
constexpr bool kPoisons = false;
#endif

void poison([[maybe_unused]] const void* p, [[maybe_unused]] std::size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(p, bytes);
#endif
}
void unpoison([[maybe_unused]] const void* p, [[maybe_unused]] std::size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(p, bytes);
#endif
}

// Python frees arrays of the device on any thread, while another is at work.
class Guard {
 public:
  Guard() : lock_(mutex()) {}

 private:
  static std::recursive_mutex& mutex() {
    static auto* all = new std::recursive_mutex;  // never destroyed, like all here: threads may outlive the statics
    return *all;
  }
  std::lock_guard<std::recursive_mutex> lock_;
};

// --- Fibers
// -----------------------------------------------------------------------------------------------------------

enum class State : unsigned char { kReady, kAtBlock, kAtWarp, kDone };

struct Fiber {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
  char* stack = nullptr;
  void* of_sanitizer = nullptr;
  void* fake_stack = nullptr;
  unsigned number = 0;
  uint3 index{};
  State state = State::kDone;
  const char* file = "";
  int line = 0;
  Exchange exchange = Exchange::kNone;
  unsigned mask = 0;
  int argument = 0;
  std::uint64_t bits = 0, result = 0;
  std::size_t next_array = 0;

  std::string where() const {
    return std::string(file) + ":" + std::to_string(line) + " (thread " + std::to_string(number) + ")";
  }
};

struct SharedArray {
  char* begin;
  std::size_t bytes;
};

using Work = std::function<void()>;

struct Graph {
  std::vector<Work> work;
};

struct Machine {
  // Two sets of fibers in turn: neighbouring blocks are then different threads to ThreadSanitizer.
  std::vector<std::unique_ptr<Fiber>> fibers[2];
  Fiber host;
  Fiber* current = nullptr;
  const Work* body = nullptr;
  std::string error;
  long seed = 1;
  bool lazy = false;
  std::mt19937_64 random;
  const void* host_stack = nullptr;
  std::size_t host_stack_size = 0;
  char at_launch = 0, at_end = 0;
  // Of two barriers in turn, so that an early arrival at the next doesn't order those that still leave this one.
  char at_block[2] = {}, at_warp[32][2] = {};
  unsigned block_turn = 0, warp_turn[32] = {};
  std::vector<char> shared;
  std::vector<SharedArray> arrays;
  std::size_t shared_used = 0, shared_asked = 0;
  std::map<const void*, int> shared_allowed;
  std::map<char*, std::size_t> allocations;
  std::map<char*, int> device_of;  // allocations
  std::set<char*> idle;            // of these, as the host has them: nobody's
  std::set<char*> hidden;          // the same where the stream has come to
  std::size_t allocated[kDevices] = {};
  std::deque<Work> queue;
  Graph* capturing = nullptr;
  std::thread::id captor;
  bool context_on[kDevices] = {};
  Counts counts;
  cudaError_t last_error = cudaSuccess;

  Machine() {
    if (const char* text = std::getenv("REDUNET_EMULATION_SEED")) seed = std::atol(text);
    if (const char* text = std::getenv("REDUNET_EMULATION_LAZY")) lazy = std::atoi(text) != 0;
    random.seed(static_cast<std::uint64_t>(seed));
  }
};

Machine& machine() {
  static auto* m = new Machine;
  return *m;
}

#if defined(__x86_64__)
// Saves what a call must preserve, and goes on where `to` was saved.
__attribute__((naked, noinline, no_sanitize("address", "undefined", "thread"))) void switch_stack(void** /*save*/,
                                                                                                  void* /*to*/) {
  asm volatile(
      "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
}
#endif

void switch_to(Fiber& from, Fiber& to) {
  Machine& m = machine();
  const bool to_host = &to == &m.host;
  m.current = to_host ? nullptr : &to;
  if (!to_host) threadIdx = to.index;
#if defined(__SANITIZE_THREAD__)
  if (from.of_sanitizer == nullptr) from.of_sanitizer = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to.of_sanitizer, 1);  // without ordering the two
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.fake_stack, to_host ? m.host_stack : to.stack,
                                 to_host ? m.host_stack_size : kStack);
#endif
#if defined(__x86_64__)
  switch_stack(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.context, &to.context);
#endif
#if defined(__SANITIZE_ADDRESS__)
  if (&from == &m.host)
    __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
  else
    __sanitizer_finish_switch_fiber(from.fake_stack, &m.host_stack, &m.host_stack_size);
#endif
}

// A fiber's life: one kernel thread after another.
void live() {
  Machine& m = machine();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &m.host_stack, &m.host_stack_size);
#endif
  const Unobserved unobserved;
  Fiber& self = *m.current;
  for (;;) {
    acquire(m.at_launch);
#if defined(__SANITIZE_THREAD__)
    AnnotateIgnoreWritesEnd("", 0);
    AnnotateIgnoreReadsEnd("", 0);
#endif
    try {
      (*m.body)();
    } catch (const std::exception& error) {
      if (m.error.empty()) m.error = error.what();
    }
#if defined(__SANITIZE_THREAD__)
    AnnotateIgnoreReadsBegin("", 0);
    AnnotateIgnoreWritesBegin("", 0);
#endif
    release(m.at_end);
    self.state = State::kDone;
    switch_to(self, m.host);
  }
}

std::unique_ptr<Fiber> make_fiber() {
  auto fiber = std::make_unique<Fiber>();
  void* memory = mmap(nullptr, kStack + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kPage, PROT_NONE);  // an overflow ends here
  fiber->stack = static_cast<char*>(memory) + kPage;
#if defined(__SANITIZE_THREAD__)
  fiber->of_sanitizer = __tsan_create_fiber(0);
#endif
#if defined(__x86_64__)
  auto** top = reinterpret_cast<void**>(fiber->stack + kStack);
  *--top = nullptr;  // where a return address would lie: a function begins 8 bytes off a multiple of 16
  *--top = reinterpret_cast<void*>(&live);
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  fiber->stack_pointer = top;
#else
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = fiber->stack;
  fiber->context.uc_stack.ss_size = kStack;
  fiber->context.uc_link = nullptr;
  makecontext(&fiber->context, live, 0);
#endif
  return fiber;
}

// The calling thread of a kernel waits.
void wait(State state, const char* file, int line) {
  Machine& m = machine();
  Fiber& self = *m.current;
  self.state = state, self.file = file, self.line = line;
  switch_to(self, m.host);
}

// --- One block
// ----------------------------------------------------------------------------------------------------------

template <class T>
void shuffle(std::vector<T>& order) {
  Machine& m = machine();
  if (m.seed == -1)
    std::reverse(order.begin(), order.end());
  else if (m.seed != 0)
    std::shuffle(order.begin(), order.end(), m.random);
}

// The lanes of a warp that meet in `first`'s operation exchange their values.
void complete(const std::vector<Fiber*>& warp, const Fiber& first) {
  for (Fiber* lane : warp) {
    const unsigned l = lane->number % 32;
    if ((first.mask >> l & 1) == 0) continue;
    if (lane->exchange != first.exchange || lane->line != first.line)
      fail("lanes of a warp meet in different operations: " + first.where() + " and " + lane->where());
    unsigned source = l;
    if (lane->exchange == Exchange::kXor) source = l ^ static_cast<unsigned>(lane->argument);
    if (lane->exchange == Exchange::kDown) source = l + static_cast<unsigned>(lane->argument);
    if (lane->exchange == Exchange::kIndex) source = static_cast<unsigned>(lane->argument) % 32;
    if (lane->exchange == Exchange::kDown && source >= 32) source = l;
    const bool present = source < warp.size() && (first.mask >> source & 1) != 0;
    lane->result = present ? warp[source]->bits : ~std::uint64_t{0};  // a value of a lane that isn't there is NaN
    lane->state = State::kReady;
  }
}

// Whether all lanes that `lane` waits for have come.
bool met(const std::vector<Fiber*>& warp, const Fiber& lane) {
  if ((lane.mask >> lane.number % 32 & 1) == 0) fail("a lane is missing from its own mask: " + lane.where());
  bool all = true;
  for (unsigned l = 0; l < 32; ++l) {
    if ((lane.mask >> l & 1) == 0) continue;
    const Fiber* other = l < warp.size() ? warp[l] : nullptr;
    // A warp that is not full has its missing lanes masked out by the hardware.
    if (other == nullptr) continue;
    if (other->state == State::kDone)
      fail("a mask names lane " + std::to_string(l) + ", which has returned: " + lane.where());
    all = all && other->state == State::kAtWarp && other->mask == lane.mask;
  }
  return all;
}

void run_block(index_t block, unsigned n_threads) {
  Machine& m = machine();
  auto& pool = m.fibers[block % 2];
  std::vector<Fiber*> all, ready;
  std::vector<std::vector<Fiber*>> warps((n_threads + 31) / 32);
  for (unsigned i = 0; i < n_threads; ++i) {
    if (i == pool.size()) pool.push_back(make_fiber());
    Fiber& fiber = *pool[i];
    fiber.number = i;
    fiber.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
    fiber.state = State::kReady;
    fiber.next_array = 0;
    all.push_back(&fiber);
    warps[i / 32].push_back(&fiber);
  }
  for (;;) {
    ready.clear();
    for (Fiber* fiber : all)
      if (fiber->state == State::kReady) ready.push_back(fiber);
    shuffle(ready);
    for (Fiber* fiber : ready) {
      switch_to(m.host, *fiber);
      if (!m.error.empty()) fail(m.error);
    }
    bool moved = !ready.empty();
    for (std::size_t w = 0; w < warps.size(); ++w)
      for (Fiber* lane : warps[w]) {
        if (lane->state != State::kAtWarp || !met(warps[w], *lane)) continue;
        if (lane->exchange == Exchange::kNone) ++m.warp_turn[w];
        complete(warps[w], *lane);
        moved = true;
      }
    const Fiber *waiting = nullptr, *elsewhere = nullptr, *returned = nullptr;
    std::size_t n_waiting = 0, n_living = 0;
    for (const Fiber* fiber : all) {
      if (fiber->state == State::kDone) {
        returned = fiber;
        continue;
      }
      ++n_living;
      if (fiber->state != State::kAtBlock) continue;
      ++n_waiting;
      if (waiting != nullptr && (waiting->line != fiber->line || waiting->file != fiber->file)) elsewhere = fiber;
      waiting = fiber;
    }
    if (n_living == 0) return;
    if (n_waiting == n_living) {
      if (elsewhere != nullptr)
        fail("threads meet in different __syncthreads: " + waiting->where() + " and " + elsewhere->where());
      if (returned != nullptr)
        fail("thread " + std::to_string(returned->number) + " has returned, others wait in " + waiting->where());
      ++m.block_turn;
      for (Fiber* fiber : all) fiber->state = State::kReady;
      moved = true;
    }
    if (!moved) {
      std::string stuck = "deadlock:";
      for (const Fiber* fiber : all)
        if (fiber->state != State::kDone && stuck.size() < 1000) stuck += "\n  " + fiber->where();
      fail(stuck);
    }
  }
}

void run_now(dim3 grid, dim3 block, std::size_t shared, const Work& body) {
  Machine& m = machine();
  const Unobserved unobserved;
  gridDim = grid, blockDim = block;
  m.body = &body, m.error.clear(), m.shared_asked = shared;
  const auto n_blocks = static_cast<index_t>(grid.x) * grid.y * grid.z;
  std::vector<index_t> order;
  for (index_t b = 0; b < n_blocks; ++b) order.push_back(b);
  shuffle(order);
  m.shared.resize(shared + 64 * kRedZone);
  for (const index_t b : order) {
    blockIdx = {static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                static_cast<unsigned>(b / grid.x / grid.y)};
    m.arrays.clear(), m.shared_used = 0;
    std::fill(m.shared.begin(), m.shared.end(), static_cast<char>(0xff));
    poison(m.shared.data(), m.shared.size());
    release(m.at_launch);
    try {
      run_block(b, block.x * block.y * block.z);
    } catch (...) {
      // Fibers of a failed block hang in the middle of it: leave them, and begin with new ones.
      for (auto& pool : m.fibers) {
        for (auto& fiber : pool) static_cast<void>(fiber.release());
        pool.clear();
      }
      unpoison(m.shared.data(), m.shared.size());
      throw;
    }
    acquire(m.at_end);
    unpoison(m.shared.data(), m.shared.size());
    std::size_t used = 0;
    for (const SharedArray& array : m.arrays) used += shared_bytes<char>(static_cast<index_t>(array.bytes));
    if (used != shared && !m.arrays.empty())
      fail("a kernel uses " + std::to_string(used) + " bytes of shared memory and was launched with " +
           std::to_string(shared));
  }
}

void drain() {
  auto& queue = machine().queue;
  while (!queue.empty()) {
    const Work work = std::move(queue.front());
    queue.pop_front();
    work();
  }
}

thread_local int of_thread = 0;  // the current device

// What needs a context of the thread's device makes it.
void need_context() { machine().context_on[of_thread] = true; }

// A thread that waits for the device.
void count_wait() {
  if (holds_gil != nullptr && holds_gil()) ++machine().counts.waits_with_gil;
}

cudaError_t keep(cudaError_t error) {
  if (error != cudaSuccess) machine().last_error = error;
  return error;
}

}  // namespace

int device_of(cudaStream_t stream) { return *reinterpret_cast<const int*>(stream); }

int current_device() { return of_thread; }

Counts counts() {
  const Guard guard;
  return machine().counts;
}

std::vector<int> contexts() {
  const Guard guard;
  std::vector<int> numbers;
  for (int number = 0; number < kDevices; ++number)
    if (machine().context_on[number]) numbers.push_back(number);
  return numbers;
}

void count_plan() {
  const Guard guard;
  ++machine().counts.plans;
}

int fault(const std::string& of) {
  const char* text = std::getenv("REDUNET_EMULATION_FAULT");
  const std::string wanted = text == nullptr ? "" : text;
  return wanted.substr(0, wanted.find('=')) == of ? std::stoi(wanted.substr(of.size() + 1)) : 0;
}

void fail(const std::string& what) { throw std::runtime_error("emulation: " + what); }

void sync_block(const char* file, int line) {
  const Unobserved unobserved;
  Machine& m = machine();
  char& token = m.at_block[m.block_turn % 2];
  release(token);
  wait(State::kAtBlock, file, line);
  acquire(token);
}

std::uint64_t meet_warp(Exchange exchange, unsigned mask, std::uint64_t bits, int argument, const char* file,
                        int line) {
  const Unobserved unobserved;
  Machine& m = machine();
  Fiber& self = *m.current;
  self.exchange = exchange, self.mask = mask, self.bits = bits, self.argument = argument;
  const unsigned warp = self.number / 32;
  char& token = m.at_warp[warp][m.warp_turn[warp] % 2];
  const bool orders = exchange == Exchange::kNone;  // a shuffle doesn't order memory
  if (orders) release(token);
  wait(State::kAtWarp, file, line);
  if (orders) acquire(token);
  return self.result;
}

void* shared_array(std::size_t bytes) {
  const Unobserved unobserved;
  Machine& m = machine();
  const std::size_t index = m.current->next_array++;
  if (index == m.arrays.size()) {
    const std::size_t room = shared_bytes<char>(static_cast<index_t>(bytes)), begin = m.shared_used + kRedZone;
    if (begin + room > m.shared.size()) fail("a kernel uses more shared memory than it was launched with");
    m.arrays.push_back({m.shared.data() + begin, bytes});
    m.shared_used = begin + room;
    unpoison(m.arrays.back().begin, bytes);
  }
  if (m.arrays[index].bytes != bytes) fail("threads of a block disagree on the size of a shared array");
  return m.arrays[index].begin;
}

cudaError_t submit(cudaStream_t stream, std::function<void()> work) {
  const Guard guard;
  static_cast<void>(stream);
  Machine& m = machine();
  // Device memory can be touched while work runs, and by nothing else.
  Work visible = [work = std::move(work)] {
    if (!kPoisons) return work();  // there are many allocations, most of them idle
    for (const auto& [p, bytes] : machine().allocations)
      if (machine().hidden.count(p) == 0) unpoison(p, bytes);
    const auto hide = [] {
      for (const auto& [p, bytes] : machine().allocations) poison(p, bytes);
    };
    try {
      work();
    } catch (...) {
      hide();
      throw;
    }
    hide();
  };
  if (m.capturing != nullptr && m.captor != std::this_thread::get_id())
    fail("work of a thread becomes a part of what another captures");
  if (m.capturing != nullptr)
    m.capturing->work.push_back(std::move(visible));
  else if (m.lazy)
    m.queue.push_back(std::move(visible));
  else
    visible();
  return cudaSuccess;
}

bool is_device_memory(const void* p, std::size_t bytes) {
  const Guard guard;
  const auto& all = machine().allocations;
  auto* at = const_cast<char*>(static_cast<const char*>(p));
  auto after = all.upper_bound(at);
  if (after == all.begin()) return false;
  --after;
  if (machine().idle.count(after->first) != 0) return false;
  const auto begin = static_cast<std::size_t>(at - after->first);
  return begin <= after->second && bytes <= after->second - begin;
}

void run_grid(dim3 grid, dim3 block, std::size_t shared, cudaStream_t stream, const void* kernel,
              std::function<void()> body) {
  const Guard guard;
  Machine& m = machine();
  const std::size_t threads = std::size_t{block.x} * block.y * block.z;
  const auto allowed = m.shared_allowed.find(kernel);
  const int limit = allowed == m.shared_allowed.end() ? kSharedDefault : allowed->second;
  if (threads == 0 || threads > 1024 || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535 ||
      shared > static_cast<std::size_t>(limit)) {
    keep(cudaErrorInvalidConfiguration);
    return;
  }
  if (device_of(stream) != of_thread) {
    keep(cudaErrorInvalidResourceHandle);
    return;
  }
  if (m.capturing == nullptr) ++m.counts.launches;
  submit(stream, [=, body = std::move(body)] { run_now(grid, block, shared, body); });
}

cudaError_t allow_shared(const void* kernel, int bytes) {
  if (bytes > kSharedLimit) return keep(cudaErrorInvalidValue);
  machine().shared_allowed[kernel] = std::max(bytes, kSharedDefault);
  return cudaSuccess;
}

}  // namespace redunet::cuda::emulation

namespace redunet::cuda {

// In the order of the stream, and never a part of a graph: Python gives memory back at any time.
static void in_order(emulation::Work work) {
  if (emulation::machine().lazy)
    emulation::machine().queue.push_back(std::move(work));
  else
    work();
}

void given_back(void* p) {
  const emulation::Guard guard;
  auto* const memory = static_cast<char*>(p);
  emulation::machine().idle.insert(memory);
  in_order([=] { emulation::machine().hidden.insert(memory); });
}

void taken_again(void* p) {
  const emulation::Guard guard;
  auto* const memory = static_cast<char*>(p);
  emulation::Machine& m = emulation::machine();
  if (m.capturing != nullptr) emulation::fail("memory is taken while a graph is captured");
  if (m.idle.erase(memory) == 0) return;  // it is new
  in_order([=, bytes = m.allocations.at(memory)] {
    emulation::machine().hidden.erase(memory);
    emulation::unpoison(memory, bytes);
    std::memset(memory, 0xff, bytes);
    emulation::poison(memory, bytes);
  });
}

bool has_context(int number) {
  const emulation::Guard guard;
  return emulation::machine().context_on[number];
}

cudaError_t instantiate(cudaGraphExec_t* executable, cudaGraph_t graph) {
  using emulation::Graph;
  *executable = reinterpret_cast<cudaGraphExec_t>(new Graph(*reinterpret_cast<Graph*>(graph)));
  return cudaSuccess;
}

}  // namespace redunet::cuda

// --- The runtime's functions
// --------------------------------------------------------------------------------------------

using namespace redunet::cuda::emulation;

namespace {

bool same_side(const void* p, std::size_t bytes, bool device) {
  return device ? is_device_memory(p, bytes) : !is_device_memory(p, 1);
}

}  // namespace

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = kDevices;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = of_thread;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  const Guard guard;
  if (device < 0 || device >= kDevices) return keep(cudaErrorInvalidValue);
  of_thread = device;
  need_context();  // as CUDA does from 12 on
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = 4;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 8;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 6;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = kSharedLimit;
      return cudaSuccess;
  }
  return keep(cudaErrorInvalidValue);
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  const Guard guard;
  need_context();
  std::size_t limit = kDeviceBytes;
  if (const char* text = std::getenv("REDUNET_EMULATION_MEMORY")) limit = std::strtoull(text, nullptr, 10);
  *total = limit;
  *free = limit - std::min(limit, machine().allocated[of_thread]);
  return cudaSuccess;
}
const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    default:
      return "cudaErrorInvalidValue";
  }
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    default:
      return "invalid argument";
  }
}
cudaError_t cudaGetLastError() { return std::exchange(machine().last_error, cudaSuccess); }

cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  const Guard guard;
  if (machine().capturing != nullptr) return keep(cudaErrorStreamCaptureUnsupported);
  ++machine().counts.allocations;
  std::size_t free, total;
  cudaMemGetInfo(&free, &total);
  if (bytes > free) return keep(cudaErrorMemoryAllocation);
  auto* memory = static_cast<char*>(std::aligned_alloc(256, (bytes + 255) / 256 * 256));
  std::memset(memory, 0xff, bytes);  // NaN
  poison(memory, bytes);
  machine().allocations[memory] = bytes;
  machine().device_of[memory] = of_thread;
  machine().allocated[of_thread] += bytes;
  *p = memory;
  return cudaSuccess;
}
cudaError_t cudaFree(void* p) {
  if (p == nullptr) return cudaSuccess;
  const Guard guard;
  need_context();
  count_wait();
  ++machine().counts.frees;
  drain();  // cudaFree waits for the device
  Machine& m = machine();
  const auto found = m.allocations.find(static_cast<char*>(p));
  if (found == m.allocations.end()) return keep(cudaErrorInvalidValue);
  unpoison(found->first, found->second);
  m.idle.erase(found->first), m.hidden.erase(found->first);
  m.allocated[m.device_of.at(found->first)] -= found->second;
  m.device_of.erase(found->first);
  m.allocations.erase(found);
  std::free(p);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** p, std::size_t bytes) {
  *p = std::malloc(bytes);
  return *p != nullptr ? cudaSuccess : keep(cudaErrorMemoryAllocation);
}
// One queue holds the work of all streams: what waits for an event waits for all of it.
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = reinterpret_cast<cudaEvent_t>(new char);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaStreamSynchronize(nullptr); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const Guard guard;
  need_context();
  *stream = reinterpret_cast<cudaStream_t>(new int(of_thread));
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Guard guard;
  drain();
  delete reinterpret_cast<int*>(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  const Guard guard;
  if (machine().capturing != nullptr) return keep(cudaErrorStreamCaptureUnsupported);
  if (const int error = fault("cuda")) return keep(static_cast<cudaError_t>(error));
  ++machine().counts.waits;
  count_wait();
  drain();
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  const bool free_choice = kind == cudaMemcpyDefault;
  const bool to_device =
      free_choice ? is_device_memory(to, 1) : kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device =
      free_choice ? is_device_memory(from, 1) : kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (!same_side(to, bytes, to_device) || !same_side(from, bytes, from_device)) return keep(cudaErrorInvalidValue);
  if (!to_device || !from_device) {
    const Guard guard;
    ++machine().counts.host_copies;
    machine().counts.host_bytes += static_cast<long>(bytes);
  }
  return submit(stream, [=] { std::memcpy(to, from, bytes); });  // which may be late, also where it reads the host
}
cudaError_t cudaDeviceSynchronize() { return cudaStreamSynchronize(nullptr); }
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* p) {
  const Guard guard;
  need_context();
  *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, nullptr};
  if (!is_device_memory(p, 1)) return cudaSuccess;
  const auto after = machine().device_of.upper_bound(const_cast<char*>(static_cast<const char*>(p)));
  *attributes = {cudaMemoryTypeDevice, std::prev(after)->second, nullptr, nullptr};
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  if (!is_device_memory(p, bytes)) return keep(cudaErrorInvalidValue);
  return submit(stream, [=] { std::memset(p, value, bytes); });
}
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  const Guard guard;
  machine().capturing = new Graph;
  machine().captor = std::this_thread::get_id();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = reinterpret_cast<cudaGraph_t>(std::exchange(machine().capturing, nullptr));
  return *graph == nullptr ? keep(cudaErrorInvalidValue) : cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  const Guard guard;
  ++machine().counts.graph_launches;
  for (const Work& work : reinterpret_cast<Graph*>(executable)->work) {
    if (machine().lazy)
      machine().queue.push_back(work);
    else
      work();
  }
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<Graph*>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const Guard guard;
  drain();
  delete reinterpret_cast<Graph*>(executable);
  return cudaSuccess;
}
}
