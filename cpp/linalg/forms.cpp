// Some factors first, then their vectors: of many small matrices with few vectors each a matrix is a lane, else a
// vector is. There y = L^-1 x goes by blocks of rows, so that most of it is products.

#include "linalg/forms.hpp"

#include <algorithm>
#include <vector>

#include "base/buffer.hpp"
#include "linalg/batch.hpp"
#include "linalg/blocked_matrix.hpp"
#include "shared/problem.hpp"

namespace redunet {
namespace {

constexpr index_t kRows = 48;      // of a block: the substitution within it is a small part of the products beside it
constexpr double kTaskWork = 1e6;  // multiply-adds of a task: some tens of microseconds
// Factors are kept of so many matrices at a time: what fits the L2 cache, or what keeps threads busy.
constexpr index_t kFactorBytes = 1 << 20, kFewest = 64;
constexpr index_t kMostPanels = 8;  // of a task, which share the rows of L

template <class T>
class Forms {
 public:
  Forms(const KernelSet& set, Parallel& parallel, index_t n, index_t planes, index_t m, const T* L, const T* X,
        T* forms)
      : kernels_(kernels_of<T>(set)),
        parallel_(parallel),
        n_(n),
        planes_(planes),
        m_(m),
        L_(L),
        X_(X),
        forms_(forms),
        work_(as_size(parallel.n_threads())),
        minus_ones_(kMostPanels * B) {
    std::fill_n(minus_ones_.get(), kMostPanels * B, T(-1));
  }

  void run(index_t count) {
    const double cost = double(m_ * n_) * double(n_ * planes_ * planes_) / 2;
    interleaves<T>(count, n_, planes_) && m_ < B / 2 ? matrices_in_lanes(count, cost) : vectors_in_lanes(count, cost);
  }

 private:
  static constexpr index_t B = kPanel<T>;

  Buffer<T>& memory(int thread, index_t size) {
    Buffer<T>& mine = at(work_, thread);
    if (mine.get() == nullptr) mine = Buffer<T>(size);
    return mine;
  }

  void matrices_in_lanes(index_t count, double cost) {
    const index_t matrix = n_ * n_ * planes_, vectors = m_ * n_ * planes_, groups = divide_up(count, B);
    const auto together = static_cast<index_t>(std::clamp(kTaskWork / (cost + 1) / B, 1.0, double(groups)));
    parallel_.run(divide_up(groups, together), cost * double(count), [&](index_t run, int thread) {
      T* const M = memory(thread, (matrix + vectors + m_) * B).get();
      T *const x = M + matrix * B, *const squares = x + vectors * B;
      for (index_t group = run * together; group < std::min(groups, (run + 1) * together); ++group) {
        const index_t first = group * B, used = std::min(B, count - first);
        const Interleaved<T> lanes{.M = M, .n = n_, .planes = planes_, .pivots = nullptr};
        kernels_.read_interleaved(L_ + first * matrix, used, lanes);
        kernels_.interleave(X_ + first * vectors, vectors, used, vectors, x);
        kernels_.forms_interleaved(lanes, x, m_, squares);
        kernels_.deinterleave(squares, m_, forms_ + first * m_, m_, used);
      }
    });
  }

  void vectors_in_lanes(index_t count, double cost) {
    const index_t panels = divide_up(m_, B), panel = n_ * planes_ * B;
    const double fair = kTaskWork / (cost / double(std::max<index_t>(1, m_)) * B + 1);
    const auto together = static_cast<index_t>(std::clamp(fair, 1.0, double(kMostPanels)));
    const index_t parts = divide_up(panels, together);
    parallel_.run(count * parts, cost * double(count), [&](index_t task, int thread) {
      T* const x = memory(thread, panel * kMostPanels).get();
      const index_t i = task / parts, begin = task % parts * together * B, n = std::min(together * B, m_ - begin);
      const T* const L = L_ + i * n_ * n_ * planes_;
      const T* const X = X_ + (i * m_ + begin) * n_ * planes_;
      const index_t n_panels = divide_up(n, B);
      for (index_t t = 0; t < n_panels; ++t)
        kernels_.interleave(X + t * B * n_ * planes_, n_ * planes_, std::min(B, n - t * B), n_ * planes_,
                            x + t * panel);
      substitute(L, x, n_panels);
      for (index_t t = 0; t < n_panels; ++t) {
        T squares[B] = {};
        for (index_t row = 0; row < n_ * planes_; ++row)
          for (index_t lane = 0; lane < B; ++lane) {
            const T y = x[t * panel + row * B + lane];
            squares[lane] += y * y;
          }
        std::copy_n(squares, std::min(B, n - t * B), forms_ + i * m_ + begin + t * B);
      }
    });
  }

  // x <- L^-1 x of vectors in panels [n][planes][B].
  void substitute(const T* L, T* x, index_t n_panels) const {
    const index_t row = n_ * planes_, panel = row * B;
    for (index_t begin = 0; begin < n_; begin += kRows) {
      const index_t rows = std::min(kRows, n_ - begin);
      T* const block = x + begin * planes_ * B;
      if (begin > 0) {
        Product<T> q{};
        q.A = L + begin * row, q.row_stride = row, q.col_stride = planes_, q.imag_offset = 1, q.conj = false;
        q.row_begin = 0, q.row_end = rows, q.n_in = begin, q.planes = planes_;
        q.x = x, q.x_stride = panel, q.n_panels = n_panels;
        q.epilogue = Epilogue::kAxpy, q.out = block, q.out_stride = panel, q.coefficient = minus_ones_.get();
        kernels_.product(q);
      }
      kernels_.substitute({.L = L + begin * (row + planes_),
                           .row_stride = row,
                           .col_stride = planes_,
                           .imag_offset = 1,
                           .conj = false,
                           .n = rows,
                           .planes = planes_,
                           .x = block,
                           .row_step = 1,
                           .x_stride = panel,
                           .n_panels = n_panels});
      checkpoint(rows * (begin + rows) * planes_ * planes_ * n_panels * B);
    }
  }

  const Kernels<T>& kernels_;
  Parallel& parallel_;
  const index_t n_, planes_, m_;
  const T *L_, *X_;
  T* forms_;
  std::vector<Buffer<T>> work_;
  Buffer<T> minus_ones_;
};

}  // namespace

template <class T>
void quadratic_forms(const KernelSet& kernels, Parallel& parallel, const T* A, index_t count, index_t n, index_t planes,
                     const T* X, index_t m, T* forms, T* logdets) {
  if (count == 0) return;
  if (n == 0) {
    std::fill_n(forms, count * m, T(0));
    std::fill_n(logdets, count, T(0));
    return;
  }
  const index_t matrix = n * n * planes;
  const index_t together = std::min(count, std::max(kFewest, kFactorBytes / (matrix * index_t{sizeof(T)})));
  Buffer<T> L(together * matrix);
  for (index_t begin = 0; begin < count; begin += together) {
    const index_t some = std::min(together, count - begin);
    try {
      batched(Task::kCholesky, kernels, parallel, A + begin * matrix, some, n, planes, L.get(), 0);
    } catch (const NotPositiveDefinite&) {
      batched(Task::kLogdet, kernels, parallel, A, count, n, planes, logdets, 0);  // which names it among all
      throw;
    }
    for (index_t i = 0; i < some; ++i)
      logdets[begin + i] = static_cast<T>(2 * log_of_product(L.get() + i * matrix, n, (n + 1) * planes, T(0)));
    if (m > 0)
      Forms<T>(kernels, parallel, n, planes, m, L.get(), X + begin * m * n * planes, forms + begin * m).run(some);
  }
}

#define REDUNET_INSTANTIATE(T)                                                                                 \
  template void quadratic_forms<T>(const KernelSet&, Parallel&, const T*, index_t, index_t, index_t, const T*, \
                                   index_t, T*, T*);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)

}  // namespace redunet
