"""What of the lecture is trained: rates as losses, and networks that unroll sparse coding and rate reduction.

It needs PyTorch (``pip install 'redunet[torch]'``), which no other part of the package imports.
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("redunet.torch needs PyTorch: pip install 'redunet[torch]'") from error

# Unrolled networks: sparse coding, white-box transformers.
from redunet.torch.crate import CRATE, ToST, coding_rate_probe, load_published
from redunet.torch.lista import LISTA

# Differentiable rates, and losses made of them.
from redunet.torch.losses import EMPSSLLoss, MCR2CTRLLoss, MCR2Loss, SimDINOLoss, TotalCodingRateLoss
from redunet.torch.pairs import pairwise_rate_reduction
from redunet.torch.rates import RateReduction, coding_rate, rate_reduction

__all__ = [
    "CRATE",
    "LISTA",
    "EMPSSLLoss",
    "MCR2CTRLLoss",
    "MCR2Loss",
    "RateReduction",
    "SimDINOLoss",
    "ToST",
    "TotalCodingRateLoss",
    "coding_rate",
    "coding_rate_probe",
    "load_published",
    "pairwise_rate_reduction",
    "rate_reduction",
]
