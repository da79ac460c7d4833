// An image is cut into bands of rows, and what a band adds to its regions is summed in double precision about the first
// pixel of each that it meets, so that a small scatter far from zero loses nothing. Bands depend on the image alone,
// and are added up in their order: results don't depend on threads.

#include "segmentation/moments.hpp"

#include <algorithm>
#include <vector>

#include "base/buffer.hpp"

namespace redunet {
namespace {

constexpr index_t kBands = 64;    // at most: enough for all threads, and few to add up
constexpr index_t kPixels = 256;  // of a row at a time: their features stay in the L1 cache

// The regions that a band meets, in that order, a row of numbers each: origin, sums, squares (kernels.hpp, RegionRun).
struct Band {
  std::vector<index_t> regions;
  std::vector<double> counts;
  std::vector<Buffer<double>> rows;
};

// What one thread works with; place: of a region in the band at hand, or -1.
struct Scratch {
  Scratch(index_t row, index_t n_regions) : features(kPixels * row), place(as_size(n_regions), -1) {}
  Buffer<double> features;
  std::vector<index_t> place;
};

template <class T>
class Sums {
 public:
  Sums(const KernelSet& kernels, const Pixels<T>& pixels, const std::int64_t* labels)
      : kernels_(kernels), pixels_(pixels), labels_(labels), row_(moment_row(pixels.D)) {}

  // Multiply-adds of a pixel.
  double work() const {
    const double D = double(pixels_.D);
    return D * D + D * double(pixels_.channels * pixels_.window * pixels_.window);
  }

  void add_rows(index_t begin, index_t end, Scratch& scratch, Band& band) const {
    index_t since = 0;
    for (index_t y = begin; y < end; ++y)
      for (index_t x = 0; x < pixels_.W; x += kPixels) {
        const index_t n = std::min(kPixels, pixels_.W - x);
        read_features(y, x, n, scratch.features.get());
        add_runs(labels_ + y * pixels_.W + x, n, scratch, band);
        checkpoint(static_cast<index_t>(work()) * n, since);
      }
    for (const index_t region : band.regions) scratch.place[as_size(region)] = -1;
  }

 private:
  void read_features(index_t y, index_t x, index_t n, double* features) const {
    const Pixels<T>& p = pixels_;
    if (p.filters == nullptr) {
      const T* from = p.image + (y * p.W + x) * p.D;
      for (index_t i = 0; i < n; ++i)
        for (index_t d = 0; d < p.D; ++d) features[i * row_ + d] = static_cast<double>(from[i * p.D + d]);
      return;
    }
    const index_t row_stride = p.W + p.window - 1;
    kernels_of<T>(kernels_).filter_row({.image = p.image + y * row_stride + x,
                                        .row_stride = row_stride,
                                        .plane_stride = (p.H + p.window - 1) * row_stride,
                                        .channels = p.channels,
                                        .window = p.window,
                                        .filters = p.filters,
                                        .D = p.D,
                                        .n = n,
                                        .features = features});
  }

  void add_runs(const std::int64_t* labels, index_t n, Scratch& scratch, Band& band) const {
    for (index_t begin = 0, end; begin < n; begin = end) {
      for (end = begin + 1; end < n && labels[end] == labels[begin];) ++end;
      if (labels[begin] < 0) continue;
      double* const features = scratch.features.get() + begin * row_;
      index_t& place = scratch.place[as_size(labels[begin])];
      if (place < 0) {
        place = static_cast<index_t>(band.regions.size());
        band.regions.push_back(labels[begin]);
        band.counts.push_back(0);
        band.rows.emplace_back((2 + row_) * row_);
        std::copy_n(features, row_, band.rows.back().get());
      }
      band.counts[as_size(place)] += static_cast<double>(end - begin);
      double* const sums = band.rows[as_size(place)].get();
      kernels_.add_moments({.D = pixels_.D,
                            .n = end - begin,
                            .features = features,
                            .origin = sums,
                            .sums = sums + row_,
                            .squares = sums + 2 * row_});
    }
  }

  const KernelSet& kernels_;
  const Pixels<T>& pixels_;
  const std::int64_t* labels_;
  const index_t row_;
};

// A band's n pixels of a region, to the moments of those before.
void unite(index_t D, double n, const double* band, double& size, double* mean, double* scatter) {
  const index_t row = moment_row(D);
  const double *origin = band, *sums = band + row, *squares = band + 2 * row;
  const double total = size + n, between = size * n / total;
  const auto step = [&](index_t k) { return origin[k] + sums[k] / n - mean[k]; };
  for (index_t i = 0; i < D; ++i)
    for (index_t j = 0; j <= i; ++j)
      scatter[i * D + j] += squares[i * row + j] - sums[i] * sums[j] / n + between * step(i) * step(j);
  for (index_t k = 0; k < D; ++k) mean[k] += n / total * step(k);
  size = total;
}

}  // namespace

template <class T>
void region_moments(const KernelSet& kernels, Parallel& parallel, const Pixels<T>& pixels, const std::int64_t* labels,
                    index_t n_regions, double* sizes, double* means, double* scatters) {
  const index_t D = pixels.D, rows = (pixels.H + kBands - 1) / kBands, n_bands = (pixels.H + rows - 1) / rows;
  std::vector<Band> bands(as_size(n_bands));
  std::vector<Scratch> scratch;
  for (int t = 0; t < parallel.n_threads(); ++t) scratch.emplace_back(moment_row(D), n_regions);
  const Sums<T> all(kernels, pixels, labels);
  parallel.run(n_bands, all.work() * double(pixels.H * pixels.W), [&](index_t band, int t) {
    const index_t begin = band * rows;
    all.add_rows(begin, std::min(pixels.H, begin + rows), scratch[as_size(t)], bands[as_size(band)]);
  });
  std::fill_n(sizes, n_regions, 0.0);
  std::fill_n(means, n_regions * D, 0.0);
  std::fill_n(scatters, n_regions * D * D, 0.0);
  for (Band& band : bands) {
    for (std::size_t place = 0; place < band.regions.size(); ++place) {
      const index_t region = band.regions[place];
      unite(D, band.counts[place], band.rows[place].get(), sizes[region], means + region * D,
            scatters + region * D * D);
    }
    band = {};
  }
  for (index_t region = 0; region < n_regions; ++region) {
    double* S = scatters + region * D * D;
    for (index_t i = 0; i < D; ++i)
      for (index_t j = 0; j < i; ++j) S[j * D + i] = S[i * D + j];
  }
}

template void region_moments(const KernelSet&, Parallel&, const Pixels<float>&, const std::int64_t*, index_t, double*,
                             double*, double*);
template void region_moments(const KernelSet&, Parallel&, const Pixels<double>&, const std::int64_t*, index_t, double*,
                             double*, double*);

}  // namespace redunet
