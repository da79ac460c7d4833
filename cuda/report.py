"""Registers, shared memory and occupancy of every kernel, from what `ptxas -v` printed; no GPU is needed.

    cmake --build build 2>&1 | tee build.log && python cuda/report.py build.log

Fails where a kernel spills, uses local memory, exceeds its registers, falls below its occupancy, or is not in the
table.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Architecture:
    """Of one multiprocessor; shared memory in KiB, with what the system takes of every block in bytes."""

    warps: int
    blocks: int
    shared: int
    reserved: int = 1024


# CUDA C++ programming guide, table of compute capabilities.
ARCHITECTURES = {
    75: Architecture(32, 16, 64, 0),
    80: Architecture(64, 32, 164),
    86: Architecture(48, 16, 100),
    89: Architecture(48, 24, 100),
    90: Architecture(64, 32, 228),
    100: Architecture(64, 32, 228),
    120: Architecture(48, 24, 100),
}
REGISTERS, WARP = 65536, 32


@dataclass(frozen=True)
class Launch:
    """How a kernel is launched: threads of a block, shared numbers of its type N, and what it must keep to."""

    threads: int
    numbers: int = 0
    max_registers: int = 64
    min_occupancy: float = 0.5


# Shared memory of `factorise_kernel` is that of 32 x 32 matrices, of `fused_sweep_kernel` that of 4 classes.
LAUNCHES = {
    "carry_kernel": Launch(256),
    "install_kernel": Launch(256),
    "transpose_kernel": Launch(256, 32 * 33, min_occupancy=0.25),
    "gather_kernel": Launch(256),
    "weigh_kernel": Launch(256),
    "response_norms_kernel": Launch(256, 256),
    "sum_chunks_kernel": Launch(128),
    "gates_kernel": Launch(256),
    "move_kernel": Launch(256, 256),
    "extrapolate_kernel": Launch(256, 256),
    "inner_products_kernel": Launch(256, 256),
    "column_products_kernel": Launch(256, 256, max_registers=80, min_occupancy=0.37),
    "project_kernel": Launch(256),
    "response_gradient_kernel": Launch(256),
    "normalise_kernel": Launch(256),
    "unit_norm_kernel": Launch(256, 256),
    "scale_kernel": Launch(256),
    "rates_kernel": Launch(256, 8, max_registers=168, min_occupancy=0),  # one block, whose first thread decides
    # Of complex doubles on sm_75, where shared memory leaves no more blocks than 72 registers do.
    "hermitian_kernel": Launch(256, 32 * 33, max_registers=72, min_occupancy=0.25),
    "factorise_kernel": Launch(128, 32 * 33 + 32, max_registers=128, min_occupancy=0.12),
    "fused_gram_kernel": Launch(128, 36 * 4, max_registers=255, min_occupancy=0.12),
    "fused_sweep_kernel": Launch(256, 5 * 256, max_registers=128, min_occupancy=0.25),
}


@dataclass(frozen=True)
class Kernel:
    """What ptxas says of one kernel for one architecture."""

    name: str
    architecture: int
    registers: int
    stack: int
    spills: int
    shared: int

    @property
    def launch(self) -> Launch | None:
        """How it is launched; None if the table does not say."""
        return LAUNCHES.get(self.name.split("<")[0])

    @property
    def number_bytes(self) -> int:
        """Of its type N."""
        return (8 if "double" in self.name or "<" not in self.name else 4) * (2 if "Complex" in self.name else 1)

    def occupancy(self) -> tuple[int, float]:
        """Blocks of a multiprocessor, and the share of its warps that they are."""
        assert self.launch is not None
        its = ARCHITECTURES[self.architecture]
        warps = -(-self.launch.threads // WARP)
        per_warp = -(-self.registers * WARP // 256) * 256
        by_registers = REGISTERS // 4 // per_warp * 4 // warps
        shared = self.shared + self.launch.numbers * self.number_bytes + its.reserved
        by_shared = its.shared * 1024 // shared if shared else its.blocks
        blocks = min(its.blocks, its.warps // warps, by_registers, by_shared)
        return blocks, blocks * warps / its.warps


def kernels(log: str) -> Iterator[Kernel]:
    """Every kernel in a build's output."""
    pattern = re.compile(
        r"Compiling entry function '(\w+)' for 'sm_(\d+)a?'.*?"
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)",
        re.S,
    )
    found = pattern.findall(log)
    mangled = "\n".join(name for name, *_ in found)
    names = subprocess.run(["c++filt"], input=mangled, capture_output=True, text=True, check=True).stdout.splitlines()
    for plain, (_, architecture, stack, stores, loads, registers, rest) in zip(names, found, strict=True):
        name = re.sub(r"redunet::cuda::|^void ", "", plain).partition("(")[0]
        shared = re.search(r"(\d+) bytes smem", rest)
        numbers = (
            int(n) for n in (architecture, registers, stack, int(stores) + int(loads), shared[1] if shared else 0)
        )
        yield Kernel(name, *numbers)


def complaints(kernel: Kernel) -> Iterator[str]:
    """What a kernel does not keep to."""
    launch = kernel.launch
    if launch is None:
        yield "not in the table LAUNCHES"
        return
    if kernel.spills or kernel.stack:
        yield f"{kernel.spills} bytes of spills, {kernel.stack} of local memory"
    if kernel.registers > launch.max_registers:
        yield f"{kernel.registers} registers; expected at most {launch.max_registers}"
    if (share := kernel.occupancy()[1]) < launch.min_occupancy:
        yield f"occupancy {share:.0%}; expected at least {launch.min_occupancy:.0%}"


def main() -> int:
    """Print the table; 1 if anything is wrong."""
    found = sorted(kernels(Path(sys.argv[1]).read_text()), key=lambda kernel: (kernel.name, kernel.architecture))
    wrong = [f"{k.name}, sm_{k.architecture}: {text}" for k in found for text in complaints(k)]
    wrong += [f"{name}: not in the log" for name in LAUNCHES if name not in {k.name.split("<")[0] for k in found}]
    print(f"{'kernel':40} {'sm':>4} {'registers':>9} {'shared':>7} {'blocks':>6} {'occupancy':>9}")
    for k in found:
        if k.launch is None:
            continue
        blocks, share = k.occupancy()
        shared = k.shared + k.launch.numbers * k.number_bytes
        print(f"{k.name:40} {k.architecture:4} {k.registers:9} {shared:7} {blocks:6} {share:9.0%}")
    print("\n".join(wrong) or f"{len(found)} kernels, all within their limits")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
