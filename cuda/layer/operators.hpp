// From features to the operators of a layer, their log dets and so the rates.
#pragma once

#include <memory>

#include "kernels/fused.hpp"
#include "layer/factoriser.hpp"
#include "shared/problem.hpp"

namespace redunet::cuda {

template <class T, int P>
struct NumberOf {
  using type = T;
};
template <class T>
struct NumberOf<T, 2> {
  using type = Complex<T>;
};

// Calls f.template operator()<C>() for the number of channels, 1 .. kFewChannels.
template <int C = kFewChannels, class F>
void with_channels(index_t channels, const F& f) {
  if (channels == C)
    f.template operator()<C>();
  else if constexpr (C > 1)
    with_channels<C - 1>(channels, f);
}

inline unsigned blocks_of(index_t count, index_t size) { return static_cast<unsigned>((count + size - 1) / size); }

// Features V[p][c][i] on the device, i a column: d neighbours are those of one sample, samples in the given order.
template <class N>
class Spectrum {
 public:
  Spectrum(const OperatorLayout& layout, const std::vector<int>& order);

  // m: the columns of all samples; F: frequencies.
  const Sizes& sizes() const { return sizes_; }
  const std::vector<int>& order() const { return host_order_; }
  index_t numbers() const { return sizes_.m * sizes_.C * sizes_.F; }
  N* get() const { return V_.get(); }
  void read(const N* from);  // V (m, C, F d) of the host or of the device
  void write(N* to) const;   // waits
  // As many numbers as these: copied there, copied from there, and exchanged.
  void copy_to(const DeviceArray<N>& room) const { room.copy_from(V_); }
  void copy_from(const DeviceArray<N>& room) { V_.copy_from(room); }
  void copy_from(const Spectrum& other) { V_.copy_from(other.V_); }
  void swap(DeviceArray<N>& room) { std::swap(V_, room); }

 private:
  void transpose(const N* from, N* to, bool back) const;

  Sizes sizes_;
  index_t d_;
  std::vector<int> host_order_;
  DeviceArray<int> order_;
  DeviceArray<N> V_;
};

// The columns of the samples of one operator: a run of neighbours, each counting once, or any with weights.
template <class N>
struct Members {
  index_t begin, count;
  DeviceArray<int> index;      // empty: a run
  DeviceArray<Real<N>> roots;  // of the weights
};

// Operators of one layer on the device; null: only the log dets are wanted.
template <class N>
struct Operators {
  N *dense = nullptr, *factors = nullptr;

  explicit operator bool() const { return dense != nullptr || factors != nullptr; }
};

template <class N>
class OperatorBuilder {
 public:
  OperatorBuilder(const Problem& problem, const OperatorLayout& layout, const std::vector<int>& order);

  // Operators at these features, and rates; in a turn of a progress, which decides by them.
  void run(const Spectrum<N>& features, const Operators<N>& out, const When& when = {});
  // The same in few launches, where classes are hard, channels few and all operators dense. With progress `dense` has
  // slots.
  void run_fused(const Spectrum<N>& features, N* dense, const When& when = {});
  // The same of Gram matrices (F, C, C) that are there, number by number: all operators are dense.
  void run(const N* grams, N* dense);
  // The rates, k + 1 of them; waits. An operator that is not positive definite is an error.
  void rates(double* to) const;
  // That error: of frequency bad[2] of operator bad[1], in layer bad[0] if it is to be named.
  [[noreturn]] static void refuse(const int* bad, bool name_layer);

  // Bytes of all that is needed beside the features and the operators.
  static std::size_t bytes(const Problem& problem, const OperatorLayout& layout);

 private:
  const N* samples(const Spectrum<N>& features, const Members<N>& members, index_t& ld, index_t& stride);
  void factorise(const N* grams, N* dense, int terms, const When& when, index_t slot_stride = 0);
  void sum_rates(const When& when);

  const Problem& problem_;
  const OperatorLayout& layout_;
  bool total_is_sum_;
  std::vector<Members<N>> members_;
  std::vector<index_t> dense_numbers_;
  DeviceArray<double> dense_scales_, dense_alphas_, scales_, logdets_, rates_, freq_weights_;
  DeviceArray<int> place_, noted_, class_begins_;
  DeviceArray<Real<N>> sample_weights_;
  DeviceArray<N> grams_, gathered_, small_grams_, small_inverses_;
  Factoriser<N> factoriser_;
};

}  // namespace redunet::cuda
