// A task is a block of samples and a class: the class goes by in blocks of rows, a product of both says who is near,
// and every sample keeps its nearest in a heap. Then a few samples at a time have their Gram matrices in lanes, in
// double precision, unless these are large.
//
// Of equally near samples the first are kept. Sums depend on the sample alone, so neither threads nor the samples
// beside it change a bit.

#include "classifiers/local.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "base/buffer.hpp"
#include "linalg/blocked_matrix.hpp"
#include "shared/problem.hpp"

namespace redunet {
namespace {

// A block of samples is read once for kRows rows of a class, a few panels with all of the rows at a time: it may come
// from beyond L2, and the more of them there are, the fewer times the class goes by.
constexpr index_t kBlockBytes = 1600 << 10, kMostPanels = 32;
constexpr index_t kRows = 48, kPanelsTogether = 2;
// Matrices up to this size go side by side in lanes, 1 MB of them; larger ones one at a time.
constexpr index_t kLargestInLanes = 128;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <class T>
class Local {
 public:
  Local(const KernelSet& set, Parallel& parallel, const T* X, const T* Z, const T* origin, const LocalRequest& request,
        double* lengths)
      : set_(set),
        kernels_(kernels_of<T>(set)),
        parallel_(parallel),
        X_(X),
        Z_(Z),
        request_(request),
        lengths_(lengths),
        width_(padded<T>(request.D)),
        origin_(width_),
        threads_(as_size(parallel.n_threads())) {
    std::copy_n(origin, request.D, origin_.get());
    for (index_t j = 0; j < request.k; ++j) most_ = std::max(most_, members_of(j));
    lanes_ = most_ < kLargestInLanes ? kPanel<double> : 1;
    const index_t panel = width_ * kCacheLine;
    block_ = kPanel<T> * std::clamp(kBlockBytes / panel, index_t{1}, kMostPanels);
    block_ = std::min(block_, divide_up(request.m, kPanel<T>) * kPanel<T>);
  }

  void run() {
    const index_t n_blocks = divide_up(request_.m, block_);
    const double work = double(request_.m) * double(request_.offsets[request_.k]) * double(request_.D);
    parallel_.run(request_.k * n_blocks, work, [&](index_t task, int thread) {
      Thread& mine = at(threads_, thread);
      if (mine.x.get() == nullptr) prepare(mine);
      const index_t j = task / n_blocks, begin = task % n_blocks * block_;
      const index_t n = std::min(block_, request_.m - begin);
      find(j, begin, n, mine);
      for (index_t i = 0; i < n; i += lanes_) measure(j, begin + i, std::min(lanes_, n - i), i, mine);
    });
  }

 private:
  using Candidate = std::pair<T, index_t>;  // distance, and the training sample

  struct Thread {
    Buffer<T> x, rows, squares, products, distances, limits;  // of the search
    std::vector<std::int32_t> places;
    std::vector<std::vector<Candidate>> heaps;                 // of each sample of a block
    std::vector<index_t> members;                              // (block, n)
    Buffer<T> sample, panels, gram, along;                     // of one sample's window
    Buffer<double> inner, ends, means, squares_of, M, pivots;  // rows of lanes
  };

  index_t members_of(index_t j) const {
    return std::min<index_t>(request_.n_neighbors, request_.offsets[j + 1] - request_.offsets[j]);
  }

  void prepare(Thread& t) const {
    const index_t n = most_ + 1;
    t.x = Buffer<T>(block_ * request_.D), t.rows = Buffer<T>(kRows * width_), t.squares = Buffer<T>(kRows);
    t.products = Buffer<T>(kRows * kPanelsTogether * kPanel<T>), t.distances = Buffer<T>(kRows * kPanel<T>),
    t.limits = Buffer<T>(block_);
    t.places.resize(as_size(kRows * kPanel<T>));
    t.heaps.resize(as_size(block_));
    t.members.resize(as_size(block_ * most_));
    t.sample = Buffer<T>(width_), t.panels = Buffer<T>(most_ * width_), t.gram = Buffer<T>(most_ * most_);
    t.along = Buffer<T>(most_);
    t.inner = Buffer<double>(most_ * most_ * lanes_), t.ends = Buffer<double>(n * lanes_);
    t.means = Buffer<double>(n * lanes_), t.squares_of = Buffer<double>(kOf * lanes_);
    t.M = Buffer<double>(n * n * lanes_), t.pivots = Buffer<double>(n * lanes_);
  }

  // --- The nearest ---

  // Members of class j for every sample of a block, in the order of the training samples.
  void find(index_t j, index_t begin, index_t n, Thread& t) const {
    const index_t first = request_.offsets[j], size = request_.offsets[j + 1] - first, kept = members_of(j);
    if (kept == size) {
      for (index_t i = 0; i < n; ++i)
        for (index_t e = 0; e < kept; ++e) at(t.members, i * kept + e) = first + e;
      return;
    }
    put_in_lanes(begin, n, t);
    const index_t n_panels = divide_up(n, kPanel<T>);
    for (std::vector<Candidate>& heap : t.heaps) heap.clear();
    std::fill_n(t.limits.get(), n, static_cast<T>(kInfinity));
    std::fill(t.limits.get() + n, t.limits.get() + n_panels * kPanel<T>, static_cast<T>(-kInfinity));  // no samples
    for (index_t row = 0; row < size; row += kRows) {
      const index_t n_rows = std::min(kRows, size - row);
      kernels_.about_origin(Z_ + (first + row) * request_.D, n_rows, request_.D, origin_.get(), t.rows.get(),
                            t.squares.get());
      Product<T> q{};
      q.A = t.rows.get(), q.row_stride = width_, q.col_stride = 1;
      q.row_begin = 0, q.row_end = n_rows, q.n_in = request_.D, q.planes = 1;
      q.x_stride = request_.D * kPanel<T>;
      q.epilogue = Epilogue::kStore;
      q.out = t.products.get(), q.out_stride = kRows * kPanel<T>;
      for (index_t panel = 0; panel < n_panels; panel += kPanelsTogether) {
        q.x = t.x.get() + panel * q.x_stride, q.n_panels = std::min(kPanelsTogether, n_panels - panel);
        kernels_.product(q);
        for (index_t p = 0; p < q.n_panels; ++p)
          look_at(panel + p, q.out + p * q.out_stride, first + row, n_rows, kept, t);
        checkpoint(n_rows * q.n_panels * kPanel<T> * request_.D);
      }
    }
    for (index_t i = 0; i < n; ++i) {
      index_t* members = t.members.data() + i * kept;
      const std::vector<Candidate>& heap = at(t.heaps, i);
      for (index_t e = 0; e < kept; ++e) members[e] = at(heap, e).second;
      std::sort(members, members + kept);
    }
  }

  // -2 x of a block, about the origin, as panels [D][kPanel].
  void put_in_lanes(index_t begin, index_t n, Thread& t) const {
    constexpr index_t B = kPanel<T>;
    const index_t D = request_.D;
    for (index_t i = 0; i < n; i += B) {
      T* panel = t.x.get() + i * D;
      kernels_.interleave(X_ + (begin + i) * D, D, std::min(B, n - i), D, panel);
      for (index_t d = 0; d < D; ++d)
        for (index_t lane = 0; lane < B; ++lane) panel[d * B + lane] = -2 * (panel[d * B + lane] - origin_[d]);
    }
  }

  // Who of a block of rows belongs to the nearest of the samples of a panel, by their products.
  void look_at(index_t panel, const T* products, index_t first, index_t n_rows, index_t kept, Thread& t) const {
    constexpr index_t B = kPanel<T>;
    const index_t found = kernels_.nearer({.products = products,
                                           .squares = t.squares.get(),
                                           .n_rows = n_rows,
                                           .limits = t.limits.get() + panel * B,
                                           .distances = t.distances.get(),
                                           .places = t.places.data()});
    for (index_t f = 0; f < found; ++f) {
      const index_t place = at(t.places, f), i = panel * B + place % B;
      const Candidate candidate{t.distances[f], first + place / B};
      std::vector<Candidate>& heap = at(t.heaps, i);
      if (static_cast<index_t>(heap.size()) < kept) {
        heap.push_back(candidate);
        std::push_heap(heap.begin(), heap.end());
      } else if (candidate < heap.front()) {  // the limit was as it is before these rows
        replace_farthest(heap, candidate);
      }
      if (static_cast<index_t>(heap.size()) == kept) t.limits[i] = heap.front().first;
    }
  }

  // Of a full heap: one way down, where std::pop_heap and std::push_heap go two.
  static void replace_farthest(std::vector<Candidate>& heap, const Candidate& by) {
    const std::size_t n = heap.size();
    std::size_t hole = 0;
    for (std::size_t child = 1; child < n; child = 2 * hole + 1) {
      if (child + 1 < n && heap[child] < heap[child + 1]) ++child;
      if (!(by < heap[child])) break;
      heap[hole] = heap[child], hole = child;
    }
    heap[hole] = by;
  }

  // --- Their codes ---

  // Rows of lanes in Thread::squares_of: |x|^2, <mean - c, x>, |mean - c|^2; c is x, or 0 without means.
  enum Of : index_t { kSquare, kAlong, kOffset, kOf };

  // The lengths that `n` samples from `begin` on, number i ... of their block, add to the codes of class j.
  void measure(index_t j, index_t begin, index_t n, index_t i, Thread& t) const {
    const index_t kept = members_of(j);
    for (index_t lane = 0; lane < n; ++lane) gather(begin + lane, t.members.data() + (i + lane) * kept, kept, lane, t);
    const double D = static_cast<double>(request_.D), count = static_cast<double>(kept);
    for (index_t e = 0; e < request_.n_epsilons; ++e) {
      const double epsilon_sq = request_.epsilons[e];
      double before[kPanel<double>], after[kPanel<double>];
      log_dets(kept, false, D / (count * epsilon_sq), n, t, before);
      log_dets(kept, true, D / ((count + 1) * epsilon_sq), n, t, after);
      for (index_t lane = 0; lane < n; ++lane) {
        double length = ((count + 1 + D) * after[lane] - (count + D) * before[lane]) / 2;
        if (request_.centred)
          length += D / 2 *
                    std::log((epsilon_sq + mean_square(count + 1, count, lane, t)) /
                             (epsilon_sq + mean_square(count, count, lane, t)));
        if (!std::isfinite(length)) throw NotPositiveDefinite("a matrix of neighbours is not positive definite");
        lengths_[(e * request_.m + begin + lane) * request_.k + j] = length;
      }
    }
  }

  // Inner products of a sample's members with each other and with it, into a lane.
  void gather(index_t sample, const index_t* members, index_t n, index_t lane, Thread& t) const {
    const T* x = X_ + sample * request_.D;
    std::copy_n(x, request_.D, t.sample.get());
    kernels_.window({.samples = Z_,
                     .D = request_.D,
                     .members = members,
                     .n = n,
                     .x = t.sample.get(),
                     .about = request_.centred,
                     .panels = t.panels.get(),
                     .along = t.along.get()});
    kernels_.gram({.v = t.panels.get(),
                   .panel_stride = n * kPanel<T>,
                   .n_panels = width_ / kPanel<T>,
                   .row_begin = 0,
                   .row_end = n,
                   .planes = 1,
                   .weights = nullptr,
                   .G = t.gram.get(),
                   .row_stride = n,
                   .col_stride = 1,
                   .imag_offset = 0,
                   .accumulate = false});
    double square = 0, along = 0;
    for (index_t d = 0; d < request_.D; ++d) square += double(x[d]) * double(x[d]);
    for (index_t a = 0; a < n; ++a) {
      t.ends[a * lanes_ + lane] = double(t.along[a]), along += double(t.along[a]);
      for (index_t b = 0; b <= a; ++b) {
        const auto g = static_cast<double>(t.gram[a * n + b]);
        t.inner[(a * n + b) * lanes_ + lane] = t.inner[(b * n + a) * lanes_ + lane] = g;
      }
    }
    double total = 0;
    for (index_t a = 0; a < n; ++a) {
      double sum = 0;
      for (index_t b = 0; b < n; ++b) sum += t.inner[(a * n + b) * lanes_ + lane];
      t.means[a * lanes_ + lane] = sum / static_cast<double>(n), total += sum;
    }
    const double count = static_cast<double>(n);
    t.squares_of[kSquare * lanes_ + lane] = square;
    t.squares_of[kAlong * lanes_ + lane] = along / count;
    t.squares_of[kOffset * lanes_ + lane] = total / (count * count);
  }

  // |mean|^2 of n members, or with the sample of n + 1: m of them are counted.
  double mean_square(double m, double n, index_t lane, const Thread& t) const {
    const auto of = [&](Of row) { return t.squares_of[row * lanes_ + lane]; };
    const double share = n / m;
    return std::max(0.0, of(kSquare) + 2 * share * of(kAlong) + share * share * of(kOffset));
  }

  // log det(I + scale M) of the members of each lane's sample, `with` the sample or without. About their mean: with g
  // inner products about the sample, M_ij = g_ij - r_i - r_j + q, r and q means of a row and of all; the sample is
  // zero.
  void log_dets(index_t n, bool with, double scale, index_t used, Thread& t, double* out) const {
    const index_t size = n + (with ? 1 : 0);
    const double share = with ? double(n) / double(size) : 1;
    double* const M = t.M.get();
    const auto put = [&](index_t a, index_t b, const auto& of) {
      double* to = M + (a * size + b) * lanes_;
      for (index_t lane = 0; lane < lanes_; ++lane) to[lane] = scale * of(lane);
    };
    const auto mean = [&](index_t a, index_t lane) { return share * t.means[a * lanes_ + lane]; };
    const auto all = [&](index_t lane) { return share * share * t.squares_of[kOffset * lanes_ + lane]; };
    const auto inner = [&](index_t a, index_t b, index_t lane) { return t.inner[(a * n + b) * lanes_ + lane]; };
    for (index_t a = 0; a < n; ++a)
      for (index_t b = 0; b <= a; ++b) {
        if (request_.centred)
          put(a, b, [&](index_t lane) { return inner(a, b, lane) - mean(a, lane) - mean(b, lane) + all(lane); });
        else
          put(a, b, [&](index_t lane) { return inner(a, b, lane); });
      }
    for (index_t b = 0; with && b < n; ++b) {
      if (request_.centred)
        put(n, b, [&](index_t lane) { return all(lane) - mean(b, lane); });
      else
        put(n, b, [&](index_t lane) { return t.ends[b * lanes_ + lane]; });
    }
    if (with)
      put(n, n, [&](index_t lane) { return request_.centred ? all(lane) : t.squares_of[kSquare * lanes_ + lane]; });
    if (lanes_ > 1) {
      set_.f64.cholesky_interleaved({.M = M, .n = size, .planes = 1, .pivots = t.pivots.get(), .shift = 1});
      for (index_t lane = 0; lane < used; ++lane) out[lane] = log_of_product(t.pivots.get() + lane, size, lanes_, 1.0);
    } else {
      BlockedMatrix<double> one(set_.f64, size, 1);
      one.read(M, size, 1, 0, 1, 1);
      out[0] = one.cholesky();
    }
  }

  const KernelSet& set_;
  const Kernels<T>& kernels_;
  Parallel& parallel_;
  const T *X_, *Z_;
  const LocalRequest& request_;
  double* lengths_;
  const index_t width_;
  Buffer<T> origin_;
  index_t most_ = 0, lanes_ = 1, block_ = 0;  // members at most; samples side by side, and of a task
  std::vector<Thread> threads_;
};

}  // namespace

template <class T>
void local_increments(const KernelSet& kernels, Parallel& parallel, const T* X, const T* Z, const T* origin,
                      const LocalRequest& request, double* lengths) {
  if (request.m == 0) return;
  Local<T>(kernels, parallel, X, Z, origin, request, lengths).run();
}

template void local_increments<float>(const KernelSet&, Parallel&, const float*, const float*, const float*,
                                      const LocalRequest&, double*);
template void local_increments<double>(const KernelSet&, Parallel&, const double*, const double*, const double*,
                                       const LocalRequest&, double*);

}  // namespace redunet
