"""`python -m bench.headline`: the lecture's three large constructions at full depth.

3500 layers on the digits 0 and 1 under rotation, 2000 layers under translation, 25 layers on ten digits lifted to 75
channels. Every one in a process of its own: seconds of the whole build, the peak of its memory above what there was
before, and the size of the saved network; beside them the authors' loop, timed over two layers and multiplied.
Needs Linux (/proc).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.environment import available_cores, hold_fresh_memory, restart_clean

RUNS = ("rot01", "trans01", "trans10")


def _memory_kb(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def construct(name: str, data: str | None, n_threads: int) -> dict[str, float]:
    """Build one workload at full depth in this process."""
    import redunet as rn
    from bench import workloads

    work = workloads.load(name, data=data)
    hold_fresh_memory()
    before = _memory_kb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    start = time.perf_counter()
    net, _ = rn.build(
        work.X,
        work.y,
        n_layers=work.n_layers,
        eta=work.eta,
        epsilon_sq=work.epsilon_sq,
        lam=work.lam,
        n_threads=n_threads,
    )
    seconds = time.perf_counter() - start
    peak = (_memory_kb("VmHWM") - before) * 1024
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.safetensors"
        net.save(path)
        saved = path.stat().st_size
    return {
        "n_layers": work.n_layers,
        "seconds": seconds,
        "peak_mb": peak / 1e6,
        "operators_mb": net.nbytes / 1e6,
        "spectrum_mb": work.n_samples * work.n_channels * work.n_freqs * 8 / 1e6,
        "saved_mb": saved / 1e6,
    }


def authors_seconds(name: str, data: str | None, n_threads: int, n_layers: int) -> float | None:
    """What the authors' loop would take: two layers, times the depth; None without PyTorch."""
    from bench import implementations, workloads

    work = workloads.load(name, data=data)
    if implementations.why_not(implementations.AUTHORS, work):
        return None
    run = implementations.runner(implementations.AUTHORS, work, 2, n_threads=n_threads, limit_s=600.0)()
    return run.layer_s * n_layers


def main() -> None:
    """Run all three and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.headline", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--threads", type=int, default=available_cores(), metavar="N", help="default: all cores")
    parser.add_argument("--data", metavar="DIR", help="folder of the MNIST files")
    parser.add_argument("--one", choices=RUNS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    restart_clean()
    if options.one:
        print(json.dumps(construct(options.one, options.data, options.threads)))
        return
    print("run      layers  seconds  peak MB  of it operators MB  spectrum MB  saved MB  authors' loop")
    for name in RUNS:
        command = [sys.executable, "-m", "bench.headline", "--one", name, "--threads", str(options.threads)]
        command += ["--data", options.data] if options.data else []
        done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        authors = authors_seconds(name, options.data, options.threads, int(done["n_layers"]))
        print(
            f"{name:8} {done['n_layers']:6} {done['seconds']:8.2f} {done['peak_mb']:8.0f} {done['operators_mb']:19.0f} "
            f"{done['spectrum_mb']:12.0f} {done['saved_mb']:9.0f}  " + (f"{authors:.0f} s" if authors else "-"),
            flush=True,
        )


if __name__ == "__main__":
    main()
