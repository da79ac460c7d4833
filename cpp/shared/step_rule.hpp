// How long the step of a layer is: the rules of python/redunet/_backends/contract.py, for the loops of all engines. Its
// constants are exported to Python, where a test compares them.
#pragma once

namespace redunet {

// The natural step eta = kNaturalStep / alpha is halved, this often at most, while the rate reduction would fall.
constexpr double kNaturalStep = 2.0;
constexpr int kMaxHalvings = 20;
// A fall within so many rounding units of the rate is rounding.
constexpr double kFallRoundingUnits = 8.0;
// A sample with a smaller norm is not scaled: a zero sample stays zero.
constexpr double kSmallestNorm = 1e-8;

// Whether a step from one rate reduction to another is a fall; `unit` is the rounding unit of the features.
inline bool falls(double before, double after, double rate, double unit) {
  return before - after > kFallRoundingUnits * unit * rate;
}

}  // namespace redunet
