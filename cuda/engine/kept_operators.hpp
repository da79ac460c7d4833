// The operators of layers on the device: of all layers where they have room, else of two in turn.
#pragma once

#include <algorithm>

#include "layer/operators.hpp"

namespace redunet::cuda {

// Of what is free, kept operators take no more than this part; else they leave layer by layer.
constexpr double kShareOfOperators = 0.5;
template <class N>
class KeptOperators {
 public:
  KeptOperators(const OperatorLayout& layout, index_t n_layers, bool keep)
      : dense_size_(layout.dense_size() / layout.sizes.planes),
        factors_size_(layout.factors_size() / layout.sizes.planes) {
    const std::size_t layer = as_size(dense_size_ + factors_size_) * sizeof(N);
    const auto room = static_cast<index_t>(kShareOfOperators * static_cast<double>(Device::get().free_bytes()) /
                                           static_cast<double>(std::max<std::size_t>(1, layer)));
    all_ = keep && n_layers <= room;
    n_slots_ = all_ ? std::max<index_t>(1, n_layers) : 2;
    dense_ = DeviceArray<N>(n_slots_ * dense_size_);
    factors_ = DeviceArray<N>(n_slots_ * factors_size_);
  }

  bool all() const { return all_; }
  index_t n_slots() const { return n_slots_; }
  N* dense() const { return dense_.get(); }
  index_t slot(index_t layer) const { return layer % n_slots_; }
  Operators<N> of(index_t layer) const {
    return {dense_.get() + slot(layer) * dense_size_, factors_.get() + slot(layer) * factors_size_};
  }
  // Layers [begin, end), which are all in slots of their own, to the host's arrays of all layers.
  void download(index_t begin, index_t end, N* dense, N* factors) const {
    copy(dense_.get(), dense, dense_size_, begin, end, cudaMemcpyDeviceToHost);
    copy(factors_.get(), factors, factors_size_, begin, end, cudaMemcpyDeviceToHost);
  }
  void upload(index_t begin, index_t end, const N* dense, const N* factors) const {
    copy(dense_.get(), const_cast<N*>(dense), dense_size_, begin, end, cudaMemcpyHostToDevice);
    copy(factors_.get(), const_cast<N*>(factors), factors_size_, begin, end, cudaMemcpyHostToDevice);
  }

 private:
  void copy(N* device, N* host, index_t size, index_t begin, index_t end, cudaMemcpyKind kind) const {
    if (size == 0 || begin == end) return;
    N *there = device + slot(begin) * size, *here = host + begin * size;
    const bool down = kind == cudaMemcpyDeviceToHost;
    REDUNET_CHECK(cudaMemcpyAsync(down ? here : there, down ? there : here, as_size((end - begin) * size) * sizeof(N),
                                  kind, Device::get().stream()));
  }

  index_t dense_size_, factors_size_, n_slots_;
  bool all_;
  DeviceArray<N> dense_, factors_;
};

}  // namespace redunet::cuda
