// A cluster that comes, at first or by a merge, is compared with all that are there, and keeps the best partner. So of
// every pair the later one keeps a gain that is no higher than the pair's: also where its partner has merged with
// another since, as the others were worse. Only where such a bound is the lowest of all is a partner looked for anew.
// Then the lowest gain with a partner that is there is the lowest of all pairs.
//
// Single samples lie in balls (singles.hpp). A bound of the gains with all samples of a ball says whether one of them
// can be better than the best so far; if not, the ball is passed over. Those with the lowest bounds come first, and all
// threads know the best of any. What a gain below that leaves for the form of a sample is a limit, which single
// precision holds against sixteen at a time: only those within it are looked at in double.

#include "clustering/merging.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <numeric>

#include "clustering/neighbours.hpp"
#include "clustering/order.hpp"
#include "clustering/screen.hpp"
#include "clustering/several.hpp"
#include "shared/problem.hpp"

namespace redunet {
namespace {

constexpr index_t B = kMergeLanes;
constexpr double kTaskWork =
    5e4;  // multiply-adds of a task: some microseconds, beside which handing it out costs little
constexpr double kLogarithm = 30;                    // multiply-adds that a gain takes as long as, beside its form
constexpr std::chrono::milliseconds kTellEvery{50};  // for an eye
constexpr std::int64_t kGone = -1;                   // place of a cluster that has merged, or hasn't come yet

// Calls f(neighbours, n) for as many at a time as fill a panel.
template <class F>
void in_panels(const Neighbours& near, const F& f) {
  const auto size = static_cast<index_t>(near.size());
  for (index_t i = 0; i < size; i += B) f(near.data() + i, std::min(B, size - i));
}

class Merging {
 public:
  Merging(const MergeKernels& kernels, Parallel& parallel, const MergeRequest& request)
      : kernels_(kernels),
        parallel_(parallel),
        request_(request),
        D_(request.D),
        graph_(request.neighbours),
        rows_(merge_rows(D_)),
        screen_(kernels, D_) {
    const double D = static_cast<double>(D_);
    code_ = {.centred = request.centred,
             .D = D_,
             .alpha = D / request.epsilon_sq,
             .basis = request.full ? D : 0,
             .of_mean = request.centred && request.full ? D / 2 : 0,
             .inverse_epsilon_sq = 1 / request.epsilon_sq};
    S_.resize(as_size(D_ * (D_ + 1) / 2)), mean_.resize(as_size(D_)), x_.resize(as_size(D_));
    W_ = Buffer<double>(rows_ * rows_), factor_work_ = Buffer<double>(D_ * D_);
    threads_.reserve(as_size(parallel.n_threads()));
    for (int t = 0; t < parallel.n_threads(); ++t) threads_.emplace_back(D_);
  }

  template <class T>
  MergePath run(const T* X);

 private:
  // What a cluster is compared as, and where it lies.
  struct Newcomer {
    MergeCluster cluster;
    std::int64_t id;
    index_t lane;   // among the single samples, or -1
    index_t place;  // among those of several, or -1
    double F;
  };
  struct Thread {
    explicit Thread(index_t D)
        : gains(B), work(merge_work(D)), sum((D + 2) * D * B), narrow_work(merge_work(D)), sample(as_size(D)) {}
    Buffer<double> gains, work, sum, bounds;
    Buffer<float> narrow_work;
    std::vector<double> sample;
  };

  void make_room(index_t n_clusters);
  template <class T>
  void begin(const T* X);
  template <class T>
  void begin_single(const T* x, std::int64_t id);
  template <class T>
  void begin_several(const T* X, const index_t* samples, index_t n, std::int64_t id);
  template <class T>
  void begin_moments(const T* X);
  void begin_summed(std::int64_t id, double n);
  void compare_singles();
  Best nearest_single(index_t lane, Thread& thread) const;

  bool there(std::int64_t id) const { return place_[as_size(id)] != kGone; }
  bool single(std::int64_t id) const { return place_[as_size(id)] < -1; }
  index_t place_of(std::int64_t id) const { return place_[as_size(id)]; }
  index_t lane_of(std::int64_t id) const { return -2 - place_[as_size(id)]; }
  void put_single(std::int64_t id, index_t lane) { place_[as_size(id)] = -2 - lane; }
  Several& panel(index_t place) { return panels_[as_size(place / B)]; }

  double code(double n, double logdet, double mean_square) const;
  MergeCluster of_one(const double* x) const;
  MergeCluster of_several(double n, double logdet, double F) const;
  MergeCluster of_place(index_t place);
  Newcomer newcomer(std::int64_t id);
  void add(std::int64_t id, double n, double F);
  void remove(std::int64_t id);
  void gather(std::int64_t id, bool first);
  void merge(std::int64_t i, std::int64_t j, std::int64_t c, double gain);

  void compare(Newcomer with);
  Best compare_all(const Newcomer& with);
  Best compare_near(const Newcomer& with);
  Best look_at_singles(const Newcomer& with, const Neighbour* near, index_t n);
  Best look_at_several(const Newcomer& with, const Neighbour* near, index_t n);
  void look_in_ball(const MergeCluster& cluster, index_t lane, index_t ball, Thread& thread, Best& found) const;
  Best look_in_panel(const Newcomer& with, index_t panel, Thread& thread);
  void gains_with_panel(const Newcomer& with, const MergePanel& panel, Thread& thread);
  const double* bound(const MergeCluster& cluster, index_t n_balls, Thread& thread) const;
  double work_of_sample() const { return double(D_ * D_) / 2 + kLogarithm; }
  void set_best(const Newcomer& with, const Best& best);
  double F_of(std::int64_t id) {
    return single(id) ? singles_.F[lane_of(id)] : panel(place_of(id)).at.F[place_of(id) % B];
  }
  std::int64_t lowest(Best& best) const;
  void find_lowest(index_t place);

  const MergeKernels& kernels_;
  Parallel& parallel_;
  const MergeRequest& request_;
  const index_t D_;
  MergeCode code_;
  Singles singles_;
  std::vector<Several> panels_;
  std::vector<double> lowest_;         // of the best gains in each panel
  Singles near_singles_;               // neighbours, copied to lie side by side
  std::vector<Several> near_several_;  // one
  index_t n_several_ = 0;
  std::vector<std::int64_t> place_;  // of a cluster by its number: >= 0 among several, <= -2 among single samples
  Graph graph_;
  index_t rows_;
  std::vector<double> S_, mean_, x_;  // of the cluster that is being made; of the sample that is compared
  double n_ = 0;
  Buffer<double> W_, factor_work_;
  Screen screen_;
  std::vector<Thread> threads_;
  std::vector<index_t> balls_;  // that are looked into
  std::vector<Best> found_;     // by each task
};

double Merging::code(double n, double logdet, double mean_square) const {
  double F = (n + code_.basis) / 2 * logdet - n * std::log(n);
  if (code_.of_mean != 0) F += code_.of_mean * std::log1p(mean_square * code_.inverse_epsilon_sq);
  return F;
}

MergeCluster Merging::of_one(const double* x) const {
  const double square = square_of(x, D_), a = code_.alpha / 2, half = (2 + code_.basis) / 2;
  MergeCluster c{.centred = code_.centred,
                 .D = D_,
                 .mean = x,
                 .W = nullptr,
                 .constant = -2 * std::log(2.0),
                 .half = half,
                 .scale = code_.centred ? a / 2 : a,
                 .weight = 0.5,
                 .of_mean = code_.of_mean,
                 .inverse_epsilon_sq = code_.inverse_epsilon_sq};
  if (code_.centred) {
    c.constant -= code(1, 0, square);
  } else {
    c.constant += half * std::log1p(a * square) - code(1, std::log1p(code_.alpha * square), 0);
    c.inverse_square = square > 0 ? 1 / square : 1;
    c.shrink = 1 / (1 + a * square);
  }
  return c;
}

// Of mean_ and W_, and what they are compared with as: see MergeCluster.
MergeCluster Merging::of_several(double n, double logdet, double F) const {
  const double half = (n + 1 + code_.basis) / 2;
  return {.centred = code_.centred,
          .D = D_,
          .mean = mean_.data(),
          .W = W_.get(),
          .constant = half * logdet - (n + 1) * std::log(n + 1) - F,
          .half = half,
          .scale = code_.alpha / (n + 1) * (code_.centred ? n / (n + 1) : 1),
          .weight = 1 / (n + 1),
          .of_mean = code_.of_mean,
          .inverse_epsilon_sq = code_.inverse_epsilon_sq};
}

MergeCluster Merging::of_place(index_t place) {
  const MergePanel& p = panel(place).at;
  const index_t lane = place % B;
  for (index_t k = 0; k < D_; ++k) mean_[as_size(k)] = p.mean[k * B + lane];
  const double* W = p.W + lane;
  for (index_t i = 0; i < D_; ++i)
    for (index_t j = 0; j <= i; ++j, W += B) W_[i * rows_ + j] = *W;
  MergeCluster c = of_several(p.n[lane], 0, p.F[lane]);
  c.constant = p.constant[lane];
  return c;
}

Merging::Newcomer Merging::newcomer(std::int64_t id) {
  if (!single(id)) {
    const index_t place = place_[as_size(id)];
    return {of_place(place), id, -1, place, panel(place).at.F[place % B]};
  }
  const index_t lane = lane_of(id);
  singles_.read(lane, x_.data());
  return {of_one(x_.data()), id, lane, -1, singles_.F[lane]};
}

// --- Clusters come and go ---

// The cluster of S_ and mean_.
void Merging::add(std::int64_t id, double n, double F) {
  const double logdet = kernels_.factor(D_, S_.data(), code_.alpha / (n + 1), W_.get(), factor_work_.get());
  const MergeCluster c = of_several(n, logdet, F);
  const index_t place = n_several_++, lane = place % B;
  if (place / B == static_cast<index_t>(panels_.size())) panels_.emplace_back(D_), lowest_.push_back(kInfinity);
  Several& to = panel(place);
  const MergePanel& p = to.at;
  for (std::size_t e = 0; e < S_.size(); ++e) p.S[static_cast<index_t>(e) * B + lane] = S_[e];
  double* W = p.W + lane;
  for (index_t i = 0; i < D_; ++i)
    for (index_t j = 0; j <= i; ++j, W += B) *W = W_[i * rows_ + j];
  for (index_t k = 0; k < D_; ++k) p.mean[k * B + lane] = mean_[as_size(k)];
  p.n[lane] = n, p.F[lane] = F, p.constant[lane] = c.constant, p.half[lane] = c.half, p.scale[lane] = c.scale;
  p.weight[lane] = c.weight;
  to.best[lane] = {}, to.id[lane] = id;
  place_[as_size(id)] = place;
  compare({c, id, -1, place, F});
}

void Merging::remove(std::int64_t id) {
  if (single(id)) {
    singles_.remove(lane_of(id));
  } else {
    const index_t place = place_[as_size(id)], last = --n_several_;
    if (place != last) {
      panel(place).copy(place % B, panel(last), last % B);
      place_[as_size(panel(place).id[place % B])] = place;
      find_lowest(place);
    }
    panel(last).empty(last % B);
    find_lowest(last);
  }
  place_[as_size(id)] = kGone;
}

// Adds a cluster's samples to S_, mean_ and n_.
void Merging::gather(std::int64_t id, bool first) {
  std::vector<double> mean(as_size(D_));
  double n = 1;
  if (first) std::fill(S_.begin(), S_.end(), 0.0), n_ = 0;
  double* S = S_.data();
  if (single(id)) {
    singles_.read(lane_of(id), mean.data());
    if (!code_.centred) {
      for (index_t i = 0; i < D_; ++i)
        for (index_t j = 0; j <= i; ++j) *S++ += mean[as_size(i)] * mean[as_size(j)];
      std::fill(mean.begin(), mean.end(), 0.0);
    }
  } else {
    const index_t place = place_[as_size(id)], lane = place % B;
    const MergePanel& p = panel(place).at;
    n = p.n[lane];
    for (index_t k = 0; k < D_; ++k) mean[as_size(k)] = p.mean[k * B + lane];
    for (std::size_t e = 0; e < S_.size(); ++e) S_[e] += p.S[static_cast<index_t>(e) * B + lane];
  }
  const double total = n_ + n, between = n_ * n / total;
  S = S_.data();
  if (first) {
    mean_ = mean;
  } else if (code_.centred) {
    for (index_t i = 0; i < D_; ++i)
      for (index_t j = 0; j <= i; ++j)
        *S++ += between * (mean[as_size(i)] - mean_[as_size(i)]) * (mean[as_size(j)] - mean_[as_size(j)]);
    for (std::size_t k = 0; k < mean.size(); ++k) mean_[k] += n / total * (mean[k] - mean_[k]);
  }
  n_ = total;
}

void Merging::merge(std::int64_t i, std::int64_t j, std::int64_t c, double gain) {
  const double F = F_of(i) + F_of(j) + gain + (request_.restricted ? graph_.saved(i, j) : 0);
  gather(i, true);
  gather(j, false);
  remove(i);
  remove(j);
  if (singles_.sparse()) singles_.pack([&](std::int64_t id, index_t lane) { put_single(id, lane); });
  if (request_.restricted) graph_.unite(i, j, c);
  add(c, n_, F);
}

// --- Best partners ---

// Lower bounds of the gains with every sample of each of the first balls, less what rounding may add.
const double* Merging::bound(const MergeCluster& cluster, index_t n_balls, Thread& thread) const {
  kernels_.bound(cluster, {.centres = singles_.centre.get(),
                           .F = singles_.most.get(),
                           .radii = singles_.radius.get(),
                           .n_panels = divide_up(n_balls, B),
                           .bounds = thread.bounds.get(),
                           .work = thread.work.get()});
  for (index_t ball = 0; ball < n_balls; ++ball) {
    double& g = thread.bounds[ball];
    if (g < kInfinity) g -= 1e-12 * (std::abs(g) + std::abs(cluster.constant) + std::abs(singles_.most[ball]));
  }
  return thread.bounds.get();
}

// Whether a ball holds a better partner than `found`, for the sample of this lane or, where it is negative, another
// cluster.
void Merging::look_in_ball(const MergeCluster& cluster, index_t lane, index_t ball, Thread& thread, Best& found) const {
  for (std::uint32_t near = screen_(cluster, singles_, ball, found.gain, thread.narrow_work.get()); near != 0;) {
    const int first = std::countr_zero(near), n = std::countr_one(near >> first);  // those side by side together
    near &= near + (1u << first);
    const index_t begin = ball * kBall + first * kPanel<float>,
                  end = std::min(singles_.used, begin + n * kPanel<float>);
    if (begin >= end) return;
    MergeSamples q{.x = singles_.sample(begin),
                   .F = singles_.F.get() + begin,
                   .n_panels = divide_up(end - begin, B),
                   .itself = lane - begin,
                   .work = thread.work.get(),
                   .gain = found.gain};
    kernels_.search(cluster, q);
    if (q.where >= 0) found = {q.gain, singles_.id[begin + q.where]};
  }
}

// Of a newcomer with the clusters of a panel.
void Merging::gains_with_panel(const Newcomer& with, const MergePanel& p, Thread& thread) {
  if (with.place >= 0)
    return kernels_.several_with_several(code_, panel(with.place).at, with.place % B, p, thread.gains.get(),
                                         thread.sum.get());
  kernels_.one_with_several(code_, with.cluster.mean, p, thread.gains.get());
  for (index_t lane = 0; lane < B; ++lane) thread.gains[lane] -= with.F;
}

Best Merging::look_in_panel(const Newcomer& with, index_t number, Thread& thread) {
  const Several& p = panels_[as_size(number)];
  gains_with_panel(with, p.at, thread);
  Best found;
  for (index_t lane = 0; lane < B; ++lane) {
    if (p.id[lane] < 0 || p.id[lane] == with.id) continue;
    found.take({thread.gains[lane], p.id[lane]});
  }
  return found;
}

Best Merging::compare_all(const Newcomer& with) {
  Best found;
  balls_.clear();
  if (singles_.used > singles_.gone) {
    const index_t n = singles_.n_balls();
    const double* const bounds = bound(with.cluster, n, threads_[0]);
    const index_t nearest = std::min_element(bounds, bounds + n) - bounds;
    look_in_ball(with.cluster, with.lane, nearest, threads_[0], found);
    for (index_t ball = 0; ball < n; ++ball)
      if (ball != nearest && bounds[ball] < found.gain) balls_.push_back(ball);
    std::sort(balls_.begin(), balls_.end(), [&](index_t a, index_t b) { return bounds[a] < bounds[b]; });
  }
  const double several = with.place >= 0 ? double(D_ * D_ * D_) / 6 + double(2 * D_ * D_) : double(D_ * D_) / 2;
  const double of_ball = work_of_sample() * double(kBall), of_panel = (several + 2 * kLogarithm) * double(B);
  const index_t n_balls = static_cast<index_t>(balls_.size()), n_panels = (n_several_ + B - 1) / B;
  const auto together = [](double work) { return std::max<index_t>(1, static_cast<index_t>(kTaskWork / work)); };
  const index_t run_balls = together(of_ball), run_panels = together(of_panel);
  const index_t ball_tasks = divide_up(n_balls, run_balls), panel_tasks = divide_up(n_panels, run_panels);
  found_.assign(as_size(ball_tasks + panel_tasks), {});
  const double work = double(n_balls) * of_ball + double(n_panels) * of_panel;
  std::atomic<double> lowest = found.gain;
  parallel_.run(ball_tasks + panel_tasks, work, [&](index_t task, int t) {
    Thread& thread = at(threads_, t);
    Best& mine = found_[as_size(task)];
    if (task < ball_tasks) {
      for (index_t b = task * run_balls; b < std::min(n_balls, (task + 1) * run_balls); ++b) {
        const index_t ball = balls_[as_size(b)];
        // Below or equal to what others found: of equal gains the first task's is taken, whoever was faster.
        Best here{.gain = std::min(mine.gain, std::nextafter(lowest.load(), kInfinity))};
        if (threads_[0].bounds[ball] < here.gain) look_in_ball(with.cluster, with.lane, ball, thread, here);
        if (here.partner < 0) continue;
        mine = here;
        for (double before = lowest; mine.gain < before && !lowest.compare_exchange_weak(before, mine.gain);) {
        }
      }
      return;
    }
    for (index_t p = (task - ball_tasks) * run_panels; p < std::min(n_panels, (task - ball_tasks + 1) * run_panels);
         ++p)
      mine.take(look_in_panel(with, p, thread));
  });
  for (const Best& one : found_) found.take(one);
  return found;
}

void Merging::compare(Newcomer with) {
  screen_.set(with.cluster);
  set_best(with, request_.restricted ? compare_near(with) : compare_all(with));
}

void Merging::set_best(const Newcomer& with, const Best& best) {
  if (with.place >= 0) {
    panel(with.place).best[with.place % B] = best;
    return find_lowest(with.place);
  }
  singles_.best[with.lane] = best.gain, singles_.partner[with.lane] = best.partner;
  singles_.find_lowest(with.lane / kBall);
}

// The cluster of the lowest gain, which it has with `best.partner` or had with one that is gone; -1: there is none.
std::int64_t Merging::lowest(Best& best) const {
  best = {};
  std::int64_t whose = -1;
  const index_t n = singles_.n_balls();
  const index_t ball = std::min_element(singles_.lowest.begin(), singles_.lowest.begin() + n) - singles_.lowest.begin();
  if (ball < n && singles_.lowest[as_size(ball)] < kInfinity) {
    const double* from = singles_.best.get() + ball * kBall;
    const index_t lane = std::min_element(from, from + kBall) - from + ball * kBall;
    best = {singles_.best[lane], singles_.partner[lane]};
    whose = singles_.id[lane];
  }
  const auto least = std::min_element(lowest_.begin(), lowest_.end());
  if (least == lowest_.end() || !(*least < best.gain)) return whose;
  const Several& p = panels_[as_size(least - lowest_.begin())];
  for (index_t lane = 0; lane < B; ++lane)
    if (p.best[lane].gain < best.gain) best = p.best[lane], whose = p.id[lane];
  return whose;
}

// Of the panel of a place, after one of its gains has changed.
void Merging::find_lowest(index_t place) {
  double& lowest = lowest_[as_size(place / B)] = kInfinity;
  for (const Best& best : panel(place).best) lowest = std::min(lowest, best.gain);
}

// --- Only neighbours: copied out of their panels, as many at a time as one holds. What a merge saves beside is added
// to the copies' F, which gains are less. ---

Best Merging::compare_near(const Newcomer& with) {
  Best found;
  Neighbours singles, several;
  const Neighbours& near = graph_.of(with.id);
  for (const Neighbour& k : near)
    if (there(k.id)) (single(k.id) ? singles : several).push_back(k);
  const double work = work_of_sample() * double(near.size());
  parallel_.run(1, work, [&](index_t, int) {
    in_panels(singles, [&](const Neighbour* near, index_t n) { found.take(look_at_singles(with, near, n)); });
    in_panels(several, [&](const Neighbour* near, index_t n) { found.take(look_at_several(with, near, n)); });
  });
  return found;
}

Best Merging::look_at_singles(const Newcomer& with, const Neighbour* near, index_t n) {
  for (index_t l = 0; l < B; ++l) {
    if (l >= n) {
      near_singles_.empty(l);
      continue;
    }
    near_singles_.copy(l, singles_, lane_of(near[l].id));
    near_singles_.F[l] += near[l].saved;
  }
  MergeSamples q{.x = near_singles_.sample(0),
                 .F = near_singles_.F.get(),
                 .n_panels = 1,
                 .itself = -1,
                 .work = threads_[0].work.get(),
                 .gain = kInfinity};
  kernels_.search(with.cluster, q);
  return q.where < 0 ? Best{} : Best{q.gain, near[q.where].id};
}

Best Merging::look_at_several(const Newcomer& with, const Neighbour* near, index_t n) {
  Several& copies = near_several_.front();
  for (index_t l = 0; l < n; ++l) {
    const index_t place = place_of(near[l].id);
    copies.copy(l, panel(place), place % B);
    copies.at.F[l] += near[l].saved;
    copies.at.constant[l] -= near[l].saved;
  }
  gains_with_panel(with, copies.at, threads_[0]);
  Best found;
  for (index_t l = 0; l < n; ++l) found.take({threads_[0].gains[l], near[l].id});
  return found;
}

// --- The start ---

void Merging::make_room(index_t n_clusters) {
  place_.assign(as_size(2 * n_clusters - 1), kGone);
  if (!request_.restricted) return;
  graph_.make_room(place_.size());
  near_singles_.make_room(B, D_);
  near_several_.emplace_back(D_);
}

template <class T>
void Merging::begin(const T* X) {
  if (request_.sizes != nullptr) return begin_moments(X);
  const index_t N = request_.n_samples;
  const auto cluster = [&](index_t i) { return request_.clusters == nullptr ? i : index_t{request_.clusters[i]}; };
  index_t n_clusters = 0;
  for (index_t i = 0; i < N; ++i) n_clusters = std::max(n_clusters, cluster(i) + 1);
  make_room(n_clusters);
  std::vector<index_t> count(as_size(n_clusters)), samples(as_size(N));
  for (index_t i = 0; i < N; ++i) ++count[as_size(cluster(i))];
  std::iota(samples.begin(), samples.end(), 0);
  const auto alone = [&](index_t i) { return count[as_size(cluster(i))] == 1; };
  index_t* const begin = samples.data();
  index_t* const end = begin + N;
  index_t* const several = std::stable_partition(begin, end, alone);
  std::vector<double> along(as_size(N));
  parallel_.run(1, 0, [&](index_t, int) { order(X, D_, begin, several, along.data()); });
  singles_.make_room(several - begin, D_);
  for (Thread& thread : threads_) thread.bounds = Buffer<double>(singles_.room_for_balls());
  for (const index_t* i = begin; i < several; ++i) begin_single(X + *i * D_, cluster(*i));
  for (index_t ball = 0; ball < singles_.n_balls(); ++ball) singles_.enclose(ball);
  compare_singles();
  std::stable_sort(several, end, [&](index_t i, index_t j) { return cluster(i) < cluster(j); });
  for (const index_t* i = several; i < end; i += count[as_size(cluster(*i))])
    begin_several(X, i, count[as_size(cluster(*i))], cluster(*i));
}

template <class T>
void Merging::begin_single(const T* x, std::int64_t id) {
  const index_t lane = singles_.used++;
  singles_.write(lane, x);
  singles_.read(lane, x_.data());
  const double square = square_of(x_.data(), D_);
  singles_.F[lane] = code(1, code_.centred ? 0 : std::log1p(code_.alpha * square), square);
  singles_.id[lane] = id;
  screen_.set_longest(std::sqrt(square));
  put_single(id, lane);
}

template <class T>
void Merging::begin_several(const T* X, const index_t* samples, index_t n, std::int64_t id) {
  std::fill(mean_.begin(), mean_.end(), 0.0);
  std::fill(S_.begin(), S_.end(), 0.0);
  const double count = static_cast<double>(n);
  if (code_.centred)
    for (index_t k = 0; k < D_; ++k) {
      for (index_t i = 0; i < n; ++i) mean_[as_size(k)] += static_cast<double>(X[samples[i] * D_ + k]);
      mean_[as_size(k)] /= count;
    }
  for (index_t i = 0; i < n; ++i) {
    for (index_t k = 0; k < D_; ++k) x_[as_size(k)] = static_cast<double>(X[samples[i] * D_ + k]) - mean_[as_size(k)];
    double* S = S_.data();
    for (index_t r = 0; r < D_; ++r)
      for (index_t k = 0; k <= r; ++k) *S++ += x_[as_size(r)] * x_[as_size(k)];
  }
  begin_summed(id, count);
}

// The cluster of S_ and mean_.
void Merging::begin_summed(std::int64_t id, double n) {
  const double logdet = kernels_.factor(D_, S_.data(), code_.alpha / n, W_.get(), factor_work_.get());
  add(id, n, code(n, logdet, square_of(mean_.data(), D_)));
}

// Clusters that are known by their means X and their scatter.
template <class T>
void Merging::begin_moments(const T* X) {
  make_room(request_.n_samples);
  std::fill(mean_.begin(), mean_.end(), 0.0);
  for (index_t id = 0; id < request_.n_samples; ++id) {
    if (code_.centred)
      for (index_t k = 0; k < D_; ++k) mean_[as_size(k)] = static_cast<double>(X[id * D_ + k]);
    double* S = S_.data();
    for (index_t r = 0; r < D_; ++r)
      for (index_t k = 0; k <= r; ++k) *S++ = request_.scatters[(id * D_ + r) * D_ + k];
    begin_summed(id, request_.sizes[id]);
  }
}

// Among themselves, before there are any others: each with those of its ball and of the balls before.
void Merging::compare_singles() {
  if (request_.restricted) {
    for (index_t lane = 0; lane < singles_.used; ++lane) compare(newcomer(singles_.id[lane]));
    return;
  }
  const double used = double(singles_.used);
  parallel_.run(singles_.n_balls(), used * used / double(2 * kBall) * kLogarithm, [&](index_t ball, int t) {
    index_t since = 0;
    for (index_t lane = ball * kBall; lane < std::min(singles_.used, (ball + 1) * kBall); ++lane) {
      const Best best = nearest_single(lane, at(threads_, t));
      singles_.best[lane] = best.gain, singles_.partner[lane] = best.partner;
      checkpoint(singles_.used * D_, since);
    }
    singles_.find_lowest(ball);
  });
}

Best Merging::nearest_single(index_t lane, Thread& thread) const {
  singles_.read(lane, thread.sample.data());
  const MergeCluster cluster = of_one(thread.sample.data());
  const index_t n = lane / kBall + 1;
  const double* const bounds = bound(cluster, n, thread);
  const index_t nearest = std::min_element(bounds, bounds + n) - bounds;
  Best found;
  look_in_ball(cluster, lane, nearest, thread, found);
  for (index_t ball = 0; ball < n; ++ball)
    if (ball != nearest && bounds[ball] < found.gain) look_in_ball(cluster, lane, ball, thread, found);
  return found;
}

template <class T>
MergePath Merging::run(const T* X) {
  begin(X);
  MergePath path;
  const auto n = static_cast<std::int64_t>(place_.size() / 2 + 1);
  path.children.reserve(as_size(2 * (n - 1))), path.gains.reserve(as_size(n - 1));
  auto called = std::chrono::steady_clock::now();
  Best best;
  for (std::int64_t i; (i = lowest(best)) >= 0;) {
    if (!there(best.partner)) {
      compare(newcomer(i));
      continue;
    }
    const auto t = static_cast<std::int64_t>(path.gains.size());
    const auto [first, second] = std::minmax(i, best.partner);
    path.children.insert(path.children.end(), {first, second});
    path.gains.push_back(best.gain);
    merge(first, second, n + t, best.gain);
    const auto now = std::chrono::steady_clock::now();
    if (request_.on_merge && now - called >= kTellEvery) {
      request_.on_merge(t + 1, best.gain);
      called = now;
    }
  }
  if (request_.on_merge && !path.gains.empty())
    request_.on_merge(static_cast<index_t>(path.gains.size()), path.gains.back());
  return path;
}

}  // namespace

template <class T>
MergePath merge_path(const KernelSet& kernels, Parallel& parallel, const T* X, const MergeRequest& request) {
  return Merging(kernels.merge, parallel, request).run(X);
}

template MergePath merge_path(const KernelSet&, Parallel&, const float*, const MergeRequest&);
template MergePath merge_path(const KernelSet&, Parallel&, const double*, const MergeRequest&);

}  // namespace redunet
