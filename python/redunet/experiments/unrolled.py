"""Sparse codes in few steps: ISTA, FISTA, and ISTA unrolled to a network that is trained, LISTA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet import plot, sparse
from redunet.experiments.options import Options
from redunet.experiments.report import Report, spread
from redunet.experiments.training import pytorch, reproducible

Array = npt.NDArray[Any]
D, N, SHARE, NOISE, LAM = 100, 200, 0.1, 0.01, 0.05
THRESHOLDINGS = (1, 2, 4, 8, 16)
BATCH, RATE = 128, 1e-3
#: Passes over the training signals: 1500 and 6000 steps on 8000 of them.
PASSES = (24, 96)
#: Steps whose errors are looked at in one go, and of all; FISTA's momentum does not outlive a go.
GO, MOST = 100, 400
SOLVERS = {"ISTA": sparse.ista, "FISTA": sparse.fista}


def sparse_codes(options: Options) -> Report:
    """Codes of synthetic signals: the error after 1, 2, 4, 8 and 16 soft thresholdings, beside the lasso's codes.

    200 Gaussian atoms of unit norm in 100 dimensions, codes that are nonzero with probability 0.1 and Gaussian then,
    noise of deviation 0.01, lambda = 0.05. The error is ||Z - Z*||^2 / ||Z*||^2 over 1000 new signals, Z* the minimum
    of 1/2 ||y - A z||^2 + lambda ||z||_1. LISTA is trained on the codes of 8000 signals, Adam with a rate of 1e-3 to 0
    by a cosine, batches of 128. Every seed draws another dictionary. Needs PyTorch.
    """
    torch = pytorch()
    m, m_test = options.samples(8000), 1000 if options.n_test is None else options.n_test
    counts = [n for n in THRESHOLDINGS if n <= options.layers(THRESHOLDINGS[-1])]
    passes = PASSES if options.epochs is None else (options.epochs,)
    report = Report(
        "sparse",
        "sparse codes in few steps",
        {"d": D, "atoms": N, "share of nonzeros": SHARE, "noise": NOISE, "lambda": LAM, "training signals": m,
         "test signals": m_test, "batch": BATCH, "passes": passes, "PyTorch": torch.__version__},
    )  # fmt: skip
    found: dict[int, list[list[float]]] = {n: [] for n in counts}
    for seed in range(options.seeds):
        random = np.random.default_rng(seed)
        A = random.normal(size=(D, N))
        A /= np.linalg.norm(A, axis=0)
        Y, Y_test = (_signals(A, count, random) for count in (m, m_test))
        targets = sparse.fista(A.astype(np.float32), Y.astype(np.float32), LAM, n_iter=600, tol=1e-5)
        best = sparse.fista(A, Y_test, LAM, n_iter=20_000, tol=1e-9)
        errors = {name: _errors(solve, A, Y_test, best) for name, solve in SOLVERS.items()}
        learnt = {n: [_trained(A, n, Y, targets, Y_test, best, epochs, seed) for epochs in passes] for n in counts}
        for n in counts:
            needed = [float(_steps_to(errors[name], learnt[n][-1])) for name in errors]
            found[n].append([errors["ISTA"][n - 1], errors["FISTA"][n - 1], *learnt[n], *needed])
        if seed == 0:
            report.settings["nonzeros of the lasso's codes"] = float((best != 0).mean())
            _draw(report, errors, learnt)
            report.series = {name: values[: 2 * GO] for name, values in errors.items()}
    for n, rows in found.items():
        ista, fista, *trained, of_ista, of_fista = np.array(rows).T
        report.add(
            "Error of the codes beside the lasso's",
            thresholdings=n,
            ISTA=spread(ista, 3),
            FISTA=spread(fista, 3),
            **{f"LISTA, {epochs} passes": spread(error, 3) for epochs, error in zip(passes, trained, strict=True)},
            **{"steps of ISTA for LISTA's error": spread(of_ista, 0), "steps of FISTA": spread(of_fista, 0)},
        )
    report.remark(
        "LISTA is trained for one number of thresholdings on signals of one kind, and needs fewer of them than ISTA by "
        f"the factor that the last columns show, after the longest training ({MOST} where more are needed). Against "
        "FISTA, which needs no training either, the factor is smaller: compare with both."
    )
    return report


def _signals(A: Array, m: int, random: np.random.Generator) -> Array:
    X = random.normal(size=(m, N)) * (random.random((m, N)) < SHARE)
    return X @ A.T + NOISE * random.normal(size=(m, D))


def _error(Z: Array, best: Array) -> float:
    return float(((Z - best) ** 2).sum() / (best**2).sum())


def _errors(solve: Callable[..., Array], A: Array, Y: Array, best: Array) -> list[float]:
    """The error after every step; ISTA, which has no memory, is asked for them in goes."""
    errors: list[float] = []
    L = np.linalg.norm(A, 2) ** 2
    codes = np.zeros_like(best)
    for _ in range(MOST // GO if solve is sparse.ista else 1):
        path = solve(A, Y, LAM, n_iter=GO, L=L, x0=codes, return_path=True)
        errors += [_error(Z, best) for Z in path]
        codes = path[-1]
    return errors


def _steps_to(errors: list[float], goal: float) -> int:
    """Steps after which the error is no larger; all of them where it never is."""
    return next((step for step, error in enumerate(errors, 1) if error <= goal), MOST)


def _trained(
    A: Array, n: int, Y: Array, targets: Array, Y_test: Array, best: Array, epochs: int, seed: int
) -> float:  # fmt: skip
    """The error of a LISTA of n thresholdings after so many passes."""
    import torch

    from redunet.torch import LISTA

    steps = max(1, epochs * len(Y) // BATCH)
    signals, codes = torch.from_numpy(Y.astype(np.float32)), torch.from_numpy(targets)
    with reproducible(seed):
        network = LISTA(A.astype(np.float32), LAM, n)
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            index = torch.randint(len(signals), (BATCH,))
            loss = ((network(signals[index]) - codes[index]) ** 2).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            return _error(network(torch.from_numpy(Y_test.astype(np.float32))).numpy().astype(float), best)


def _draw(report: Report, errors: dict[str, list[float]], learnt: dict[int, list[float]]) -> None:
    caption = "Error of the codes beside the lasso's after so many soft thresholdings, first seed."
    (ax,) = report.axes("errors", caption)
    for color, (name, values) in zip(plot.COLORS, errors.items(), strict=False):
        ax.loglog(range(1, GO + 1), values[:GO], color=color, label=name)
    ax.loglog(list(learnt), [error[-1] for error in learnt.values()], "o-", color=plot.COLORS[2], label="LISTA")
    ax.set(xlabel="soft thresholdings", ylabel="squared error")
    ax.grid(True, **plot.GRID)
    ax.legend(frameon=False)
