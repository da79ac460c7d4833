// Kernels that may take long, in several calls with checkpoints between them, so that Ctrl-C is heard. The parts depend
// on the problem alone, as results must.
#pragma once

#include <algorithm>

#include "base/parallel.hpp"

namespace redunet {

// Multiply-adds of one part: about ten milliseconds, beside which another call costs nothing.
constexpr index_t kPartWork = 1 << 28;

// Panels of a part, where one takes so many multiply-adds; fewer than kFewestPanels would read operators in vain.
constexpr index_t kFewestPanels = 8;
inline index_t panels_per_part(index_t work) { return std::max(kFewestPanels, kPartWork / std::max<index_t>(1, work)); }

template <class T>
void gram_in_parts(const Kernels<T>& kernels, Gram<T> g) {
  const index_t work = (g.row_end - g.row_begin) * g.row_end * kPanel<T> * g.planes * g.planes;
  const index_t together = panels_per_part(work), n = g.n_panels;
  for (index_t t = 0; t < n; t += together) {
    g.n_panels = std::min(together, n - t);
    kernels.gram(g);
    checkpoint(g.n_panels * work);
    g.v += together * g.panel_stride;
    if (g.u != nullptr) g.u += together * g.u_stride;
    if (g.weights != nullptr) g.weights += together * kPanel<T>;
    g.accumulate = true;
  }
}

template <class T>
void substitute_in_parts(const Kernels<T>& kernels, Substitution<T> q) {
  const index_t work = q.n * q.n / 2 * kPanel<T> * q.planes * q.planes;
  const index_t together = panels_per_part(work), n = q.n_panels;
  for (index_t t = 0; t < n; t += together) {
    q.n_panels = std::min(together, n - t);
    kernels.substitute(q);
    checkpoint(q.n_panels * work);
    q.x += together * q.x_stride;
  }
}

}  // namespace redunet
