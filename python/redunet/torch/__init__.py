"""What of the lecture is trained: networks of PyTorch that unroll sparse coding and rate reduction.

It needs PyTorch (``pip install 'redunet[torch]'``), which no other part of the package imports.
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("redunet.torch needs PyTorch: pip install 'redunet[torch]'") from error

# Unrolled networks: sparse coding, white-box transformers.
from redunet.torch.crate import CRATE, ToST, coding_rate_probe, load_published
from redunet.torch.lista import LISTA

__all__ = ["CRATE", "LISTA", "ToST", "coding_rate_probe", "load_published"]
