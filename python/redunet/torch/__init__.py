"""What of the lecture is trained: rates as losses, constructed networks, and those that unroll sparse coding.

It needs PyTorch (``pip install 'redunet[torch]'``), which no other part of the package imports.
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("redunet.torch needs PyTorch: pip install 'redunet[torch]'") from error

# Unrolled networks: sparse coding, white-box transformers.
from redunet.torch.crate import CRATE, ToST, coding_rate_probe, load_published

# Constructed networks that are trained further.
from redunet.torch.heads import LinearHead, NearestSubspaceHead
from redunet.torch.layer import redu_layer
from redunet.torch.lista import LISTA

# Differentiable rates, and losses made of them.
from redunet.torch.losses import EMPSSLLoss, MCR2CTRLLoss, MCR2Loss, SimDINOLoss, TotalCodingRateLoss
from redunet.torch.network import ReduNet
from redunet.torch.pairs import pairwise_rate_reduction
from redunet.torch.rates import RateReduction, coding_rate, rate_reduction

__all__ = [
    "CRATE",
    "LISTA",
    "EMPSSLLoss",
    "LinearHead",
    "MCR2CTRLLoss",
    "MCR2Loss",
    "NearestSubspaceHead",
    "RateReduction",
    "ReduNet",
    "SimDINOLoss",
    "ToST",
    "TotalCodingRateLoss",
    "coding_rate",
    "coding_rate_probe",
    "load_published",
    "pairwise_rate_reduction",
    "rate_reduction",
    "redu_layer",
]
