#include "layer/members.hpp"

#include <algorithm>
#include <numeric>

namespace redunet {
namespace {

template <class T>
constexpr index_t B = kPanel<T>;

template <class T>
Members<T> all_members(const Problem& problem, const Features<T>& features) {
  const index_t n = features.n_tiles();
  Members<T> all{0, n, 0, problem.weights == nullptr ? n : 0, {}};
  if (problem.weights != nullptr) {
    all.weights = Buffer<T>(n * B<T>);
    for (index_t i = 0; i < features.sizes().m; ++i)
      all.weights[i] = static_cast<T>(problem.weights[features.sample(i)]);
  }
  return all;
}

template <class T>
Members<T> class_members(const Problem& problem, const Features<T>& features, index_t j) {
  const index_t m = features.sizes().m, k = problem.n_classes();
  const auto belongs = [&](index_t position) {
    const index_t i = features.sample(position);
    return problem.labels != nullptr ? double(problem.labels[i] == j) : problem.membership[i * k + j];
  };
  index_t begin = 0, end = m;
  if (problem.labels != nullptr) {
    begin = class_begin(problem, features, j), end = class_begin(problem, features, j + 1);
  } else {
    while (begin < m && belongs(begin) == 0) ++begin;
    while (end > begin && belongs(end - 1) == 0) --end;
  }
  Members<T> members{begin / B<T>, divide_up(end, B<T>), 0, 0, {}};
  members.weights = Buffer<T>((members.last - members.first) * B<T>);
  for (index_t i = begin; i < end; ++i) {
    const double weight = problem.weights == nullptr ? 1.0 : problem.weights[features.sample(i)];
    members.weights[i - members.first * B<T>] = static_cast<T>(belongs(i) * weight);
  }
  if (problem.labels != nullptr && problem.weights == nullptr) {
    members.plain_first = divide_up(begin, B<T>);
    members.plain_last = std::max(members.plain_first, end == m ? members.last : end / B<T>);
  }
  return members;
}

}  // namespace

template <class T>
Members<T> members_of(const Problem& problem, const Features<T>& features, index_t number) {
  return number == 0 ? all_members(problem, features) : class_members(problem, features, number - 1);
}

template <class T>
index_t class_begin(const Problem& problem, const Features<T>& features, index_t j) {
  index_t low = 0, high = features.sizes().m;
  while (low < high) {
    const index_t middle = (low + high) / 2;
    if (problem.labels[features.sample(middle)] < j)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

template <class T>
std::vector<T> membership_in_lanes(const Problem& problem, const Features<T>& features) {
  const index_t k = problem.n_classes(), lanes = features.n_tiles() * kPanel<T>;
  std::vector<T> membership(as_size(k * lanes), T(0));
  for (index_t position = 0; position < features.sizes().m; ++position)
    for (index_t j = 0; j < k; ++j) {
      const index_t i = features.sample(position);
      at(membership, j * lanes + position) =
          problem.labels != nullptr ? T(problem.labels[i] == j) : static_cast<T>(problem.membership[i * k + j]);
    }
  return membership;
}

template <class T>
std::vector<T> lanes_of(const double* numbers, index_t k, const Features<T>& features) {
  const index_t lanes = features.n_tiles() * kPanel<T>;
  std::vector<T> rows(as_size(k * lanes), T(0));
  for (index_t position = 0; position < features.sizes().m; ++position)
    for (index_t j = 0; j < k; ++j)
      at(rows, j * lanes + position) = static_cast<T>(numbers[features.sample(position) * k + j]);
  return rows;
}

std::vector<index_t> class_order(const std::int64_t* labels, index_t m) {
  std::vector<index_t> order;
  if (labels == nullptr) return order;
  order.resize(as_size(m));
  std::iota(order.begin(), order.end(), index_t{0});
  std::stable_sort(order.begin(), order.end(), [&](index_t a, index_t b) { return labels[a] < labels[b]; });
  return order;
}

#define REDUNET_INSTANTIATE(T)                                                        \
  template index_t class_begin<T>(const Problem&, const Features<T>&, index_t);       \
  template Members<T> members_of<T>(const Problem&, const Features<T>&, index_t);     \
  template std::vector<T> membership_in_lanes<T>(const Problem&, const Features<T>&); \
  template std::vector<T> lanes_of<T>(const double*, index_t, const Features<T>&);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)

}  // namespace redunet
