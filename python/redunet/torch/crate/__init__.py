"""White-box transformers: CRATE, whose layers compress and sparsify tokens, and ToST, which needs no attention matrix.

Layers are steps of an optimisation of the sparse rate reduction R - R_c - lam ||Z||_0 of the tokens Z: one against
their coding rate in learnt subspaces (MSSA, TSSA), one of iterative soft-thresholding (ISTABlock).
"""

from redunet.torch.crate.blocks import MSSA, CRATEBlock, ISTABlock
from redunet.torch.crate.model import CRATE, crate_base, crate_large, crate_small, crate_tiny
from redunet.torch.crate.probe import LayerStatistics, coding_rate_probe
from redunet.torch.crate.published import load_published
from redunet.torch.crate.tost import TSSA, ToST, ToSTBlock, tost_medium, tost_small, tost_tiny

__all__ = [
    "CRATE",
    "MSSA",
    "TSSA",
    "CRATEBlock",
    "ISTABlock",
    "LayerStatistics",
    "ToST",
    "ToSTBlock",
    "coding_rate_probe",
    "crate_base",
    "crate_large",
    "crate_small",
    "crate_tiny",
    "load_published",
    "tost_medium",
    "tost_small",
    "tost_tiny",
]
