// What is done sample by sample: soft assignment, norms, scaling, and the end of a step. Part of kernels.cpp.
#pragma once

#include "kernels/simd.hpp"

namespace redunet {
namespace REDUNET_ISA {
namespace {

template <class T>
inline bool any_lane(integers<T> mask) {
  std::int64_t words[sizeof mask / sizeof(std::int64_t)], any = 0;
  __builtin_memcpy(words, &mask, sizeof mask);
  for (const std::int64_t word : words) any |= word;
  return any != 0;
}

template <class T>
void softmax(const Softmax<T>& q) {
  const index_t k = q.k, stride = q.stride;
  const vec<T> minus_lambda = vec<T>{} - q.lambda, beyond = vec<T>{} + q.beyond;
  for (index_t lane = 0; lane < q.lanes; lane += kLanes<T>) {
    const T* squares = q.squares + lane;
    T* pi = q.pi + lane;
    vec<T> least = norm<T>(load(squares));
    store<T>(pi, least);
    for (index_t j = 1; j < k; ++j) {
      const vec<T> root = norm<T>(load(squares + j * stride));
      store<T>(pi + j * stride, root);
      least = root < least ? root : least;
    }
    vec<T> sum{};
    for (index_t j = 0; j < k; ++j) {
      const vec<T> further = load(pi + j * stride) - least;
      const integers<T> too_far = further > beyond;  // not so where the norm is NaN: it makes all of them NaN
      const vec<T> x = too_far ? vec<T>{} : minus_lambda * further;
      const vec<T> e = too_far ? vec<T>{} : exponential<T>(x);
      store<T>(pi + j * stride, e);
      sum += e;
    }
    const vec<T> scale = T(1) / sum;
    for (index_t j = 0; j < k; ++j) store<T>(pi + j * stride, load(pi + j * stride) * scale);
  }
  const index_t whole = q.n_samples < q.lanes ? q.n_samples / kLanes<T> * kLanes<T> : q.lanes;
  for (index_t j = 0; j < k; ++j) {
    const T* pi = q.pi + j * stride;
    integers<T> any{};
    for (index_t lane = 0; lane < whole; lane += kLanes<T>) any |= load(pi + lane) != vec<T>{};  // NaN counts
    bool live = any_lane<T>(any);
    for (index_t lane = whole; lane < q.lanes && lane < q.n_samples; ++lane) live |= pi[lane] != 0;
    q.live[j] = static_cast<char>(q.live[j] | live);
  }
}

template <class T>
void reciprocal_norms(T* squares, index_t lanes, T smallest) {
  for (index_t lane = 0; lane < lanes; lane += kLanes<T>) {
    store<T>(squares + lane, reciprocal_norm<T>(load(squares + lane), smallest));
  }
}

template <class T>
void scale(const T* v, index_t v_stride, T* out, index_t out_stride, index_t n_panels, index_t n_rows,
           const T* factors) {
  for (index_t t = 0; t < n_panels; ++t)
    for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>) {
      const vec<T> by = load(factors + t * kPanel<T> + lane);
      const T* from = v + t * v_stride + lane;
      T* to = out + t * out_stride + lane;
      for (index_t row = 0; row < n_rows; ++row) store<T>(to + row * kPanel<T>, load(from + row * kPanel<T>) * by);
    }
}

template <class T>
void energies(const T* v, index_t v_stride, index_t n_panels, index_t n_rows, T weight, T* out) {
  for (index_t t = 0; t < n_panels; ++t)
    for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>) {
      const T* x = v + t * v_stride + lane;
      vec<T> a{}, b{};  // one sum would wait for each addition
      index_t row = 0;
      for (; row + 2 <= n_rows; row += 2) {
        const vec<T> y = load(x + row * kPanel<T>), z = load(x + (row + 1) * kPanel<T>);
        a += y * y, b += z * z;
      }
      if (row < n_rows) a += load(x + row * kPanel<T>) * load(x + row * kPanel<T>);
      store<T>(out + t * kPanel<T> + lane, weight * (a + b));
    }
}

template <class T, index_t Terms>
void settle_of(const Settle<T>& q) {
  for (index_t t = 0; t < q.n_panels; ++t)
    for (index_t lane = 0; lane < kPanel<T>; lane += kLanes<T>) {
      const index_t from = t * q.moved_stride + lane;
      T* v = q.v + t * q.v_stride + lane;
      vec<T> by[Terms + 1], s{};
      for (index_t j = 0; j < Terms; ++j) by[j] = load(q.coefficients[j] + t * kPanel<T> + lane);
      for (index_t row = 0; row < q.n_rows; ++row) {
        vec<T> z = load(q.moved + from + row * kPanel<T>);
        for (index_t j = 0; j < Terms; ++j) z += by[j] * load(q.terms[j] + from + row * kPanel<T>);
        store<T>(v + row * kPanel<T>, z);
        s += z * z;
      }
      T* squares = q.squares + t * kPanel<T> + lane;
      store<T>(squares, load(squares) + q.weight * s);
    }
}

template <class T>
void settle(const Settle<T>& q) {
  if (q.n_terms == 0)
    settle_of<T, 0>(q);
  else
    with_constant<kMostTerms>(q.n_terms, [&]<index_t Terms>() { settle_of<T, Terms>(q); });
}

}  // namespace
}  // namespace REDUNET_ISA
}  // namespace redunet
