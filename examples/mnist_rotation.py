"""Digits 0 and 1 of MNIST at every rotation: plain and rotation-invariant ReduNets beside the lecture's figures.

An image is sampled at C radii on T rays, (C, T): turning it shifts its samples cyclically. The invariant network is
built from such signals, the plain one from the same numbers as vectors of C * T. Both see the digits as they stand.

    python examples/mnist_rotation.py --data path/to/mnist --json result.json

Tested on the test digits and on every cyclic shift of their samples. For the invariant network one forward pass serves
all shifts; the plain one has to see every shifted copy, so that by default it sees one shift in ten (--plain-stride).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import redunet as rn
from redunet.config import configuration

# Y. Ma, Learning Deep Low-Dimensional Models from High-Dimensional Data, 2025: 3500 layers with eta = 0.5.
LECTURE = {"plain": (0.983, 0.707), "invariant": (0.996, 0.993)}


@dataclass(frozen=True)
class Result:
    """Accuracies of one network, in [0, 1]; n_shifts is how many shifts of each digit were tested."""

    network: str
    eta: str
    n_layers: int
    test: float
    shifts: float
    n_shifts: int
    delta: float
    build_seconds: float


def samples(images: np.ndarray, labels: np.ndarray, limit: int, options: argparse.Namespace) -> list[np.ndarray]:
    """The first digits of each class, sampled, (m, C, T) in single precision; and their labels."""
    first = np.concatenate([np.flatnonzero(labels == label)[:limit] for label in (0, 1)])
    compat = not options.clean
    polar = rn.to_polar(
        images[first], n_channels=options.channels, n_angles=options.angles, compat=compat, endpoint=compat
    )
    return [polar.astype(np.float32), labels[first]]


def vectors(X: np.ndarray) -> np.ndarray:
    """(m, C, T) as (m, C * T)."""
    return X.reshape(len(X), -1)


def brute_force(
    net: rn.ReduNet | None, classifier: rn.NearestSubspace, X: np.ndarray, y: np.ndarray, stride: int
) -> tuple[float, float, int]:
    """Accuracy on the samples, and on their shifts by multiples of the stride, one shifted copy after the other."""
    hits = []
    for shift in range(0, X.shape[2], stride):
        copies = vectors(np.roll(X, shift, axis=2))
        hits.append(classifier.score(copies if net is None else net.transform(copies), y))
    return hits[0], float(np.mean(hits)), len(hits)


def run(options: argparse.Namespace) -> list[Result]:
    """All networks, built and tested."""
    data = rn.datasets.mnist(options.data)
    X, y = samples(data.X_train, data.y_train, options.n_train, options)
    X_test, y_test = samples(data.X_test, data.y_test, options.n_test, options)
    m, C, T = X.shape
    print(f"{m} training digits, {len(X_test)} test digits, C = {C}, T = {T}", flush=True)

    # Without a network: what the samples alone are good for.
    nearest = rn.NearestSubspace(options.components)
    unit = vectors(X) / np.linalg.norm(vectors(X), axis=1, keepdims=True)
    results = [Result("none", "", 0, *brute_force(None, nearest.fit(unit, y), X_test, y_test, 1), 0.0, 0.0)]
    for eta, n_layers in (("auto", options.auto_layers), (options.eta, options.layers)):
        for network in ("invariant",) if options.skip_plain else ("plain", "invariant"):
            start = time.perf_counter()
            net, Z = rn.build(
                X if network == "invariant" else vectors(X),
                y,
                n_layers=n_layers,
                eta=eta,
                epsilon_sq=options.epsilon_sq,
                progress=options.progress,
            )
            seconds = time.perf_counter() - start
            nearest.fit(Z, y)
            if network == "invariant":
                Z_test = net.transform(X_test)
                tested = nearest.score(Z_test, y_test), nearest.score_all_shifts(Z_test, y_test), T
            else:
                tested = brute_force(net, nearest, X_test, y_test, options.plain_stride)
            results.append(Result(network, str(eta), n_layers, *tested, float(net.rates.delta[-1]), seconds))
            print(f"{network}, {n_layers} layers, eta = {eta}: {tested[0]:.4f}, shifts {tested[1]:.4f}", flush=True)
    return results


def markdown(results: list[Result]) -> str:
    """The results and the lecture's as a table."""
    lines = [
        "| network | η | layers | test digits | their shifts | shifts of each | ΔR | build, s |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for r in results:
        if r.network == "none":
            lines.append(f"| none: the samples | | | {r.test:.4f} | {r.shifts:.4f} | {r.n_shifts} | | |")
        else:
            accuracies = f"{r.test:.4f} | {r.shifts:.4f} | {r.n_shifts}"
            lines.append(
                f"| {r.network} | {r.eta} | {r.n_layers} | {accuracies} | {r.delta:.4f} | {r.build_seconds:.2f} |"
            )
    for network, (test, shifts) in LECTURE.items():
        lines.append(f"| {network}, in the lecture | 0.5 | 3500 | {test} | {shifts} | all | | |")
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", required=True, type=Path, metavar="DIR", help="folder of MNIST's four IDX files")
    add("--layers", type=int, default=200, help="layers with the fixed step (default: 200)")
    add("--eta", type=float, default=0.5, help="the fixed step (default: 0.5)")
    add("--auto-layers", type=int, default=40, help='layers with eta="auto" (default: 40)')
    add("--n-train", type=int, default=1000, help="training digits of each class, the first (default: 1000)")
    add("--n-test", type=int, default=1000, help="test digits of each class, at most (default: 1000)")
    add("--channels", type=int, default=5, help="radii, C (default: 5)")
    add("--angles", type=int, default=200, help="rays, T (default: 200)")
    add("--components", type=int, default=10, help="dimensions of each class's subspace (default: 10)")
    add("--epsilon-sq", type=float, default=0.1, help="squared distortion (default: 0.1)")
    add("--clean", action="store_true", help="our polar sampling; default: the ReduNet authors' (needs SciPy)")
    add(
        "--plain-stride",
        type=int,
        default=10,
        metavar="S",
        help="the plain network sees every S-th shift (default: 10)",
    )
    add("--skip-plain", action="store_true", help="only the invariant networks")
    add("--backend", default="auto", choices=("auto", "cpu", "numpy"))
    add("--progress", action="store_true", help="progress bars")
    add("--json", type=Path, metavar="FILE", help="save settings, versions and results")
    add("--markdown", type=Path, metavar="FILE", help="save the table")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, print the table, save what is asked for."""
    options = parse(arguments)
    with rn.use_backend(options.backend):
        results = run(options)
        machine = configuration()
    table = markdown(results)
    print(f"\n{table}")
    if options.markdown:
        options.markdown.write_text(table + "\n", encoding="utf-8")
    if options.json:
        settings = {name: value for name, value in vars(options).items() if name not in ("data", "json", "markdown")}
        rows = [asdict(result) for result in results]
        content = {"settings": settings, "machine": machine, "lecture": LECTURE, "results": rows}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
