// Moments of an image's regions: against plain loops, whatever the SIMD level and the number of threads; and a
// sanitizer sees rows that end within a vector, bands and runs.

#include "base/parallel.hpp"
#include "check.hpp"
#include "kernels/dispatch.hpp"
#include "segmentation/moments.hpp"

using namespace check;
using namespace redunet;

namespace {

struct Moments {
  Moments(index_t K, index_t D) : sizes(size(K)), means(size(K * D)), scatters(size(K * D * D)) {}
  std::vector<double> sizes, means, scatters;
};

template <class T>
Moments moments_of(const Pixels<T>& pixels, const std::vector<std::int64_t>& labels, index_t K, int n_threads) {
  Parallel parallel(n_threads);
  Moments found(K, pixels.D);
  region_moments(selected_kernels(), parallel, pixels, labels.data(), K, found.sizes.data(), found.means.data(),
                 found.scatters.data());
  return found;
}

template <class T>
double feature(const Pixels<T>& p, index_t y, index_t x, index_t d) {
  if (p.filters == nullptr) return static_cast<double>(p.image[(y * p.W + x) * p.D + d]);
  double sum = 0;
  for (index_t c = 0; c < p.channels; ++c)
    for (index_t i = 0; i < p.window; ++i)
      for (index_t j = 0; j < p.window; ++j)
        sum += static_cast<double>(p.filters[((c * p.window + i) * p.window + j) * p.D + d]) *
               static_cast<double>(p.image[(c * (p.H + p.window - 1) + y + i) * (p.W + p.window - 1) + x + j]);
  return sum;
}

// Entries of features are below 1, times the window's numbers; sums of H W of them in the precision of T.
template <class T>
void check_moments(const Pixels<T>& p, const std::vector<std::int64_t>& labels, index_t K) {
  const Moments found = moments_of(p, labels, K, 2), alone = moments_of(p, labels, K, 1);
  CHECK(found.means == alone.means && found.scatters == alone.scatters);
  const index_t D = p.D;
  Moments sums(K, D);  // of features, and of products
  for (index_t y = 0; y < p.H; ++y)
    for (index_t x = 0; x < p.W; ++x) {
      const std::int64_t k = labels[size(y * p.W + x)];
      if (k < 0) continue;
      sums.sizes[size(k)] += 1;
      for (index_t a = 0; a < D; ++a) {
        sums.means[size(k * D + a)] += feature(p, y, x, a);
        for (index_t b = 0; b < D; ++b)
          sums.scatters[size((k * D + a) * D + b)] += feature(p, y, x, a) * feature(p, y, x, b);
      }
    }
  const double n = static_cast<double>(p.filters == nullptr ? 1 : p.channels * p.window * p.window);
  const double unit = 8 * n * n * (sizeof(T) == 4 ? 1.2e-7 : 2.3e-16);
  CHECK(found.sizes == sums.sizes);
  for (index_t k = 0; k < K; ++k) {
    const double count = sums.sizes[size(k)];
    for (index_t a = 0; a < D && count > 0; ++a) {
      const double mean = sums.means[size(k * D + a)] / count;
      CHECK(std::abs(found.means[size(k * D + a)] - mean) < unit);
      for (index_t b = 0; b < D; ++b) {
        const double other = sums.means[size(k * D + b)] / count;
        const double scatter = sums.scatters[size((k * D + a) * D + b)] - count * mean * other;
        CHECK(std::abs(found.scatters[size((k * D + a) * D + b)] - scatter) < count * n * unit);
      }
    }
  }
}

template <class T>
void check_all() {
  for (const KernelSet* set : usable_kernel_sets()) {
    select_kernels(set->name);
    for (const index_t D : {1, 3, 8, 9, 17})
      for (const index_t W : {1, 5, 16, 47, 300})
        for (const index_t H : {1, 70}) {
          const index_t K = 6;
          std::vector<std::int64_t> labels(size(H * W));
          for (index_t i = 0; i < H * W; ++i) labels[size(i)] = (i * 7919 / 31 + i % W / 9) % (K + 1) - 1;
          std::vector<T> image(size(H * W * D));
          fill_uniform(image, 5);
          check_moments<T>({.H = H, .W = W, .D = D, .image = image.data()}, labels, K);
          for (const index_t window : {1, 3}) {
            const index_t channels = 2;
            std::vector<T> wide(size(channels * (H + window - 1) * (W + window - 1)));
            std::vector<T> filters(size(channels * window * window * D));
            fill_uniform(wide, 6), fill_uniform(filters, 7);
            check_moments<T>({.H = H,
                              .W = W,
                              .D = D,
                              .image = wide.data(),
                              .filters = filters.data(),
                              .channels = channels,
                              .window = window},
                             labels, K);
          }
        }
  }
}

TEST(moments_of_regions_in_single_precision) { check_all<float>(); }
TEST(moments_of_regions_in_double_precision) { check_all<double>(); }

}  // namespace
