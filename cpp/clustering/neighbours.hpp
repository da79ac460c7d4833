// Which clusters may merge where not all may, and what their merges save beside the code of the samples.
#pragma once

#include <algorithm>
#include <iterator>
#include <utility>

#include "clustering/merging.hpp"

namespace redunet {

using Neighbours = std::vector<Neighbour>;

class Graph {
 public:
  explicit Graph(std::vector<Neighbours> near) : near_(std::move(near)) {}

  void make_room(std::size_t n_clusters) { near_.resize(n_clusters); }
  // Sorted by number; some may have merged with others since.
  const Neighbours& of(std::int64_t id) const { return near_[as_size(id)]; }

  // Of the merge of two neighbours.
  double saved(std::int64_t i, std::int64_t j) const {
    const Neighbours& near = of(i);
    return std::lower_bound(near.begin(), near.end(), j, [](const Neighbour& k, std::int64_t id) { return k.id < id; })
        ->saved;
  }

  // i and j are c, which has the largest number so far.
  void unite(std::int64_t i, std::int64_t j, std::int64_t c) {
    Neighbours &a = near_[as_size(i)], &b = near_[as_size(j)], all;
    const auto gone = [&](const Neighbour& k) { return k.id == i || k.id == j; };
    std::merge(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(all),
               [](const Neighbour& k, const Neighbour& l) { return k.id < l.id; });
    std::erase_if(all, gone);
    auto last = all.begin();
    for (auto k = all.begin(); k != all.end(); ++k) {
      if (k == last) continue;
      if (k->id == last->id)
        last->saved += k->saved;  // a neighbour of both
      else
        *++last = *k;
    }
    if (!all.empty()) all.erase(last + 1, all.end());
    for (const Neighbour& k : all) {
      Neighbours& theirs = near_[as_size(k.id)];
      std::erase_if(theirs, gone);
      theirs.push_back({c, k.saved});
    }
    a = b = {};
    near_[as_size(c)] = std::move(all);
  }

 private:
  std::vector<Neighbours> near_;
};

}  // namespace redunet
