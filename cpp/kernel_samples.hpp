// What is done sample by sample: soft assignment, norms, scaling, and the end of a step. Part of kernels.cpp.
#pragma once

#include "simd.hpp"

namespace redunet {
namespace REDUNET_ISA {
namespace {

template <class T>
void softmax(const Softmax<T>& q) {
  vec<T> index{};
  for (index_t i = 0; i < kLanes<T>; ++i) index[i] = T(i);
  for (index_t lane = 0; lane < q.lanes; lane += kLanes<T>) {
    const T* squares = q.squares + lane;
    T* pi = q.pi + lane;
    vec<T> least = load(squares);
    for (index_t j = 1; j < q.k; ++j) {
      const vec<T> s = load(squares + j * q.stride);
      least = s < least ? s : least;
    }
    least = square_root<T>(least);
    const vec<T> limit = (least + q.beyond) * (least + q.beyond);
    const integers<T> sample = index < vec<T>{} + T(q.n_samples - lane);
    vec<T> sum{};
    for (index_t j = 0; j < q.k; ++j) {
      const vec<T> s = load(squares + j * q.stride);
      const integers<T> zero = s > limit;
      vec<T> x = -q.lambda * (square_root<T>(s) - least);
      x = zero ? vec<T>{} : x;
      const vec<T> e = zero ? vec<T>{} : exponential<T>(x);
      store<T>(pi + j * q.stride, e);
      sum += e;
      const integers<T> counts = ~zero & sample;
      bool any = false;
      for (index_t i = 0; i < kLanes<T>; ++i) any |= counts[i] != 0;
      q.live[j] = static_cast<char>(q.live[j] | any);
    }
    const vec<T> scale = T(1) / sum;
    for (index_t j = 0; j < q.k; ++j) store<T>(pi + j * q.stride, load(pi + j * q.stride) * scale);
  }
}

template <class T>
void reciprocal_norms(T* squares, index_t lanes, T smallest) {
  for (index_t lane = 0; lane < lanes; lane += kLanes<T>) {
    const vec<T> norm = square_root<T>(load(squares + lane)), least = vec<T>{} + smallest;
    store<T>(squares + lane, T(1) / (norm > least ? norm : least));
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
