"""Coding length, coding rates and their reduction, of vectors, signals and images.

For vectors Z (m, d), with E and C^j at the features themselves:

    R = 1/2 log det(I + alpha Z* Z),  R_c = sum_j gamma_j / 2 log det(I + alpha_j Z* Pi^j Z),  Delta R = R - R_c,

alpha = d/(m eps^2), alpha_j = d/(m_j eps^2), gamma_j = m_j/m; for signals and images the mean of the same over the
frequencies, C in place of d. Nats unless bits are asked for. Features are taken as they are: nothing is normalised.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from redunet._backends.contract import RateReduction
from redunet._inputs import checks, prepare, words

Array = npt.NDArray[Any]
UNITS = {"nats": 1.0, "bits": 1.0 / math.log(2.0)}


def coding_length(
    Z: npt.ArrayLike,
    *,
    epsilon_sq: float,
    mean: words.Mean = "zero",
    unit: words.Unit = "nats",
    backend: words.Backend = "auto",
    n_threads: int | None = None,
) -> float:
    """Length of the code of m vectors up to the squared distortion eps^2.

    Parameters
    ----------
    Z : (m, d) array, real or complex
        Vectors, one per row; on the host where the mean is estimated.
    epsilon_sq : float
        Squared distortion eps^2 > 0 per vector.
    mean : {"zero", "estimate"}, default "zero"
        "estimate" codes the mean too: for data that are not centred.
    unit : {"nats", "bits"}, default "nats"
        Unit of the result.
    backend, n_threads
        As in `build`.

    Returns
    -------
    float
        L(Z, eps).

    Notes
    -----
    L = (m+d)/2 log det(I + d/(m eps^2) Z* Z); with an estimated mean mu, Z is replaced by Z - mu and
    d/2 log(1 + ||mu||^2/eps^2) is added (Ma, Derksen, Hong, Wright, *Segmentation of multivariate mixed data via lossy
    coding and compression*, TPAMI 2007).

    Examples
    --------
    >>> import numpy as np, redunet as rn
    >>> W = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> round(rn.coding_length(W, epsilon_sq=1.0, unit="bits"), 6)  # (2 + 2)/2 log2 det(2 I)
    4.0
    """
    checks.choice(mean, "mean", ("zero", "estimate"))
    array = checks.samples(Z, "Z", on_device=mean == "zero")
    if array.ndim != 2:
        raise ValueError(f"Z has shape {array.shape}; expected vectors (m, d)")
    scale = UNITS[checks.choice(unit, "unit", tuple(UNITS))]
    m, d = array.shape
    length = 0.0
    if mean == "estimate":
        # In double precision: what is left beside a large mean is few of its digits.
        array = array.astype(np.result_type(checks.floating(None, array), np.float64))
        finite = np.isfinite(array).all(axis=1)  # before the mean spreads what is not
        if not finite.all():
            bad = int(np.argmin(finite))
            raise ValueError(f"Z holds NaN or infinity in sample {bad}; expected finite {array.dtype} numbers")
        mu = array.mean(axis=0)
        array = array - mu
        squares = float(np.vdot(mu, mu).real)
        length = d / 2 * float(np.log1p(squares / checks.positive(epsilon_sq, "epsilon_sq")))
    rate = coding_rate(array, epsilon_sq=epsilon_sq, backend=backend, n_threads=n_threads)
    return float(scale * (length + (m + d) * rate))


def coding_rate(
    Z: npt.ArrayLike,
    *,
    epsilon_sq: float = 0.1,
    sample_weight: npt.ArrayLike | None = None,
    dft_norm: words.DftNorm = "ortho",
    group: words.Group = "cyclic",
    unit: words.Unit = "nats",
    backend: words.Backend = "auto",
    n_threads: int | None = None,
) -> float:
    """Coding rate R of all features together.

    Parameters
    ----------
    Z : (m, d), (m, C, T) or (m, C, H, W) array, real or complex
        Features, taken as they are.
    epsilon_sq, sample_weight, dft_norm, group, backend, n_threads
        As in `build`; the rates of a group are those of all features that it makes of Z.
    unit : {"nats", "bits"}, default "nats"
        Unit of the result.

    Returns
    -------
    float
        R(Z, eps).

    Examples
    --------
    >>> import numpy as np, redunet as rn
    >>> round(rn.coding_rate(np.eye(2), epsilon_sq=1.0), 6)  # 1/2 log det(2 I) = log 2
    0.693147
    """
    m = len(checks.samples(Z, "Z", on_device=True))
    result = rate_reduction(
        Z,
        np.zeros(m, np.int64),
        epsilon_sq=epsilon_sq,
        sample_weight=sample_weight,
        dft_norm=dft_norm,
        group=group,
        unit=unit,
        backend=backend,
        n_threads=n_threads,
    )
    return result.rate


def rate_reduction(
    Z: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    epsilon_sq: float = 0.1,
    sample_weight: npt.ArrayLike | None = None,
    dft_norm: words.DftNorm = "ortho",
    group: words.Group = "cyclic",
    per_class: bool = False,
    unit: words.Unit = "nats",
    backend: words.Backend = "auto",
    n_threads: int | None = None,
) -> RateReduction:
    """Coding-rate reduction of features under a membership.

    Parameters
    ----------
    Z : (m, d), (m, C, T) or (m, C, H, W) array, real or complex
        Features, taken as they are.
    y : (m,) array of labels, or (m, k) membership
        As in `build`.
    epsilon_sq, sample_weight, dft_norm, group, backend, n_threads
        As in `build`; the rates of a group are those of all features that it makes of Z.
    per_class : bool, default False
        Give each class's contribution gamma_j R_j, (k,), in place of their sum R_c.
    unit : {"nats", "bits"}, default "nats"
        Unit of the result.

    Returns
    -------
    RateReduction
        ``(delta, rate, class_rate)`` with delta = R - R_c >= 0. A loss to minimise is ``-delta``.

    Examples
    --------
    >>> import numpy as np, redunet as rn
    >>> reduction = rn.rate_reduction(np.eye(2), [0, 1], epsilon_sq=1.0)
    >>> round(reduction.rate, 6), round(reduction.class_rate, 6)  # log 2 and 1/2 log 3
    (0.693147, 0.549306)
    """
    scale = UNITS[checks.choice(unit, "unit", tuple(UNITS))]
    per_class = checks.flag(per_class, "per_class")
    given = prepare.samples(Z, "Z", group=group, backend=backend, n_threads=n_threads)
    problem, _ = prepare.problem(given, y, sample_weight=sample_weight, epsilon_sq=epsilon_sq, dft_norm=dft_norm)
    row = given.module.rates(given.spectra(normalize=False), problem, n_threads=given.n_threads) * scale
    reduction = RateReduction.of(row, problem.gammas)
    return reduction._replace(class_rate=row[1:] * problem.gammas) if per_class else reduction


def rate_reduction_gradient(
    Z: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    epsilon_sq: float = 0.1,
    sample_weight: npt.ArrayLike | None = None,
    dft_norm: words.DftNorm = "ortho",
    group: words.Group = "cyclic",
    with_respect_to: Literal["features", "membership"] = "features",
    backend: words.Backend = "auto",
    n_threads: int | None = None,
) -> Array:
    """Gradient of the coding-rate reduction (in nats).

    Parameters
    ----------
    Z, y, epsilon_sq, sample_weight, dft_norm, group, backend, n_threads
        As in `rate_reduction`.
    with_respect_to : {"features", "membership"}, default "features"
        What it is the gradient to.

    Returns
    -------
    array, Z's shape and floating dtype; or (m, k) float64 array
        To features, for vectors E z_i - sum_j gamma_j pi_ij C^j z_i; for complex ones the gradient G with
        d(Delta R) = Re <G, dZ>. To the membership pi, of which hard labels are the corners,

            -omega_i / (2m) (log det A_j + d/eps^2 z_i* A_j^-1 z_i - d + tr A_j^-1),  A_j = I + alpha_j Z* Pi^j Z

        and the mean of the same over the frequencies: m is held, and pi may take any value >= 0.

    Examples
    --------
    >>> import numpy as np, redunet as rn
    >>> rn.rate_reduction_gradient(np.eye(2), [0, 1], epsilon_sq=1.0).round(4)
    array([[0.1667, 0.    ],
           [0.    , 0.1667]])
    """
    checks.choice(with_respect_to, "with_respect_to", ("features", "membership"))
    given = prepare.samples(Z, "Z", group=group, backend=backend, n_threads=n_threads)
    problem, _ = prepare.problem(given, y, sample_weight=sample_weight, epsilon_sq=epsilon_sq, dft_norm=dft_norm)
    V, wanted = given.spectra(normalize=False), with_respect_to == "membership"
    found = given.module.rates_and_gradient(V, problem, membership=wanted, n_threads=given.n_threads)
    return given.from_spectra(found.features) if found.membership is None else found.membership
