"""CRATE: images to tokens, layers of compression and sparsification, a linear head on the class token.

An image (C, H, W) is cut into n patches of P x P pixels, each a vector of P P C numbers; patches are normalised, mapped
to dim and normalised again. A class token comes first, and positions are added. All n + 1 tokens go through the layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from redunet._inputs import checks
from redunet.torch.crate.blocks import CRATEBlock


class CRATE(nn.Module):
    """A white-box transformer for images: layers of `MSSA` and `ISTABlock`.

    Parameters
    ----------
    image_size : int or (int, int)
        H and W.
    patch_size : int
        P; H and W are multiples of it.
    n_classes : int
        Logits.
    dim : int
        Length of a token; a multiple of heads.
    depth : int
        Layers.
    heads : int
        Subspaces of a layer.
    in_channels : int
        C.
    step, lam : float
        Of the sparse coding, as in `ISTABlock`.

    Attributes
    ----------
    embed : Sequential of LayerNorm, Linear, LayerNorm
        From patches to tokens.
    class_token : Parameter, (1, 1, dim)
    positions : Parameter, (1, n + 1, dim)
    blocks : Sequential of CRATEBlock
    head : Sequential of LayerNorm and Linear

    Raises
    ------
    ValueError, TypeError
        If a parameter is out of range or of another type, or sizes don't fit.

    Notes
    -----
    Yu et al., "White-Box Transformers via Sparse Rate Reduction", NeurIPS 2023. `crate_tiny` to `crate_large` are its
    sizes, `load_published` loads its weights, `coding_rate_probe` measures rates and sparsity along the layers.

    Examples
    --------
    >>> import torch
    >>> from redunet.torch import CRATE
    >>> model = CRATE(28, 7, n_classes=10, dim=24, depth=2, heads=3, in_channels=1)
    >>> model(torch.zeros(5, 1, 28, 28)).shape, model.tokens(torch.zeros(5, 1, 28, 28)).shape
    (torch.Size([5, 10]), torch.Size([5, 17, 24]))
    """

    def __init__(
        self,
        image_size: int | tuple[int, int],
        patch_size: int,
        n_classes: int,
        dim: int,
        depth: int,
        heads: int,
        in_channels: int = 3,
        step: float = 0.1,
        lam: float = 0.1,
    ) -> None:
        super().__init__()
        self.patch_size = checks.integer(patch_size, "patch_size", 1)
        self.image_size = image_shape(image_size, self.patch_size)
        self.in_channels = checks.integer(in_channels, "in_channels", 1)
        n_classes, depth = checks.integer(n_classes, "n_classes", 1), checks.integer(depth, "depth", 1)
        blocks = [CRATEBlock(dim, heads, step, lam) for _ in range(depth)]
        n = (self.image_size[0] // self.patch_size) * (self.image_size[1] // self.patch_size)
        patch_dim = self.in_channels * self.patch_size**2
        self.embed = nn.Sequential(nn.LayerNorm(patch_dim), nn.Linear(patch_dim, dim), nn.LayerNorm(dim))
        self.class_token = nn.Parameter(torch.randn(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, n + 1, dim))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, n_classes))

    def patches(self, X: Tensor) -> Tensor:
        """Images (m, C, H, W) as patches (m, n, P P C): row by row, in each row by row, channels last."""
        if tuple(X.shape[1:]) != (self.in_channels, *self.image_size):
            H, W = self.image_size
            raise ValueError(f"X has shape {tuple(X.shape)}; expected (m, {self.in_channels}, {H}, {W})")
        P = self.patch_size
        cut = X.unflatten(3, (-1, P)).unflatten(2, (-1, P))  # (m, C, H / P, P, W / P, P)
        return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)

    def tokens(self, X: Tensor) -> Tensor:
        """Images (m, C, H, W) to the tokens after the last layer, (m, n + 1, dim): the class token is the first."""
        x = self.embed(self.patches(X))
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.positions
        coded: Tensor = self.blocks(x)
        return coded

    def forward(self, X: Tensor) -> Tensor:
        """Images (m, C, H, W) to logits (m, n_classes)."""
        logits: Tensor = self.head(self.tokens(X)[:, 0])
        return logits


def image_shape(image_size: Any, patch_size: int) -> tuple[int, int]:
    """H and W, if patches fit into them."""
    sizes = image_size if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    if len(sizes) != 2:
        raise ValueError(f"image_size is {image_size!r}; expected one number, or (height, width)")
    height, width = (checks.integer(size, "image_size", 1) for size in sizes)
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"image_size is {image_size!r} and patch_size {patch_size}; expected multiples of the patch's size"
        )
    return height, width


#: Of the published models, by dim: layers and heads.
PUBLISHED_SIZES = {384: (12, 6), 576: (12, 12), 768: (12, 12), 1024: (24, 16)}


def _published(dim: int, options: dict[str, Any]) -> CRATE:
    depth, heads = PUBLISHED_SIZES[dim]
    return CRATE(**{"image_size": 224, "patch_size": 16, "n_classes": 1000, **options, "dim": dim, "depth": depth,
                    "heads": heads})  # fmt: skip


def crate_tiny(**options: Any) -> CRATE:
    """CRATE-T: dim 384, 12 layers, 6 heads, patches of 16, images of 224, 1000 classes; 6 090 856 parameters.

    ``options`` are those of `CRATE`, but for dim, depth and heads; the same holds for the other sizes.

    Examples
    --------
    >>> import torch
    >>> from redunet.torch.crate import crate_tiny
    >>> with torch.device("meta"):
    ...     sum(parameter.numel() for parameter in crate_tiny().parameters())
    6090856
    """
    return _published(384, options)


def crate_small(**options: Any) -> CRATE:
    """CRATE-S: dim 576, 12 layers, 12 heads; 13 116 328 parameters."""
    return _published(576, options)


def crate_base(**options: Any) -> CRATE:
    """CRATE-B: dim 768, 12 layers, 12 heads; 22 796 008 parameters."""
    return _published(768, options)


def crate_large(**options: Any) -> CRATE:
    """CRATE-L: dim 1024, 24 layers, 16 heads; 77 641 192 parameters."""
    return _published(1024, options)
