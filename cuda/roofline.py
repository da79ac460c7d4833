"""What a layer costs on a GPU, on paper: flops, bytes and launches of every kernel, and the least time they allow.

    python cuda/roofline.py            the tables of docs/gpu.md

A kernel can't take less than its flops at the device's peak or its bytes at the device's bandwidth, whichever is
longer; a kernel of fewer blocks than the device has multiprocessors has that part of the peak only. Nothing here was
measured. Devices: NVIDIA's data sheets (SXM parts; single precision without tensor cores, which are not used).
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """Peak of single precision in flop/s, bandwidth of memory and of the link to the host in byte/s."""

    name: str
    peak: float
    bandwidth: float
    link: float
    multiprocessors: int


GPUS = (
    Gpu("A100 80 GB", 19.5e12, 2.039e12, 32e9, 108),
    Gpu("H100", 66.9e12, 3.35e12, 64e9, 132),
    Gpu("H200", 66.9e12, 4.8e12, 64e9, 132),
)


@dataclass(frozen=True)
class Workload:
    """The sizes of a layer: m samples of C channels at F frequencies, k classes of equal size; layers of a network."""

    name: str
    m: int
    C: int
    F: int
    k: int
    layers: int

    @property
    def complex(self) -> int:
        """2 where numbers are complex, which is wherever there is more than one frequency."""
        return 2 if self.F > 1 else 1

    @property
    def item(self) -> int:
        """Bytes of a number."""
        return 4 * self.complex

    @property
    def multiply_add(self) -> int:
        """Flops of one."""
        return 8 if self.complex == 2 else 2

    @property
    def of_class(self) -> float:
        """Samples of a class."""
        return self.m / self.k

    @property
    def rank(self) -> int:
        """Columns of the factor that a class is kept as, or 0: the rule of the engine."""
        return math.ceil(self.of_class) if 2 * self.of_class <= self.C else 0

    @property
    def fused(self) -> bool:
        """Whether the kernels for few channels take it."""
        return self.C <= 8 and self.rank == 0

    @property
    def spectrum(self) -> float:
        """Bytes of the features."""
        return self.m * self.C * self.F * self.item

    @property
    def kept(self) -> float:
        """Bytes of the operators of a layer, as they are kept."""
        numbers = (self.k + 1) * self.C**2 if self.rank == 0 else self.C**2 + self.k * self.C * self.rank
        return self.F * numbers * self.item


WORKLOADS = (
    Workload("gauss2d", 1000, 2, 1, 2, 2000),
    Workload("gauss3d", 1500, 3, 1, 3, 2000),
    Workload("mnist_vec", 10000, 784, 1, 10, 50),
    Workload("rot01", 2000, 5, 101, 2, 3500),
    Workload("rot10", 100, 20, 101, 10, 40),
    Workload("trans01", 1000, 5, 420, 2, 2000),
    Workload("trans10", 100, 75, 420, 10, 25),
    Workload("bp2d", 500, 16, 420, 10, 30),
    Workload("wide1d", 2000, 64, 129, 10, 20),
)


@dataclass(frozen=True)
class Kernel:
    """Flops, bytes of device memory, launches, and blocks where they may be fewer than the multiprocessors."""

    name: str
    flops: float
    bytes: float
    launches: int
    blocks: float = math.inf

    def seconds(self, gpu: Gpu) -> float:
        """The roofline."""
        used = min(1.0, self.blocks / gpu.multiprocessors)
        return max(self.flops / (gpu.peak * used), self.bytes / (gpu.bandwidth * used))


def kernels(w: Workload) -> list[Kernel]:
    """What one layer launches."""
    return _fused(w) if w.fused else _many(w)


def _fused(w: Workload) -> list[Kernel]:
    spectrum, operators = w.spectrum, (w.k + 1) * w.F
    matrix = w.C**2 * w.item
    cubes = w.C**3 * w.multiply_add / 2
    return [
        Kernel("fused_gram", w.multiply_add * w.C * (w.C + 1) / 2 * w.m * w.F, spectrum, 1, w.F * w.k),
        Kernel("factorise", operators * cubes, 2 * operators * matrix, 1, operators),
        Kernel("rates", 0, operators * 8, 1, 1),
        # Gates of every class; then E and, where gates are one-hot, the class that is left. Features are read for the
        # gates, read and written by the step, read and written by the projection.
        Kernel("fused_sweep", w.multiply_add * w.C**2 * (w.k + 2) * w.m * w.F, 5 * spectrum, 1, math.ceil(w.m / 32)),
    ]


def _many(w: Workload) -> list[Kernel]:
    spectrum, add, item = w.spectrum, w.multiply_add, w.item
    C, F, m, k, r = w.C, w.F, w.m, w.k, w.rank
    matrix = C**2 * item
    cube = C**3 * add / 2  # factor, inverse of the factor, product: a third each
    found = []
    if r == 0:
        found.append(Kernel("Grams (cuBLAS)", add * C**2 * m * F, spectrum + k * F * matrix, k))
        found.append(_factorise(w, C, (k + 1) * F, (k + 1) * F * cube, (3 * k + 1) * F * matrix))
        responses = add * C**2 * m * F * (k + 1)
        launches, read = k + 1, (k + 1) * F * matrix
    else:
        small = r * r * item
        found.append(
            Kernel("Grams (cuBLAS)", add * C * F * (C * m + k * r * r), 2 * spectrum + F * (matrix + k * small), k + 1)
        )
        found.append(_factorise(w, C, F, F * cube, 2 * F * matrix))
        found.append(Kernel("factorise, classes", k * F * r**3 * add / 3, 2 * k * F * small, k))
        found.append(Kernel("factors (cuBLAS)", add * C * r * r * k * F, spectrum + F * k * (small + C * r * item), k))
        responses = add * m * F * (C**2 + 2 * k * C * r)
        launches, read = 1 + 2 * k, F * (matrix + k * C * r * item)
        spectrum_small = k * m * r * F * item
        read += 2 * spectrum_small
    found.append(Kernel("responses (cuBLAS)", responses, 2 * (k + 1) * spectrum + read, launches))
    seen = k * spectrum * (2 if r else 1)  # a factored operator's response needs the features too
    found.append(Kernel("response_norms, gates", 4 * k * m * C * F, seen, 2))
    found.append(Kernel("move", 4 * (k + 1) * m * C * F, (k + 3) * spectrum, 1))
    found.append(Kernel("normalise", 2 * m * C * F, 2 * spectrum, 1))
    found.append(Kernel("rates", 0, (k + 1) * F * 8, 1, 1))
    return found


def _factorise(w: Workload, n: int, count: int, flops: float, moved: float) -> Kernel:
    """In one launch up to 128 rows, a block of threads each; beyond, by blocks of 32 rows with cuBLAS between."""
    if n <= 128:
        return Kernel("factorise", flops, moved, 1, count)
    steps = math.ceil(n / 32)
    # Products of whole matrices from triangular ones cost up to three times the flops of an algorithm that knows.
    return Kernel("factorise by blocks", 3 * flops, steps * moved, 5 * steps + 3)


def _time(seconds: float) -> str:
    micro = seconds * 1e6
    if micro >= 999.5:
        return f"{micro / 1000:.3g} ms"
    return f"{micro:.2g} µs" if micro < 9.95 else f"{micro:.0f} µs"


def _amount(number: float, unit: str) -> str:
    for prefix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.995 * size:
            return f"{number / size:.3g} {prefix}{unit}"
    return f"{number:.3g} {unit}"


def by_workload() -> str:
    """A row for each workload: a layer, its bound on each device, its longest kernel, the operators on their way."""
    lines = [
        "| workload | flops | bytes | launches | " + " | ".join(gpu.name for gpu in GPUS)
        + " | longest kernel (H100) | operators to the host, all layers |",
        "|---|---:|---:|---:|" + "---:|" * len(GPUS) + "---|---:|",
    ]  # fmt: skip
    for w in WORKLOADS:
        layer = kernels(w)
        bounds = [sum(kernel.seconds(gpu) for kernel in layer) for gpu in GPUS]
        longest = max(layer, key=lambda kernel: kernel.seconds(GPUS[1]))
        out = w.kept * w.layers
        flops, moved = sum(q.flops for q in layer), sum(q.bytes for q in layer)
        lines.append(
            f"| {w.name} | {_amount(flops, 'flop')} | {_amount(moved, 'B')} "
            f"| {sum(q.launches for q in layer)} | " + " | ".join(_time(t) for t in bounds)
            + f" | {longest.name} | {_amount(out, 'B')}: {1e3 * out / GPUS[1].link:.1f} ms |"
        )  # fmt: skip
    return "\n".join(lines)


def by_kernel() -> str:
    """A row for each kernel of each workload."""
    lines = [
        "| workload | kernel | launches | flops | bytes | flops per byte | " + " | ".join(g.name for g in GPUS) + " |",
        "|---|---|---:|---:|---:|---:|" + "---:|" * len(GPUS),
    ]
    for w in WORKLOADS:
        for q in kernels(w):
            if q.flops == 0:
                continue
            lines.append(
                f"| {w.name} | {q.name} | {q.launches} | {_amount(q.flops, 'flop')} | {_amount(q.bytes, 'B')} | "
                f"{q.flops / q.bytes:.2g} | " + " | ".join(_time(q.seconds(gpu)) for gpu in GPUS) + " |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print(by_workload(), by_kernel(), sep="\n\n")
