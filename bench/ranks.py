"""Two ranks of one thread against one process of two threads, in each layout.

    python -m bench.ranks [--rounds 3] [--workloads NAME ...] [--ranks 2]

Ranks are processes of MPI on this machine (mpi4py, and mpirun beside this Python or on the path). All kinds
take turns; each builds three times and reports the fastest. A layer is a build, the way in and out included, over its
layers. The efficiency is the time of the process over that of the ranks.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import redunet as rn
from bench.measure import TIMED_LAYERS
from bench.workloads import NAMES, WorkloadUnavailable, load
from redunet import distributed

LAYOUTS = ("samples", "frequencies")


def milliseconds(name: str, layout: str, n_threads: int) -> float:
    """A layer's, in this process or, of a layout, on all ranks of MPI."""
    comm = distributed.single() if layout == "one" else distributed.mpi()
    workload, n_layers = load(name), TIMED_LAYERS[name]
    options = {"n_layers": n_layers, "eta": 0.5, "epsilon_sq": workload.epsilon_sq, "lam": workload.lam}
    own = slice(comm.rank, None, comm.size)
    X, y = workload.X[own], workload.y[own]
    best = float("inf")
    for _ in range(3):
        comm.gather(None)
        started = time.perf_counter()
        if layout == "one":
            rn.build(X, y, n_threads=n_threads, keep="features", **options)
        else:
            distributed.build(X, y, comm=comm, layout=layout, n_threads=n_threads, keep="features", **options)
        best = min(best, time.perf_counter() - started)
    return max(comm.gather(1e3 * best / n_layers))


def run(name: str, layout: str, n_ranks: int) -> float:
    """The same in processes of its own."""
    beside = Path(sys.executable).parent / "mpirun"
    mpirun = str(beside) if beside.exists() else shutil.which("mpirun")
    command = [sys.executable, "-m", "bench.ranks", "--measure", name, layout]
    command += ["--ranks", str(n_ranks)]
    if layout != "one":
        command = [str(mpirun), "-n", str(n_ranks), *command]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=1800).stdout
    return float(out.split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workloads", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        name, layout = given.measure
        took = milliseconds(name, layout, given.ranks if layout == "one" else 1)
        sys.stdout.write(f"{took} \n")  # of every rank, which may write at once
        return
    print(f"| workload | 1 process, {given.ranks} threads | by samples | by frequencies | efficiency of the better |")
    print("|---|---|---|---|---|")
    for name in given.workloads:
        try:
            vectors = load(name).X.ndim == 2
        except WorkloadUnavailable as error:
            print(f"| {name} | {error} | | | |")
            continue
        kinds = ["one", "samples"] if vectors else ["one", *LAYOUTS]
        rounds = [{kind: run(name, kind, given.ranks) for kind in kinds} for _ in range(given.rounds)]
        medians = {kind: statistics.median(took[kind] for took in rounds) for kind in kinds}
        fastest = min(medians[kind] for kind in kinds[1:])
        cells = [f"{medians[kind]:.3g} ms" if kind in medians else "" for kind in ("one", *LAYOUTS)]
        print(f"| {name} | {' | '.join(cells)} | {medians['one'] / fastest:.2f} |", flush=True)


if __name__ == "__main__":
    main()
