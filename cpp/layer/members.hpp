// Which samples make an operator: the tiles that they lie in, with what weights.
#pragma once

#include "layer/features.hpp"

namespace redunet {

// Samples whose Gram matrix makes one operator: tiles [first, last), with a weight per lane of those tiles, or all ones
// in [plain_first, plain_last).
template <class T>
struct Members {
  index_t first, last, plain_first, plain_last;
  Buffer<T> weights;  // null: ones
};

// Of the operator with this number: all samples for E, those of a class.
template <class T>
Members<T> members_of(const Problem& problem, const Features<T>& features, index_t number);

// The position of the first sample of class j or a later one; with labels, in the order of class_order.
template <class T>
index_t class_begin(const Problem& problem, const Features<T>& features, index_t j);

// The given membership, (k, lanes of all tiles).
template <class T>
std::vector<T> membership_in_lanes(const Problem& problem, const Features<T>& features);

// A row of numbers for each of k classes, (k, lanes of all tiles), from (m, k) in the order of the samples.
template <class T>
std::vector<T> lanes_of(const double* numbers, index_t k, const Features<T>& features);

// Samples sorted by class, as they come within one; empty without labels.
std::vector<index_t> class_order(const std::int64_t* labels, index_t m);

}  // namespace redunet
