// The operators of layers on the device: of all layers where they have room, else of two in turn. Products find them
// only where the host says, which in turns doesn't know the layer: for them the layer's are `current`, those that are
// made `next`, and what becomes of them is the device's to say.
#pragma once

#include <algorithm>

#include "kernels/places.hpp"
#include "layer/operators.hpp"

namespace redunet::cuda {

// Of what is free, kept operators take no more than this part; else they leave layer by layer.
constexpr double kShareOfOperators = 0.5;

template <class N>
class KeptOperators {
 public:
  // apart: layers are made in `current` and `next`; then there are no slots where nothing is kept.
  KeptOperators(const OperatorLayout& layout, index_t n_layers, bool keep, bool apart = false)
      : dense_size_(layout.dense_size() / layout.sizes.planes),
        factors_size_(layout.factors_size() / layout.sizes.planes) {
    const std::size_t layer = as_size(dense_size_ + factors_size_) * sizeof(N);
    const auto room = static_cast<index_t>(kShareOfOperators * static_cast<double>(Device::get().free_bytes()) /
                                           static_cast<double>(std::max<std::size_t>(1, layer)));
    all_ = keep && n_layers <= room;
    n_slots_ = all_ ? std::max<index_t>(1, n_layers) : keep || !apart ? 2 : 0;
    const index_t n = n_slots_ + (apart ? 2 : 0);
    dense_ = DeviceArray<N>(n * dense_size_);
    factors_ = DeviceArray<N>(n * factors_size_);
  }

  bool all() const { return all_; }
  index_t n_slots() const { return n_slots_; }
  Operators<N> of(index_t layer) const { return in(layer % n_slots_); }
  Operators<N> current() const { return in(n_slots_); }
  Operators<N> next() const { return in(n_slots_ + 1); }
  // `next` to `current`, and to the slot of the layer, if the last turn says so.
  void install(const Progress* progress) const {
    const bool kept = n_slots_ > 0;
    install(next().dense, current().dense, kept ? dense_.get() : nullptr, dense_size_, progress);
    install(next().factors, current().factors, kept ? factors_.get() : nullptr, factors_size_, progress);
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
  Operators<N> in(index_t slot) const {
    return {dense_.get() + slot * dense_size_, factors_.get() + slot * factors_size_};
  }
  static void install(const N* made, N* current, N* slots, index_t size, const Progress* progress) {
    if (size == 0) return;
    launch(install_kernel<N>, dim3(place_blocks(size)), dim3(kPlaceThreads), 0, Device::get().stream(), made, current,
           slots, size, progress);
    REDUNET_CHECK(cudaGetLastError());
  }
  void copy(N* device, N* host, index_t size, index_t begin, index_t end, cudaMemcpyKind kind) const {
    if (size == 0 || begin == end) return;
    N *there = device + begin % n_slots_ * size, *here = host + begin * size;
    const bool down = kind == cudaMemcpyDeviceToHost;
    REDUNET_CHECK(cudaMemcpyAsync(down ? here : there, down ? there : here, as_size((end - begin) * size) * sizeof(N),
                                  kind, Device::get().stream()));
  }

  index_t dense_size_, factors_size_, n_slots_;
  bool all_;
  DeviceArray<N> dense_, factors_;
};

}  // namespace redunet::cuda
