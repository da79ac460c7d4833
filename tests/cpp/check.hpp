// A test is a function registered by TEST; CHECK reports a failed condition and goes on.
#pragma once

#include <cmath>
#include <complex>
#include <cstdio>
#include <limits>
#include <new>
#include <random>
#include <vector>

#include "kernels/kernels.hpp"

namespace check {

struct Registered {
  const char* name;
  void (*run)();
};

inline std::vector<Registered>& all() {
  static std::vector<Registered> tests;
  return tests;
}

inline int failures = 0;

struct Add {
  Add(const char* name, void (*run)()) { all().push_back({name, run}); }
};

inline void report(const char* file, int line, const char* condition) {
  if (++failures <= 20) std::printf("%s:%d: failed: %s\n", file, line, condition);
}

// Standard normal numbers, the same in every run.
template <class T>
std::vector<T> normal(std::size_t n, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> draw;
  std::vector<T> numbers(n);
  for (T& x : numbers) x = static_cast<T>(draw(engine));
  return numbers;
}

// The same, evenly from [-1, 1], into what is there.
template <class Numbers>
void fill_uniform(Numbers& numbers, unsigned seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<double> draw(-1, 1);
  for (auto& x : numbers) x = static_cast<typename Numbers::value_type>(draw(engine));
}

// Panels lie at cache lines; a vector of exactly the size needed shows a sanitizer the first step too far.
template <class T>
struct AtCacheLines {
  using value_type = T;
  AtCacheLines() = default;
  template <class U>
  AtCacheLines(const AtCacheLines<U>&) {}
  static constexpr std::align_val_t kAlignment{redunet::kCacheLine};
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), kAlignment)); }
  void deallocate(T* p, std::size_t) { ::operator delete(p, kAlignment); }
  bool operator==(const AtCacheLines&) const = default;
};
template <class T>
using Panels = std::vector<T, AtCacheLines<T>>;

// Element i of interleaved numbers: real (planes = 1) or complex (planes = 2).
template <class T>
std::complex<double> element(const T* x, redunet::index_t i, redunet::index_t planes) {
  return planes == 1 ? std::complex<double>(x[i]) : std::complex<double>(x[2 * i], x[2 * i + 1]);
}

template <class T>
constexpr double kUnit = static_cast<double>(std::numeric_limits<T>::epsilon());

inline std::size_t size(redunet::index_t n) { return static_cast<std::size_t>(n); }

}  // namespace check

#define TEST(name)                                 \
  static void name();                              \
  static const check::Add add_##name(#name, name); \
  static void name()
#define CHECK(condition) ((condition) ? void() : check::report(__FILE__, __LINE__, #condition))
