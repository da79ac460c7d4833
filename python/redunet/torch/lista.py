"""LISTA: iterative soft-thresholding as a network, whose matrices and thresholds are trained.

B = We y, z = soft(B, theta), then z <- soft(B + S z, theta): (m, d) signals to (m, n) codes. It starts as ISTA,
We = A* / L, S = I - A* A / L, theta = lam / L, so that training begins from what the algorithm gives.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from redunet._inputs import checks
from redunet.sparse.dictionaries import Matrix


class LISTA(nn.Module):
    """Learned ISTA: codes of signals after few steps, whose matrices and thresholds are trained.

    Parameters
    ----------
    A : tensor or array_like, (d, n)
        The dictionary to start from, real. Its dtype is the parameters': float32 or float64.
    lam : float
        >= 0, the price of a magnitude in 1/2 ||y - A x||^2 + lam ||x||_1.
    n_iter : int
        Soft thresholdings.
    tied : bool
        Whether all steps share their parameters, as published; else every step has its own.

    Attributes
    ----------
    We : Parameter, (n, d), or (n_iter, n, d) if not tied
        From signals to codes. At first A^T / L, L the largest eigenvalue of A^T A.
    S : Parameter, (n, n), or (n_iter - 1, n, n) if not tied
        From codes to codes. At first I - A^T A / L. Of one step alone there is none: (0, n, n).
    theta : Parameter, (n,), or (n_iter, n) if not tied
        Thresholds. At first lam / L.

    Raises
    ------
    ValueError, TypeError
        If a parameter is out of range or of another type.

    Notes
    -----
    Gregor, LeCun, "Learning Fast Approximations of Sparse Coding", ICML 2010, algorithm 3; its algorithm 4 is what
    autograd computes. Before training the output is that of ``redunet.sparse.ista(A, Y, lam, n_iter=n_iter)``.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from redunet import sparse
    >>> from redunet.torch import LISTA
    >>> random = np.random.default_rng(0)
    >>> A, Y = random.normal(size=(5, 8)), random.normal(size=(3, 5))
    >>> network = LISTA(A, 0.1, 4)
    >>> Z = network(torch.from_numpy(Y))
    >>> np.allclose(Z.detach(), sparse.ista(A, Y, 0.1, n_iter=4))
    True
    """

    def __init__(self, A: Any, lam: float, n_iter: int, *, tied: bool = True) -> None:
        super().__init__()
        given = A.detach().cpu().numpy() if isinstance(A, Tensor) else checks.array(A, "A")
        checks.numeric(given, "A")
        if given.dtype.kind == "c":
            raise TypeError(f"A has dtype {given.dtype}; expected real numbers")
        if given.ndim != 2 or 0 in given.shape:
            raise ValueError(f"A has shape {given.shape}; expected (d, n)")
        if not np.isfinite(given).all():
            raise ValueError("A holds a NaN or infinite value; expected finite values")
        dictionary = torch.from_numpy(given.astype(checks.floating(None, given)))
        lam = checks.non_negative(lam, "lam")
        self.n_iter = checks.integer(n_iter, "n_iter", 1)
        self.tied = checks.flag(tied, "tied")
        L = Matrix(given.astype(np.float64)).largest_eigenvalue()
        if L == 0:
            raise ValueError("A holds zeros only; expected a dictionary")
        n = dictionary.shape[1]
        We = dictionary.T / L
        S = torch.eye(n, dtype=dictionary.dtype) - dictionary.T @ dictionary / L
        theta = torch.full((n,), lam / L, dtype=dictionary.dtype)
        if not self.tied:
            We, theta = We.repeat(self.n_iter, 1, 1), theta.repeat(self.n_iter, 1)
            S = S.repeat(self.n_iter - 1, 1, 1)
        elif self.n_iter == 1:
            S = S.new_empty(0, n, n)  # a parameter that nothing reads would have no gradient
        self.We, self.S, self.theta = nn.Parameter(We.clone()), nn.Parameter(S), nn.Parameter(theta)

    def forward(self, Y: Tensor) -> Tensor:
        """Codes of signals.

        Parameters
        ----------
        Y : tensor, (..., d)
            Signals, of the parameters' dtype.

        Returns
        -------
        tensor, (..., n)
            Codes.
        """
        if Y.shape[-1:] != self.We.shape[-1:]:
            raise ValueError(f"Y has shape {tuple(Y.shape)}; expected (..., {self.We.shape[-1]})")
        if self.tied:
            B = Y @ self.We.T
            Z = _soft(B, self.theta)
            for _ in range(self.n_iter - 1):
                Z = _soft(B + Z @ self.S.T, self.theta)
            return Z
        Z = _soft(Y @ self.We[0].T, self.theta[0])
        for We, S, theta in zip(self.We[1:], self.S, self.theta[1:], strict=True):
            Z = _soft(Y @ We.T + Z @ S.T, theta)
        return Z

    def extra_repr(self) -> str:
        """What `print` shows."""
        n, d = self.We.shape[-2:]
        return f"d={d}, n={n}, n_iter={self.n_iter}, tied={self.tied}"


def _soft(x: Tensor, theta: Tensor) -> Tensor:
    """sign(x) max(|x| - theta, 0), with the gradient for both; a threshold that training made negative adds."""
    return torch.sign(x) * torch.relu(torch.abs(x) - theta)
