// A test is a function registered by TEST; CHECK reports a failed condition and goes on.
#pragma once

#include <cmath>
#include <complex>
#include <cstdio>
#include <random>
#include <vector>

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
template <class T> std::vector<T> normal(std::size_t n, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> draw;
  std::vector<T> numbers(n);
  for (T& x : numbers) x = static_cast<T>(draw(engine));
  return numbers;
}

}  // namespace check

#define TEST(name)                              \
  static void name();                           \
  static const check::Add add_##name(#name, name); \
  static void name()
#define CHECK(condition) ((condition) ? void() : check::report(__FILE__, __LINE__, #condition))
