"""An independent ReduNet for the tests: full spectrum, one frequency at a time, explicit inverses, float64.

Written from the formulas alone, slow and plain on purpose; it shares no code with the package. With v^i(p)
the DFT of the unit-norm sample i, per frequency p, N points, omega the sample weights::

    G_j(p) = sum_i omega_i Pi_ij v^i v^i*,  E = alpha (I + a G)^-1,  C^j = alpha_j (I + a_j G_j)^-1,
    pi = softmax_j(-lambda ||C^j v||),      v <- normalise(v + eta (E v - sum_j gamma_j pi_j C^j v)),

alpha = C/(m eps^2), alpha_j = C/(m_j eps^2); a = alpha ("ortho") or N alpha ("backward").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Layer:
    """E (C, C, *S), Cs (k, C, C, *S) over the full spectrum; residual norms and pi, (m, k)."""

    E: np.ndarray
    Cs: np.ndarray
    norms: np.ndarray
    pi: np.ndarray


@dataclass
class Network:
    """Features (m, C, *S), layers, and rates (L + 1, 1 + k): R and every gamma_j R_j."""

    Z: np.ndarray
    layers: list[Layer]
    rates: np.ndarray
    gammas: np.ndarray
    alphas: np.ndarray


def one_hot(labels) -> np.ndarray:
    """Membership (m, k) of labels."""
    classes, index = np.unique(np.asarray(labels), return_inverse=True)
    return np.eye(len(classes))[index]


def normalized(Z: np.ndarray) -> np.ndarray:
    """Every sample at unit norm after a layer; small ones are divided by 1e-8."""
    norms = np.sqrt((np.abs(Z) ** 2).reshape(len(Z), -1).sum(axis=1))
    return Z / np.maximum(norms, 1e-8).reshape(-1, *[1] * (Z.ndim - 1))


def unit(X: np.ndarray) -> np.ndarray:
    """Every sample at unit norm in whatever unit it came, so that zero alone stays zero."""
    flat = X.reshape(len(X), -1)
    peaks = np.maximum(np.abs(flat.real), np.abs(flat.imag)).max(axis=1, keepdims=True)
    exponents = np.frexp(peaks)[1]
    scaled = np.ldexp(flat.real, -exponents) + 1j * np.ldexp(flat.imag, -exponents)
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    scaled /= np.where(norms == 0, 1, norms)
    return (scaled if np.iscomplexobj(X) else scaled.real).reshape(X.shape)


def half(spectrum: np.ndarray, real: bool, signal_ndim: int) -> np.ndarray:
    """The part of a full spectrum (last axes) that is kept for real signals."""
    if not real or signal_ndim == 0:
        return spectrum
    return spectrum[..., : spectrum.shape[-1] // 2 + 1]


def construct(X, Pi, *, etas, epsilon_sq, lam, weights=None, dft_norm="ortho", given=False, normalize=True) -> Network:
    """A network with one layer per step size in ``etas``; none gives the rates of X alone."""
    X = np.asarray(X)
    Pi = np.asarray(Pi, dtype=float)
    m, C = X.shape[:2]
    axes = tuple(range(2, X.ndim))
    N = int(np.prod(X.shape[2:], dtype=int))
    omega = np.ones(m) if weights is None else np.asarray(weights, dtype=float)
    sizes = np.array([omega.sum(), *(omega @ Pi)])
    alphas = C / (sizes * epsilon_sq)
    gammas = sizes[1:] / sizes[0]
    inner = alphas * (N if dft_norm == "backward" else 1)
    shares = [omega, *(omega[:, None] * Pi).T]

    Z = unit(X.astype(complex if np.iscomplexobj(X) else float)) if normalize else X
    V = np.fft.fftn(Z, axes=axes, norm="ortho") if axes else Z
    V = V.reshape(m, C, N)
    layers, rates = [], []
    for eta in [*etas, None]:
        operators = np.empty((len(alphas), C, C, N), V.dtype)
        row = np.zeros(len(alphas))
        for number, share in enumerate(shares):
            for p in range(N):
                v = V[:, :, p].T
                M = np.eye(C) + inner[number] * (v * share) @ v.conj().T
                operators[number, :, :, p] = alphas[number] * np.linalg.inv(M)
                row[number] += np.linalg.slogdet(M)[1] / (2 * N)
        row[1:] *= gammas
        rates.append(row)
        if eta is None:
            break
        responses = np.einsum("jcdp,mdp->jmcp", operators, V)
        norms = np.sqrt((np.abs(responses[1:]) ** 2).sum(axis=(2, 3))).T
        scores = np.exp(-lam * (norms - norms.min(axis=1, keepdims=True)))
        pi = scores / scores.sum(axis=1, keepdims=True)
        moves = Pi if given else pi
        step = responses[0] - np.einsum("j,mj,jmcp->mcp", gammas, moves, responses[1:])
        V = normalized(V + eta * step)
        full = operators.reshape(len(alphas), C, C, *X.shape[2:])
        layers.append(Layer(full[0], full[1:], norms, pi))
    Z = V.reshape(X.shape)
    if axes:
        Z = np.fft.ifftn(Z, axes=axes, norm="ortho")
        Z = Z if np.iscomplexobj(X) else Z.real
    return Network(Z, layers, np.array(rates), gammas, alphas)


def transform(layers, X, *, etas, gammas, lam) -> tuple[np.ndarray, np.ndarray | None]:
    """Features of new samples after given layers, and the assignments (m, k) inside the last, None without layers."""
    axes = tuple(range(2, X.ndim))
    Z, pi = unit(np.asarray(X)), None
    V = np.fft.fftn(Z, axes=axes, norm="ortho") if axes else Z
    for layer, eta in zip(layers, etas, strict=True):
        responses = np.einsum("jcd...,md...->jmc...", layer.Cs, V)
        norms = np.sqrt((np.abs(responses) ** 2).reshape(*responses.shape[:2], -1).sum(axis=2)).T
        scores = np.exp(-lam * (norms - norms.min(axis=1, keepdims=True)))
        pi = scores / scores.sum(axis=1, keepdims=True)
        step = np.einsum("cd...,md...->mc...", layer.E, V) - np.einsum("j,mj,jm...->m...", gammas, pi, responses)
        V = normalized(V + eta * step)
    Z = np.fft.ifftn(V, axes=axes, norm="ortho") if axes else V
    return (Z if np.iscomplexobj(X) else Z.real), pi


def relative(a, b) -> float:
    """Relative Frobenius distance ||a - b|| / ||b||; absolute where b is zero."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape, (a.shape, b.shape)
    scale = np.linalg.norm(b.ravel())
    return float(np.linalg.norm((a - b).ravel()) / (scale if scale > 0 else 1.0))


def rounding(dtype, *, C, N, epsilon_sq, lam, alpha_max, n_layers=1, s=2.0, dft_norm="ortho") -> float:
    """A bound of the relative rounding error of features after some layers, in the precision of ``dtype``.

    Unit-norm samples give kappa = cond(I + alpha G) <= 1 + C/eps^2 (times N for "backward"), and inverses by
    Cholesky an error of 4 C u kappa. A residual norm rho <= alpha_j then errs by that times alpha_j, the
    assignment by lambda times as much, and the step, s = eta alpha in natural units, multiplies both by s. A
    further layer passes an error of its input on at most kappa (1 + 2s + s lambda alpha_j) times. Sums over
    the spectrum of N points add log N.
    """
    unit = float(np.finfo(dtype).eps)
    kappa = 1 + C / epsilon_sq * (N if dft_norm == "backward" else 1)
    gate = 1 + 2 * s + s * lam * alpha_max
    first = 4 * (C + np.log2(N) + 4) * unit * kappa * gate
    return first * (kappa * gate) ** (n_layers - 1)
