// From the contract's pointers to numbers of the device.
#pragma once

#include <vector>

#include "kernels/number.hpp"

namespace redunet::cuda {

// Calls f(N{}) for the numbers that `planes` planes of T are.
template <class T, class F>
auto with_numbers(index_t planes, const F& f) {
  return planes == 2 ? f(Complex<T>{}) : f(T{});
}

// Some numbers in the precision of kernels.
template <class T>
std::vector<T> rounded(const double* numbers, index_t count) {
  std::vector<T> found;
  for (index_t i = 0; i < count; ++i) found.push_back(static_cast<T>(numbers[i]));
  return found;
}

template <class N, class T>
N* as(T* p) {
  return reinterpret_cast<N*>(p);
}
template <class N, class T>
const N* as(const T* p) {
  return reinterpret_cast<const N*>(p);
}

}  // namespace redunet::cuda
