// From features to the operators of a layer: E = alpha (I + alpha G)^-1 and C^j = alpha_j (I + alpha_j G_j)^-1 with
// G_j(p) = sum_i pi_ij v_i(p) v_i(p)*, and their log dets, which are the rates.
//
// Dense operators come from C x C Gram matrices, which lie either in lanes (kPanel problems side by side) or one by
// one. Small classes come from the r x r matrix K = I + a V* V = L L* of their r samples, as factors: Q = sqrt(a) V
// L^-*, C^j = alpha_j (I - Q Q*) (factored.cpp).

#include <algorithm>
#include <cmath>

#include "base/parts.hpp"
#include "layer/in_double.hpp"

namespace redunet {
namespace {

template <class T>
constexpr index_t B = kPanel<T>;

// Rows of a large Gram matrix that make one task.
constexpr index_t kGramTaskRows = 8 * kGramRows;

// Of a Gram matrix that the fused layer sums.
template <class T>
constexpr index_t kMostEntries = std::max(gram_entries<T>(few_channels(1), 1), gram_entries<T>(few_channels(2), 2));

}  // namespace

template <class T>
OperatorBuilder<T>::OperatorBuilder(const KernelSet& set, Parallel& parallel, const Problem& problem,
                                    const Features<T>& features)
    : set_(set),
      kernels_(kernels_of<T>(set)),
      parallel_(parallel),
      problem_(problem),
      layout_(features.sizes(), problem.ranks, problem.d),
      scratch_(as_size(parallel.n_threads())) {
  const auto [m, C, F, P] = layout_.sizes;
  const index_t k = problem.n_classes();
  for (index_t number = 0; number <= k; ++number) members_.push_back(members_of(problem, features, number));
  for (index_t number = 0; number <= k; ++number)
    (at(problem.ranks, number) == 0 ? dense_numbers_ : factored_numbers_).push_back(number);
  const auto n_dense = static_cast<index_t>(dense_numbers_.size());
  total_is_sum_ = k > 1 && factored_numbers_.empty() && problem.covers(m);
  interleaved_ = interleaves<T>(n_dense * F, C, P);
  slot_stride_ = interleaved_ && F >= B<T> ? divide_up(F, B<T>) * B<T> : F;  // groups of few problems share lanes
  const index_t matrices = interleaved_ ? divide_up(n_dense * slot_stride_, B<T>) * B<T> : n_dense * F;
  grams_ = Buffer<T>(matrices * C * C * P);
  logdets_ = Buffer<double>((k + 1) * F);
  if (sizeof(T) == 4) {
    errors_ = Buffer<double>((k + 1) * F);
    gram_errors_.resize(as_size(k + 1));
    in_double_.resize(as_size(k + 1));
  }
  const index_t most = *std::max_element(problem.ranks.begin(), problem.ranks.end());
  for (auto& own : scratch_) own.factored.resize(as_size(most + 1));
  summed_numbers_.assign(dense_numbers_.begin() + (total_is_sum_ ? 1 : 0), dense_numbers_.end());
}

template <class T>
OperatorBuilder<T>::~OperatorBuilder() = default;  // here, where InDouble is known

template <class T>
double OperatorBuilder<T>::gram_work() const {
  const auto [m, C, F, P] = layout_.sizes;
  return double(m * layout_.d) * double(F * C * C * P);
}

template <class T>
double OperatorBuilder<T>::invert_work() const {
  const auto [m, C, F, P] = layout_.sizes;
  return double(static_cast<index_t>(dense_numbers_.size()) * F * C * C) * double(C * P);
}

template <class T>
T* OperatorBuilder<T>::gram_at(index_t q) {
  const index_t matrix = layout_.sizes.C * layout_.sizes.C * layout_.sizes.planes;
  return interleaved_ ? grams_.get() + q / B<T> * matrix * B<T> + q % B<T> : grams_.get() + q * matrix;
}

template <class T>
void OperatorBuilder<T>::gram(const Features<T>& features, index_t number, index_t p, index_t row_begin,
                              index_t row_end) {
  const auto [m, C, F, P] = layout_.sizes;
  const Members<T>& members = at(members_, number);
  const index_t element = interleaved_ ? P * B<T> : P;
  Gram<T> g{};
  g.panel_stride = features.tile_stride();
  g.row_begin = row_begin, g.row_end = row_end, g.planes = P;
  g.G = gram_at(at(layout_.slot, number) * slot_stride_ + p);
  g.row_stride = C * element, g.col_stride = element, g.imag_offset = interleaved_ ? B<T> : 1;
  const auto part = [&](index_t first, index_t last, bool plain) {
    if (first >= last) return;
    g.n_panels = last - first;
    g.weights = plain ? nullptr : members.weights.get() + (first - members.first) * B<T>;
    for (index_t c = 0; c < layout_.d; ++c) {
      g.v = features.panel(first, p * layout_.d + c);
      gram_in_parts(kernels_, g);
      g.accumulate = true;
    }
  };
  // Multiplying by weights of one costs little; a run of its own pays when it is long.
  constexpr index_t kLongRun = 8;
  if (members.plain_last - members.plain_first >= kLongRun) {
    part(members.first, members.plain_first, false);
    part(members.plain_first, members.plain_last, true);
    part(members.plain_last, members.last, false);
  } else if (members.weights.get() == nullptr) {
    part(members.first, members.last, true);
  } else {
    part(members.first, members.last, false);
  }
}

template <class T>
void OperatorBuilder<T>::run(const Features<T>& features, const std::optional<LayerOperators<T>>& out, double* rates) {
  run(features, out);
  set_rates(features, out, rates);
}

template <class T>
void OperatorBuilder<T>::run(const Features<T>& features, const std::optional<LayerOperators<T>>& out) {
  const auto [m, C, F, P] = layout_.sizes;
  const index_t run_length = gram_run(C, P), n_panels = features.n_tiles() * layout_.d;
  set_gram_errors(std::min(n_panels, run_length + n_panels / run_length + layout_.d - 1));
  const auto n_dense = static_cast<index_t>(dense_numbers_.size());
  const index_t groups = divide_up(n_dense * slot_stride_, B<T>);
  if (interleaved_ && !total_is_sum_ && groups >= kFewestTasks * parallel_.n_threads()) {
    const Factorings factorings(*this);
    const double work = gram_work() + invert_work() + factorings.work;
    parallel_.run(groups + factorings.n_tasks, work, [&, C = C, F = F](index_t task, int thread) {
      if (task >= groups) return factor(task - groups, factorings, features, out, at(scratch_, thread));
      for (index_t q = task * B<T>; q < std::min((task + 1) * B<T>, n_dense * slot_stride_); ++q)
        if (q % slot_stride_ < F) gram(features, at(dense_numbers_, q / slot_stride_), q % slot_stride_, 0, C);
      invert_group(task, out, at(scratch_, thread));
    });
  } else {
    const index_t n_blocks = divide_up(C, kGramTaskRows);
    const index_t first = total_is_sum_ ? 1 : 0;  // dense slot 0 is E's when every operator is dense
    parallel_.run((n_dense - first) * F * n_blocks, gram_work(), [&, C = C, F = F](index_t task, int) {
      const index_t block = n_blocks - 1 - task % n_blocks, p = task / n_blocks % F, slot = first + task / n_blocks / F;
      gram(features, at(dense_numbers_, slot), p, block * kGramTaskRows, std::min((block + 1) * kGramTaskRows, C));
    });
    invert_and_factor(total_is_sum_, features, out);
  }
}

template <class T>
void OperatorBuilder<T>::run(const std::vector<GramSum<T>>& sums, index_t longest, const Features<T>& features,
                             const std::optional<LayerOperators<T>>& out, double* rates) {
  const auto [m, C, F, P] = layout_.sizes;
  set_gram_errors(longest);
  const index_t n_entries = gram_entries<T>(C, P), n_groups = divide_up(F, B<T>);
  const std::vector<index_t>& numbers = summed_numbers_;
  const double work = double(sums.size()) * double(F * n_entries);
  parallel_.run(static_cast<index_t>(numbers.size()) * n_groups, work, [&, C = C, F = F, P = P](index_t task, int) {
    const index_t number = at(numbers, task / n_groups), first = task % n_groups * B<T>,
                  n_freqs = std::min(B<T>, F - first), slot = at(layout_.slot, number);
    T total[B<T> * kMostEntries<T>];
    std::fill_n(total, n_freqs * n_entries, T(0));
    for (const GramSum<T>& sum : sums)
      if (sum.number == number)
        for (index_t e = 0; e < n_freqs * n_entries; ++e) total[e] += sum.G[first * n_entries + e];
    const index_t element = interleaved_ ? P * B<T> : P, imag = interleaved_ ? B<T> : 1;
    for (index_t f = 0; f < n_freqs; ++f) {
      T* G = gram_at(slot * slot_stride_ + first + f);
      const T* entry = total + f * n_entries;
      for (index_t i = 0; i < C; ++i)
        for (index_t j = 0; j <= i; ++j) {
          T* to = G + (i * C + j) * element;
          to[0] = *entry++;
          if (P == 2) to[imag] = i == j ? T(0) : *entry++;
        }
    }
  });
  invert_and_factor(total_is_sum_, features, out);
  set_rates(features, out, rates);
}

template <class T>
void OperatorBuilder<T>::run(const T* grams, const Features<T>& none, const LayerOperators<T>& out, double* rates) {
  const auto [m, C, F, P] = layout_.sizes;
  const auto n_dense = static_cast<index_t>(dense_numbers_.size());
  const index_t element = interleaved_ ? P * B<T> : P, imag = interleaved_ ? B<T> : 1;
  for (index_t slot = 0; slot < n_dense; ++slot)
    for (index_t p = 0; p < F; ++p) {
      const T* from = grams + (at(dense_numbers_, slot) * F + p) * C * C * P;
      T* G = gram_at(slot * slot_stride_ + p);
      for (index_t e = 0; e < C * C; ++e) {
        G[e * element] = from[e * P];
        if (P == 2) G[e * element + imag] = from[e * P + 1];
      }
    }
  invert_and_factor(false, none, out);
  sum_rates(rates);
  check_logdets();
}

// Dense operators from the Gram matrices, and factors, which need none; add_up: the Gram of all samples from those of
// the classes.
template <class T>
void OperatorBuilder<T>::invert_and_factor(bool add_up, const Features<T>& features,
                                           const std::optional<LayerOperators<T>>& out) {
  const auto [m, C, F, P] = layout_.sizes;
  const auto n_dense = static_cast<index_t>(dense_numbers_.size());
  if (interleaved_ && add_up)  // before the class Grams are inverted in place
    parallel_.run(std::max<index_t>(1, slot_stride_ / B<T>), double(n_dense * F * C * C * P),
                  [&](index_t group, int) { add_up_total(group); });
  const Factorings factorings(*this);
  const index_t n_inverses = interleaved_ ? divide_up(n_dense * slot_stride_, B<T>) : n_dense * F;
  parallel_.run(n_inverses + factorings.n_tasks, invert_work() + factorings.work, [&](index_t task, int thread) {
    Scratch& scratch = at(scratch_, thread);
    if (task >= n_inverses) return factor(task - n_inverses, factorings, features, out, scratch);
    if (interleaved_) return invert_group(task, out, scratch);
    if (add_up && task < slot_stride_) add_up_total(task);
    invert_matrix(task, out, scratch);
  });
}

// G of slot 0 <- the sum of the class Grams: one matrix, one lane group, or (few frequencies) everything.
template <class T>
void OperatorBuilder<T>::add_up_total(index_t part) {
  const auto [m, C, F, P] = layout_.sizes;
  const auto n_dense = static_cast<index_t>(dense_numbers_.size());
  const index_t matrix = C * C * P;
  if (interleaved_ && slot_stride_ % B<T> != 0) {
    for (index_t p = 0; p < F; ++p)
      for (index_t e = 0; e < matrix; ++e) {
        T sum = 0;
        for (index_t slot = 1; slot < n_dense; ++slot) sum += gram_at(slot * slot_stride_ + p)[e * B<T>];
        gram_at(p)[e * B<T>] = sum;
      }
    return;
  }
  const index_t size = interleaved_ ? matrix * B<T> : matrix, step = slot_stride_ * matrix;
  T* total = grams_.get() + part * size;
  std::memcpy(total, total + step, as_size(size) * sizeof(T));
  for (index_t slot = 2; slot < n_dense; ++slot) {
    const T* G = total + slot * step;
    for (index_t e = 0; e < size; ++e) total[e] += G[e];
  }
}

template <class T>
void OperatorBuilder<T>::invert_group(index_t group, const std::optional<LayerOperators<T>>& out, Scratch& scratch) {
  const auto [m, C, F, P] = layout_.sizes;
  const auto n_dense = static_cast<index_t>(dense_numbers_.size());
  if (scratch.pivots.get() == nullptr) scratch.pivots = Buffer<T>(C * B<T>);
  if (scratch.diagonal.get() == nullptr) scratch.diagonal = Buffer<T>(C * B<T>);
  T* M = grams_.get() + group * B<T> * C * C * P;
  T a[B<T>];
  index_t number[B<T>], frequency[B<T>];
  for (index_t lane = 0; lane < B<T>; ++lane) {
    const index_t q = group * B<T> + lane, slot = q / slot_stride_;
    frequency[lane] = q % slot_stride_;
    number[lane] = slot < n_dense && frequency[lane] < F ? at(dense_numbers_, slot) : -1;
    a[lane] = number[lane] < 0 ? T(0) : static_cast<T>(scale(number[lane]));
  }
  for (index_t i = 0; i < C; ++i)
    for (index_t j = 0; j <= i; ++j)
      for (index_t plane = 0; plane < P; ++plane) {
        T* row = M + ((i * C + j) * P + plane) * B<T>;
        for (index_t lane = 0; lane < B<T>; ++lane) row[lane] *= a[lane];
      }
  // The diagonal of a G; with that of the inverse, what an error of G does to the log dets.
  T* const diagonal = scratch.diagonal.get();
  for (index_t i = 0; i < C; ++i) std::copy_n(M + (i * C + i) * P * B<T>, B<T>, diagonal + i * B<T>);
  const Interleaved<T> lanes{.M = M, .n = C, .planes = P, .pivots = scratch.pivots.get(), .shift = 1};
  kernels_.cholesky_interleaved(lanes);
  if (out) kernels_.invert_interleaved(lanes);
  T sensitivity[B<T>] = {};
  for (index_t i = 0; i < C; ++i)
    for (index_t lane = 0; lane < B<T>; ++lane)
      sensitivity[lane] += diagonal[i * B<T> + lane] * (out ? M[(i * C + i) * P * B<T> + lane] : T(1));
  for (index_t lane = 0; lane < B<T>; ++lane)
    if (number[lane] >= 0)
      set_logdet(number[lane], frequency[lane], log_of_product(lanes.pivots + lane, C, B<T>, T(1)), sensitivity[lane]);
  if (!out) return;
  index_t n_used = 0;  // the first lanes, and neighbours in the operators too
  for (index_t lane = 0; lane < B<T>; ++lane) {
    a[lane] = number[lane] < 0 ? T(0) : static_cast<T>(at(problem_.alphas, number[lane]));
    n_used += number[lane] >= 0;
  }
  for (index_t i = 0; i < C; ++i)
    for (T *row = M + i * C * P * B<T>, *end = row + (i + 1) * P * B<T>; row < end; row += B<T>)
      for (index_t lane = 0; lane < B<T>; ++lane) row[lane] *= a[lane];
  if (n_used > 0) kernels_.write_interleaved(lanes, layout_.dense(*out, number[0], frequency[0]), n_used, true);
}

template <class T>
void OperatorBuilder<T>::invert_matrix(index_t q, const std::optional<LayerOperators<T>>& out, Scratch& scratch) {
  const auto [m, C, F, P] = layout_.sizes;
  const index_t number = at(dense_numbers_, q / F), p = q % F;
  if (!scratch.matrix) scratch.matrix = std::make_unique<BlockedMatrix<T>>(kernels_, C, P);
  BlockedMatrix<T>& M = *scratch.matrix;
  const T* G = gram_at(q);
  M.read(G, C * P, P, 1, static_cast<T>(scale(number)), T(1));
  const double logdet = out ? M.invert() : M.cholesky();
  double sensitivity = 0;
  for (index_t i = 0; i < C; ++i)
    sensitivity += scale(number) * static_cast<double>(G[i * (C + 1) * P]) * (out ? double(M.at(i, i)[0]) : 1.0);
  set_logdet(number, p, logdet, sensitivity);
  if (out) M.write(layout_.dense(*out, number, p), C * P, static_cast<T>(at(problem_.alphas, number)), true);
}

template class OperatorBuilder<float>;
template class OperatorBuilder<double>;

}  // namespace redunet
