// The loops over layers: build, apply, and one layer of each; and the batches of redunet.linalg.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/engine.hpp"
#include "kernels/progress.hpp"
#include "layer/sweep.hpp"

namespace redunet::cuda {
namespace {

// Of what is free, kept operators take no more than this part; else they leave layer by layer.
constexpr double kShareOfOperators = 0.5;
// Layers between two looks at whether the work shall go on.
constexpr index_t kLayersBetweenPolls = 64;

// Samples sorted by class, as they come within one; as they come where classes are soft.
std::vector<int> class_order(const Problem& problem, index_t m) {
  std::vector<int> order(as_size(m));
  std::iota(order.begin(), order.end(), 0);
  if (problem.labels != nullptr)
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return problem.labels[a] < problem.labels[b]; });
  return order;
}

template <class T>
std::vector<T> membership_of(const Problem& problem, const std::vector<int>& order) {
  const index_t k = problem.n_classes();
  const auto m = static_cast<index_t>(order.size());
  std::vector<T> membership(as_size(k * m));
  for (index_t position = 0; position < m; ++position)
    for (index_t j = 0; j < k; ++j) {
      const index_t i = at(order, position);
      at(membership, j * m + position) =
          problem.labels != nullptr ? T(problem.labels[i] == j) : static_cast<T>(problem.membership[i * k + j]);
    }
  return membership;
}

// A layer, captured once and launched again and again.
class Graph {
 public:
  template <class F>
  explicit Graph(const F& layer) {
    const cudaStream_t stream = Device::get().stream();
    REDUNET_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    cudaGraph_t graph = nullptr;
    try {
      layer();
    } catch (...) {
      cudaStreamEndCapture(stream, &graph);
      cudaGraphDestroy(graph);
      throw;
    }
    REDUNET_CHECK(cudaStreamEndCapture(stream, &graph));
    const cudaError_t error = instantiate(&executable_, graph);
    cudaGraphDestroy(graph);
    check(error, "cudaGraphInstantiate", __FILE__, __LINE__);
  }
  ~Graph() { cudaGraphExecDestroy(executable_); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void run() const { REDUNET_CHECK(cudaGraphLaunch(executable_, Device::get().stream())); }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

// The operators of layers on the device: of all layers where they have room, else of two in turn.
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

template <class N>
void check_room(const Problem& problem, const OperatorLayout& layout, int n_spectra) {
  const auto [m, C, F, P] = layout.sizes;
  const std::size_t need = as_size(n_spectra * m * C * F) * sizeof(N) + OperatorBuilder<N>::bytes(problem, layout) +
                           2 * as_size((layout.dense_size() + layout.factors_size()) / P) * sizeof(N);
  const std::size_t free = Device::get().free_bytes();
  if (need > free)
    throw CudaError("a network on " + std::to_string(m) + " samples of " + std::to_string(C) + " x " +
                    std::to_string(F) + " numbers needs at least " + in_gib(need) + " of device memory, and " +
                    in_gib(free) + " are free");
}

void set_progress(const DeviceArray<Progress>& progress, index_t layer, index_t slot, double* etas, double eta) {
  launch(set_progress_kernel, dim3(1), dim3(1), 0, Device::get().stream(), progress.get(), static_cast<int>(layer),
         static_cast<int>(slot), etas, eta);
  REDUNET_CHECK(cudaGetLastError());
}

template <class N>
index_t build_network(const Problem& problem, const Sizes& sizes, N* V, const BuildRequest<Real<N>>& request,
                      const Poll& poll) {
  const OperatorLayout layout(sizes, problem.ranks);
  const index_t n_layers = request.n_layers, k1 = problem.n_classes() + 1;
  const bool search = request.etas == nullptr;
  check_room<N>(problem, layout, search ? 3 : 2);
  const std::vector<int> order = class_order(problem, sizes.m);
  Spectrum<N> features(sizes, order);
  features.read(V);
  OperatorBuilder<N> builder(problem, layout, order, n_layers + 1);
  Sweep<N> sweep(layout, problem.alphas.data(), problem.gammas.data(), problem.freq_weights);
  const KeptOperators<N> kept(layout, n_layers, request.keep);
  N *dense = reinterpret_cast<N*>(request.dense), *factors = reinterpret_cast<N*>(request.factors);
  const bool few = request.shortcuts.one_sweep && problem.labels != nullptr && Sweep<N>::few_channels_fit(layout);
  const DeviceArray<Progress> progress(1);
  DeviceArray<double> etas(std::max<index_t>(1, n_layers));
  if (!search && n_layers > 0) etas.upload(request.etas);
  DeviceArray<Real<N>> membership;
  if (request.given) membership = DeviceArray<Real<N>>(membership_of<Real<N>>(problem, order));
  Device::get().synchronise();

  const auto move = [&](index_t layer) {
    if (few)
      sweep.move_few(features, kept.dense(), progress.get(), etas.get(), request.lam, membership.get(), nullptr);
    else
      sweep.move(features, kept.of(layer), {.eta = etas.get() + layer, .lam = request.lam, .given = membership.get()},
                 nullptr);
  };
  // Operators and rates at the features as they are, the input of `layer`.
  const auto look = [&](index_t layer) {
    if (few) set_progress(progress, layer, kept.slot(layer), nullptr, 0);
    if (few)
      builder.run_few(features, layer < n_layers ? kept.dense() : nullptr, progress.get());
    else
      builder.run(features, layer < n_layers ? kept.of(layer) : Operators<N>{}, static_cast<int>(layer));
    if (request.keep && !kept.all() && layer < n_layers) kept.download(layer, layer + 1, dense, factors);
  };
  const auto read_rates = [&](index_t begin, index_t end) {
    builder.rates(static_cast<int>(begin), static_cast<int>(end), request.rates + begin * k1, true);
  };

  index_t layer = 0;
  if (few && !search && !request.on_layer && (kept.all() || !request.keep) && n_layers > 0) {
    set_progress(progress, -1, kept.n_slots() - 1, nullptr, 0);
    const Graph graph([&] {
      launch(advance_kernel, dim3(1), dim3(1), 0, Device::get().stream(), progress.get(),
             static_cast<int>(kept.n_slots()));
      REDUNET_CHECK(cudaGetLastError());
      builder.run_few(features, kept.dense(), progress.get());
      move(0);
    });
    for (; layer < n_layers; ++layer) {
      graph.run();
      if ((layer + 1) % kLayersBetweenPolls == 0) {
        Device::get().synchronise();
        poll();
      }
    }
    look(layer);
    read_rates(0, n_layers + 1);
    std::copy_n(request.etas, n_layers, request.taken);
  } else {
    look(0);
    index_t rates_read = 0;
    bool settled = false;  // no step raised the rate reduction: every later layer is the same
    const auto catch_up = [&](index_t end) {
      read_rates(rates_read, end);
      rates_read = end;
    };
    for (; layer < n_layers; ++layer) {
      if (search || request.on_layer) catch_up(layer + 1);
      if (search || request.on_layer || layer % kLayersBetweenPolls == 0) {
        Device::get().synchronise();
        poll();
      }
      const double* rates = request.rates + layer * k1;
      if (request.on_layer && request.on_layer(layer, rates) && layer > 0) break;
      if (!search) {
        move(layer);
        look(layer + 1);
        request.taken[layer] = request.etas[layer];
        continue;
      }
      constexpr double kUnit = std::numeric_limits<Real<N>>::epsilon();
      double eta = kNaturalStep / problem.alphas[0];
      features.save();
      for (int halvings = settled ? kMaxHalvings : 0;; ++halvings, eta /= 2) {
        if (halvings == kMaxHalvings) eta = 0, settled = true;
        features.restore();
        set_progress(progress, layer, kept.slot(layer), etas.get(), eta);
        move(layer);
        look(layer + 1);
        read_rates(layer + 1, layer + 2);
        if (settled) break;
        const double* next = request.rates + (layer + 1) * k1;
        if (!falls(problem.reduction(rates), problem.reduction(next), rates[0], kUnit)) break;
      }
      request.taken[layer] = eta;
    }
    if (rates_read <= layer) catch_up(layer + 1);
    if (layer == n_layers && request.on_layer) request.on_layer(layer, request.rates + layer * k1);
  }
  if (request.keep && kept.all()) kept.download(0, layer, dense, factors);
  features.write(V);
  return layer;
}

template <class N>
void apply_network(const OperatorLayout& layout, N* V, const ApplyRequest<Real<N>>& request, const Poll& poll) {
  const index_t n_layers = request.n_layers;
  const N *dense = reinterpret_cast<const N*>(request.dense), *factors = reinterpret_cast<const N*>(request.factors);
  if (n_layers == 0 || layout.sizes.m == 0) return;
  const index_t m = layout.sizes.m, k = static_cast<index_t>(layout.ranks.size()) - 1;
  std::vector<int> order(as_size(m));
  std::iota(order.begin(), order.end(), 0);
  Spectrum<N> features(layout.sizes, order);
  features.read(V);
  Sweep<N> sweep(layout, request.alphas, request.gammas, request.freq_weights);
  const KeptOperators<N> kept(layout, n_layers, true);
  const bool few = request.shortcuts.one_sweep && Sweep<N>::few_channels_fit(layout);
  const DeviceArray<Progress> progress(1);
  const DeviceArray<double> steps(std::vector<double>(request.etas, request.etas + n_layers));
  const DeviceArray<Real<N>> pi(k * m);
  if (kept.all()) kept.upload(0, n_layers, dense, factors);
  for (index_t layer = 0; layer < n_layers; ++layer) {
    if (!kept.all()) kept.upload(layer, layer + 1, dense, factors);
    Real<N>* out = layer + 1 == n_layers ? pi.get() : nullptr;
    if (few) {
      set_progress(progress, layer, kept.slot(layer), nullptr, 0);
      sweep.move_few(features, kept.dense(), progress.get(), steps.get(), request.lam, nullptr, out);
    } else {
      sweep.move(features, kept.of(layer), {.eta = steps.get() + layer, .lam = request.lam, .given = nullptr}, out);
    }
    if ((layer + 1) % kLayersBetweenPolls == 0) {
      Device::get().synchronise();
      poll();
    }
  }
  std::vector<Real<N>> found(as_size(k * m));
  pi.download(found.data());
  features.write(V);
  for (index_t i = 0; i < m; ++i)
    for (index_t j = 0; j < k; ++j) request.assignments[i * k + j] = double(at(found, j * m + i));
}

template <class N>
void operators_of_layer(const Problem& problem, const Sizes& sizes, const N* V, N* dense, N* factors, double* rates) {
  const OperatorLayout layout(sizes, problem.ranks);
  check_room<N>(problem, layout, 2);
  const std::vector<int> order = class_order(problem, sizes.m);
  Spectrum<N> features(sizes, order);
  features.read(V);
  OperatorBuilder<N> builder(problem, layout, order, 1);
  const KeptOperators<N> kept(layout, 1, true);
  const bool wanted = dense != nullptr || factors != nullptr;
  builder.run(features, wanted ? kept.of(0) : Operators<N>{}, 0);
  builder.rates(0, 1, rates, false);
  if (wanted) kept.download(0, 1, dense, factors);
  Device::get().synchronise();
}

template <class N>
void gradient_of(const Problem& problem, const Sizes& sizes, const N* V, N* gradient) {
  const OperatorLayout layout(sizes, problem.ranks);
  check_room<N>(problem, layout, 3);
  const std::vector<int> order = class_order(problem, sizes.m);
  Spectrum<N> features(sizes, order), out(sizes, order);
  features.read(V);
  OperatorBuilder<N> builder(problem, layout, order, 1);
  const KeptOperators<N> kept(layout, 1, true);
  builder.run(features, kept.of(0), 0);
  std::vector<double> rates(problem.alphas.size());
  builder.rates(0, 1, rates.data(), false);
  std::vector<Real<N>> by;
  for (const int i : order)
    by.push_back(static_cast<Real<N>>((problem.weights == nullptr ? 1.0 : problem.weights[i]) * problem.inner /
                                      problem.n_points));
  const DeviceArray<Real<N>> factor(by), pi(membership_of<Real<N>>(problem, order));
  Sweep<N> sweep(layout, problem.alphas.data(), problem.gammas.data(), problem.freq_weights);
  sweep.gradient(features, kept.of(0), pi.get(), factor.get(), out.get());
  out.write(gradient);
}

template <class N>
void hermitian_batch(Task task, const N* A, index_t count, index_t n, Real<N>* logdets, N* out, index_t n_rhs) {
  const index_t size = n * n, rhs = n * n_rhs;
  const std::size_t per_matrix =
      as_size(4 * size + 2 * rhs) * sizeof(N) + Factoriser<N>::bytes_per_matrix(static_cast<int>(n)) + sizeof(double);
  const std::size_t free = Device::get().free_bytes();
  const index_t most = static_cast<index_t>(0.8 * double(free) / double(per_matrix));
  if (most == 0)
    throw CudaError("a matrix of size " + std::to_string(n) + " needs " + in_gib(per_matrix) +
                    " of device memory, and " + in_gib(free) + " are free");
  constexpr index_t kMostAtOnce = 65535;  // of matrices in one launch of cuBLAS
  Factoriser<N> factoriser;
  const index_t room = std::min({count, most, kMostAtOnce});
  const DeviceArray<N> M(room * size), result(room * size), B(room * rhs), X(room * rhs);
  const DeviceArray<double> logs(room);
  std::vector<double> found(as_size(room));
  const cudaStream_t stream = Device::get().stream();
  const auto copy = [&](void* to, const void* from, index_t numbers, cudaMemcpyKind kind) {
    if (numbers > 0) REDUNET_CHECK(cudaMemcpyAsync(to, from, as_size(numbers) * sizeof(N), kind, stream));
  };
  for (index_t begin = 0; begin < count; begin += room) {
    const index_t some = std::min(room, count - begin);
    copy(M.get(), A + begin * size, some * size, cudaMemcpyHostToDevice);
    Factorise<N> q{};
    q.M = M.get(), q.stride = size, q.n = q.ld = q.out_ld = static_cast<int>(n), q.group = static_cast<int>(some);
    q.out_stride = size, q.logdets = logs.get();
    if (task == Task::kCholesky) q.L = result.get();
    if (task == Task::kInverse) q.inverse = result.get();
    if (task == Task::kSolve) q.W = result.get();
    factoriser.run(q, some);
    if (task == Task::kSolve) {
      copy(B.get(), out + begin * rhs, some * rhs, cudaMemcpyHostToDevice);
      const Matrices<const N> W{result.get(), n, size};
      gemm<N>(Op::kNone, Op::kNone, n, n_rhs, n, 1, W, {B.get(), n_rhs, rhs}, 0, {X.get(), n_rhs, rhs}, some);
      gemm<N>(Op::kAdjoint, Op::kNone, n, n_rhs, n, 1, W, {X.get(), n_rhs, rhs}, 0, {B.get(), n_rhs, rhs}, some);
      copy(out + begin * rhs, B.get(), some * rhs, cudaMemcpyDeviceToHost);
    } else if (task != Task::kLogdet) {
      copy(out + begin * size, result.get(), some * size, cudaMemcpyDeviceToHost);
    }
    REDUNET_CHECK(
        cudaMemcpyAsync(found.data(), logs.get(), as_size(some) * sizeof(double), cudaMemcpyDeviceToHost, stream));
    Device::get().synchronise();
    for (index_t i = 0; i < some; ++i) {
      if (!std::isfinite(at(found, i)))
        throw NotPositiveDefinite("matrix " + std::to_string(begin + i) + " of " + std::to_string(count) +
                                  " is not positive definite");
      if (task == Task::kLogdet) logdets[begin + i] = static_cast<Real<N>>(at(found, i));
    }
  }
}

// Calls f(N{}) for the numbers that `planes` planes of T are.
template <class T, class F>
auto with_numbers(index_t planes, const F& f) {
  return planes == 2 ? f(Complex<T>{}) : f(T{});
}

template <class N, class T>
N* as(T* p) {
  return reinterpret_cast<N*>(p);
}
template <class N, class T>
const N* as(const T* p) {
  return reinterpret_cast<const N*>(p);
}

}  // namespace

void open_libraries() {
  cublas();
  cufft();
}

template <class T>
index_t build(const Problem& problem, const Sizes& sizes, T* V, const BuildRequest<T>& request, const Poll& poll) {
  return with_numbers<T>(sizes.planes,
                         [&]<class N>(N) { return build_network<N>(problem, sizes, as<N>(V), request, poll); });
}

template <class T>
void apply(const OperatorLayout& layout, T* V, const ApplyRequest<T>& request, const Poll& poll) {
  with_numbers<T>(layout.sizes.planes, [&]<class N>(N) { apply_network<N>(layout, as<N>(V), request, poll); });
}

template <class T>
void layer_operators(const Problem& problem, const Sizes& sizes, const T* V,
                     const std::optional<LayerOperators<T>>& out, double* rates) {
  with_numbers<T>(sizes.planes, [&]<class N>(N) {
    operators_of_layer<N>(problem, sizes, as<N>(V), out ? as<N>(out->dense) : nullptr,
                          out ? as<N>(out->factors) : nullptr, rates);
  });
}

template <class T>
void rate_gradient(const Problem& problem, const Sizes& sizes, const T* V, T* gradient) {
  with_numbers<T>(sizes.planes, [&]<class N>(N) { gradient_of<N>(problem, sizes, as<N>(V), as<N>(gradient)); });
}

template <class T>
void hermitian(Task task, const T* A, index_t count, index_t n, index_t planes, T* out, index_t n_rhs) {
  if (count == 0 || n == 0) return;
  with_numbers<T>(planes, [&]<class N>(N) {
    hermitian_batch<N>(task, as<N>(A), count, n, task == Task::kLogdet ? out : nullptr,
                       task == Task::kLogdet ? nullptr : as<N>(out), n_rhs);
  });
}

#define REDUNET_INSTANTIATE(T)                                                                                      \
  template index_t build<T>(const Problem&, const Sizes&, T*, const BuildRequest<T>&, const Poll&);                 \
  template void apply<T>(const OperatorLayout&, T*, const ApplyRequest<T>&, const Poll&);                           \
  template void layer_operators<T>(const Problem&, const Sizes&, const T*, const std::optional<LayerOperators<T>>&, \
                                   double*);                                                                        \
  template void rate_gradient<T>(const Problem&, const Sizes&, const T*, T*);                                       \
  template void hermitian<T>(Task, const T*, index_t, index_t, index_t, T*, index_t);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)

}  // namespace redunet::cuda
