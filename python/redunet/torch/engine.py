"""Rates and their gradients of NumPy arrays, for the operators of `redunet.torch.ops`: classes may be empty.

What is checked here is what values alone tell; shapes and dtypes have been.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from redunet._backends import select
from redunet._backends.contract import Array, Problem
from redunet._inputs.problem import problem_of
from redunet.transforms.cyclic import Fourier


class Setting(NamedTuple):
    """What the rates are made with: R' = 1/2 log det(I + gamma1 alpha Z* Z), Delta R = gamma2 R' - R_c."""

    epsilon_sq: float
    gamma1: float
    gamma2: float
    dft_norm: str
    n_threads: int


class Result(NamedTuple):
    """``values`` are Delta R, R' and R_c; the gradients are those of Delta R, to features and membership."""

    values: npt.NDArray[np.float64]
    features: Array | None
    membership: npt.NDArray[np.float64] | None


def compute(
    Z: Array,
    labels: npt.NDArray[np.int64] | None,
    membership: npt.NDArray[np.float64] | None,
    weights: npt.NDArray[np.float64] | None,
    setting: Setting,
    *,
    gradient: bool,
    membership_gradient: bool = False,
) -> Result:
    """Of real features Z (m, C, *signal_shape); without labels and membership R_c is none."""
    fourier = _fourier(Z.shape[2:])
    module = select("auto")[1]
    problem, kept = _problem(Z, labels, membership, weights, setting, fourier)
    of_total = problem
    if setting.gamma2 != 1:  # the gradient of R' - R_c / gamma2
        of_total = replace(problem, gammas=problem.gammas / setting.gamma2)
    V = (
        Z[:, :, None]
        if Z.ndim == 2
        else fourier.forward(Z, Z.dtype, module, name="Z", normalize=False, n_threads=setting.n_threads)
    )
    try:
        if not gradient:
            row, of_features, of_membership = module.rates(V, of_total, n_threads=setting.n_threads), None, None
        else:
            row, of_features, of_membership = module.rates_and_gradient(
                V, of_total, membership=membership_gradient, n_threads=setting.n_threads
            )
    except np.linalg.LinAlgError:
        if not np.isfinite(Z).all():
            bad = int(np.flatnonzero(~np.isfinite(Z.reshape(len(Z), -1)).all(axis=1))[0])
            raise ValueError(f"Z holds NaN or infinity in sample {bad}; expected finite {Z.dtype} numbers") from None
        raise
    rate, class_rate = float(row[0]), float(row[1:] @ problem.gammas)
    values = np.array([setting.gamma2 * rate - class_rate, rate, class_rate])
    if of_features is not None:
        of_features = (
            of_features[:, :, 0]
            if Z.ndim == 2
            else fourier.inverse(of_features, Z.dtype, module, like=Z, n_threads=setting.n_threads)
        )
        if setting.gamma2 != 1:
            of_features *= setting.gamma2
    if of_membership is not None:
        of_membership = _of_all_classes(of_membership * setting.gamma2, kept, V, weights, setting, fourier)
    return Result(values, of_features, of_membership)


@lru_cache(maxsize=8)
def _fourier(signal_shape: tuple[int, ...]) -> Fourier:
    """The transform, with its weights, of batches that are alike."""
    return Fourier(signal_shape, True)


def _problem(
    Z: Array,
    labels: npt.NDArray[np.int64] | None,
    membership: npt.NDArray[np.float64] | None,
    weights: npt.NDArray[np.float64] | None,
    setting: Setting,
    fourier: Fourier,
) -> tuple[Problem, npt.NDArray[np.bool_]]:
    """The problem of the classes that are not empty, and which those are. What they weigh is counted with m held."""
    m = len(Z)
    total = float(m) if weights is None else float(weights.sum())
    if not (total > 0 and np.isfinite(total)):
        raise ValueError(f"sample_weight adds up to {total!r}; expected a finite number > 0")
    counts: npt.NDArray[Any]
    sizes: npt.NDArray[Any]
    if labels is not None:
        counts = np.bincount(labels)
        sizes = counts if weights is None else np.bincount(labels, weights=weights)
    else:
        membership = np.empty((m, 0)) if membership is None else membership
        sizes = membership.sum(axis=0) if weights is None else weights @ membership
        counts = np.count_nonzero(membership, axis=0)
    kept = sizes > 0
    if not kept.all():
        sizes, counts = sizes[kept], counts[kept]
        if labels is not None:  # what is in an empty class weighs nothing, wherever it is put
            number = np.maximum(np.cumsum(kept) - 1, 0)
            labels = number[labels]
            counts = np.bincount(labels, minlength=len(sizes))
        elif membership is not None:
            membership = np.ascontiguousarray(membership[:, kept])
    problem = problem_of(
        labels,
        membership,
        weights,
        sizes=sizes.astype(np.float64),
        total=total,
        counts=np.concatenate([[m], counts]),
        n_channels=Z.shape[1],
        n_points=fourier.n_points,
        freq_weights=fourier.freq_weights,
        n_columns=1,
        epsilon_sq=setting.epsilon_sq,
        dft_norm=setting.dft_norm,
        dtype=Z.dtype,
    )
    problem.alphas[0] *= setting.gamma1
    return problem, kept


def _of_all_classes(
    gradient: npt.NDArray[np.float64],
    kept: npt.NDArray[np.bool_],
    V: Array,
    weights: npt.NDArray[np.float64] | None,
    setting: Setting,
    fourier: Fourier,
) -> npt.NDArray[np.float64]:
    """With those of empty classes: a share pi of sample i alone costs pi omega_i / m times its own rate.

    That is 1/(2N) sum_p w_p log(1 + C inner / eps^2 ||v_i(p)||^2), whatever pi.
    """
    if kept.all():
        return gradient
    m, C, _ = V.shape
    inner = fourier.n_points if setting.dft_norm == "backward" else 1
    squares = np.einsum("icp,icp->ip", V, V.conj()).real.astype(np.float64)
    rates = np.log1p(C * inner / setting.epsilon_sq * squares) @ fourier.freq_weights / (2 * fourier.n_points)
    omega = np.ones(m) if weights is None else weights
    full = np.repeat((-omega / omega.sum() * rates)[:, None], len(kept), axis=1)
    full[:, kept] = gradient
    return full
