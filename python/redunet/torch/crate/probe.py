"""Rates and sparsity along the layers of a white-box transformer, as its authors measure them.

Of every head the tokens' coordinates W (n, p) in its subspace, w = U LN(x), have their rows scaled to unit norm;
R_c is the sum over heads of 1/2 log det(I + p/(n eps^2) W^T W). The p x p side is taken where tokens are more: the
determinants are the same, and matrices of 48 x 48 in place of 197 x 197 in the published sizes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redunet._inputs import checks
from redunet.torch.crate.blocks import split_heads


class LayerStatistics(NamedTuple):
    """What `coding_rate_probe` finds in a layer.

    Attributes
    ----------
    rate, rate_std : float
        R_c in nats, mean and standard deviation over the images.
    nonzeros : float
        Fraction of the numbers after the layer that aren't zero, over all tokens.
    """

    rate: float
    rate_std: float
    nonzeros: float


def subspace_rate(W: Tensor, epsilon_sq: float) -> Tensor:
    """R_c of the coordinates (m, heads, n, p) of tokens in the subspaces of the heads: (m,)."""
    W = F.normalize(W, dim=-1)
    n, p = W.shape[-2:]
    gram = W.mT @ W if p <= n else W @ W.mT
    identity = torch.eye(min(n, p), dtype=W.dtype, device=W.device)
    factor = torch.linalg.cholesky(identity + p / (n * epsilon_sq) * gram)
    return factor.diagonal(dim1=-2, dim2=-1).log().sum((-2, -1))


def coding_rate_probe(model: nn.Module, X: Tensor, epsilon_sq: float = 0.01) -> list[LayerStatistics]:
    """Coding rate in the subspaces, and sparsity, of the tokens of images at every layer.

    Parameters
    ----------
    model : CRATE or ToST
        Whose ``blocks`` have an ``attention`` with ``U`` and ``heads``. It is evaluated as it stands: without dropout,
        without gradients, and left in the mode that it was in.
    X : tensor, (m, C, H, W)
        Images; all at once.
    epsilon_sq : float
        eps^2, the squared error that the code allows.

    Returns
    -------
    list of LayerStatistics
        One for each layer.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of another type.

    Notes
    -----
    Yu et al. (2023), section 3.1: both should fall along the layers. Figures of this kind are of trained models.

    Examples
    --------
    >>> import torch
    >>> from redunet.torch import CRATE, coding_rate_probe
    >>> model = CRATE(8, 4, n_classes=2, dim=6, depth=3, heads=2, in_channels=1)
    >>> [0 < layer.nonzeros < 1 for layer in coding_rate_probe(model, torch.randn(10, 1, 8, 8))]
    [True, True, True]
    """
    epsilon_sq = checks.positive(epsilon_sq, "epsilon_sq")
    blocks: Any = getattr(model, "blocks", None)
    if not isinstance(blocks, nn.Sequential):
        raise TypeError(f"model is a {type(model).__name__}; expected a CRATE or ToST")
    rates: list[Tensor] = []
    nonzeros: list[float] = []
    hooks = []
    for block in blocks:
        attention: Any = block.attention

        def coordinates(module: nn.Module, inputs: object, w: Tensor, heads: int = attention.heads) -> None:
            rates.append(subspace_rate(split_heads(w, heads), epsilon_sq))

        def codes(module: nn.Module, inputs: object, z: Tensor) -> None:
            nonzeros.append(float((z != 0).float().mean()))

        hooks += [attention.U.register_forward_hook(coordinates), block.register_forward_hook(codes)]
    training = model.training
    try:
        model.eval()
        with torch.no_grad():
            model(X)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    spread = [float(rate.std()) if len(rate) > 1 else 0.0 for rate in rates]
    return [LayerStatistics(float(r.mean()), s, z) for r, s, z in zip(rates, spread, nonzeros, strict=True)]
