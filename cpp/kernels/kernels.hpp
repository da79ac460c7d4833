// The compute kernels, one set per instruction set and scalar type, behind a table of function pointers.
//
// Everything lives in panels: kPanel = 64 bytes of samples (16 floats, 8 doubles) innermost, so that one row of a panel
// is one cache line and, at AVX-512, one register. A panel of C channels is [C][planes][kPanel], planes = 1 (real) or
// 2 (real row, imaginary row). Kernels take raw pointers and sizes; they do not allocate, throw or lock.
#pragma once

#include <cstdint>

#include "shared/index.hpp"

namespace redunet {

constexpr index_t kCacheLine = 64;
template <class T>
constexpr index_t kPanel = kCacheLine / static_cast<index_t>(sizeof(T));

// What becomes of the rows y = A x of a product.
enum class Epilogue {
  kStore,             // out = y
  kAxpy,              // out += coefficient * y, one coefficient per sample
  kCombine,           // out = base * x0 + coefficient * y (x0: same rows of another panel)
  kSquaredNorm,       // squares += weight * |y|^2, summed over rows
  kStoreSquaredNorm,  // both
  kResidualNorm,      // squares += weight * |x0 - y|^2, summed over rows
  kDot,               // squares += weight * Re conj(x0) y, summed over rows
};

// y[i] = sum_d op(A[i, d]) x[d] for rows i in [row_begin, row_end), op = conj or nothing, over n_panels panels.
// A's element (i, d) is at A + i*row_stride + d*col_stride, its imaginary part imag_offset further.
template <class T>
struct Product {
  const T* A;
  index_t row_stride, col_stride, imag_offset;
  bool conj;
  index_t row_begin, row_end, n_in;
  index_t planes;
  const T* x;
  index_t x_stride;  // from panel to panel
  index_t n_panels;
  Epilogue epilogue;
  bool single = false;  // only lane 0 of the one panel is in use
  T* out = nullptr;
  index_t out_stride = 0;
  const T* coefficient = nullptr;  // kPanel per panel
  const T* base = nullptr;         // kPanel per panel
  const T* x0 = nullptr;
  index_t x0_stride = 0;
  T weight = 1;
  T* squares = nullptr;  // kPanel per panel
};

// G[a, b] = (or, if accumulate, +=) sum over the samples of n_panels panels of weight * v_a conj(v_b), for rows a in
// [row_begin, row_end) and b <= a; row_begin is a multiple of kGramRows. Strides as in Product. weights: kPanel per
// panel, or null for ones. With u, panels of as many rows, u_stride apart, it is weight * u_a conj(v_b) for all b in
// [0, n_columns).
constexpr index_t kGramRows = 12;
// Panels that are added up in one run, whose rows stay in the L2 cache.
inline index_t gram_run(index_t rows, index_t planes) {
  constexpr index_t kBytes = 1 << 19, kFewest = 4;
  const index_t run = kBytes / (rows * planes * kCacheLine);
  return run < kFewest ? kFewest : run;
}

template <class T>
struct Gram {
  const T* v;
  index_t panel_stride, n_panels;
  index_t row_begin, row_end, planes;
  const T* weights;
  T* G;
  index_t row_stride, col_stride, imag_offset;
  bool accumulate;
  const T* u = nullptr;
  index_t u_stride = 0;
  index_t n_columns = 0;
};

// kPanel<T> Hermitian matrices side by side: element (i, j) of all of them is a panel row at (i*n + j)*planes*kPanel.
// Only the lower triangle is read and written.
template <class T>
struct Interleaved {
  T* M;
  index_t n, planes;
  T* pivots;    // (n, kPanel): squares of the diagonal of L, less the shift
  T shift = 0;  // what is factored is M + shift I: never added up, a small M loses nothing beside the shift
};

// x <- L^-1 x, row by row: L (n, n) lower triangular with the strides of A in Product, x n rows, planes * kPanel *
// row_step apart, in each of n_panels panels. With conj, negative strides and row_step = -1 it is L^-* x.
template <class T>
struct Substitution {
  const T* L;
  index_t row_stride, col_stride, imag_offset;
  bool conj;
  index_t n, planes;
  T* x;
  index_t row_step, x_stride, n_panels;
};

constexpr index_t kMostTerms = 4;

// v <- moved + sum over at most kMostTerms terms of coefficient * term, and squares += weight * |v|^2, for n_rows rows
// of n_panels panels.
template <class T>
struct Settle {
  const T* moved;
  index_t moved_stride;  // from panel to panel; the terms' is the same
  T* v;
  index_t v_stride, n_panels, n_rows;
  T weight;
  T* squares;  // kPanel per panel
  index_t n_terms = 0;
  const T* const* terms = nullptr;
  const T* const* coefficients = nullptr;  // kPanel per panel, for each term
};

// pi_j = softmax_j(-lambda rho_j) per sample, rho_j = sqrt(squares_j), zero where rho_j exceeds the least by `beyond`.
template <class T>
struct Softmax {
  const T* squares;  // k rows of lanes, `stride` apart
  T* pi;             // likewise
  index_t stride, k, lanes;
  index_t n_samples;  // lanes from here on hold no sample
  T lambda, beyond;
  char* live;  // (k): whether the class has a sample that is not zero
};

// The kernels of the fused layer take whole tiles, [p][C][planes][kPanel] each, with all frequencies in one call, of at
// most so many channels: a column of them fills half of the registers.
constexpr index_t few_channels(index_t planes) { return 16 / planes; }

// squares_j += sum of w_p ||A_j(p) v(p)||^2 over p in [p_begin, p_end), for the classes named; from p = 0 on they begin
// at zero.
template <class T>
struct TileGates {
  index_t C, planes, p_begin, p_end;
  const T* v;
  index_t tile_stride, n_tiles;
  const T* operators;  // (F, C, C) of each class, interleaved, `class_stride` apart
  index_t class_stride;
  const index_t* classes;
  index_t n_classes;
  const T* freq_weights;  // (F)
  T* squares;             // a row of lanes per class, `stride` apart
  index_t stride;
};

// v <- sum_j pi_j A_j v over the classes named, and scale = 1 / max(||v||, smallest_norm), ||v||^2 = sum_p w_p
// ||v(p)||^2.
template <class T>
struct TileMove {
  index_t C, planes, F;
  T* v;
  index_t tile_stride, n_tiles;
  const T* operators;  // as in TileGates
  index_t class_stride;
  const index_t* classes;
  index_t n_classes;
  const T* pi;  // a row of lanes per class, `stride` apart
  index_t stride;
  const T* freq_weights;
  T smallest_norm;
  T* scale;  // one row of lanes
};

// v <- scale v, then G(p) += sum over samples of weight * v v*: gram_entries numbers for each p, and room for kPanel
// more after the last. Null: no scaling, no Gram matrix, weights of one.
template <class T>
struct TileGram {
  index_t C, planes, F;
  T* v;
  index_t tile_stride, n_tiles;
  const T *scale, *weights;  // rows of lanes
  T* G;
};

// --- Neighbours. Rows of D numbers, padded with zeros to whole cache lines. ---

template <class T>
constexpr index_t padded(index_t D) {
  return (D + kPanel<T> - 1) / kPanel<T> * kPanel<T>;
}

// Looks for distances below `limits`, kPanel of them, among squares[i] + products[i, lane] of n_rows panel rows: those
// that are no numbers or infinite count as the largest there is.
template <class T>
struct Nearer {
  const T *products, *squares;
  index_t n_rows;
  const T* limits;
  T* distances;          // of those found, row by row: room for all
  std::int32_t* places;  // i * kPanel + lane
};

// n members of `samples` (rows of D, not padded) as panels [D / kPanel][n][kPanel], less x where they are taken about
// it, and their inner products with x (padded).
template <class T>
struct Window {
  const T* samples;
  index_t D;
  const index_t* members;
  index_t n;
  const T* x;
  bool about;
  T* panels;
  T* along;  // (n)
};

// The lower triangle row by row: real part, and below the diagonal imaginary part; padded to whole cache lines.
template <class T>
constexpr index_t gram_entries(index_t C, index_t planes) {
  const index_t n = planes == 2 ? C * C : C * (C + 1) / 2;
  return (n + kPanel<T> - 1) / kPanel<T> * kPanel<T>;
}

// --- Segmentation: features of the pixels of an image, and the moments of its regions. ---

// Numbers of a pixel's features, or of a row of moments of them: whole panel rows.
constexpr index_t moment_row(index_t D) { return (D + kPanel<double> - 1) / kPanel<double> * kPanel<double>; }

// features(x, d) <- sum over channels, rows i and columns j of filters(channel, i, j, d) image(channel, i, x + j), for
// n pixels of a row: feature d of pixel x at x * moment_row(D) + d.
template <class T>
struct FilteredRow {
  const T* image;
  index_t row_stride, plane_stride;  // to the next row, and channel
  index_t channels, window;
  const T* filters;  // (channels, window, window, D)
  index_t D, n;
  double* features;
};

// n pixels of one region: sums += d and squares += d d*, d = features - origin, which replaces the features. Rows are
// moment_row(D) numbers; squares are as many rows, of which blocks on and below the diagonal are right.
struct RegionRun {
  index_t D, n;
  double* features;
  const double* origin;
  double *sums, *squares;
};

template <class T>
struct Kernels {
  void (*product)(const Product<T>&);
  void (*gram)(const Gram<T>&);
  // M + shift I = L L*: L replaces the lower triangle. A pivot that is not positive is replaced by 1, and recorded as
  // it was. Whether all are positive and finite.
  bool (*cholesky_interleaved)(const Interleaved<T>&);
  // L, with its pivots, becomes the inverse L^-* L^-1 of the matrix it factors.
  void (*invert_interleaved)(const Interleaved<T>&);
  // One block, kPanel rows of planes * kPanel lanes, the whole Hermitian matrix D + shift I = L L*: D <- L* (zero below
  // the diagonal). pivots: squares of the diagonal of L, less the shift; one that is not positive is replaced by 1, and
  // recorded as it was.
  void (*factor_block)(T* D, T* pivots, T shift);
  void (*factor_complex_block)(T* D, T* pivots, T shift);
  void (*substitute)(const Substitution<T>&);
  // x <- L^-* L^-1 x: n_rhs columns, x (n, n_rhs) panel rows like the matrices.
  void (*solve_interleaved)(const Interleaved<T>& L, T* x, index_t n_rhs);
  // x <- L^-1 x and its squared norm, of m vectors: x (m, n) panel rows like the matrices, squares m rows of lanes.
  void (*forms_interleaved)(const Interleaved<T>& L, T* x, index_t m, T* squares);
  // Between `count` at most kPanel arrays of `size` numbers, `stride` apart, and panel rows: lane l of row e is number
  // e of array l (past the last array: of the last).
  void (*interleave)(const T* from, index_t stride, index_t count, index_t size, T* rows);
  void (*deinterleave)(const T* rows, index_t size, T* to, index_t stride, index_t count);
  // The same for `count` matrices, interleaved row-major one after the other: the lower triangle is read; it is written
  // with its mirror image (hermitian) or zeros above the diagonal, which is real.
  void (*read_interleaved)(const T* from, index_t count, const Interleaved<T>&);
  void (*write_interleaved)(const Interleaved<T>&, T* to, index_t count, bool hermitian);
  // Log dets from the pivots, one per lane.
  void (*logdet_interleaved)(const Interleaved<T>&, T* logdets);
  void (*softmax)(const Softmax<T>&);
  // squares <- 1 / max(sqrt(squares), smallest)
  void (*reciprocal_norms)(T* squares, index_t lanes, T smallest);
  // out = scale * v, one scale per sample; out may be v.
  void (*scale)(const T* v, index_t v_stride, T* out, index_t out_stride, index_t n_panels, index_t n_rows,
                const T* scale);
  // out = weight * the sum over rows of v^2, a number for each sample.
  void (*energies)(const T* v, index_t v_stride, index_t n_panels, index_t n_rows, T weight, T* out);
  void (*settle)(const Settle<T>&);
  void (*tile_gates)(const TileGates<T>&);
  void (*tile_move)(const TileMove<T>&);
  void (*tile_gram)(const TileGram<T>&);
  // Rows of n samples about an origin, both padded, and their squared norms.
  void (*about_origin)(const T* samples, index_t n, index_t D, const T* origin, T* rows, T* squares);
  // How many were found.
  index_t (*nearer)(const Nearer<T>&);
  void (*window)(const Window<T>&);
  void (*filter_row)(const FilteredRow<T>&);
};

// --- Clustering by coding length, in double precision. Clusters lie in lanes: panels of single samples, [D][kPanel]
// each, and of clusters of several. F = L - n log n of a cluster; the gain of a merge is F_ij - F_i - F_j. ---

// Samples of one panel row.
constexpr index_t kMergeLanes = kPanel<double>;

// A cluster of n samples, as single samples are compared with it:
//   gain = constant + half log(1 + scale q) + of_mean log(1 + |mean + d weight|^2 / eps^2) - F,  d = x - mean,
// q = |W d|^2, or of one sample |d|^2 or, about zero, x* (I + a y y*)^-1 x, y the sample.
struct MergeCluster {
  bool centred;
  index_t D;
  const double* mean;  // D numbers: of one sample, itself; of several about zero, zeros
  const double* W;     // merge_rows(D) rows of as many numbers, zero above the diagonal; null for one sample
  double constant, half, scale, weight, of_mean, inverse_epsilon_sq;
  double inverse_square = 0, shrink = 0;  // of one sample about zero: 1 / |y|^2, or 1 for y = 0, and 1 / (1 + a |y|^2)
  const float *narrow_mean = nullptr, *narrow_W = nullptr;  // of several, in single precision
};
constexpr index_t merge_rows(index_t D) { return (D + 3) / 4 * 4; }

constexpr index_t kMergeTile = 4;  // vectors together, at most
constexpr index_t merge_work(index_t D) { return D * kMergeTile * kPanel<float>; }

// bounds <- lower bounds of the gains with every sample of some balls, up to rounding: panels of their centres, F the
// largest in each.
struct MergeBalls {
  const double *centres, *F, *radii;
  index_t n_panels;
  double* bounds;
  double* work;  // merge_work(D) numbers
};

// Looks for a gain below `gain` among those with the samples of n_panels panels.
struct MergeSamples {
  const double *x, *F;
  index_t n_panels;
  index_t itself;      // a lane that isn't compared, or -1
  double* work;        // merge_work(D) numbers
  double gain;         // then the lowest
  index_t where = -1;  // of that, of equal ones the first; -1: there is none below
};

// A bit for each kPanel<float> samples of a ball of which one's form, in single precision, is below `farthest`. x are
// the samples in such lanes.
constexpr index_t kMergeBall = 64;
struct MergeScreen {
  const float* x;
  float farthest;
  float* work;  // merge_work(D) numbers
};

// A panel of clusters of several samples: rows of lanes. S scatter about the mean, W with W* W = (I + alpha/(n+1)
// S)^-1; both D (D + 1) / 2 rows of the lower triangle, row by row. The other names as in MergeCluster, constant less
// F. Lanes without a cluster: n = 1, constant infinite, F = -infinity, all else zero.
struct MergePanel {
  double *S, *W, *mean, *n, *F, *constant, *half, *scale, *weight;
};

struct MergeCode {
  bool centred;
  index_t D;
  double alpha, basis, of_mean, inverse_epsilon_sq;  // D / eps^2; D or 0, D / 2 or 0
};

struct MergeKernels {
  void (*bound)(const MergeCluster&, const MergeBalls&);
  void (*search)(const MergeCluster&, MergeSamples&);
  std::uint32_t (*screen)(const MergeCluster&, const MergeScreen&);
  // gains <- those of a sample x with the clusters of a panel, less its F.
  void (*one_with_several)(const MergeCode&, const double* x, const MergePanel&, double* gains);
  // gains <- those of a cluster (lane `lane` of `of`) with the clusters of a panel, itself among them. work: (D + 2) D
  // panel rows.
  void (*several_with_several)(const MergeCode&, const MergePanel& of, index_t lane, const MergePanel&, double* gains,
                               double* work);
  // W of I + scale S, as MergeCluster has it, of the lower triangle S row by row. Returns log det. work: D D numbers.
  double (*factor)(index_t D, const double* S, double scale, double* W, double* work);
};

struct KernelSet {
  const char* name;
  Kernels<float> f32;
  Kernels<double> f64;
  MergeKernels merge;
  void (*add_moments)(const RegionRun&);
};

template <class T>
const Kernels<T>& kernels_of(const KernelSet& set) {
  if constexpr (sizeof(T) == 4)
    return set.f32;
  else
    return set.f64;
}

}  // namespace redunet
