// The operators of layers on the device: where the contract's arrays lie there, in these; else of all layers where they
// have room, or of two in turn. Products find them
// only where the host says, which in turns doesn't know the layer: for them the layer's are `current`, those that are
// made `next`, and what becomes of them is the device's to say.
#pragma once

#include <algorithm>

#include "kernels/places.hpp"
#include "layer/operators.hpp"

namespace redunet::cuda {

// Of what is free, kept operators take no more than this part; else they leave layer by layer.
constexpr double kShareOfOperators = 0.5;

// The contract's arrays, if they lie on this device.
template <class N>
Operators<N> if_there(N* dense, N* factors) {
  const N* any = dense != nullptr ? dense : factors;
  return Device::get().holds(any) ? Operators<N>{dense, factors} : Operators<N>{};
}

template <class N>
class KeptOperators {
 public:
  // apart: layers are made in `current` and `next`; then there are no slots where nothing is kept. there: the slots of
  // all layers, or nothing.
  KeptOperators(const OperatorLayout& layout, index_t n_layers, bool keep, bool apart = false,
                const Operators<N>& there = {})
      : dense_size_(layout.dense_size() / layout.sizes.planes),
        factors_size_(layout.factors_size() / layout.sizes.planes),
        resident_(there) {
    const std::size_t layer = as_size(dense_size_ + factors_size_) * sizeof(N);
    const auto room = static_cast<index_t>(kShareOfOperators * static_cast<double>(Device::get().free_bytes()) /
                                           static_cast<double>(std::max<std::size_t>(1, layer)));
    all_ = resident_ || (keep && n_layers <= room);
    n_slots_ = all_ ? std::max<index_t>(1, n_layers) : keep || !apart ? 2 : 0;
    const index_t n_own = resident_ ? 0 : n_slots_, n = n_own + (apart ? 2 : 0);
    dense_ = DeviceArray<N>(n * dense_size_);
    factors_ = DeviceArray<N>(n * factors_size_);
    slots_ = resident_ ? there : Operators<N>{dense_.get(), factors_.get()};
    apart_ = {dense_.get() + n_own * dense_size_, factors_.get() + n_own * factors_size_};
  }

  bool all() const { return all_; }
  // Whether they are kept where they are, and need not go to the host or come from there.
  bool resident() const { return resident_; }
  index_t n_slots() const { return n_slots_; }
  Operators<N> of(index_t layer) const { return in(slots_, layer % n_slots_); }
  Operators<N> current() const { return in(apart_, 0); }
  Operators<N> next() const { return in(apart_, 1); }
  // `next` to `current`, and to the slot of the layer, if the last turn says so.
  void install(const Progress* progress) const {
    const bool kept = n_slots_ > 0;
    install(next().dense, current().dense, kept ? slots_.dense : nullptr, dense_size_, progress);
    install(next().factors, current().factors, kept ? slots_.factors : nullptr, factors_size_, progress);
  }
  // Layers [begin, end), which are all in slots of their own, to the host's arrays of all layers.
  void download(index_t begin, index_t end, N* dense, N* factors) const {
    if (resident_) return;
    download(slots_.dense, dense, dense_size_, begin, end);
    download(slots_.factors, factors, factors_size_, begin, end);
  }
  void upload(index_t begin, index_t end, const N* dense, const N* factors) const {
    if (resident_) return;
    upload(slots_.dense, dense, dense_size_, begin, end);
    upload(slots_.factors, factors, factors_size_, begin, end);
  }

 private:
  Operators<N> in(const Operators<N>& first, index_t slot) const {
    return {first.dense + slot * dense_size_, first.factors + slot * factors_size_};
  }
  static void install(const N* made, N* current, N* slots, index_t size, const Progress* progress) {
    if (size == 0) return;
    launch(install_kernel<N>, dim3(place_blocks(size)), dim3(kPlaceThreads), 0, Device::get().stream(), made, current,
           slots, size, progress);
    REDUNET_CHECK(cudaGetLastError());
  }
  void download(const N* slots, N* host, index_t size, index_t begin, index_t end) const {
    Device::get().download(host + begin * size, slots + begin % n_slots_ * size,
                           as_size((end - begin) * size) * sizeof(N));
  }
  void upload(N* slots, const N* host, index_t size, index_t begin, index_t end) const {
    if (size == 0 || begin == end) return;
    REDUNET_CHECK(cudaMemcpyAsync(slots + begin % n_slots_ * size, host + begin * size,
                                  as_size((end - begin) * size) * sizeof(N), cudaMemcpyDefault,
                                  Device::get().stream()));
  }

  index_t dense_size_, factors_size_, n_slots_;
  bool resident_, all_;
  DeviceArray<N> dense_, factors_;
  Operators<N> slots_, apart_;
};

}  // namespace redunet::cuda
