"""Heads: what makes logits of features. Features have unit norm, so that heads bring a scale of their own.

`LinearHead` starts at zero; `NearestSubspaceHead` starts as the classifier that it is made of.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from redunet._inputs import checks
from redunet.classifiers import NearestSubspace


class LinearHead(nn.Module):
    """Logits W z sqrt(n) + b, zero at first.

    Parameters
    ----------
    n_features : int
        n, numbers of a sample's features. A single number of z, of unit norm, is about 1 / sqrt(n) large: the factor
        makes learning rates what they are for usual features. A rate a tenth of the operators' does well.
    n_classes : int
        Logits.

    Raises
    ------
    ValueError, TypeError
        If a number is none, or less than one; of `forward`, if features have another size.

    Examples
    --------
    >>> import torch
    >>> from redunet.torch import LinearHead
    >>> LinearHead(6, 3)(torch.ones(2, 2, 3)).shape
    torch.Size([2, 3])
    """

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        checks.integer(n_features, "n_features", 1)
        checks.integer(n_classes, "n_classes", 1)
        self.linear = nn.Linear(n_features, n_classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, Z: Tensor) -> Tensor:
        """Logits (m, n_classes) of features (m, ...)."""
        n = self.linear.in_features
        if Z[0].numel() != n:
            raise ValueError(f"Z has shape {tuple(Z.shape)}; expected {n} numbers of each sample")
        logits: Tensor = self.linear(Z.flatten(1) * math.sqrt(n))
        return logits


class NearestSubspaceHead(nn.Module):
    """Logits -beta ||z - U_j U_j* z||^2: the nearest subspace wins, and gradients move features towards it.

    Parameters
    ----------
    classifier : redunet.NearestSubspace
        After `fit`, of features like those of `forward`. Logits are in the order of its ``classes_``.
    beta : float, default 10.0
        Sharpness; learnt with ``learn=True``.
    learn : bool, default False
        Whether bases and beta are parameters. Bases that were trained need not stay orthonormal.

    Raises
    ------
    ValueError, TypeError
        If the classifier is none, or not fitted, or beta is not positive; of `forward`, if features have another size.

    Examples
    --------
    >>> import numpy as np, redunet as rn, torch
    >>> from redunet.torch import NearestSubspaceHead
    >>> Z = np.array([[1.0, 0.1, 0.0], [1.0, -0.1, 0.0], [0.0, 0.1, 1.0], [0.0, -0.1, 1.0]])
    >>> head = NearestSubspaceHead(rn.NearestSubspace(1).fit(Z, [0, 0, 1, 1]), beta=2.0)
    >>> head(torch.tensor([[1.0, 0.0, 0.0]])).tolist()
    [[-0.0, -2.0]]
    """

    def __init__(self, classifier: NearestSubspace, *, beta: float = 10.0, learn: bool = False) -> None:
        super().__init__()
        if not isinstance(classifier, NearestSubspace):
            raise TypeError(f"classifier is a {type(classifier).__name__}; expected a redunet.NearestSubspace")
        if not hasattr(classifier, "bases_"):
            raise ValueError("classifier is not fitted; call its fit first")
        checks.positive(beta, "beta")
        bases = classifier.bases_
        # Columns of all bases side by side, and which class each belongs to.
        stacked = torch.from_numpy(np.ascontiguousarray(np.concatenate(bases, axis=1)))
        dtype = torch.complex64 if stacked.is_complex() else torch.float32
        owner = torch.repeat_interleave(torch.tensor([U.shape[1] for U in bases]))
        self._keep("bases", stacked.to(dtype), learn)
        self._keep("beta", torch.tensor(float(beta)), learn)
        self.n_classes = len(bases)
        self.register_buffer("owner", owner)

    bases: Tensor
    beta: Tensor
    owner: Tensor

    def _keep(self, name: str, value: Tensor, learn: bool) -> None:
        if learn:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    def forward(self, Z: Tensor) -> Tensor:
        """Logits (m, k) of features (m, ...)."""
        z = Z.flatten(1)
        if z.shape[1] != len(self.bases):
            raise ValueError(f"Z has shape {tuple(Z.shape)}; expected {len(self.bases)} numbers of each sample")
        U = self.bases.to(torch.promote_types(z.dtype, self.bases.dtype)) if z.is_complex() else self.bases.to(z.dtype)
        inside = _squares(z.to(U.dtype) @ U.conj())
        captured = inside.new_zeros(len(z), self.n_classes).index_add(1, self.owner, inside)
        logits: Tensor = -self.beta * (_squares(z).sum(1, keepdim=True) - captured)
        return logits


def _squares(numbers: Tensor) -> Any:
    return torch.view_as_real(numbers).square().sum(-1) if numbers.is_complex() else numbers.square()
