"""The layer that a skilled PyTorch user writes for a GPU: what the CUDA engine has to beat there.

Half spectrum V (F, C, m) of native complex numbers, samples sorted by class; equal classes and all frequencies are one
batch, and nothing in a layer waits for the host: Cholesky factors are not looked at. Classes of half the channels or
less are factors, C^j = alpha_j (I - Q_j Q_j*) with Q_j* = sqrt(alpha_j) L_j^-1 V_j*, L_j L_j* = I + alpha_j V_j* V_j.
Operators are kept on the device.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.workloads import Workload

#: Which of PyTorch's two inverses is faster for matrices of this shape and dtype, timed when first needed.
_INVERSES: dict[tuple[torch.Size, torch.dtype], int] = {}


def seconds(call: Callable[[], object], device: torch.device, rounds: int = 5) -> float:
    """Median time of a call and all that it has put on the device; it is called once before."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    call()
    wait()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _squares(Y: Tensor) -> Tensor:
    return torch.view_as_real(Y).square().sum(-1) if Y.is_complex() else Y.square()


class TorchDevice:
    """A network of samples X with labels y, layer by layer; hyperparameters as of `Workload`.

    Attributes
    ----------
    V : Tensor, (F, C, m)
        The features, samples in the order of their classes.
    rates : list of Tensor
        Log dets of every layer.
    """

    @torch.no_grad()
    def __init__(self, X: NDArray[np.float32], workload: Workload, device: torch.device) -> None:
        y, self.eta, self.lam = workload.y, workload.eta, workload.lam
        self.device, self.sizes = device, workload.class_sizes.tolist()
        Z = torch.as_tensor(X[np.argsort(y, kind="stable")], device=device)
        m, self.C = Z.shape[:2]
        norms = torch.linalg.vector_norm(Z.flatten(1), dim=1).clamp(min=1e-8)
        Z = Z / norms.reshape(-1, *[1] * (Z.ndim - 1))
        if Z.ndim == 2:
            V, self.weights = Z.T.reshape(1, self.C, m), torch.ones(1, device=device)
        else:
            V = torch.fft.rfftn(Z, dim=tuple(range(2, Z.ndim)), norm="ortho")
            weights = torch.ones(V.shape[2:], device=device)
            weights[..., 1 : (Z.shape[-1] + 1) // 2] = 2
            self.weights = weights.flatten()
            V = V.flatten(2).permute(2, 1, 0)
        self.V = V.contiguous()
        self.alpha = self.C / (m * workload.epsilon_sq)
        self.alphas = torch.tensor([self.C / (n * workload.epsilon_sq) for n in self.sizes], device=device)
        self.gammas = torch.tensor([n / m for n in self.sizes], device=device)
        self.identity = torch.eye(self.C, device=device, dtype=V.dtype)
        self.equal = len(set(self.sizes)) == 1
        self.factored = self.equal and 2 * self.sizes[0] <= self.C
        self.kept: list[tuple[Tensor, ...]] = []
        self.rates: list[Tensor] = []

    @torch.no_grad()
    def build(self, n_layers: int) -> None:
        """So many layers more; waits for them."""
        for _ in range(n_layers):
            E, responses = self._factored_operators() if self.factored else self._dense_operators()
            self._step(E, responses)
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _inverse(self, A: Tensor) -> Tensor:
        L = torch.linalg.cholesky_ex(A)[0]
        self._note(L)
        ways = (lambda: torch.cholesky_inverse(L), lambda: torch.linalg.inv_ex(A)[0])
        key = A.shape, A.dtype
        if key not in _INVERSES:
            _INVERSES[key] = int(seconds(ways[1], self.device, 2) < seconds(ways[0], self.device, 2))
        return ways[_INVERSES[key]]()

    def _note(self, L: Tensor) -> None:
        self.rates.append(2 * L.diagonal(dim1=-2, dim2=-1).real.log().sum(-1))

    def _by_class(self) -> Tensor:
        """(k, F, C, m_j) of equal classes."""
        F, C, _ = self.V.shape
        return self.V.reshape(F, C, len(self.sizes), -1).permute(2, 0, 1, 3)

    def _dense_operators(self) -> tuple[Tensor, Tensor]:
        """E, and the responses of all classes, (k, F, C, m)."""
        if self.equal:
            Vj = self._by_class()
            grams = Vj @ Vj.mH
        else:
            grams = torch.stack([x @ x.mH for x in self.V.split(self.sizes, 2)])
        scaled = self.alphas[:, None, None, None] * grams
        S = self._inverse(torch.cat([(self.alpha * grams.sum(0))[None], scaled]) + self.identity)
        S[0] *= self.alpha
        S[1:] *= self.alphas[:, None, None, None]
        self.kept.append((S,))
        return S[0], S[1:] @ self.V

    def _factored_operators(self) -> tuple[Tensor, Tensor]:
        V, alpha = self.V, self.alphas[0]
        F, C, m = V.shape
        k, r = len(self.sizes), self.sizes[0]
        E = self._inverse(self.identity + self.alpha * (V @ V.mH)) * self.alpha
        Vj = self._by_class()
        K = Vj.mH @ Vj * alpha + torch.eye(r, device=self.device, dtype=V.dtype)
        L = torch.linalg.cholesky_ex(K)[0]
        self._note(L)
        Q = torch.linalg.solve_triangular(L, Vj.mH, upper=False) * alpha.sqrt()  # Q*, (k, F, r, C)
        whole = V.expand(k, F, C, m).reshape(-1, C, m)
        rest = torch.baddbmm(whole, Q.mH.reshape(-1, C, r), (Q @ V).reshape(-1, r, m), alpha=-1)
        self.kept.append((E, Q))
        return E, rest.view(k, F, C, m) * alpha

    def _step(self, E: Tensor, responses: Tensor) -> None:
        rho = torch.einsum("kfcm,f->km", _squares(responses), self.weights).sqrt()
        pi = torch.softmax(-self.lam * rho, 0) * self.gammas[:, None]
        along = E @ self.V - torch.einsum("kfcm,km->fcm", responses, pi.to(responses.dtype))
        Z = self.V + self.eta * along
        self.V = Z / torch.einsum("fcm,f->m", _squares(Z), self.weights).sqrt().clamp(min=1e-8)
