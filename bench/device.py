"""The CUDA engine beside PyTorch on the same GPU, and what that GPU can do: a first day's table.

    python -m bench.device [--data DIR] [--small] [--only NAME ...] [--json FILE] [--device cpu]

A layer's time is the difference between a longer and a shorter build over the layers between, the median of rounds
that take turns. With `--device cpu` the engine is the CPU's: for rehearsals where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import redunet as rn
from bench import workloads
from bench.baselines.torch_device import TorchDevice, seconds

#: Of the cut-down workloads, in the place of `workloads.DEVICE_LAYERS`.
SMALL_LAYERS = (2, 6)
#: Kinds of builds that wait every layer are no longer than this above the shorter one.
MOST_WATCHED = 40
#: Matrices of the layers of the workloads: size and number.
MATRICES = ((5, 303), (16, 4620), (20, 101), (64, 1419), (75, 420), (784, 11))


def ceilings(device: torch.device) -> dict[str, float]:
    """What the device can do at best, by PyTorch, and how the engine's operators come to the host."""
    cuda = device.type == "cuda"
    a = torch.randn(1 << (28 if cuda else 20), device=device)
    b = torch.empty_like(a)
    x = torch.randn(8192 if cuda else 256, 8192 if cuda else 256, device=device)
    found = {
        "copy TB/s": 2 * a.nbytes / seconds(lambda: b.copy_(a), device) / 1e12,
        "sgemm Tflop/s": 2 * x.shape[0] ** 3 / seconds(lambda: x @ x, device) / 1e12,
    }
    if cuda:
        found |= _downloads(a[: 1 << 26], device) | _launches(device) | _factorisations(device)
    return found


def _downloads(a: torch.Tensor, device: torch.device) -> dict[str, float]:
    """GB/s to memory that was never touched, that was, and that is pinned; and of the engine to the first."""
    from redunet._backends import arrays

    touched, pinned = torch.empty_like(a, device="cpu"), torch.empty_like(a, device="cpu", pin_memory=True)
    ways: dict[str, Callable[[], object]] = {
        "torch, fresh": lambda: torch.empty_like(a, device="cpu").copy_(a),
        "torch, touched": lambda: touched.copy_(a),
        "torch, pinned": lambda: pinned.copy_(a),
        "redunet, fresh": lambda: np.asarray(arrays.view(a, "a")),
    }
    return {f"download, {name} GB/s": a.nbytes / seconds(way, device, 3) / 1e9 for name, way in ways.items()}


def _launches(device: torch.device) -> dict[str, float]:
    t = torch.zeros(1, device=device)
    t.add_(1)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(200):
            t.add_(1)
    return {
        "node of a graph us": seconds(graph.replay, device) / 200 * 1e6,
        "eager launch us": seconds(lambda: [t.add_(1) for _ in range(1000)], device) / 1000 * 1e6,
    }


def _factorisations(device: torch.device) -> dict[str, float]:
    """Microseconds of PyTorch's two inverses, and of the engine's."""
    found = {}
    for n, count in MATRICES:
        dtype = torch.float32 if n == 784 else torch.complex64
        A = torch.randn(count, n, n, device=device, dtype=dtype)
        A = A @ A.mH / n + torch.eye(n, device=device, dtype=dtype)
        ways: dict[str, Callable[[], object]] = {
            "torch, Cholesky": lambda A=A: torch.cholesky_inverse(torch.linalg.cholesky_ex(A)[0]),
            "torch, LU": lambda A=A: torch.linalg.inv_ex(A),
            "redunet": lambda A=A: rn.linalg.inv(A),
        }
        found |= {f"inverse of {count} x {n}^2, {name} us": seconds(way, device) * 1e6 for name, way in ways.items()}
    return found


def layers(workload: workloads.Workload, device: torch.device, few: int, many: int, rounds: int) -> dict[str, Any]:
    """Microseconds a layer of every kind of build, and what a whole build and a short one take."""
    backend = "cuda" if device.type == "cuda" else "cpu"
    X = torch.as_tensor(workload.X, device=device) if backend == "cuda" else workload.X
    short = min(many, few + MOST_WATCHED)

    def redunet(n: int, **options: Any) -> None:
        settings = {"eta": workload.eta, "epsilon_sq": workload.epsilon_sq, "lam": workload.lam, "backend": backend}
        rn.build(X, workload.y, n_layers=n, **{**settings, **options})

    def rival(n: int) -> None:
        TorchDevice(workload.X, workload, device).build(n)

    kinds: dict[str, tuple[int, Callable[[int], None]]] = {
        "kept": (many, redunet),
        "features": (many, lambda n: redunet(n, keep="features")),
        "watched": (short, lambda n: redunet(n, on_layer=lambda index, rates: False)),
        "auto": (short, lambda n: redunet(n, eta="auto")),
        "PyTorch": (short, rival),
    }
    first_s = _timed(redunet, 1)
    rival(2)
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, (most, build) in kinds.items():
            times[name].append((_timed(build, most) - _timed(build, few)) / (most - few) * 1e6)
    return {
        "us": {name: statistics.median(found) for name, found in times.items()},
        "first_s": first_s,
        "fixed_ms": statistics.median(_timed(redunet, 1) for _ in range(3)) * 1e3,
        "whole_s": _timed(redunet, many),
        "difference": difference(workload, device, backend),
    }


def _timed(build: Callable[[int], None], n: int) -> float:
    start = time.perf_counter()
    build(n)
    return time.perf_counter() - start


def difference(workload: workloads.Workload, device: torch.device, backend: Any, n_layers: int = 2) -> float:
    """Of the features of the engine and of the rival, beside the largest: that both build the same network."""
    settings = {"eta": workload.eta, "epsilon_sq": workload.epsilon_sq, "lam": workload.lam}
    _, Z = rn.build(workload.X, workload.y, n_layers=n_layers, backend=backend, **settings)
    rival = TorchDevice(workload.X, workload, device)
    rival.build(n_layers)
    expected = TorchDevice(Z, workload, device).V
    return float((rival.V - expected).abs().max() / expected.abs().max())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--small", action="store_true", help="cut-down workloads and few layers")
    parser.add_argument("--data", help="folder of the MNIST IDX files")
    parser.add_argument("--only", nargs="*", metavar="NAME", choices=list(workloads.DEVICE_LAYERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="where to write all numbers")
    options = parser.parse_args(argv)
    torch.backends.cuda.matmul.allow_tf32 = False
    device = torch.device(options.device)
    result: dict[str, Any] = {"ceilings": ceilings(device)}
    for name, number in result["ceilings"].items():
        print(f"{name:45} {number:10.3g}", flush=True)
    kinds = ("kept", "features", "watched", "auto", "PyTorch")
    print(f"{'us a layer':10} " + " ".join(f"{kind:>9}" for kind in kinds) + "  first s, fixed ms, whole s, difference")
    for name in options.only or workloads.DEVICE_LAYERS:
        try:
            workload = workloads.load(name, data=options.data, small=options.small)
        except workloads.WorkloadUnavailable as why:
            print(f"{name:10} left out: {why}", flush=True)
            continue
        few, many = SMALL_LAYERS if options.small else workloads.DEVICE_LAYERS[name]
        found = result[name] = layers(workload, device, few, many, options.rounds)
        print(
            f"{name:10} " + " ".join(f"{found['us'][kind]:9.1f}" for kind in kinds),
            f" {found['first_s']:.2f} {found['fixed_ms']:.1f} {found['whole_s']:.3f} {found['difference']:.1e}",
            flush=True,
        )
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file)


if __name__ == "__main__":
    main()
