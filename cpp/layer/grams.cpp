#include "layer/grams.hpp"

#include <algorithm>

#include "base/parts.hpp"
#include "layer/members.hpp"

namespace redunet {
namespace {

// The features in double are those of some frequencies at a time, with all their columns: as many as there are threads,
// or have so many numbers.
constexpr index_t kNumbersTogether = 1 << 20;
// Rows of a Gram matrix that make one task.
constexpr index_t kTaskRows = 8 * kGramRows;

// Columns [first, first + n) in double.
template <class T>
void read(const Features<T>& features, index_t first, index_t n, Features<double>& doubles, Parallel& parallel) {
  constexpr index_t B = kPanel<double>, wide = kPanel<T>;
  const auto [m, C, F, P] = features.sizes();
  parallel.run(doubles.n_tiles(), double(m * C * n * P), [&, C = C, P = P](index_t tile, int) {
    const T* from = features.panel(tile * B / wide, first) + tile * B % wide;
    double* to = doubles.panel(tile, 0);
    for (index_t row = 0; row < n * C * P; ++row)
      for (index_t lane = 0; lane < B; ++lane) to[row * B + lane] = static_cast<double>(from[row * wide + lane]);
  });
}

// The upper triangle of (n, n) interleaved numbers <- the adjoint of the lower one.
void mirror(double* G, index_t n, index_t P) {
  for (index_t i = 0; i < n; ++i) {
    if (P == 2) G[(i * n + i) * P + 1] = 0;
    for (index_t j = 0; j < i; ++j) {
      G[(j * n + i) * P] = G[(i * n + j) * P];
      if (P == 2) G[(j * n + i) * P + 1] = -G[(i * n + j) * P + 1];
    }
  }
}

}  // namespace

template <class T>
void grams_in_double(const Kernels<double>& kernels, Parallel& parallel, const Problem& problem,
                     const Features<T>& features, double* grams) {
  const auto [m, C, columns, P] = features.sizes();
  const index_t d = problem.d, F = columns / d;
  const index_t k1 = problem.n_classes() + 1, matrix = C * C * P, n_blocks = divide_up(C, kTaskRows);
  // Where every sample belongs to the classes in whole, their matrices add up to that of all samples.
  const index_t begin_number = problem.covers(m) ? 1 : 0, n_numbers = k1 - begin_number;
  const index_t together =
      std::clamp(kNumbersTogether / std::max<index_t>(1, m * C * P * d), std::min<index_t>(parallel.n_threads(), F), F);
  std::vector<index_t> order(as_size(m));
  for (index_t i = 0; i < m; ++i) at(order, i) = features.sample(i);
  Features<double> doubles({m, C, together * d, P}, order);
  std::vector<Members<double>> members;
  for (index_t number = begin_number; number < k1; ++number) members.push_back(members_of(problem, doubles, number));
  for (index_t first = 0; first < F; first += together) {
    const index_t n = std::min(together, F - first);
    read(features, first * d, n * d, doubles, parallel);
    parallel.run(n_numbers * n * n_blocks, double(m * n * d) * double(matrix * P),
                 [&, C = C, P = P](index_t task, int) {
                   const index_t block = task % n_blocks, f = task / n_blocks % n, number = task / n_blocks / n;
                   const Members<double>& mine = at(members, number);
                   double* G = grams + ((begin_number + number) * F + first + f) * matrix;
                   const index_t begin = block * kTaskRows, end = std::min(begin + kTaskRows, C);
                   std::fill(G + begin * C * P, G + end * C * P, 0.0);  // a class may have no samples here
                   for (index_t column = f * d; column < (f + 1) * d; ++column)
                     gram_in_parts(kernels, {.v = doubles.panel(mine.first, column),
                                             .panel_stride = doubles.tile_stride(),
                                             .n_panels = mine.last - mine.first,
                                             .row_begin = begin,
                                             .row_end = end,
                                             .planes = P,
                                             .weights = mine.weights.get(),
                                             .G = G,
                                             .row_stride = C * P,
                                             .col_stride = P,
                                             .imag_offset = 1,
                                             .accumulate = true});
                 });
  }
  double* const summed = grams + begin_number * F * matrix;
  parallel.run(n_numbers * F, double(n_numbers * F * matrix),
               [&, C = C, P = P](index_t q, int) { mirror(summed + q * matrix, C, P); });
  if (begin_number == 0) return;
  const index_t row = C * P;
  parallel.run(F * C, double(k1 * F * matrix), [&, F = F, C = C](index_t q, int) {
    double* total = grams + q * row;
    std::copy_n(total + F * C * row, row, total);
    for (index_t number = 2; number < k1; ++number)
      for (index_t e = 0; e < row; ++e) total[e] += total[number * F * C * row + e];
  });
}

template void grams_in_double<float>(const Kernels<double>&, Parallel&, const Problem&, const Features<float>&,
                                     double*);
template void grams_in_double<double>(const Kernels<double>&, Parallel&, const Problem&, const Features<double>&,
                                      double*);

}  // namespace redunet
