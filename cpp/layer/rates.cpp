// Log dets to rates; and the log dets that single precision does not give, in double.
//
// A rounding error dM of M = I + a G, whose one is never added up, changes log det M by tr(M^-1 dM). With dM_ij of the
// size of e sqrt(G_ii G_jj) a and of random sign that is at most e s, s = sum_i (M^-1)_ii a G_ii: few e where G is well
// conditioned, but e a tr(G) where it is of low rank. e is the rounding of a sum of as many numbers as were added up
// one after the other; numbers that are alike, as those of a class that has been compressed, are all rounded the same
// way. Errors at different frequencies, and of different operators, are independent.

#include <algorithm>
#include <cmath>
#include <limits>

#include "layer/in_double.hpp"

namespace redunet {
namespace {

constexpr double kSingleUnit = 0x1p-24;
// Rounding of the factorisation, beside that of the sums.
constexpr double kFactorUnits = 4;

// Frequencies that are done in double at a time: their features take a small part of the memory of all.
constexpr index_t kMostInDouble = 16;

}  // namespace

// The rounding error of the Gram matrix of each operator, in units, when `longest` numbers were added up one by one.
template <class T>
void OperatorBuilder<T>::set_gram_errors(index_t longest) {
  const double most = static_cast<double>(longest) / 2;
  double largest = 0;
  for (std::size_t number = gram_errors_.size(); number-- > 0;) {
    const Members<T>& members = members_[number];
    double sum = std::min(most, static_cast<double>((members.last - members.first) * layout_.d) / 2);
    if (number == 0 && total_is_sum_) sum = largest + static_cast<double>(problem_.n_classes()) / 2;
    largest = std::max(largest, sum);
    gram_errors_[number] = kFactorUnits + sum;
  }
}

// Of one log det; `sensitivity` is what the head of this file calls s.
template <class T>
void OperatorBuilder<T>::set_logdet(index_t number, index_t p, double logdet, double sensitivity) {
  const index_t entry = number * layout_.sizes.F + p;
  logdets_[entry] = logdet;
  if constexpr (sizeof(T) == 4) {
    const double error = kSingleUnit * at(gram_errors_, number) * sensitivity;
    errors_[entry] = std::isfinite(logdet) ? error * error : std::numeric_limits<double>::infinity();
  }
}

// The row of rates; returns the squared error of their reduction.
template <class T>
double OperatorBuilder<T>::sum_rates(double* rates) const {
  const index_t F = layout_.sizes.F;
  double squares = 0;
  for (std::size_t number = 0; number < problem_.alphas.size(); ++number) {
    const double *logdets = logdets_.get() + static_cast<index_t>(number) * F,
                 *errors = errors_.get() + static_cast<index_t>(number) * F;
    double sum = 0, error = 0;
    for (index_t p = 0; p < F; ++p) {
      const double weight = problem_.freq_weights[p];
      sum += weight * logdets[p];
      if constexpr (sizeof(T) == 4) error += weight * weight * errors[p];
    }
    rates[number] = sum / (2 * problem_.n_points);
    const double share = (number == 0 ? 1.0 : problem_.gammas[number - 1]) / (2 * problem_.n_points);
    squares += share * share * error;
  }
  return squares;
}

template <class T>
void OperatorBuilder<T>::set_rates(const Features<T>& features, const std::optional<LayerOperators<T>>& out,
                                   double* rates) {
  if constexpr (sizeof(T) == 4) {
    double allowed = 0;
    do {
      const double squares = sum_rates(rates), error = std::sqrt(squares);
      allowed = std::max(kReductionError * (problem_.reduction(rates) - error), kRateError * rates[0]);
      if (squares <= allowed * allowed) break;
    } while (do_in_double(features, out, allowed));
  } else {
    sum_rates(rates);
  }
  check_logdets();
}

// Does again what failed or, where nothing did, whatever is not sure to be a small part of the error allowed; whether
// there was any.
template <class T>
bool OperatorBuilder<T>::do_in_double(const Features<T>& features, const std::optional<LayerOperators<T>>& out,
                                      double allowed) {
  if constexpr (sizeof(T) == 4) {
    const index_t F = layout_.sizes.F, k1 = problem_.n_classes() + 1;
    const auto failed = [&](index_t entry) { return std::isinf(errors_[entry]); };
    bool any_failed = false, any = false;
    for (index_t entry = 0; entry < k1 * F; ++entry) any_failed = any_failed || failed(entry);
    const double small = allowed * allowed / (2.0 * static_cast<double>(k1 * F));
    for (index_t number = 0; number < k1; ++number) {
      const double share = (number == 0 ? 1.0 : at(problem_.gammas, number - 1)) / (2 * problem_.n_points);
      std::vector<index_t> frequencies;
      for (index_t p = 0; p < F; ++p) {
        const index_t entry = number * F + p;
        const double part = share * problem_.freq_weights[p];
        if (any_failed ? failed(entry) : part * part * errors_[entry] > small) frequencies.push_back(p);
      }
      if (frequencies.empty()) continue;
      any = true;
      auto& double_precision = at(in_double_, number);
      const index_t together = std::min(kMostInDouble, static_cast<index_t>(frequencies.size()));
      if (!double_precision || double_precision->n_freqs() != together)
        double_precision = std::make_unique<InDouble>(set_, parallel_, problem_, features, number, together);
      for (std::size_t begin = 0; begin < frequencies.size(); begin += as_size(together)) {
        const auto first = frequencies.begin() + static_cast<std::ptrdiff_t>(begin);
        const std::vector<index_t> part(first, std::min(first + together, frequencies.end()));
        double_precision->run(features, part, layout_, out, logdets_.get() + number * F);
        for (const index_t p : part) errors_[number * F + p] = 0;
      }
    }
    return any;
  }
  return false;
}

// Throws for the first problem whose matrix is not positive definite.
template <class T>
void OperatorBuilder<T>::check_logdets() const {
  for (index_t number = 0; number <= problem_.n_classes(); ++number)
    for (index_t p = 0; p < layout_.sizes.F; ++p) {
      if (std::isfinite(logdet(number, p))) continue;
      throw NotPositiveDefinite((number == 0 ? "all classes" : "class " + std::to_string(number - 1)) + ", frequency " +
                                std::to_string(p) +
                                ": I + alpha G is not positive definite; epsilon_sq is too small, or features too "
                                "large, for this precision");
    }
}

#define REDUNET_INSTANTIATE(T)                                                    \
  template void OperatorBuilder<T>::set_gram_errors(index_t);                     \
  template void OperatorBuilder<T>::set_logdet(index_t, index_t, double, double); \
  template double OperatorBuilder<T>::sum_rates(double*) const;                   \
  template void OperatorBuilder<T>::check_logdets() const;                        \
  template void OperatorBuilder<T>::set_rates(const Features<T>&, const std::optional<LayerOperators<T>>&, double*);
REDUNET_INSTANTIATE(float)
REDUNET_INSTANTIATE(double)

}  // namespace redunet
