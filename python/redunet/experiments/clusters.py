"""Clusters by coding length against other clusterers: lines and a plane with outliers, subspaces, digits.

The distortion is chosen without labels, by the plateau of the phase transition (`PhaseTransition.plateau`), the same
rule everywhere. Rivals are told what they ask for: the number of clusters, or the best of some settings by the true
labels.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet import datasets, plot
from redunet._inputs import words
from redunet.clustering import PhaseTransition, merge_path, phase_transition, vertex_steps
from redunet.experiments import needs
from redunet.experiments.options import Options
from redunet.experiments.report import Report, spread
from redunet.network import build

Array = npt.NDArray[Any]
N_SAMPLES, NOISE = 358, 0.05
#: Uniform samples beside, for each on the lines and the plane.
OUTLIERS = (0.0, 0.5, 1.0, 2.0)
#: Distortions that the plateau is looked for in, in root mean square distances from the mean, or from zero.
EPSILONS = np.geomspace(1 / 256, 1.4, 25)
MOST_CLUSTERS = 12
LAYERS = 20
MEANS: dict[str, words.Mean] = {"coding length, zero mean": "zero", "coding length, estimated mean": "estimate"}

Method = Callable[[Array, Array, int], Array]


def clustering(options: Options) -> Report:
    """Merging by coding length against k-means, Ward, Gaussian mixtures, HDBSCAN and spectral clustering.

    Lines and a plane in R^3 with 0 to 200 % of outliers; their phase transition with and without the cost of bases;
    subspaces in R^10 and R^50; digits, on 16 principal components. And the vertex step, alone, after merging, and
    alternating with layers of a network. ``seeds`` samples of each; ``n_train`` samples of each cluster, at most.
    """
    needs.require("sklearn")
    n = N_SAMPLES if options.n_train is None else min(N_SAMPLES, 4 * options.n_train)
    report = Report(
        "clustering",
        "clusters by coding length",
        {"samples on lines and plane": n, "noise": NOISE, "draws": options.seeds,
         "epsilons, in root mean square lengths": f"{EPSILONS[0]:.3g} to {EPSILONS[-1]:.3g}, {len(EPSILONS)} of them"},
    )  # fmt: skip
    _outliers(report, n, options.seeds)
    _regimes(report, n)
    _others(report, options)
    _vertex(report, options)
    report.remark(
        "ARI: adjusted Rand index against the true clusters; k: clusters found, noise apart. Mixtures choose k by BIC; "
        "k-means, Ward, spectral clustering and one mixture are told the true number; HDBSCAN is the best of four "
        "sizes by ARI, which no user could choose. ± is the standard deviation over draws."
    )
    return report


# --- Methods ---


def _scale(X: Array, mean: str) -> float:
    """Root mean square distance of samples from their mean, or from zero."""
    return float(np.sqrt(np.square(X - X.mean(axis=0) if mean == "estimate" else X).sum(axis=1).mean()))


def _transition(X: Array, mean: words.Mean, length: words.Length = "full") -> PhaseTransition:
    return phase_transition(X, _scale(X, mean) * EPSILONS, mean=mean, length=length)


def _epsilon_sq(X: Array, mean: words.Mean) -> float:
    """By the plateau; where the shortest code is one cluster at every distortion, the least."""
    transition = _transition(X, mean)
    epsilon = transition.epsilons[0] if (transition.n_best == 1).all() else transition.plateau()
    return float(epsilon) ** 2


def _by_plateau(mean: words.Mean) -> Method:
    return lambda X, y, k: merge_path(X, epsilon_sq=_epsilon_sq(X, mean), mean=mean).labels()


def _methods() -> dict[str, Method]:
    """What is compared; each takes samples, true labels and their number, and uses what its name says."""
    from sklearn.cluster import HDBSCAN, AgglomerativeClustering, KMeans, SpectralClustering
    from sklearn.metrics import adjusted_rand_score
    from sklearn.mixture import GaussianMixture

    def mixture(X: Array, k: int) -> Any:
        return GaussianMixture(k, n_init=5, random_state=0).fit(X)

    def by_bic(X: Array, y: Array, k: int) -> Array:
        fitted = [mixture(X, n) for n in range(1, min(MOST_CLUSTERS, len(X) // 20) + 1)]
        return np.asarray(min(fitted, key=lambda one: one.bic(X)).predict(X))

    def density(X: Array, y: Array, k: int) -> Array:
        found = [
            HDBSCAN(min_cluster_size=min(size, len(X)), copy=True).fit_predict(X)  # of scikit-learn 1.10 the default
            for size in (5, 10, 20, 40)
        ]
        return np.asarray(max(found, key=lambda labels: adjusted_rand_score(y, labels)))

    return {
        **{name: _by_plateau(mean) for name, mean in MEANS.items()},
        "mixture, BIC": by_bic,
        "HDBSCAN, best": density,
        "mixture, k told": lambda X, y, k: np.asarray(mixture(X, k).predict(X)),
        "k-means, k told": lambda X, y, k: np.asarray(KMeans(k, n_init=10, random_state=0).fit_predict(X)),
        "Ward, k told": lambda X, y, k: np.asarray(AgglomerativeClustering(k).fit_predict(X)),
        "spectral, k told": lambda X, y, k: np.asarray(
            SpectralClustering(k, affinity="nearest_neighbors", random_state=0).fit_predict(X)
        ),
    }


def _compare(report: Report, table: str, draws: list[tuple[Array, Array]], **row: Any) -> None:
    """A row for every method: ARI of the samples that have a cluster, and clusters found."""
    from sklearn.metrics import adjusted_rand_score

    for name, fit in _methods().items():
        scores, counts, seconds = [], [], []
        for X, y in draws:
            inlier = y >= 0
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # graphs in pieces, mixtures that don't converge
                labels = fit(X, np.where(inlier, y, y.max() + 1), len(np.unique(y)))
            seconds.append(time.perf_counter() - start)
            scores.append(adjusted_rand_score(y[inlier], labels[inlier]))
            counts.append(len(np.unique(labels[labels >= 0])))
        report.add(
            table, **row, method=name, ARI=spread(scores, 2), k=spread(counts, 1), seconds=float(np.mean(seconds))
        )


# --- Data ---


def _outliers(report: Report, n: int, seeds: int) -> None:
    for share in OUTLIERS:
        draws = [
            datasets.lines_and_plane(n, noise=NOISE, n_outliers=round(share * n), random_state=seed)
            for seed in range(seeds)
        ]
        _compare(report, "Two lines and a plane, with outliers", draws, outliers=f"{100 * share:g} %")


def _regimes(report: Report, n: int) -> None:
    """Many clusters, those of the data, one: with and without what bases take."""
    from sklearn.metrics import adjusted_rand_score

    X, y = datasets.lines_and_plane(n, noise=NOISE, random_state=0)
    axes = report.axes("regimes", "Clusters against the distortion; the noise is the grey line.", columns=2)
    lengths: tuple[words.Length, ...] = ("full", "rate")
    for ax, length in zip(axes, lengths, strict=True):
        transition = phase_transition(X, EPSILONS, mean="zero", length=length)
        plot.phase_transition(transition, ax=ax, title=f'length="{length}"')
        ax.axvline(NOISE, color=plot.COLORS[-1], linewidth=1)
        for epsilon, k, bits in zip(EPSILONS, transition.n_best, transition.bits_per_sample, strict=True):
            labels = merge_path(X, epsilon_sq=epsilon**2, mean="zero", length=length).labels()
            report.add(
                f"Phase transition, length = {length}",
                **{"ε": float(epsilon), "k": int(k), "ARI": float(adjusted_rand_score(y, labels)), "bits": float(bits)},
            )
    path = merge_path(X, epsilon_sq=_epsilon_sq(X, "zero"), mean="zero")
    tree, length_of_code = report.axes("path", "The last merges, and the code against clusters.", columns=2)
    plot.merge_tree(path, ax=tree)
    plot.code_lengths(path, ax=length_of_code)
    (space,) = report.axes("scatter", "Samples by the cluster that they are found in.", projection="3d")
    plot.scatter(X, path.labels(), ax=space, title=None)


def _subspaces(D: int, ranks: tuple[int, ...], n: int, noise: float, seed: int) -> tuple[Array, Array]:
    """n samples on each of some random subspaces of R^D, with Gaussian coordinates."""
    random = np.random.default_rng(seed)
    bases = [np.linalg.qr(random.standard_normal((D, rank)))[0] for rank in ranks]
    X = np.concatenate([random.standard_normal((n, basis.shape[1])) @ basis.T for basis in bases])
    y = np.repeat(np.arange(len(ranks)), n)
    return X + noise / np.sqrt(D) * random.standard_normal(X.shape), y


def _sets(options: Options) -> Iterator[tuple[str, list[tuple[Array, Array]]]]:
    seeds = range(options.seeds)
    n = options.samples(100)
    yield "planes in R^10", [_subspaces(10, (2,) * 5, n, 0.1, seed) for seed in seeds]
    yield "subspaces of rank 1 to 5 in R^50", [_subspaces(50, (1, 2, 3, 4, 5), n, 0.3, seed) for seed in seeds]
    yield "digits", [_digits(options, seed) for seed in seeds]


def _digits(options: Options, seed: int) -> tuple[Array, Array]:
    """Some of scikit-learn's digits on their principal components."""
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA

    X, y = load_digits(return_X_y=True)
    chosen = np.random.default_rng(seed).permutation(len(X))[: 10 * options.samples(100)]
    return PCA(16, random_state=0).fit_transform(X[chosen]), y[chosen]


def _others(report: Report, options: Options) -> None:
    for name, draws in _sets(options):
        _compare(report, "Subspaces and digits", draws, set=name)


# --- Membership ---


def _vertex(report: Report, options: Options) -> None:
    """Vertex steps, k told: from random starts, after merging, and each after a layer of a network; unit vectors."""
    from sklearn.metrics import adjusted_rand_score

    from redunet.sklearn import CodingRateKSubspaces

    sets = {"lines and plane": [datasets.lines_and_plane(4 * options.samples(90), noise=NOISE, random_state=seed)
                                for seed in range(options.seeds)], **dict(_sets(options))}  # fmt: skip
    for name, draws in sets.items():
        found: dict[str, list[float]] = {}
        for seed, (X, y) in enumerate(draws):
            Z, k = X / np.linalg.norm(X, axis=1, keepdims=True), len(np.unique(y))
            epsilon_sq = _epsilon_sq(Z, "zero")
            starts = CodingRateKSubspaces(k, epsilon_sq, mean="zero", random_state=seed).fit(Z).labels_
            merged = merge_path(Z, epsilon_sq=epsilon_sq, mean="zero").labels(k)
            refined = vertex_steps(Z, merged, epsilon_sq=epsilon_sq, mean="zero").labels
            labels, features = starts, Z
            for _ in range(LAYERS):
                if len(np.unique(labels)) == 1:
                    break
                _, features = build(features, labels, n_layers=1, epsilon_sq=epsilon_sq, assignment="given")
                labels = vertex_steps(features, labels, epsilon_sq=epsilon_sq, mean="zero").labels
            for method, ours in (
                ("vertex steps, ten starts", starts),
                ("merging", merged),
                ("merging, vertex steps", refined),
                (f"ten starts, {LAYERS} x (layer, vertex steps)", labels),
            ):
                found.setdefault(method, []).append(adjusted_rand_score(y, ours))
        report.add(
            "Membership by vertex steps: ARI", set=name, **{key: spread(value, 2) for key, value in found.items()}
        )
