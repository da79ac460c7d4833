// From features to the operators of a layer, their log dets and so the rates.
#pragma once

#include <memory>

#include "kernels/few_channels.hpp"
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

// Features V[p][c][i] on the device, samples in the given order.
template <class N>
class Spectrum {
 public:
  Spectrum(const Sizes& sizes, const std::vector<int>& order);

  const Sizes& sizes() const { return sizes_; }
  index_t numbers() const { return sizes_.m * sizes_.C * sizes_.F; }
  N* get() const { return V_.get(); }
  void read(const N* from);  // (m, C, F) of the host or of the device
  void write(N* to) const;   // waits
  void save();               // a copy to come back to
  void restore();

 private:
  Sizes sizes_;
  DeviceArray<int> order_;
  DeviceArray<N> V_, copy_;
};

// The samples of one operator: a run of neighbours, each counting once, or any with weights.
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
};

template <class N>
class OperatorBuilder {
 public:
  OperatorBuilder(const Problem& problem, const OperatorLayout& layout, const std::vector<int>& order, index_t n_rows);

  // Operators at these features, and the row of rates of this layer.
  void run(const Spectrum<N>& features, const Operators<N>& out, int layer);
  // The same in launches that know everything by `progress`; operators go to dense + its slot. Classes are hard, all
  // operators are dense.
  void run_few(const Spectrum<N>& features, N* dense, const Progress* progress);
  // Rows [begin, end) of rates; waits. An operator that is not positive definite is an error that names its layer,
  // unless `name_layer` is off.
  void rates(int begin, int end, double* to, bool name_layer);

  // Bytes of all that is needed beside the features and the operators.
  static std::size_t bytes(const Problem& problem, const OperatorLayout& layout);

 private:
  const N* samples(const Spectrum<N>& features, const Members<N>& members, index_t& ld, index_t& stride);
  void sum_rates(const int* layer, int given);

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
