"""ToST: a transformer whose attention needs statistics of the tokens, not their products with each other.

Tokens are rows, (m, n, dim); a head has coordinates w (n, p). A token belongs to the heads softly, Pi (heads, n), and
each head damps its coordinates by their second moments over its tokens: O(n p) for a head, no n x n matrix. Around it
stands the published image network, that of XCiT: patches by convolutions, Fourier positions, MLPs, layer scale, and two
layers in which the class token alone attends.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from redunet._inputs import checks
from redunet.torch.crate.blocks import head_size, join_heads, split_heads
from redunet.torch.crate.model import image_shape

#: Frequencies of the positions in each axis, half of them sines, and the longest wave.
WAVES, LONGEST = 32, 10000.0
NORM_EPS = 1e-6


class TSSA(nn.Module):
    """Token-statistics self-attention: a gradient step on a variational form of the coding rate R_c.

    With w = U_h x, Pi = softmax over the heads of temperature_h sum_p (w_p / ||w_p||)^2, norms over the tokens, and
    second moments s_p = sum_n Pi w_p^2 / sum_n Pi, the output of a head is -Pi w_p / (1 + s_p); `out` leads back.

    Parameters
    ----------
    dim : int
        Length of a token.
    heads : int
        Subspaces, of dimension dim / heads.

    Attributes
    ----------
    U : Linear, dim to dim
    temperature : Parameter, (heads, 1)
    out : Linear, dim to dim

    Raises
    ------
    ValueError, TypeError
        If a parameter is out of range or of another type, or dim isn't a multiple of heads.

    Notes
    -----
    Wu et al., "Token Statistics Transformer: Linear-Time Attention via Variational Rate Reduction", ICLR 2025, (10)
    and (11).

    Examples
    --------
    >>> import torch
    >>> from redunet.torch.crate import TSSA
    >>> TSSA(12, 3)(torch.zeros(2, 5, 12)).shape
    torch.Size([2, 5, 12])
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        dim, self.heads = checks.integer(dim, "dim", 1), checks.integer(heads, "heads", 1)
        head_size(dim, self.heads)
        self.U, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.temperature = nn.Parameter(torch.ones(self.heads, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (m, n, dim) to as many."""
        w = split_heads(self.U(x), self.heads)
        energy = F.normalize(w, dim=-2).square().sum(-1)
        Pi = (energy * self.temperature).softmax(dim=1)  # (m, heads, n)
        share = Pi / (Pi.sum(-1, keepdim=True) + 1e-8)
        moments = share.unsqueeze(-2) @ w.square()  # (m, heads, 1, p)
        mixed: Tensor = self.out(join_heads(-w * Pi.unsqueeze(-1) / (1 + moments)))
        return mixed


class ToSTBlock(nn.Module):
    """A layer of ToST: x <- x + scale1 TSSA(LN(x)), then x <- x + scale2 MLP(LN(x)).

    Parameters
    ----------
    dim, heads : int
        As in `TSSA`.
    mlp_ratio : int
        Width of the MLP, in dim.
    layer_scale : float
        What both scales begin as.

    Examples
    --------
    >>> import torch
    >>> from redunet.torch.crate import ToSTBlock
    >>> ToSTBlock(12, 3)(torch.zeros(2, 5, 12)).shape
    torch.Size([2, 5, 12])
    """

    def __init__(self, dim: int, heads: int, mlp_ratio: int = 4, layer_scale: float = 1.0) -> None:
        super().__init__()
        self.attention = TSSA(dim, heads)
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS), nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = _mlp(dim, checks.integer(mlp_ratio, "mlp_ratio", 1))
        size = checks.positive(layer_scale, "layer_scale")
        self.scale1, self.scale2 = (nn.Parameter(torch.full((dim,), size)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (m, n, dim) to as many."""
        x = x + self.scale1 * self.attention(self.norm1(x))
        return x + self.scale2 * self.mlp(self.norm2(x))


class ClassAttention(nn.Module):
    """The class token, the first of x (m, 1 + n, dim), attends to all: what it gets is (m, 1, dim)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens to the new class token."""
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        mixed: Tensor = self.out(join_heads(F.scaled_dot_product_attention(q[:, :, :1], k, v)))
        return mixed


class ClassBlock(nn.Module):
    """A layer of class attention and an MLP, both for the class token; other tokens are normalised and go on."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int, layer_scale: float) -> None:
        super().__init__()
        self.attention, self.mlp = ClassAttention(dim, heads), _mlp(dim, mlp_ratio)
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS), nn.LayerNorm(dim, eps=NORM_EPS)
        self.scale1, self.scale2 = (nn.Parameter(torch.full((dim,), layer_scale)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (m, 1 + n, dim) to as many. Tokens of patches are added to themselves twice, as published."""
        normal = self.norm1(x)
        x = self.norm2(x + self.scale1 * torch.cat([self.attention(normal), normal[:, 1:]], dim=1))
        return x + torch.cat([self.scale2 * self.mlp(x[:, :1]), x[:, 1:]], dim=1)


class ToST(nn.Module):
    """A token-statistics transformer for images, linear in the number of tokens.

    Parameters
    ----------
    image_size : int or (int, int)
        H and W.
    patch_size : int
        2, 4, 8, ...: one convolution of stride 2 for each halving. H and W are multiples of it.
    n_classes : int
        Logits.
    dim : int
        Length of a token; a multiple of heads and of patch_size / 2.
    depth : int
        Layers of `ToSTBlock`.
    heads : int
        Subspaces of a layer.
    in_channels : int
        Channels of the images.
    mlp_ratio : int
        Width of the MLPs, in dim.
    layer_scale : float
        What the scales of the layers begin as.

    Attributes
    ----------
    blocks : Sequential of ToSTBlock
    class_blocks : Sequential
        Two layers in which the class token attends.
    class_token : Parameter, (1, 1, dim)
    head : Linear

    Raises
    ------
    ValueError, TypeError
        If a parameter is out of range or of another type, or sizes don't fit.

    Notes
    -----
    Wu et al. (ICLR 2025); the network around `TSSA` is that of El-Nouby et al., "XCiT: Cross-Covariance Image
    Transformers", NeurIPS 2021, without its local patch interaction. `tost_tiny`, `tost_small` and `tost_medium` are
    the sizes of the published code.

    Examples
    --------
    >>> import torch
    >>> from redunet.torch import ToST
    >>> ToST(28, 4, n_classes=10, dim=24, depth=2, heads=3, in_channels=1)(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 10])
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
        mlp_ratio: int = 4,
        layer_scale: float = 1.0,
    ) -> None:
        super().__init__()
        patch_size = checks.integer(patch_size, "patch_size", 2)
        if patch_size & (patch_size - 1):
            raise ValueError(f"patch_size is {patch_size}; expected a power of two")
        self.image_size = image_shape(image_size, patch_size)
        self.in_channels = checks.integer(in_channels, "in_channels", 1)
        n_classes, depth = checks.integer(n_classes, "n_classes", 1), checks.integer(depth, "depth", 1)
        dim = checks.integer(dim, "dim", 1)
        if dim % (patch_size // 2):
            raise ValueError(f"dim is {dim} and patch_size {patch_size}; expected dim to be a multiple of half of it")
        blocks = [ToSTBlock(dim, heads, mlp_ratio, layer_scale) for _ in range(depth)]
        self.embed = _convolutions(self.in_channels, dim, patch_size.bit_length() - 1)
        self.position_map = nn.Conv2d(2 * WAVES, dim, kernel_size=1)
        self.blocks = nn.Sequential(*blocks)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.class_blocks = nn.Sequential(*(ClassBlock(dim, heads, mlp_ratio, layer_scale) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(dim, eps=NORM_EPS), nn.Linear(dim, n_classes)
        nn.init.trunc_normal_(self.class_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def tokens(self, X: Tensor) -> Tensor:
        """Images (m, C, H, W) to tokens after the last layer, (m, 1 + n, dim): the class token is the first."""
        if tuple(X.shape[1:]) != (self.in_channels, *self.image_size):
            H, W = self.image_size
            raise ValueError(f"X has shape {tuple(X.shape)}; expected (m, {self.in_channels}, {H}, {W})")
        x = self.embed(X)
        x = x + self.position_map(fourier_positions(x))
        x = self.blocks(x.flatten(2).transpose(1, 2))
        x = self.class_blocks(torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1))
        normal: Tensor = self.norm(x)
        return normal

    def forward(self, X: Tensor) -> Tensor:
        """Images (m, C, H, W) to logits (m, n_classes)."""
        logits: Tensor = self.head(self.tokens(X)[:, 0])
        return logits


def fourier_positions(x: Tensor) -> Tensor:
    """Sines and cosines of row and column of a grid (m, dim, H, W): (1, 2 * WAVES, H, W).

    Rows and columns are 2 pi k / n, k = 1 ... n; wave lengths grow from 2 pi to 2 pi LONGEST. Those of rows come first,
    sine and cosine of each frequency side by side.
    """
    H, W = x.shape[-2:]
    index = torch.arange(WAVES // 2, dtype=torch.float32, device=x.device)
    waves = LONGEST ** (2 * index / WAVES)
    parts = []
    for n, shape in ((H, (H, 1)), (W, (1, W))):
        places = 2 * math.pi * torch.arange(1, n + 1, dtype=torch.float32, device=x.device) / (n + 1e-6)
        angles = places / waves[:, None]  # (WAVES / 2, n)
        both = torch.stack([angles.sin(), angles.cos()], dim=1).flatten(0, 1)
        parts.append(both.reshape(1, WAVES, *shape).expand(1, WAVES, H, W))
    return torch.cat(parts, dim=1).to(x.dtype)


def _convolutions(in_channels: int, dim: int, stages: int) -> nn.Sequential:
    """Stages of 3 x 3 convolutions of stride 2 with batch normalisation, twice the channels each; GELU in between."""
    channels = [in_channels, *(dim >> (stages - 1 - stage) for stage in range(stages))]
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        convolution = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
        layers += [nn.Sequential(convolution, nn.BatchNorm2d(after)), nn.GELU()]
    return nn.Sequential(*layers[:-1])


def _mlp(dim: int, ratio: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, ratio * dim), nn.GELU(), nn.Linear(ratio * dim, dim))


#: Of the published models, by dim: layers, heads, what the layer scales begin as.
PUBLISHED_SIZES = {192: (12, 4, 1.0), 384: (12, 8, 1.0), 512: (24, 8, 1e-5)}


def _published(dim: int, options: dict[str, Any]) -> ToST:
    depth, heads, layer_scale = PUBLISHED_SIZES[dim]
    return ToST(**{"image_size": 224, "patch_size": 16, "n_classes": 1000, "layer_scale": layer_scale, **options,
                   "dim": dim, "depth": depth, "heads": heads})  # fmt: skip


def tost_tiny(**options: Any) -> ToST:
    """ToST-T: dim 192, 12 layers, 4 heads, patches of 16, images of 224, 1000 classes; 5 769 328 parameters.

    ``options`` are those of `ToST`, but for dim, depth and heads; the same holds for the other sizes.
    """
    return _published(192, options)


def tost_small(**options: Any) -> ToST:
    """ToST-S: dim 384, 12 layers, 8 heads; 22 589 944 parameters."""
    return _published(384, options)


def tost_medium(**options: Any) -> ToST:
    """ToST-M: dim 512, 24 layers, 8 heads; 71 481 064 parameters."""
    return _published(512, options)
