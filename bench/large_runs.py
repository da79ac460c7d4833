"""Layers on many nodes, by a model: what arithmetic, bytes and messages take, in each way to share the work.

    python -m bench.large_runs [--ranks 10 100 1000 10000] [--samples 1000000000] [--cores 64] [--latency 2] ...

Arithmetic: flops of `bench.floor` at the rate of a layer here, of one core's own time, by samples of bp2d's shape and
by frequencies of trans10's, times the cores of a node; with ``--gflops`` nothing is measured. Messages:
`bench.collectives` with the constants of a network, and bytes of `distributed.plan`; a rank is a node. The ways:

samples, frequencies   as `redunet.distributed` does
samples, halving       ranks meet in pairs, in log2 P steps each way
grid                   groups of ranks have the same samples at different frequencies; the best number of these

Skew is what waiting for the slowest rank adds to a layer. Memory is the features, once, and the operators of all
layers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bench.collectives import Floats, Machine, all_sum, equal_exchange, halving, meeting
from bench.floor import LayerCost, min_cost
from bench.workloads import Workload
from redunet import distributed
from redunet.distributed.communicator import Bytes, Communicator, Speed
from redunet.distributed.grams import blocks_of
from redunet.distributed.plan import LAYOUTS, meetings

ITEM_BYTES, GRAM_BYTES = 4, 8  # of a real number: of operators; of Gram matrices and rates
SKEWED_LAYERS = 20
TIMED_SAMPLES, TIMED_LAYERS = 500, (1, 5)


class Given(Communicator):
    """So many ranks of a given speed, for `distributed.plan`."""

    def __init__(self, size: int, machine: Machine) -> None:
        super().__init__(0, size)
        self._given = Speed(machine.latency, 1 / machine.gap)

    def measured(self) -> Speed:
        return self._given

    def _swap_lengths(self, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        raise NotImplementedError

    def _swap(self, parts: Sequence[Bytes], lengths: Sequence[int]) -> list[Bytes]:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Run:
    """Layers of samples (m, C, ...) in k classes, and flop/s of a node on them by samples and by frequencies."""

    shape: tuple[int, ...]
    n_classes: int
    n_layers: int
    rates: dict[str, float]

    @property
    def sizes(self) -> Workload:
        """Labels of a few samples alone: who has more has no classes smaller than C."""
        X = np.broadcast_to(np.float32(0), self.shape)
        return Workload(
            "run", X, np.arange(min(self.shape[0], 10**4)) % self.n_classes, X, self.n_classes, self.n_layers
        )

    def cost(self, layout: str) -> LayerCost:
        """By samples all operators are dense."""
        return min_cost(self.sizes, factored=layout == "frequencies")

    def shares(self, P: int) -> tuple[Floats, Floats]:
        """Bytes of Gram matrices that each rank takes of one other (P,), and of operators and rates that it sends."""
        planes = 1 if len(self.shape) == 2 else 2
        triangle = planes * self.shape[1] * (self.shape[1] + 1) // 2
        ranks = blocks_of(self.n_classes + 1, self.sizes.n_freqs, P)
        summed = [sum(block.size(block.summed) for block in blocks) for blocks in ranks]
        made = [sum(block.size(block.numbers) for block in blocks) for blocks in ranks]
        rates = GRAM_BYTES * (self.n_classes + 1)
        return np.array(summed) * GRAM_BYTES * triangle, np.array(made) * ITEM_BYTES * triangle + rates


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Seconds of a layer, and bytes of a node for all layers."""

    way: str
    compute: float
    messages: float  # all that they take
    latency: float  # of that without bytes
    memory: float

    @property
    def seconds(self) -> float:
        return self.compute + self.messages

    @property
    def bound(self) -> str:
        parts = {"compute": self.compute, "bytes": self.messages - self.latency, "latency": self.latency}
        return max(parts, key=lambda part: parts[part])


def layer(way: str, run: Run, P: int, machine: Machine) -> Layer | None:
    """One layer, or None where the way cannot share it among so many ranks."""
    n_freqs = run.sizes.n_freqs
    if way == "frequencies":
        return by_frequencies(run, P, machine) if n_freqs >= P else None
    if way == "grid":
        grids = [grid(run, P, n, machine) for n in range(2, min(P // 2, n_freqs) + 1) if P % n == 0]
        return min(grids, key=lambda one: one.seconds) if grids else None
    return by_samples(way, run, P, machine)


def by_samples(way: str, run: Run, P: int, machine: Machine) -> Layer:
    pairs, cost = run.sizes.n_freqs * (run.n_classes + 1), run.cost("samples")
    flops = (cost.gram + cost.apply) / P + cost.inverse * max_part(pairs, P)
    memory = cost.feature_bytes / P + run.n_layers * cost.operator_bytes
    grams, operators = run.shares(P)

    def met(net: Machine) -> float:
        if way == "samples, halving":
            return halving(net, P, grams.sum()) + halving(net, P, operators.sum())
        summed = meeting(np.zeros(P), net, to=grams)
        return float(meeting(summed, net, sent_by=operators, to=np.ones(P)).max())

    return made(way, flops / run.rates["samples"], memory, machine, met)


def by_frequencies(run: Run, P: int, machine: Machine) -> Layer:
    cost, part = run.cost("frequencies"), max_part(run.sizes.n_freqs, P)
    memory = part * (cost.feature_bytes + run.n_layers * cost.operator_bytes)
    seconds = part * cost.flops / run.rates["frequencies"]
    return made(
        "frequencies", seconds, memory, machine, lambda net: sums_of_frequencies(run.shape[0], run.n_classes, P, net)
    )


def grid(run: Run, P: int, n_rows: int, machine: Machine) -> Layer:
    """Of n_rows ranks with the same samples, and P / n_rows with the same frequencies; shares are by pairs."""
    F, columns, cost = run.sizes.n_freqs, P // n_rows, run.cost("samples")
    part = max_part(F, n_rows)
    inverse = cost.inverse * max_part(round(F * part) * (run.n_classes + 1), columns)
    flops = part * ((cost.gram + cost.apply) / columns + inverse)
    memory = part * (cost.feature_bytes / columns + run.n_layers * cost.operator_bytes)
    grams, operators = (share.sum() for share in run.shares(1))

    def met(net: Machine) -> float:
        ready = meeting(np.zeros(columns), net, to=part * grams / columns)
        ready = meeting(ready, net, to=part * operators / columns)
        return float(ready.max()) + sums_of_frequencies(run.shape[0] / columns, run.n_classes, n_rows, net)

    return made(f"grid, {columns} x {n_rows}", flops / run.rates["samples"], memory, machine, met)


def made(way: str, compute: float, memory: float, machine: Machine, messages: Callable[[Machine], float]) -> Layer:
    latency = messages(replace(machine, gap=0.0))
    return Layer(way=way, compute=compute, messages=messages(machine), latency=latency, memory=memory)


def sums_of_frequencies(m: float, n_classes: int, P: int, machine: Machine) -> float:
    """Sums of rates, of residuals, and of norms after the step."""
    ready = np.zeros(P)
    for n_bytes in (8 * (n_classes + 1), 8 * m * n_classes, 8 * m):
        ready = all_sum(ready, machine, n_bytes)
    return float(ready.max())


def max_part(n: int, size: int) -> float:
    """The largest share of n things among ranks."""
    return -(-n // size) / n


def waiting(P: int, machine: Machine, between_ranks: float, between_layers: float) -> float:
    """What a layer's compute of 1 takes longer, of ranks that differ by such coefficients of variation."""
    rng = np.random.default_rng(0)
    steady = 1 + between_ranks * rng.standard_normal(P)

    def seconds(compute: Floats) -> float:
        ready = np.zeros(P)
        for one in compute:
            ready = equal_exchange(ready + one, machine)
        return float(ready.max()) / len(compute)

    skewed = np.maximum(steady + between_layers * rng.standard_normal((SKEWED_LAYERS, P)), 0)
    return seconds(skewed) - seconds(np.ones((SKEWED_LAYERS, P)))


def latency_bound(run: Run, layout: str, machine: Machine) -> int:
    """Ranks, to a tenth, from which meetings without bytes take longer than the arithmetic."""
    P, seconds = 2.0, run.cost(layout).flops / run.rates[layout]
    n_meetings = meetings(run.shape[0], run.n_classes)[layout]
    while n_meetings * meeting(np.zeros(int(P)), machine).max() < seconds / int(P):
        P *= 1.1
    return int(P)


def measured_rate(run: Run, layout: str) -> float:
    """Flop/s of a layer on one core: of its own time, whatever else the machine does, without the way in and out."""
    few = replace(run, shape=(min(run.shape[0], TIMED_SAMPLES), *run.shape[1:]))
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal(few.shape, dtype=np.float32), np.arange(few.shape[0]) % run.n_classes
    options = {"eta": 0.5, "n_threads": 1, "layout": layout, "keep": "features"}

    def seconds(n_layers: int) -> float:
        started = time.process_time()
        distributed.build(X, y, comm=distributed.single(), n_layers=n_layers, **options)
        return time.process_time() - started

    first, last = TIMED_LAYERS
    took = float(np.median([seconds(last) - seconds(first) for _ in range(3)]))
    return few.cost(layout).flops * (last - first) / took


BY_SAMPLES = ("samples", "samples, halving", "grid")


def table(run: Run, ways: Sequence[str], ranks: list[int], machine: Machine, skew: tuple[float, float]) -> str:
    lines = [
        "| nodes | way | compute | bytes | latency | skew | a layer, ms | bound by | memory a node |",
        "|" + "---|" * 9,
    ]
    for P in ranks:
        late = waiting(P, machine, *skew)
        for way in ways:
            one = layer(way, run, P, machine)
            if one is None:
                continue
            parts = (one.compute, one.messages - one.latency, one.latency, late * one.compute)
            cells = [f"{1e3 * seconds:.3g}" for seconds in (*parts, sum(parts))]
            lines.append(f"| {P} | {one.way} | {' | '.join(cells)} | {one.bound} | {one.memory / 1e9:.3g} GB |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[10, 100, 1000, 10000])
    parser.add_argument("--samples", type=int, default=10**9, help="of bp2d's shape")
    parser.add_argument("--latency", type=float, default=2.0, help="L, us")
    parser.add_argument("--overhead", type=float, default=0.5, help="o, us")
    parser.add_argument("--bandwidth", type=float, default=12.5, help="1/G, GB/s each way")
    parser.add_argument("--python", type=float, nargs=2, default=[12.0, 1.2], help="us of a meeting, of a rank in it")
    parser.add_argument("--cores", type=int, default=64, help="of a node")
    parser.add_argument("--gflops", type=float, nargs=2, help="of a core, by samples and by frequencies")
    parser.add_argument("--skew", type=float, nargs=2, default=[0.02, 0.02], help="variation of ranks, and of layers")
    given = parser.parse_args(arguments)
    machine = Machine(
        latency=1e-6 * given.latency,
        overhead=1e-6 * given.overhead,
        gap=1e-9 / given.bandwidth,
        per_meeting=1e-6 * given.python[0],
        per_rank=1e-6 * given.python[1],
        duplex=True,
    )
    many = Run(shape=(given.samples, 16, 28, 28), n_classes=10, n_layers=100, rates={})
    few = Run(shape=(100, 75, 28, 28), n_classes=10, n_layers=25, rates={})
    by_layout = given.gflops or [
        1e-9 * measured_rate(run, layout) for run, layout in zip((many, few), LAYOUTS[1:], strict=True)
    ]
    rates = {layout: 1e9 * given.cores * rate for layout, rate in zip(LAYOUTS[1:], by_layout, strict=True)}
    print(
        f"{by_layout[0]:.3g} Gflop/s a core by samples, {by_layout[1]:.3g} by frequencies; {given.cores} cores a node"
    )
    for run, ways in ((many, BY_SAMPLES), (few, ("frequencies", *BY_SAMPLES))):
        run = replace(run, rates=rates)
        print(f"\nSamples {run.shape}, {run.n_layers} layers: latency is more than compute from", end=" ")
        print(f"{latency_bound(run, ways[0], machine)} nodes on\n")
        print(table(run, ways, given.ranks, machine, tuple(given.skew)), flush=True)


if __name__ == "__main__":
    main()
