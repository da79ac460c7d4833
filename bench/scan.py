"""`python -m bench.scan`: nothing slow off the beaten path. Lines of sizes, and what a layer of the engine costs.

Along each line one size changes: channels, classes, samples, length (primes too), or the kind of problem (soft
membership, weights, double precision) against the plain one of the same size. Printed: nanoseconds per sample and
layer, GF/s of the least work of the layer, and the cost beside layers; neighbours that differ by more than FLAG_RATIO
per unit of work are marked. To be run by hand, on one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

import redunet as rn
from bench.environment import clock, describe, restart_clean
from bench.floor import min_cost
from bench.tables import as_markdown, as_text
from bench.workloads import Workload
from redunet._inputs.words import Backend

#: Neighbours that differ by more per unit of work are flagged.
FLAG_RATIO = 2.0
# A layer is the difference of builds of so many layers and of one: gates sharpen from layer to layer, so all sizes
# have the same number. Builds take turns until they have taken so many seconds, and so often at least and at most.
LAYERS = 11
SECONDS, MIN_ROUNDS, MAX_ROUNDS = 0.2, 3, 100
KINDS = ("hard", "soft", "weighted", "double")


@dataclass(frozen=True)
class Size:
    """One problem: m samples of C channels, of length T (0: vectors), in k equal classes."""

    m: int
    C: int
    T: int
    k: int
    kind: str = "hard"

    @property
    def n_freqs(self) -> int:
        return self.T // 2 + 1 if self.T else 1

    def __str__(self) -> str:
        return f"m={self.m} C={self.C} T={self.T} k={self.k}" + (f" {self.kind}" if self.kind != "hard" else "")


@dataclass(frozen=True)
class Point:
    """A size and its cost.

    Attributes
    ----------
    layer_s, fixed_s : float
        Seconds of a further layer, and of a build beside its layers.
    work : float
        Flops of the least work of a layer; in double precision each counts as two.
    """

    size: Size
    layer_s: float
    fixed_s: float
    work: float

    @property
    def ns_per_sample(self) -> float:
        return self.layer_s / self.size.m * 1e9

    @property
    def gflop_s(self) -> float:
        return self.work / self.layer_s / 1e9

    @property
    def fixed_ns_per_number(self) -> float:
        """Of the input's numbers: what transforms and packing cost."""
        return self.fixed_s / (self.size.m * self.size.C * max(self.size.T, 1)) * 1e9


@dataclass(frozen=True)
class Line:
    """Sizes of which neighbours are compared.

    Attributes
    ----------
    to_first : bool
        Compare all with the first instead.
    by : str
        What is compared: "work" (seconds of a layer per flop), "samples" (per sample) or "fixed" (fixed seconds per
        number of the input).
    """

    name: str
    sizes: tuple[Size, ...]
    by: str = "work"
    to_first: bool = False


_CHANNELS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 96, 128, 129, 192, 256, 300)
_CLASSES = (1, 2, 3, 5, 10, 20, 50, 100)
_SAMPLES = (10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
_LENGTHS = (16, 17, 29, 30, 31, 32, 61, 64, 67, 97, 100, 101, 127, 128, 131, 251, 256, 257, 509, 512, 521)
_KIND_CHANNELS = (4, 8, 9, 16, 32, 64)


def lines() -> list[Line]:
    """All of them."""
    return [
        Line("channels of signals", tuple(Size(960, C, 16, 3) for C in _CHANNELS)),
        Line("channels of vectors", tuple(Size(2000, C, 0, 5) for C in _CHANNELS)),
        Line("classes, C = 8", tuple(Size(1000, 8, 16, k) for k in _CLASSES)),
        Line("classes, C = 32", tuple(Size(1000, 32, 16, k) for k in _CLASSES)),
        Line("samples", tuple(Size(m, 5, 16, 2) for m in _SAMPLES), by="samples"),
        Line("length", tuple(Size(300, 6, T, 3) for T in _LENGTHS)),
        Line("length, beside layers", tuple(Size(300, 6, T, 3) for T in _LENGTHS), by="fixed"),
        *(
            Line(f"kinds, C = {C}", tuple(Size(600, C, 16, 4, kind) for kind in KINDS), to_first=True)
            for C in _KIND_CHANNELS
        ),
    ]


def least_work(size: Size) -> float:
    """Flops of a layer: the smaller of dense and factored; soft classes each have a Gram matrix of all samples."""
    y = np.arange(size.m) % size.k
    shape = (size.m, size.C, size.T) if size.T else (size.m, size.C)
    X = np.broadcast_to(np.float32(0), shape)
    workload = Workload(str(size), X, y, X, size.k, 1)
    dense, factored = min_cost(workload), min_cost(workload, factored=True)
    if size.kind == "soft":
        return dense.flops + (size.k - 1) * dense.gram
    return min(dense.flops, factored.flops) * (2 if size.kind == "double" else 1)


def samples(size: Size) -> tuple[NDArray[Any], dict[str, Any]]:
    """X around k random centres, and the arguments of `rn.build` that go with it."""
    rng = np.random.default_rng(0)
    shape = (size.C, size.T) if size.T else (size.C,)
    labels = rng.permutation(np.arange(size.m) % size.k)
    dtype = np.float64 if size.kind == "double" else np.float32
    X = rng.standard_normal((size.m, *shape), dtype=np.float32).astype(dtype)
    X = X + rng.standard_normal((size.k, *shape)).astype(dtype)[labels]
    given: dict[str, Any] = {"y": labels}
    if size.kind == "soft":
        own = np.eye(size.k)[labels]
        given["y"] = 0.8 * own + 0.2 / size.k
    if size.kind == "weighted":
        given["sample_weight"] = rng.uniform(0.5, 1.5, size.m)
    return X, given


def measure_size(size: Size, *, n_threads: int, backend: Backend = "cpu") -> Point:
    """Builds of one layer and of `LAYERS` in turns; the difference of the fastest."""
    X, given = samples(size)
    now = clock(n_threads)

    def build(n_layers: int) -> float:
        start = now()
        rn.build(
            X,
            **given,
            n_layers=n_layers,
            eta=0.5,
            channels="first" if size.T else None,
            keep="features",
            backend=backend,
            n_threads=n_threads,
        )
        return now() - start

    build(1)
    rounds: list[tuple[float, float]] = []
    while len(rounds) < MIN_ROUNDS or (sum(map(sum, rounds)) < SECONDS and len(rounds) < MAX_ROUNDS):
        rounds.append((build(1), build(LAYERS)))
    first, many = (min(seconds) for seconds in zip(*rounds, strict=True))
    layer = max(many - first, 1e-9) / (LAYERS - 1)
    return Point(size, layer, max(first - layer, 1e-9), least_work(size))


def cost(point: Point, by: str) -> float:
    """What is compared along a line."""
    if by == "fixed":
        return point.fixed_ns_per_number
    return point.ns_per_sample if by == "samples" else point.layer_s / point.work


def ratios(line: Line, points: Sequence[Point]) -> list[float]:
    """The cost of every point over that of the one it is compared with; 1 for the first."""
    costs = [cost(point, line.by) for point in points]
    return [1.0, *(c / (costs[0] if line.to_first else costs[i]) for i, c in enumerate(costs[1:]))]


def is_cliff(ratio: float) -> bool:
    return ratio > FLAG_RATIO or ratio < 1 / FLAG_RATIO


def rows(line: Line, points: Sequence[Point]) -> list[list[str]]:
    """A table of a line, with its head."""
    table = [[line.name, "ms a layer", "ns a sample", "GF/s", "fixed, ns a number", "to the one before"]]
    if line.to_first:
        table[0][-1] = "to the first"
    for point, ratio in zip(points, ratios(line, points), strict=True):
        table.append(
            [
                str(point.size),
                f"{point.layer_s * 1e3:.4f}",
                f"{point.ns_per_sample:.1f}",
                f"{point.gflop_s:.1f}",
                f"{point.fixed_ns_per_number:.2f}",
                f"{ratio:.2f}" + (" <--" if is_cliff(ratio) else ""),
            ]
        )
    return table


def cliffs(line: Line, points: Sequence[Point]) -> list[str]:
    """One line of text for every pair that is flagged."""
    pairs = zip(ratios(line, points), points, [points[0], *points], strict=False)
    return [
        f"{line.name}: {point.size} costs {ratio:.2f} x {points[0].size if line.to_first else before.size}"
        for ratio, point, before in pairs
        if is_cliff(ratio)
    ]


def quick(all_lines: Iterable[Line]) -> list[Line]:
    """The first three sizes of every line, of at most a hundred samples: a smoke test."""
    return [
        replace(line, sizes=tuple(replace(size, m=min(size.m, 100)) for size in line.sizes[:3])) for line in all_lines
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.scan", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--lines", nargs="+", metavar="WORD", help="only lines whose names hold one of these")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default 1, timed in processor seconds")
    parser.add_argument("--backend", default="cpu", choices=get_args(Backend), help="default cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save everything measured")
    parser.add_argument("--markdown", action="store_true", help="print tables as Markdown")
    parser.add_argument("--quick", action="store_true", help="few and small sizes: does it run?")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    options = _parser().parse_args(arguments)
    restart_clean()
    chosen = [
        line
        for line in lines()
        if not options.lines or any(word.lower() in line.name.lower() for word in options.lines)
    ]
    measured: dict[Size, Point] = {}
    found: list[str] = []
    show = as_markdown if options.markdown else as_text
    for line in quick(chosen) if options.quick else chosen:
        for size in line.sizes:
            if size not in measured:
                measured[size] = measure_size(size, n_threads=options.threads, backend=options.backend)
        points = [measured[size] for size in line.sizes]
        print(show(rows(line, points)), end="\n\n", flush=True)
        found += cliffs(line, points)
    print("\n".join(found or ["no cliffs"]))
    if options.json:
        saved = [
            {"size": str(p.size), "layer_s": p.layer_s, "fixed_s": p.fixed_s, "work": p.work} for p in measured.values()
        ]
        options.json.write_text(json.dumps({"machine": describe(), "points": saved, "cliffs": found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
