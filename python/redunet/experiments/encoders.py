"""Networks that make features of images, trained by the rate reduction (MCR2) or by cross-entropy (CE).

Both train one encoder: a convolutional network of three layers, or ResNet-18 as the authors of MCR2 trained it. Under
cross-entropy a linear head stands on its features. PyTorch is imported by the functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from redunet.datasets import Split
from redunet.experiments.options import Options
from redunet.experiments.training import MANY, train

if TYPE_CHECKING:
    import torch
    from torch import nn

Array = npt.NDArray[Any]
CLASSES = 10
#: Losses, and what reports call them.
NAMES = {"MCR2": "MCR²", "CE": "cross-entropy"}
EPSILON_SQ, MOMENTUM, DECAY = 0.5, 0.9, 5e-4
#: Pixels by which images are shifted at random, in the protocol of the authors.
PAD = 8


@dataclass(frozen=True)
class Protocol:
    """An encoder and how it is trained.

    Attributes
    ----------
    name : str
        What the encoder is.
    d : int
        Dimension of features.
    n_train : int or None
        Images of a class; None: as many as every class has.
    epochs : int
        Passes.
    batches, rates : dict
        Images of a step and learning rate of SGD, by loss: "MCR2" and "CE".
    milestones : tuple of float
        Parts of the training after which the rate is a tenth; none: it falls by a cosine.
    augment : bool
        Whether images are shifted by up to 8 pixels and mirrored at random.
    """

    name: str
    d: int
    n_train: int | None
    epochs: int
    batches: dict[str, int]
    rates: dict[str, float]
    milestones: tuple[float, ...] = ()
    augment: bool = False


SMALL = Protocol("3 convolutions", 64, 300, 20, {"MCR2": 300, "CE": 100}, {"MCR2": 0.05, "CE": 0.02})
FULL = Protocol(
    "ResNet-18", 128, None, 500, {"MCR2": 1000, "CE": 128}, {"MCR2": 0.01, "CE": 0.1}, (0.4, 0.8), augment=True
)  # fmt: skip


def protocol_of(options: Options, data: Split) -> tuple[Protocol, int, int]:
    """The protocol, images of a class, and passes."""
    protocol = FULL if options.full else SMALL
    n_train = int(np.bincount(data.y_train).min()) if protocol.n_train is None else protocol.n_train
    return protocol, options.samples(n_train), protocol.epochs if options.epochs is None else options.epochs


@dataclass
class Trained:
    """An encoder, its head, and what it was along its passes.

    Attributes
    ----------
    encoder : torch.nn.Module
        Images (m, C, H, W) to features (m, d).
    head : torch.nn.Module or None
        Features to logits, where there is one.
    seconds : float
        Of training.
    along : dict of str to list
        Of each pass, what ``watch`` says.
    """

    encoder: nn.Module
    head: nn.Module | None
    seconds: float = 0.0
    along: dict[str, list[float]] = field(default_factory=dict)

    def features(self, X: torch.Tensor) -> Array:
        """Of images (m, C, H, W), of unit norm, (m, d) float32."""
        import torch

        was = self.encoder.training
        self.encoder.eval()
        with torch.no_grad():
            Z = torch.cat([torch.nn.functional.normalize(self.encoder(x)) for x in X.split(MANY)])
        self.encoder.train(was)
        return Z.numpy()

    def logits(self, X: torch.Tensor) -> Array:
        """Of the head, for images (m, C, H, W)."""
        import torch

        assert self.head is not None
        was = self.encoder.training
        self.encoder.eval()
        with torch.no_grad():
            found = torch.cat([self.head(self.encoder(x)) for x in X.split(MANY)])
        self.encoder.train(was)
        return found.numpy()


def trained_by(
    loss: str, protocol: Protocol, X: torch.Tensor, y: torch.Tensor, *, epochs: int,
    watch: Callable[[Trained], dict[str, float]] | None = None, progress: bool = False,
) -> Trained:  # fmt: skip
    """Train an encoder by "MCR2" or by "CE" on images (m, C, H, W) with labels (m,); ``watch`` sees it every pass."""
    import torch
    from torch import nn

    from redunet.torch import MCR2Loss

    encoder = convolutional(X.shape[1:], protocol.d) if protocol is not FULL else resnet18(X.shape[1], protocol.d)
    head = nn.Linear(protocol.d, CLASSES) if loss == "CE" else None
    made = Trained(encoder, head)

    def make(steps: int) -> tuple[torch.optim.Optimizer, Any]:
        parameters = [*encoder.parameters(), *([] if head is None else head.parameters())]
        sgd = torch.optim.SGD(parameters, lr=protocol.rates[loss], momentum=MOMENTUM, weight_decay=DECAY)
        if protocol.milestones:
            return sgd, torch.optim.lr_scheduler.MultiStepLR(sgd, [int(part * steps) for part in protocol.milestones])
        return sgd, torch.optim.lr_scheduler.CosineAnnealingLR(sgd, steps)

    def on_epoch(epoch: int) -> dict[str, float]:
        seen = {} if watch is None else watch(made)
        for name, value in seen.items():
            made.along.setdefault(name, []).append(value)
        return seen

    model = encoder if head is None else nn.Sequential(encoder, head)
    criterion = MCR2Loss(EPSILON_SQ) if head is None else nn.CrossEntropyLoss()
    made.seconds = train(
        model, X, y, make, criterion, epochs=epochs, batch=protocol.batches[loss], on_epoch=on_epoch,
        prepare=augmented if protocol.augment else None, progress=progress,
    )  # fmt: skip
    return made


def augmented(X: torch.Tensor) -> torch.Tensor:
    """Images (m, C, H, W), each shifted by up to 8 pixels in both directions, zeros beyond, and mirrored or not."""
    import torch

    m, _, H, W = X.shape
    padded = torch.nn.functional.pad(X, (PAD, PAD, PAD, PAD))
    rows, columns = (torch.randint(0, 2 * PAD + 1, (m, 1)) + torch.arange(n) for n in (H, W))
    columns = torch.where(torch.rand(m, 1) < 0.5, columns, columns.flip(1))
    return padded[torch.arange(m)[:, None, None], :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def convolutional(shape: Any, d: int) -> nn.Module:
    """Three 3 x 3 convolutions of 16, 32 and 64 channels, halved twice, and two linear layers; to (m, d)."""
    from torch import nn

    channels, height, width = shape
    layers: list[nn.Module] = []
    for n_in, n_out in ((channels, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]
        if n_out < 64:
            layers.append(nn.MaxPool2d(2))
    points = height // 4 * (width // 4)
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(64 * points, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(),
        nn.Linear(128, d),
    )  # fmt: skip


def resnet18(channels: int, d: int) -> nn.Module:
    """ResNet-18 for small images (a 3 x 3 stem), with a linear layer, batch normalisation and ReLU before (m, d)."""
    from torch import nn

    layers: list[nn.Module] = [nn.Conv2d(channels, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    n_in = 64
    for n_out in (64, 128, 256, 512):
        for stride in (1 if n_out == 64 else 2, 1):
            layers.append(_residual(n_in, n_out, stride))
            n_in = n_out
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 512, bias=False), nn.BatchNorm1d(512),
        nn.ReLU(), nn.Linear(512, d),
    )  # fmt: skip


def _residual(n_in: int, n_out: int, stride: int) -> nn.Module:
    """A block of two convolutions beside the identity, or beside a 1 x 1 convolution where shapes change."""
    from torch import nn

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(),
                nn.Conv2d(n_out, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out),
            )  # fmt: skip
            self.beside: nn.Module = nn.Identity()
            if stride != 1 or n_in != n_out:
                self.beside = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride=stride, bias=False), nn.BatchNorm2d(n_out))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            summed: torch.Tensor = self.body(x) + self.beside(x)
            return summed.relu()

    return Residual()


def effective_rank(Z: Array) -> float:
    """exp of the entropy of the squared singular values of features (m, d), as shares: d at most, 1 of one line."""
    shares = np.linalg.svd(Z.astype(np.float64), compute_uv=False) ** 2
    shares = shares[shares > 0] / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
