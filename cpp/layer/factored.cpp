// Small classes as factors, in four steps for the kPanel frequencies of a group: the class's samples as rows, their
// small matrices conj(K) with K = I + a V* V, its factor L, and L^-1 rows, which is the transpose of Q = sqrt(a) V
// L^-*.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/parts.hpp"
#include "layer/in_double.hpp"

namespace redunet {
namespace {

template <class T>
constexpr index_t B = kPanel<T>;

}  // namespace

template <class T>
OperatorBuilder<T>::FactorGroup::FactorGroup(index_t number_, index_t group, index_t rank_, const Sizes& sizes)
    : number(number_),
      rank(rank_),
      first(group * B<T>),
      n_freqs(std::min(B<T>, sizes.F - first)),
      n_panels(divide_up(sizes.C, B<T>)),
      panel(rank * sizes.planes * B<T>),
      rows(n_panels * panel),
      interleaved(interleaves<T>(n_freqs, rank, sizes.planes)) {}

template <class T>
OperatorBuilder<T>::Factorings::Factorings(const OperatorBuilder& builder) {
  const auto n_factored = static_cast<index_t>(builder.factored_numbers_.size());
  if (n_factored == 0) return;
  const index_t groups = divide_up(builder.layout_.sizes.F, B<T>);
  together = groups >= kFewestTasks * builder.parallel_.n_threads() ? n_factored : 1;
  n_tasks = groups * n_factored / together;
  work = builder.gram_work();
}

template <class T>
void OperatorBuilder<T>::factor(index_t task, const Factorings& factorings, const Features<T>& features,
                                const std::optional<LayerOperators<T>>& out, Scratch& scratch) {
  const auto n_factored = static_cast<index_t>(factored_numbers_.size());
  for (index_t part = task * factorings.together; part < (task + 1) * factorings.together; ++part) {
    const index_t number = at(factored_numbers_, part % n_factored);
    const FactorGroup group(number, part / n_factored, at(problem_.ranks, number), layout_.sizes);
    gather(features, group, scratch);
    group.interleaved ? factor_interleaved(features, group, out, scratch)
                      : factor_singly(features, group, out, scratch);
  }
}

// rows <- sqrt(a weight_i) v_i(p), channels in lanes.
template <class T>
void OperatorBuilder<T>::gather(const Features<T>& features, const FactorGroup& group, Scratch& scratch) {
  const auto [m, C, F, P] = layout_.sizes;
  if (scratch.rows.get() == nullptr) {
    const index_t most = *std::max_element(problem_.ranks.begin(), problem_.ranks.end());
    scratch.rows = Buffer<T>(std::min(B<T>, F) * group.n_panels * most * P * B<T>);
    scratch.lanes = Buffer<T>(most * most * P * B<T>);
    if (scratch.pivots.get() == nullptr) scratch.pivots = Buffer<T>(std::max(C, most) * B<T>);
  }
  const Members<T>& members = at(members_, group.number);
  const double a = scale(group.number);
  if (C % B<T> != 0)  // lanes past the last channel
    std::memset(scratch.rows.get(), 0, as_size(group.n_freqs * group.rows) * sizeof(T));
  scratch.positions.clear(), scratch.by.clear();
  alignas(kCacheLine) T samples[B<T> * B<T>];
  for (index_t tile = members.first; tile < members.last; ++tile) {
    const auto n_rows = static_cast<index_t>(scratch.positions.size());
    index_t lanes[B<T>], n_lanes = 0;
    for (index_t lane = 0; lane < B<T> && tile * B<T> + lane < m; ++lane) {
      if (!problem_.takes_part(features.sample(tile * B<T> + lane), group.number)) continue;
      const double weight =
          members.weights.get() == nullptr ? 1.0 : members.weights[(tile - members.first) * B<T> + lane];
      scratch.positions.push_back(tile * B<T> + lane);
      scratch.by.push_back(static_cast<T>(std::sqrt(a * weight)));
      lanes[n_lanes++] = lane;
    }
    const T* by = scratch.by.data() + n_rows;
    for (index_t f = 0; f < group.n_freqs; ++f)
      for (index_t c = 0; c < C; c += B<T>)
        for (index_t plane = 0; plane < P; ++plane) {
          const index_t n_channels = std::min(B<T>, C - c);
          kernels_.interleave(features.panel(tile, group.first + f) + (c * P + plane) * B<T>, P * B<T>, n_channels,
                              B<T>, samples);
          T* to = scratch.rows.get() + f * group.rows + c / B<T> * group.panel + (n_rows * P + plane) * B<T>;
          for (index_t u = 0; u < n_lanes; ++u, to += P * B<T>)
            for (index_t lane = 0; lane < n_channels; ++lane) to[lane] = by[u] * samples[lanes[u] * B<T> + lane];
        }
  }
}

// conj(K - I) of one frequency: row i, column j is rows_i . conj(rows_j).
template <class T>
void OperatorBuilder<T>::small_gram(const FactorGroup& group, index_t f, Scratch& scratch) {
  const index_t P = layout_.sizes.planes, element = group.interleaved ? P * B<T> : P;
  gram_in_parts(kernels_, Gram<T>{.v = scratch.rows.get() + f * group.rows,
                                  .panel_stride = group.panel,
                                  .n_panels = group.n_panels,
                                  .row_begin = 0,
                                  .row_end = group.rank,
                                  .planes = P,
                                  .weights = nullptr,
                                  .G = scratch.lanes.get() + (group.interleaved ? f : 0),
                                  .row_stride = group.rank * element,
                                  .col_stride = element,
                                  .imag_offset = group.interleaved ? B<T> : 1,
                                  .accumulate = false});
}

// Transposed Q <- L^-1 rows of one frequency, to its place among the operators.
template <class T>
void OperatorBuilder<T>::write_factor(const FactorGroup& group, index_t f, const LayerOperators<T>& out,
                                      Scratch& scratch) {
  const index_t C = layout_.sizes.C, P = layout_.sizes.planes, r = group.rank;
  const index_t element = group.interleaved ? P * B<T> : P;
  T* x = scratch.rows.get() + f * group.rows;
  substitute_in_parts<T>(kernels_, {.L = scratch.lanes.get() + (group.interleaved ? f : 0),
                                    .row_stride = r * element,
                                    .col_stride = element,
                                    .imag_offset = group.interleaved ? B<T> : 1,
                                    .conj = false,
                                    .n = r,
                                    .planes = P,
                                    .x = x,
                                    .row_step = 1,
                                    .x_stride = group.panel,
                                    .n_panels = group.n_panels});
  T* Q = layout_.factor(out, group.number, group.first + f);
  const index_t stride = layout_.n_columns * P;
  for (index_t c = 0; c < C; c += B<T>)
    kernels_.deinterleave(x + c / B<T> * group.panel, r * P, Q + c * stride, stride, std::min(B<T>, C - c));
}

// C^j v = alpha_j V K^-1 of the samples of one frequency: rows are sqrt(a weight_i) v_i, and conj(K)^-1 rows the same
// of the products.
template <class T>
void OperatorBuilder<T>::write_responses(const Features<T>& features, const FactorGroup& group, index_t f,
                                         const LayerOperators<T>& out, Scratch& scratch) {
  const auto [m, C, F, P] = layout_.sizes;
  const index_t r = group.rank, element = group.interleaved ? P * B<T> : P;
  T* x = scratch.rows.get() + f * group.rows;
  const T* L = scratch.lanes.get() + (group.interleaved ? f : 0);
  Substitution<T> q{L, r * element, element,       group.interleaved ? B<T> : 1, false, r, P, x,
                    1, group.panel, group.n_panels};
  substitute_in_parts<T>(kernels_, q);
  q.L = L + (r * r - 1) * element, q.row_stride = -element, q.col_stride = -r * element, q.conj = true;
  q.x = x + (r - 1) * P * B<T>, q.row_step = -1;
  substitute_in_parts<T>(kernels_, q);
  const auto alpha = static_cast<T>(at(problem_.alphas, group.number));
  for (index_t i = 0; i < r; ++i) {
    const T by = at(scratch.by, i);
    const T back = by > 0 ? alpha / by : T(0);  // a sample without weight has no part in it, and no response
    T* to = out.responses + features.sample(at(scratch.positions, i)) * C * F * P + (group.first + f) * P;
    for (index_t c = 0; c < C; c += B<T>)
      for (index_t plane = 0; plane < P; ++plane) {
        const T* row = x + c / B<T> * group.panel + (i * P + plane) * B<T>;
        const index_t n_channels = std::min(B<T>, C - c);
        T* there = to + c * F * P + plane;
        if (F * P == 1)
          for (index_t lane = 0; lane < n_channels; ++lane) there[lane] = back * row[lane];
        else
          for (index_t lane = 0; lane < n_channels; ++lane) there[lane * F * P] = back * row[lane];
      }
  }
}

template <class T>
void OperatorBuilder<T>::write(const Features<T>& features, const FactorGroup& group, index_t f,
                               const LayerOperators<T>& out, Scratch& scratch) {
  out.responses != nullptr ? write_responses(features, group, f, out, scratch) : write_factor(group, f, out, scratch);
}

// The small matrices of all frequencies of the group at once, in lanes.
template <class T>
void OperatorBuilder<T>::factor_interleaved(const Features<T>& features, const FactorGroup& group,
                                            const std::optional<LayerOperators<T>>& out, Scratch& scratch) {
  const index_t P = layout_.sizes.planes, r = group.rank;
  std::memset(scratch.lanes.get(), 0, as_size(r * r * P * B<T>) * sizeof(T));
  for (index_t f = 0; f < group.n_freqs; ++f) small_gram(group, f, scratch);
  T trace[B<T>] = {};
  for (index_t i = 0; i < r; ++i)
    for (index_t lane = 0; lane < B<T>; ++lane) trace[lane] += scratch.lanes[(i * r + i) * P * B<T> + lane];
  const Interleaved<T> lanes{.M = scratch.lanes.get(), .n = r, .planes = P, .pivots = scratch.pivots.get(), .shift = 1};
  kernels_.cholesky_interleaved(lanes);
  for (index_t f = 0; f < group.n_freqs; ++f) {
    set_logdet(group.number, group.first + f, log_of_product(lanes.pivots + f, r, B<T>, T(1)), trace[f]);
    if (out) write(features, group, f, *out, scratch);
  }
}

// One frequency after the other.
template <class T>
void OperatorBuilder<T>::factor_singly(const Features<T>& features, const FactorGroup& group,
                                       const std::optional<LayerOperators<T>>& out, Scratch& scratch) {
  const index_t P = layout_.sizes.planes, r = group.rank;
  auto& own = at(scratch.factored, r);
  if (!own) own = std::make_unique<BlockedMatrix<T>>(kernels_, r, P);
  BlockedMatrix<T>& K = *own;
  for (index_t f = 0; f < group.n_freqs; ++f) {
    small_gram(group, f, scratch);
    double trace = 0;
    for (index_t i = 0; i < r; ++i) trace += static_cast<double>(scratch.lanes[i * (r + 1) * P]);
    K.read(scratch.lanes.get(), r * P, P, 1, T(1), T(1));
    set_logdet(group.number, group.first + f, K.cholesky(), trace);
    if (!out) continue;
    K.write(scratch.lanes.get(), r * P, T(1), false);
    write(features, group, f, *out, scratch);
  }
}

#define REDUNET_INSTANTIATE(T)                                                             \
  template OperatorBuilder<T>::Factorings::Factorings(const OperatorBuilder&);             \
  template void OperatorBuilder<T>::factor(index_t, const Factorings&, const Features<T>&, \
                                           const std::optional<LayerOperators<T>>&, Scratch&);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)

}  // namespace redunet
