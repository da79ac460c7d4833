// Gram matrices by cuBLAS, or by their own kernel where channels are few; factors and inverses by Factoriser.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/rates.hpp"
#include "layer/operators.hpp"

namespace redunet::cuda {

// --- Features
// -----------------------------------------------------------------------------------------------------------

template <class N>
Spectrum<N>::Spectrum(const OperatorLayout& layout, const std::vector<int>& order)
    : sizes_(layout.sizes), d_(layout.d), host_order_(order), order_(order) {
  sizes_.m *= d_;
  V_ = DeviceArray<N>(numbers());
}

template <class N>
void Spectrum<N>::transpose(const N* from, N* to, bool back) const {
  const index_t m = sizes_.m / d_, C = sizes_.C, F = sizes_.F * d_;
  launch(transpose_kernel<N>, dim3(blocks_of(m, kWarp), blocks_of(F, kWarp), static_cast<unsigned>(C)),
         dim3(kWarp, kTransposeRows), shared_bytes<N>(kWarp * (kWarp + 1)), Device::get().stream(), from, to,
         order_.get(), m, C, F, d_, back);
  REDUNET_CHECK(cudaGetLastError());
}

template <class N>
void Spectrum<N>::read(const N* from) {
  if (sizes_.m == 0) return;
  DeviceArray<N> copy;
  if (!Device::get().holds(from)) {
    copy = DeviceArray<N>(numbers());
    copy.upload(from);
    from = copy.get();
  }
  transpose(from, get(), false);
  Device::get().synchronise();
}

template <class N>
void Spectrum<N>::write(N* to) const {
  if (sizes_.m == 0) return;
  const bool here = Device::get().holds(to);
  const DeviceArray<N> copy(here ? 0 : numbers());
  transpose(get(), here ? to : copy.get(), true);
  if (here)
    Device::get().synchronise();
  else
    copy.download(to);
}

// --- Operators
// ----------------------------------------------------------------------------------------------------------

namespace {

// Columns (in the order of the device) of the samples of an operator, with their weights.
template <class N>
Members<N> members_of(const Problem& problem, const std::vector<int>& order, index_t number) {
  const auto m = static_cast<index_t>(order.size()), k = problem.n_classes();
  std::vector<int> index;
  std::vector<Real<N>> roots;
  bool plain = problem.weights == nullptr;
  for (index_t position = 0; position < m; ++position) {
    const index_t i = at(order, position);
    double belongs = 1;
    if (number > 0)
      belongs =
          problem.labels != nullptr ? double(problem.labels[i] == number - 1) : problem.membership[i * k + number - 1];
    if (belongs == 0) continue;
    const double weight = belongs * (problem.weights == nullptr ? 1.0 : problem.weights[i]);
    plain = plain && weight == 1;
    for (index_t c = 0; c < problem.d; ++c) {
      index.push_back(static_cast<int>(position * problem.d + c));
      roots.push_back(static_cast<Real<N>>(std::sqrt(weight)));
    }
  }
  const auto count = static_cast<index_t>(index.size());
  if (count == 0 || (plain && index.back() - index.front() + 1 == count))
    return {count == 0 ? 0 : index.front(), count, {}, {}};
  return {0, count, DeviceArray<int>(index), DeviceArray<Real<N>>(roots)};
}

}  // namespace

template <class N>
OperatorBuilder<N>::OperatorBuilder(const Problem& problem, const OperatorLayout& layout, const std::vector<int>& order)
    : problem_(problem), layout_(layout) {
  const auto [m, C, F, P] = layout.sizes;
  const index_t k = problem.n_classes();
  index_t most = 0, gathered = 0;
  std::vector<double> dense_scales, dense_alphas, scales;
  for (index_t number = 0; number <= k; ++number) {
    members_.push_back(members_of<N>(problem, order, number));
    if (members_.back().index.size() > 0) gathered = std::max(gathered, members_.back().count);
    const double alpha = at(problem.alphas, number);
    scales.push_back(alpha * problem.inner);
    if (at(layout.ranks, number) == 0) {
      dense_numbers_.push_back(number);
      dense_scales.push_back(alpha * problem.inner);
      dense_alphas.push_back(alpha);
    } else {
      most = std::max(most, at(layout.ranks, number));
    }
  }
  std::vector<int> place(as_size(k + 1));
  int factored = static_cast<int>(dense_numbers_.size());
  for (index_t number = 0; number <= k; ++number)
    at(place, number) = at(layout.ranks, number) == 0 ? static_cast<int>(at(layout.slot, number)) : factored++;
  total_is_sum_ = k > 1 && layout.n_dense == k + 1 && problem.covers(m);
  dense_scales_ = DeviceArray<double>(dense_scales);
  dense_alphas_ = DeviceArray<double>(dense_alphas);
  scales_ = DeviceArray<double>(scales);
  place_ = DeviceArray<int>(place);
  noted_ = DeviceArray<int>(std::vector<int>{-1, -1, -1});
  freq_weights_ = DeviceArray<double>(std::vector<double>(problem.freq_weights, problem.freq_weights + F));
  logdets_ = DeviceArray<double>((k + 1) * F);
  rates_ = DeviceArray<double>(k + 1);
  grams_ = DeviceArray<N>(layout.n_dense * F * C * C);
  gathered_ = DeviceArray<N>(gathered * C * F);
  small_grams_ = DeviceArray<N>(F * most * most);
  small_inverses_ = DeviceArray<N>(F * most * most);
  if (problem.labels == nullptr) return;
  std::vector<int> begins(as_size(k + 1), 0);
  std::vector<Real<N>> weights;
  for (const int i : order) {
    ++at(begins, problem.labels[i] + 1);
    if (problem.weights != nullptr) weights.push_back(static_cast<Real<N>>(problem.weights[i]));
  }
  std::partial_sum(begins.begin(), begins.end(), begins.begin());
  class_begins_ = DeviceArray<int>(begins);
  sample_weights_ = DeviceArray<Real<N>>(weights);
}

template <class N>
std::size_t OperatorBuilder<N>::bytes(const Problem& problem, const OperatorLayout& layout) {
  const auto [m, C, F, P] = layout.sizes;
  const auto most = as_size(*std::max_element(layout.ranks.begin(), layout.ranks.end()));
  const std::size_t per_matrix = as_size(C * C) * sizeof(N) + Factoriser<N>::bytes_per_matrix(static_cast<int>(C));
  std::size_t sum = as_size(layout.n_dense * F) * per_matrix;
  sum += as_size(F) * (2 * most * most * sizeof(N) + Factoriser<N>::bytes_per_matrix(static_cast<int>(most)));
  if (problem.weights != nullptr || problem.labels == nullptr) sum += as_size(m * layout.d * C * F) * sizeof(N);
  return sum;
}

// The columns of an operator as rows (p, c), `ld` numbers each, times the roots of their weights.
template <class N>
const N* OperatorBuilder<N>::samples(const Spectrum<N>& features, const Members<N>& members, index_t& ld,
                                     index_t& stride) {
  const auto [m, C, F, P] = features.sizes();
  if (members.index.size() == 0) {
    ld = m, stride = C * m;
    return features.get() + members.begin;
  }
  ld = members.count, stride = C * ld;
  constexpr unsigned kRows = 8, kMostBlocks = 4096;
  launch(gather_kernel<N>, dim3(blocks_of(ld, kWarp), std::min(blocks_of(F * C, kRows), kMostBlocks)),
         dim3(kWarp, kRows), 0, Device::get().stream(), features.get(), m, gathered_.get(), ld, F * C,
         members.index.get(), members.roots.get());
  REDUNET_CHECK(cudaGetLastError());
  return gathered_.get();
}

template <class N>
void OperatorBuilder<N>::run(const Spectrum<N>& features, const Operators<N>& out, const When& when) {
  const auto [m, C, F, P] = features.sizes();
  index_t ld, stride;
  for (const index_t number : dense_numbers_) {
    const index_t slot = at(layout_.slot, number);
    if (total_is_sum_ && slot == 0) continue;
    const Members<N>& members = at(members_, number);
    const N* V = samples(features, members, ld, stride);
    gemm<N>(Op::kNone, Op::kAdjoint, C, C, members.count, 1, {V, ld, stride}, {V, ld, stride}, 0,
            {grams_.get() + slot * F * C * C, C, C * C}, F);
  }
  factorise(grams_.get(), out.dense, total_is_sum_ ? static_cast<int>(layout_.n_dense) - 1 : 0, when);

  index_t place = layout_.n_dense;
  for (std::size_t number = 0; number < members_.size(); ++number) {
    const index_t r = layout_.ranks[number];
    if (r == 0) continue;
    const N* X = samples(features, members_[number], ld, stride);
    const Matrices<const N> columns{X, ld, stride};
    gemm<N>(Op::kAdjoint, Op::kNone, r, r, C, 1, columns, columns, 0, {small_grams_.get(), r, r * r}, F);
    Factorise<N> small{};
    small.M = small_grams_.get(), small.stride = r * r;
    small.n = small.ld = small.out_ld = static_cast<int>(r), small.group = static_cast<int>(F);
    small.shift = 1, small.scale = scales_.get() + number;
    small.W = out.factors == nullptr ? nullptr : small_inverses_.get(), small.out_stride = r * r;
    small.when = when;
    small.logdets = logdets_.get() + place++ * F;
    factoriser_.run(small, F);
    if (out.factors == nullptr) continue;
    const auto root = static_cast<Real<N>>(std::sqrt(problem_.alphas[number] * problem_.inner));
    const index_t R = layout_.n_columns;
    gemm<N>(Op::kNone, Op::kAdjoint, C, r, r, root, columns, {small_inverses_.get(), r, r * r}, 0,
            {out.factors + layout_.column[number], R, C * R}, F);
  }
  sum_rates(when);
}

template <class N>
void OperatorBuilder<N>::run(const N* grams, N* dense) {
  factorise(grams, dense, 0, {});
  sum_rates({});
}

// The dense operators, and their log dets; number 0 is of the sum of `terms` others, if there are any.
template <class N>
void OperatorBuilder<N>::factorise(const N* grams, N* dense, int terms, const When& when, index_t slot_stride) {
  const auto [m, C, F, P] = layout_.sizes;
  Factorise<N> q{};
  q.M = grams, q.stride = C * C, q.n = q.ld = static_cast<int>(C), q.group = static_cast<int>(F), q.terms = terms;
  q.shift = 1, q.scale = dense_scales_.get();
  q.inverse = dense, q.out_scale = dense_alphas_.get();
  q.when = when, q.slot_stride = slot_stride;
  q.logdets = logdets_.get();
  factoriser_.run(q, layout_.n_dense * F);
}

template <class N>
void OperatorBuilder<N>::run_fused(const Spectrum<N>& features, N* dense, const When& when) {
  const auto [m, C, F, P] = features.sizes();
  const cudaStream_t stream = Device::get().stream();
  with_channels(C, [&, m = m, F = F]<int kC>() {
    launch(fused_gram_kernel<N, kC>, dim3(static_cast<unsigned>(F), static_cast<unsigned>(problem_.n_classes())),
           dim3(kGramThreads), shared_bytes<N>(kC * (kC + 1) / 2 * (kGramThreads / kWarp)), stream, features.get(),
           static_cast<int>(m), static_cast<int>(F), class_begins_.get(), sample_weights_.get(), grams_.get(), when);
  });
  REDUNET_CHECK(cudaGetLastError());
  factorise(grams_.get(), dense, static_cast<int>(problem_.n_classes()), when, layout_.n_dense * F * C * C);
  sum_rates(when);
}

template <class N>
void OperatorBuilder<N>::sum_rates(const When& when) {
  const auto numbers = static_cast<int>(members_.size());
  launch(rates_kernel, dim3(1), dim3(kWarp, kRatesWarps), shared_bytes<index_t>(kRatesWarps), Device::get().stream(),
         logdets_.get(), place_.get(), numbers, static_cast<int>(layout_.sizes.F), freq_weights_.get(),
         1 / (2 * problem_.n_points), rates_.get(), when, noted_.get());
  REDUNET_CHECK(cudaGetLastError());
}

template <class N>
void OperatorBuilder<N>::rates(double* to) const {
  REDUNET_CHECK(cudaMemcpyAsync(to, rates_.get(), as_size(rates_.size()) * sizeof(double), cudaMemcpyDeviceToHost,
                                Device::get().stream()));
  int noted[3] = {0, 0, 0};
  noted_.download(noted);
  if (noted[0] >= 0) refuse(noted, false);
}

template <class N>
void OperatorBuilder<N>::refuse(const int* bad, bool name_layer) {
  throw NotPositiveDefinite((name_layer ? "layer " + std::to_string(bad[0]) + ", " : "") +
                            (bad[1] == 0 ? "all classes" : "class " + std::to_string(bad[1] - 1)) + ", frequency " +
                            std::to_string(bad[2]) +
                            ": I + alpha G is not positive definite; epsilon_sq is too small, or features too large, "
                            "for this precision");
}

#define REDUNET_INSTANTIATE(N) \
  template class Spectrum<N>;  \
  template class OperatorBuilder<N>;
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)
REDUNET_INSTANTIATE(Complex<float>)
REDUNET_INSTANTIATE(Complex<double>)

}  // namespace redunet::cuda
