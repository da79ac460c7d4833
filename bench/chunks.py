"""A build from chunks, whose files are in the page cache, against one in memory, of samples that fit.

    python -m bench.chunks [--rounds 5] [--problems NAME ...] [--chunks 4]

Kinds take turns; milliseconds are medians over the layers of all rounds, between calls of `on_layer`. "By verbs" is the
build of one rank by samples: the same loop and precision as chunks, in memory. The number of chunks is about as asked.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import redunet as rn
from redunet import distributed

#: Samples and classes; float32.
PROBLEMS = {
    "vectors": ((100_000, 64), 10),
    "wide vectors": ((10_000, 784), 10),
    "signals": ((20_000, 5, 200), 2),
    "lifted signals": ((4_000, 16, 128), 10),
    "lifted images": ((500, 16, 28, 28), 10),
}
LAYERS = 4


def seconds(build: Callable[..., Any], *source: Any, **options: Any) -> list[float]:
    """Of every layer."""
    stamps: list[float] = []
    _, features = build(
        *source, n_layers=LAYERS, eta=0.1, on_layer=lambda *_: stamps.append(time.perf_counter()), **options
    )
    if isinstance(features, distributed.Chunks):
        features.close()
    return np.diff(stamps).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--chunks", type=int, default=4)
    given = parser.parse_args()
    print("| samples | classes | in memory | by verbs | by chunks | speed of chunks |\n|---|---|---|---|---|---|")
    for name in given.problems:
        shape, k = PROBLEMS[name]
        rng = np.random.default_rng(0)
        y = rng.integers(0, k, shape[0])
        X = (rng.standard_normal((k, *shape[1:]))[y] + rng.standard_normal(shape)).astype("f4")
        took: list[list[float]] = [[], [], []]
        for _ in range(given.rounds):
            took[0] += seconds(rn.build, X, y)
            took[1] += seconds(distributed.build, X, y, comm=distributed.single(), layout="samples")
            took[2] += seconds(distributed.build_chunks, (X, y), chunk_bytes=3 * X.nbytes // given.chunks)
        memory, verbs, chunks = (1e3 * statistics.median(of) for of in took)
        print(f"| {shape} | {k} | {memory:.3g} | {verbs:.3g} | {chunks:.3g} | {memory / chunks:.2f} |", flush=True)


if __name__ == "__main__":
    main()
