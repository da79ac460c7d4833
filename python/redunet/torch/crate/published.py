"""Published weights of CRATE and ToST: names and shapes say what the model is, and what is called how here."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from redunet._inputs import checks
from redunet.torch.crate import model as crate
from redunet.torch.crate.tost import ToST

#: Published names, as patterns, and ours.
CRATE_NAMES = (
    (r"to_patch_embedding\.1\.", "embed.0."),
    (r"to_patch_embedding\.2\.", "embed.1."),
    (r"to_patch_embedding\.3\.", "embed.2."),
    (r"pos_embedding", "positions"),
    (r"cls_token", "class_token"),
    (r"transformer\.layers\.(\d+)\.0\.norm\.", r"blocks.\1.norm1."),
    (r"transformer\.layers\.(\d+)\.0\.fn\.qkv\.", r"blocks.\1.attention.U."),
    (r"transformer\.layers\.(\d+)\.0\.fn\.to_out\.0\.", r"blocks.\1.attention.out."),
    (r"transformer\.layers\.(\d+)\.1\.norm\.", r"blocks.\1.norm2."),
    (r"transformer\.layers\.(\d+)\.1\.fn\.weight", r"blocks.\1.ista.D"),
    (r"mlp_head\.", "head."),
)
TOST_NAMES = (
    (r"patch_embed\.proj\.", "embed."),
    (r"pos_embeder\.token_projection\.", "position_map."),
    (r"cls_token", "class_token"),
    (r"cls_attn_blocks\.(\d+)\.attn\.proj\.", r"class_blocks.\1.attention.out."),
    (r"cls_attn_blocks\.(\d+)\.attn\.", r"class_blocks.\1.attention."),
    (r"cls_attn_blocks\.", "class_blocks."),
    (r"blocks\.(\d+)\.attn\.qkv\.", r"blocks.\1.attention.U."),
    (r"blocks\.(\d+)\.attn\.temp", r"blocks.\1.attention.temperature"),
    (r"blocks\.(\d+)\.attn\.to_out\.0\.", r"blocks.\1.attention.out."),
    (r"(.*)\.mlp\.fc1\.", r"\1.mlp.0."),
    (r"(.*)\.mlp\.fc2\.", r"\1.mlp.2."),
    (r"(.*)\.gamma([12])", r"\1.scale\2"),
)


def load_published(
    state_dict: Mapping[str, Tensor],
    *,
    heads: int | None = None,
    in_channels: int = 3,
    image_size: int = 224,
    step: float = 0.1,
    lam: float = 0.1,
) -> crate.CRATE | ToST:
    """A model with weights that are named as the authors' code names them.

    Dim, depth, classes and the sizes of images and patches are those of the tensors. Other sizes than the published
    ones may need to be told what tensors don't show.

    Parameters
    ----------
    state_dict : mapping of str to tensor
        Of the authors' CRATE or ToST; names may begin with ``module.``, as those of parallel training do. Of a
        checkpoint that is a dict of more than tensors, the entry that holds them.
    heads : int, optional
        Of a CRATE. Default: as published for its dim, 384, 576, 768 or 1024.
    in_channels : int
        Of the images of a CRATE.
    image_size : int
        Of the images of a ToST, which has no weights for positions.
    step, lam : float
        Of a CRATE's sparse coding.

    Returns
    -------
    CRATE or ToST
        In evaluation mode, in float32.

    Raises
    ------
    ValueError
        If names or shapes are not those of a CRATE or ToST; the message has those that are missing or unknown.

    Examples
    --------
    >>> import torch
    >>> from redunet.torch import load_published
    >>> model = load_published(torch.load("crate_tiny.pth", weights_only=True))  # doctest: +SKIP
    """
    tensors = {str(name).removeprefix("module."): tensor for name, tensor in dict(state_dict).items()}
    if "pos_embedding" in tensors and "cls_token" in tensors:
        ours = _renamed(tensors, CRATE_NAMES)
        model: crate.CRATE | ToST = _crate_of(ours, heads, in_channels, step, lam)
    elif "pos_embeder.token_projection.weight" in tensors and "cls_token" in tensors:
        ours = _renamed(tensors, TOST_NAMES)
        model = _tost_of(ours, image_size)
    else:
        some = ", ".join(sorted(tensors)[:3]) or "nothing"
        raise ValueError(
            f"state_dict holds {some}, ...; expected the published names of a CRATE (cls_token, pos_embedding, "
            "transformer.layers....) or of a ToST (cls_token, pos_embeder....)"
        )
    expected = model.state_dict()
    if odd := sorted(set(ours) ^ set(expected)):
        raise ValueError(f"state_dict has unknown or missing tensors, by our names: {', '.join(odd[:6])}")
    for name, tensor in ours.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"state_dict has shape {tuple(tensor.shape)} at {name}; expected {tuple(expected[name].shape)}"
            )
    model.load_state_dict(ours)
    return model.eval()


def _renamed(tensors: Mapping[str, Tensor], names: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    """Tensors under our names; names that no pattern knows stay."""
    ours = {}
    for name, tensor in tensors.items():
        new = name
        for pattern, replacement in names:
            new = re.sub(f"^{pattern}", replacement, new)
        ours[new] = tensor
    return ours


def _depth(ours: Mapping[str, Any]) -> int:
    return 1 + max((int(name.split(".")[1]) for name in ours if re.match(r"blocks\.\d+\.", name)), default=0)


def _crate_of(ours: Mapping[str, Tensor], heads: int | None, in_channels: int, step: float, lam: float) -> crate.CRATE:
    dim = ours["class_token"].shape[-1]
    if heads is None:
        if dim not in crate.PUBLISHED_SIZES:
            known = ", ".join(map(str, crate.PUBLISHED_SIZES))
            raise ValueError(f"heads is None and dim {dim}; expected heads, or one of the published dims {known}")
        heads = crate.PUBLISHED_SIZES[dim][1]
    n = math.isqrt(ours["positions"].shape[1] - 1)
    P = math.isqrt(ours["embed.0.weight"].numel() // checks.integer(in_channels, "in_channels", 1))
    return crate.CRATE(n * P, P, len(ours["head.1.weight"]), dim, _depth(ours), heads, in_channels, step, lam)


def _tost_of(ours: Mapping[str, Tensor], image_size: int) -> ToST:
    dim = ours["class_token"].shape[-1]
    convolutions = [tensor for name, tensor in ours.items() if re.match(r"embed\.\d+\.0\.weight", name)]
    heads = len(ours["blocks.0.attention.temperature"])
    ratio = len(ours["blocks.0.mlp.0.weight"]) // dim
    channels = convolutions[0].shape[1]
    return ToST(image_size, 1 << len(convolutions), len(ours["head.weight"]), dim, _depth(ours), heads, channels, ratio)
