#include "layer/backward.hpp"

#include <algorithm>
#include <cmath>

#include "base/parts.hpp"
#include "layer/members.hpp"

namespace redunet {
namespace {

template <class T>
constexpr index_t B = kPanel<T>;

// A norm this close to the floor is on it.
constexpr double kRounding = 1e-6;
// Tiles that an operator which is read serves, and whose responses stay in the L1 or L2 cache.
constexpr index_t kTilesTogether = 8;
// Of the features of a slab, their gradients and what these become: half of the smallest L2 cache in use.
constexpr index_t kSlabBytes = 1 << 18;
// With fewer frequencies, threads share operators and samples as well.
constexpr index_t kFewFrequencies = 16;

}  // namespace

template <class T>
Backward<T>::Backward(const Kernels<T>& kernels, Parallel& parallel, const OperatorLayout& layout,
                      const double* freq_weights, const Features<T>& v, const LayerRequest<T>& layer,
                      const PullbackRequest<T>& request)
    : kernels_(kernels),
      parallel_(parallel),
      layout_(layout),
      v_(v),
      layer_(layer),
      request_(request),
      k_(static_cast<index_t>(layout.ranks.size()) - 1),
      lanes_(v.n_tiles() * B<T>),
      g_(v.sizes(), v.order()),
      moved_(v.sizes(), v.order()),
      pi_(lanes_of(request.taken.pi, k_, v)),
      scale_(lanes_of(request.taken.scale, 1, v)),
      a_((k_ + 1) * lanes_),
      eta_a_((k_ + 1) * lanes_),
      b_(k_ * lanes_),
      ones_(lanes_),
      etas_(lanes_),
      scratch_(as_size(parallel.n_threads())) {
  const auto [m, C, F, P] = v.sizes();
  for (index_t p = 0; p < F; ++p)
    freq_weights_.push_back(static_cast<T>(freq_weights[p / layout.d] / static_cast<double>(layout.d)));
  g_.read(request.upstream, parallel);
  moved_.read(request.after, parallel);
  const auto eta = static_cast<T>(layer.eta);
  std::fill_n(ones_.get(), lanes_, T(1));
  std::fill_n(etas_.get(), lanes_, eta);
  std::fill_n(b_.get(), k_ * lanes_, T(0));
  for (index_t number = 0; number <= k_; ++number)
    for (index_t i = 0; i < lanes_; ++i) {
      const T a =
          number == 0 ? T(i < m) : static_cast<T>(-layer.gammas[number - 1]) * at(pi_, (number - 1) * lanes_ + i);
      a_[number * lanes_ + i] = a, eta_a_[number * lanes_ + i] = eta * a;
    }
  slab_tiles_ = std::max(kTilesTogether, kSlabBytes / (3 * C * P * kCacheLine));
  slab_tiles_ = std::min(slab_tiles_, v.n_tiles());
  for (auto& own : scratch_) {
    own.v = Buffer<T>(slab_tiles_ * C * P * B<T>);
    own.g = Buffer<T>(slab_tiles_ * C * P * B<T>);
    own.back = Buffer<T>(slab_tiles_ * C * P * B<T>);
    own.responses = Buffer<T>(kTilesTogether * C * P * B<T>);
    own.weighted = Buffer<T>(kTilesTogether * B<T>);
  }
}

template <class T>
double Backward<T>::work() const {
  const auto [m, C, F, P] = v_.sizes();
  return double(m * F) * double(C * C * P * P) * 4;
}

// g <- (g - w z <z, g>) / ||u||, or g / floor where ||u|| was below the floor of norms.
template <class T>
void Backward<T>::project() {
  const auto [m, C, F, P] = v_.sizes();
  const T floor = static_cast<T>((1 - kRounding) / kSmallestNorm);
  parallel_.run(v_.n_tiles(), double(m * C * F * P), [&, C = C, F = F, P = P](index_t tile, int) {
    const T* scale = scale_.data() + tile * B<T>;
    alignas(kCacheLine) T along[B<T>] = {};
    T *g = g_.panel(tile, 0), *z = moved_.panel(tile, 0);
    for (index_t row = 0; row < F * C * P; ++row)
      for (index_t i = 0; i < B<T>; ++i) along[i] += z[row * B<T> + i] * g[row * B<T> + i];
    for (index_t i = 0; i < B<T>; ++i)
      if (!(scale[i] < floor)) along[i] = 0;
    for (index_t p = 0; p < F; ++p)
      for (index_t row = p * C * P; row < (p + 1) * C * P; ++row)
        for (index_t i = 0; i < B<T>; ++i) {
          T& x = g[row * B<T> + i];
          x = scale[i] * (x - at(freq_weights_, p) * along[i] * z[row * B<T> + i]);
        }
  });
}

// dots (lanes of n_tiles tiles) += Re <g, C^j v>.
template <class T>
void Backward<T>::add_dots(index_t j, index_t tile, index_t n_tiles, std::vector<double>& dots) const {
  const auto [m, C, F, P] = v_.sizes();
  alignas(kCacheLine) T sums[kTilesTogether * B<T>] = {};
  for (index_t p = 0; p < F; ++p) {
    Product<T> q{};
    q.A = layout_.dense(layer_.ops, j + 1, p / layout_.d);
    q.row_stride = C * P, q.col_stride = P, q.imag_offset = 1;
    q.planes = P, q.n_panels = n_tiles, q.row_end = C, q.n_in = C;
    q.x = v_.panel(tile, p), q.x_stride = v_.tile_stride();
    q.x0 = g_.panel(tile, p), q.x0_stride = g_.tile_stride();
    q.epilogue = Epilogue::kDot, q.squares = sums;
    kernels_.product(q);
    checkpoint(C * C * P * P * n_tiles * B<T>);
  }
  for (index_t i = 0; i < n_tiles * B<T>; ++i) at(dots, j * lanes_ + tile * B<T> + i) = sums[i];
}

// b of the samples that gate to several classes, and the gradient to lambda without eta.
template <class T>
void Backward<T>::gates() {
  *request_.to_lam = 0;
  if (request_.taken.squares == nullptr) return;
  const auto [m, C, F, P] = v_.sizes();
  const auto pi = [&](index_t j, index_t i) { return at(pi_, j * lanes_ + i); };
  std::vector<char> soft(as_size(lanes_));
  std::vector<Run> tasks;
  for (index_t tile = 0; tile < v_.n_tiles(); ++tile) {
    bool any = false;
    for (index_t i = tile * B<T>; i < (tile + 1) * B<T>; ++i) {
      index_t n = 0;
      for (index_t j = 0; j < k_; ++j) n += pi(j, i) != 0;
      at(soft, i) = n > 1;
      any |= n > 1;
    }
    for (index_t j = 0; any && j < k_; ++j)
      for (index_t i = tile * B<T>; i < (tile + 1) * B<T>; ++i)
        if (at(soft, i) && pi(j, i) != 0) {
          tasks.push_back({j, tile, tile + 1, true});
          break;
        }
  }
  if (tasks.empty()) return;
  std::stable_sort(tasks.begin(), tasks.end(), [](const Run& a, const Run& b) { return a.number < b.number; });
  std::vector<Run> together;  // tasks depend on the problem alone
  for (const Run& run : tasks)
    if (!together.empty() && together.back().number == run.number && together.back().last == run.first &&
        run.last - together.back().first <= kTilesTogether)
      together.back().last = run.last;
    else
      together.push_back(run);
  std::vector<double> dots(as_size(k_ * lanes_), 0.0);
  parallel_.run(static_cast<index_t>(together.size()), work(), [&](index_t task, int) {
    const Run& run = at(together, task);
    add_dots(run.number, run.first, run.last - run.first, dots);
  });
  for (index_t i = 0; i < m; ++i) {
    if (!at(soft, i)) continue;
    double mean = 0;
    for (index_t j = 0; j < k_; ++j) mean -= pi(j, i) * layer_.gammas[j] * at(dots, j * lanes_ + i);
    for (index_t j = 0; j < k_; ++j) {
      if (pi(j, i) == 0) continue;
      const double score = pi(j, i) * (-layer_.gammas[j] * at(dots, j * lanes_ + i) - mean);
      const double rho = std::sqrt(request_.taken.squares[v_.sample(i) * k_ + j]);
      *request_.to_lam -= score * rho;
      if (rho > 0) b_[j * lanes_ + i] = static_cast<T>(-layer_.lam * score / rho);
    }
  }
}

// runs_ <- the tiles where an operator has samples: E everywhere, C^j where a sample gates to it.
template <class T>
void Backward<T>::set_runs() {
  runs_.assign(1, {0, 0, v_.n_tiles(), false});
  for (index_t j = 0; j < k_; ++j)
    for (index_t tile = 0; tile < v_.n_tiles(); ++tile) {
      const T *a = a_.get() + (j + 1) * lanes_ + tile * B<T>, *b = b_.get() + j * lanes_ + tile * B<T>;
      const auto zero = [](T x) { return x == 0; };
      const bool soft = !std::all_of(b, b + B<T>, zero);
      if (!soft && std::all_of(a, a + B<T>, zero)) continue;
      Run& last = runs_.back();
      if (last.number == j + 1 && last.last == tile && last.soft == soft)
        ++last.last;
      else
        runs_.push_back({j + 1, tile, tile + 1, soft});
    }
}

template <class T>
T* Backward<T>::operator_gradient(index_t number, index_t p) const {
  const auto [m, C, F, P] = layout_.sizes;
  const index_t matrix = C * C * P;
  return number == 0 ? request_.E + p * matrix : request_.Cs + ((number - 1) * F + p) * matrix;
}

// A run's part of the gradients at one frequency, of one column of the samples of a slab.
template <class T>
void Backward<T>::add(const Run& run, index_t p, index_t column, index_t slab, Parts parts, Scratch& own) {
  const auto [m, C, F, P] = v_.sizes();
  const index_t panel = C * P * B<T>, n_tiles = run.last - run.first, lane = run.first * B<T>;
  const index_t at_panel = (run.first - slab) * panel;
  const T *A = layout_.dense(layer_.ops, run.number, p), *a = a_.get() + run.number * lanes_ + lane;
  // u, the gradient to the response: all of it, or without `a` where that is a factor.
  const T *u = own.g.get() + at_panel, *weights = a, *coefficient = eta_a_.get() + run.number * lanes_ + lane;
  const T* v = own.v.get() + at_panel;
  Product<T> q{};
  q.A = A, q.imag_offset = 1, q.planes = P, q.n_panels = n_tiles, q.row_end = C, q.n_in = C;
  q.x_stride = q.x0_stride = q.out_stride = panel;
  if (run.soft) {
    const T* b = b_.get() + (run.number - 1) * lanes_ + lane;
    for (index_t i = 0; i < n_tiles * B<T>; ++i) own.weighted[i] = at(freq_weights_, column) * b[i];
    q.row_stride = C * P, q.col_stride = P, q.x = v;
    q.epilogue = Epilogue::kCombine, q.x0 = u, q.base = a, q.coefficient = own.weighted.get();
    q.out = own.responses.get();
    kernels_.product(q);
    u = q.out, weights = nullptr, coefficient = etas_.get();
  }
  if (parts.operators) {
    Gram<T> gram{};
    gram.u = u, gram.v = v, gram.panel_stride = gram.u_stride = panel;
    gram.n_panels = n_tiles, gram.planes = P, gram.row_end = C, gram.n_columns = C, gram.weights = weights;
    gram.G = operator_gradient(run.number, p), gram.row_stride = C * P, gram.col_stride = P, gram.imag_offset = 1;
    gram.accumulate = at(own.started, run.number);
    gram_in_parts(kernels_, gram);
    at(own.started, run.number) = 1;
  }
  if (parts.features) {
    q.row_stride = P, q.col_stride = C * P, q.conj = true, q.x = u;
    q.epilogue = run.number == 0 ? Epilogue::kCombine : Epilogue::kAxpy;
    q.x0 = u, q.base = ones_.get(), q.coefficient = coefficient;
    q.out = own.back.get() + at_panel;
    kernels_.product(q);
  }
  checkpoint(2 * C * C * P * P * n_tiles * B<T>);
}

// Panels of a column lie a multiple of the page apart: a slab of them is taken together, and stays in the L2 cache.
template <class T>
void Backward<T>::at_frequency(index_t p, index_t first_number, index_t last_number, index_t first_tile,
                               index_t last_tile, Parts parts, Scratch& own) {
  const auto [m, C, F, P] = layout_.sizes;
  const index_t panel = C * P * B<T>;
  const auto first = std::lower_bound(runs_.begin(), runs_.end(), first_number,
                                      [](const Run& run, index_t number) { return run.number < number; });
  own.started.assign(as_size(k_ + 1), 0);
  for (index_t slab = first_tile; slab < last_tile; slab += slab_tiles_)
    for (index_t column = p * layout_.d; column < (p + 1) * layout_.d; ++column) {
      const index_t end = std::min(slab + slab_tiles_, last_tile);
      for (index_t tile = slab; tile < end; ++tile) {
        std::copy_n(v_.panel(tile, column), panel, own.v.get() + (tile - slab) * panel);
        std::copy_n(g_.panel(tile, column), panel, own.g.get() + (tile - slab) * panel);
      }
      for (auto run = first; run != runs_.end() && run->number < last_number; ++run) {
        const index_t run_end = std::min(run->last, end), together = run->soft ? kTilesTogether : slab_tiles_;
        for (index_t tile = std::max(run->first, slab); tile < run_end; tile += together)
          add({run->number, tile, std::min(tile + together, run_end), run->soft}, p, column, slab, parts, own);
      }
      for (index_t tile = slab; parts.features && tile < end; ++tile)
        std::copy_n(own.back.get() + (tile - slab) * panel, panel, moved_.panel(tile, column));
    }
  for (index_t number = first_number; parts.operators && number < last_number; ++number)
    if (!at(own.started, number)) std::fill_n(operator_gradient(number, p), C * C * P, T(0));
}

// Gradients to operators were made without eta. <operators, these> is the gradient to eta and, from the gates,
// sum_ij b_ij rho_ij^2, which is lambda times that to lambda.
template <class T>
void Backward<T>::finish_operators() {
  const auto [m, C, F, P] = layout_.sizes;
  const index_t n = (k_ + 1) * F;
  std::vector<double> sums(as_size(n));
  parallel_.run(n, double(n * C * C * P), [&, C = C, F = F, P = P](index_t task, int) {
    const T* A = layout_.dense(layer_.ops, task / F, task % F);
    T* G = operator_gradient(task / F, task % F);
    T sum = 0;
    for (index_t e = 0; e < C * C * P; ++e) {
      sum += A[e] * G[e];
      G[e] *= static_cast<T>(layer_.eta);
    }
    at(sums, task) = sum;
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  *request_.to_eta = total - layer_.lam * *request_.to_lam;
  *request_.to_lam *= layer_.eta;
}

template <class T>
void Backward<T>::run() {
  const index_t F = layout_.sizes.F, n_tiles = v_.n_tiles(), n_slabs = divide_up(n_tiles, kTilesTogether);
  project();
  gates();
  set_runs();
  if (F >= kFewFrequencies) {
    parallel_.run(F, work(), [&](index_t p, int thread) {
      at_frequency(p, 0, k_ + 1, 0, n_tiles, {true, true}, at(scratch_, thread));
    });
  } else {
    parallel_.run(F * (k_ + 1), work(), [&](index_t task, int thread) {
      const index_t number = task % (k_ + 1);
      at_frequency(task / (k_ + 1), number, number + 1, 0, n_tiles, {true, false}, at(scratch_, thread));
    });
    parallel_.run(F * n_slabs, work(), [&](index_t task, int thread) {
      const index_t tile = task % n_slabs * kTilesTogether;
      at_frequency(task / n_slabs, 0, k_ + 1, tile, std::min(tile + kTilesTogether, n_tiles), {false, true},
                   at(scratch_, thread));
    });
  }
  finish_operators();
  moved_.write(request_.features, parallel_);
}

template class Backward<float>;
template class Backward<double>;

}  // namespace redunet
