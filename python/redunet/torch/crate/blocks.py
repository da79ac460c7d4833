"""The two steps of a CRATE layer: compression against learnt subspaces, and one step of sparse coding.

Tokens are rows, (m, n, dim): m images of n tokens. With U_1 ... U_h the subspaces of the heads (dim_head rows each of
one matrix U) and D a dictionary,

    x <- x + MSSA(LN(x)),   x <- ISTA(LN(x)):

there is no residual connection around the second step, which goes on from its normalised input.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redunet._inputs import checks


class MSSA(nn.Module):
    """Multi-head subspace self-attention: queries, keys and values of a head are the same w = U_h x.

    Tokens of a head attend to each other, softmax(w w^T / sqrt(dim_head)) w, and a linear map leads back. It is a
    gradient step on the coding rate R_c of the tokens in the subspaces, with an approximate inverse.

    Parameters
    ----------
    dim : int
        Length of a token.
    heads : int
        Subspaces.
    dim_head : int, optional
        Their dimension. Default: dim / heads.

    Attributes
    ----------
    U : Linear, dim to heads * dim_head, without bias
        Row r is one of the basis of the subspace r // dim_head.
    out : Linear, heads * dim_head to dim; the identity where there is one head of dimension dim

    Raises
    ------
    ValueError, TypeError
        If a parameter is out of range or of another type, or dim isn't a multiple of heads.

    Notes
    -----
    Yu et al., "White-Box Transformers via Sparse Rate Reduction", NeurIPS 2023, (20), with a free map `out` in place of
    the transposes of the U_h, as in its experiments.

    Examples
    --------
    >>> import torch
    >>> from redunet.torch.crate import MSSA
    >>> MSSA(12, 3)(torch.zeros(2, 5, 12)).shape
    torch.Size([2, 5, 12])
    """

    def __init__(self, dim: int, heads: int, dim_head: int | None = None) -> None:
        super().__init__()
        dim, self.heads = checks.integer(dim, "dim", 1), checks.integer(heads, "heads", 1)
        self.dim_head = head_size(dim, heads) if dim_head is None else checks.integer(dim_head, "dim_head", 1)
        inner = self.heads * self.dim_head
        self.U = nn.Linear(dim, inner, bias=False)
        self.out: nn.Module = nn.Identity() if heads == 1 and self.dim_head == dim else nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (m, n, dim) to as many."""
        w = split_heads(self.U(x), self.heads)
        attended = F.scaled_dot_product_attention(w, w, w, scale=self.dim_head**-0.5)
        mixed: Tensor = self.out(join_heads(attended))
        return mixed


class ISTABlock(nn.Module):
    """One step of non-negative sparse coding with a dictionary D: relu(x + step D^T (x - D x) - step lam).

    Parameters
    ----------
    dim : int
        Length of a token and of its code.
    step : float
        > 0, the length of the step.
    lam : float
        >= 0, the price of a magnitude; 0.5 in the published masked autoencoders.

    Attributes
    ----------
    D : Parameter, (dim, dim)
        The dictionary; its columns are atoms.

    Raises
    ------
    ValueError, TypeError
        If a parameter is out of range or of another type.

    Notes
    -----
    Yu et al. (2023), (22): a proximal gradient step on 1/2 ||x - D z||^2 + lam ||z||_1 + [z >= 0] from z = x. The
    published code forms D^T x - D^T (D x) by three products; these are two, with the same result to rounding.

    Examples
    --------
    >>> import torch
    >>> from redunet.torch.crate import ISTABlock
    >>> block = ISTABlock(4)
    >>> with torch.no_grad():
    ...     _ = block.D.copy_(torch.eye(4))
    >>> block(torch.tensor([1.0, 0.005, -1.0, 0.5])).tolist() == [0.9900000095367432, 0.0, 0.0, 0.49000000953674316]
    True
    """

    def __init__(self, dim: int, step: float = 0.1, lam: float = 0.1) -> None:
        super().__init__()
        dim = checks.integer(dim, "dim", 1)
        self.step, self.lam = checks.positive(step, "step"), checks.non_negative(lam, "lam")
        self.D = nn.Parameter(torch.empty(dim, dim))
        nn.init.kaiming_uniform_(self.D)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (..., dim) to their codes."""
        residual = x - x @ self.D.T
        return torch.relu(x + self.step * (residual @ self.D) - self.step * self.lam)

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"dim={len(self.D)}, step={self.step}, lam={self.lam}"


class CRATEBlock(nn.Module):
    """A layer of CRATE: x <- x + MSSA(LN(x)), then x <- ISTA(LN(x)).

    Parameters
    ----------
    dim, heads : int
        As in `MSSA`.
    step, lam : float
        As in `ISTABlock`.

    Attributes
    ----------
    norm1, norm2 : LayerNorm
    attention : MSSA
    ista : ISTABlock

    Examples
    --------
    >>> import torch
    >>> from redunet.torch.crate import CRATEBlock
    >>> bool((CRATEBlock(12, 3)(torch.randn(2, 5, 12)) >= 0).all())
    True
    """

    def __init__(self, dim: int, heads: int, step: float = 0.1, lam: float = 0.1) -> None:
        super().__init__()
        self.attention, self.ista = MSSA(dim, heads), ISTABlock(dim, step, lam)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (m, n, dim) to as many, non-negative."""
        x = x + self.attention(self.norm1(x))
        coded: Tensor = self.ista(self.norm2(x))
        return coded


def head_size(dim: int, heads: int) -> int:
    """dim / heads, if that is whole."""
    if dim % heads:
        raise ValueError(f"dim is {dim} and heads {heads}; expected dim to be a multiple of heads")
    return dim // heads


def split_heads(w: Tensor, heads: int) -> Tensor:
    """(m, n, heads * p) to (m, heads, n, p)."""
    return w.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(w: Tensor) -> Tensor:
    """(m, heads, n, p) to (m, n, heads * p)."""
    return w.transpose(1, 2).flatten(2)
