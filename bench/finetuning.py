"""Forward and backward of one layer that is trained, against autograd of the best plain formulas of PyTorch.

    python -m bench.finetuning [--rounds 9] [--batch 100] [--threads 1] [--json out.json]

Layers are those of constructed networks at their own features: of bp2d (C = 16, F = 420, k = 10) and rot01 (C = 5,
F = 101, k = 2), the first and the second, with the sharpness of the lecture and with a soft one. PyTorch spends much of
its time on fresh pages, for which the default allocator asks the system at every step. Its other half is

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=268435456 python -m bench.finetuning

Milliseconds are of the processor (all threads), medians of rounds in which implementations take turns. Those of the
clock say little on a busy machine, and are in the JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.environment import hold_fresh_memory, restart_clean

#: Networks, with the factor of lambda = 500.
CASES = (("bp2d", 500.0), ("bp2d", 20.0), ("rot01", 500.0), ("rot01", 20.0))
LAYERS = (0, 1)


def cases_of(
    name: str, lam: float, layer: int, batch: int, data: str | None
) -> tuple[dict[str, Any], dict[str, float]]:
    """Calls of each implementation with fresh leaves, and what the gates do."""
    import numpy as np
    import torch

    import redunet as rn
    from bench.baselines import torch_layer
    from bench.workloads import load
    from redunet.torch import ReduNet, redu_layer

    workload = load(name, data=data)
    X = workload.X.astype(np.float32)
    net, _ = rn.build(X, workload.y, n_layers=2, epsilon_sq=workload.epsilon_sq, dft_norm="backward")
    module = ReduNet(net, learn=()).set_lam(lam)
    some = np.random.default_rng(0).permutation(len(X))[:batch]
    V, nearest = module.spectra(torch.from_numpy(X[some])), None
    for index, (Z, pi) in enumerate(module.walk(V)):
        if index < layer:
            V, nearest = Z, pi.argmax(1)
        elif index == layer:
            gates = {"one class": float((pi.amax(1) > 1 - 1e-7).double().mean()),
                     "classes": float((pi > 1e-7).sum(1).double().mean())}  # fmt: skip
    operators, gammas = module.layers[layer].operators, net.layers[layer].gammas.tolist()
    eta, w = float(net.etas[layer]), module.freq_weights
    upstream = torch.randn(V.shape, generator=torch.Generator().manual_seed(0))
    made: dict[str, Any] = {
        "redunet": (
            lambda V, A: redu_layer(V, A, gammas, eta, lam, freq_weights=w, nearest=nearest)[0], V, operators, upstream,
        ),
    }  # fmt: skip
    shares = torch.tensor(gammas, dtype=torch.float32)
    for title, formula in (
        ("planar", torch_layer.planar),
        ("planar, by class", torch_layer.planar_by_class),
        ("complex", torch_layer.complex_),
    ):
        is_planar = title != "complex"
        made[title] = (
            lambda V, A, formula=formula: formula(V, A, shares, eta, lam),
            torch_layer.features(V, w, is_planar=is_planar),
            torch_layer.operators(operators, is_planar=is_planar),
            torch_layer.features(upstream, w, is_planar=is_planar),
        )
    mine = torch_layer.features(made["redunet"][0](V, operators), w, is_planar=True)
    theirs = made["planar"][0](*made["planar"][1:3])
    assert float((mine - theirs).norm() / theirs.norm()) < 1e-5 * max(1.0, lam / 20)
    return made, gates


def timed(call: Callable[..., Any], V: Any, A: Any, upstream: Any) -> dict[str, float]:
    """Milliseconds of forward and backward."""
    V, A = (x.detach().requires_grad_() for x in (V, A))
    clock, cpu = time.perf_counter(), time.process_time()
    Z = call(V, A)
    between = time.process_time()
    Z.backward(upstream)
    end = time.process_time()
    return {
        "forward": 1e3 * (between - cpu),
        "backward": 1e3 * (end - between),
        "both": 1e3 * (end - cpu),
        "clock": 1e3 * (time.perf_counter() - clock),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", help="folder of MNIST's four IDX files")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    restart_clean()
    hold_fresh_memory()
    import torch

    torch.set_num_threads(options.threads)
    rows = []
    print(f"{'':24} {'one class':>9} {'classes':>7} " + "".join(f"{'ms':>9}{'ratio':>7}" for _ in range(4)))
    for name, lam in CASES:
        for layer in LAYERS:
            made, gates = cases_of(name, lam, layer, options.batch, options.data)
            runs: dict[str, list[dict[str, float]]] = {title: [] for title in made}
            for _ in range(options.rounds + 1):
                for title, case in made.items():
                    runs[title].append(timed(*case))
            found = {
                title: {key: statistics.median(run[key] for run in some[1:]) for key in some[0]}
                for title, some in runs.items()
            }
            rows.append({"network": name, "layer": layer, "lambda": lam, **gates, "ms": found})
            ours = found["redunet"]["both"]
            print(
                f"{name}, layer {layer}, lambda {lam:<5g} {gates['one class']:9.2f} {gates['classes']:7.2f} "
                + "".join(f"{some['both']:9.2f}{some['both'] / ours:7.2f}" for some in found.values()),
                flush=True,
            )
    print("columns: " + ", ".join(found))
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
