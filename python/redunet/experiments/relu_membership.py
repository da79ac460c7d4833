"""Equation 17 as a network that is trained: z <- BN(z + E * z - sum_j act(P^j * z)), with act = ReLU or the identity.

E and the P^j are 3 x 3 cyclic convolutions of C channels. Without ReLU all layers are affine, and so is the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from redunet.experiments.digits import folder, held_out_digits, images_of, training_digits
from redunet.experiments.options import Options
from redunet.experiments.report import Report, spread
from redunet.experiments.training import accuracy, fit, images, pytorch, reproducible

if TYPE_CHECKING:
    import torch
    from torch import nn

CHANNELS, LAYERS, CLASSES, EPOCHS = 16, 4, 10, 8
RATE, MOMENTUM, DECAY = 0.05, 0.9, 5e-4
#: By name: a ReLU of the memberships, a ReLU in the lift.
VARIANTS = {
    "ReLU membership": (True, False),
    "no ReLU: an affine network": (False, False),
    "no ReLU but one in the lift": (False, True),
}
PUBLISHED = "CIFAR-10: 0.9997 / 0.8327 with ReLU, 0.9970 / 0.6542 without (training / test images)"


def relu_membership(options: Options) -> Report:
    """The network that equation 17 suggests, trained with and without the ReLU of its membership.

    A strided 5 x 5 convolution to 16 channels with batch normalisation, 4 blocks with 10 maps P^j, means of 2 x 2, a
    linear head; SGD of rate 0.05, momentum 0.9 (Nesterov), weight decay 5e-4, a cosine, batches of 100. As a control
    the network without ReLU gets one in its lift. The folder holds MNIST's four files, or others of their format, or
    CIFAR-10's binary files. Needs PyTorch.
    """
    torch = pytorch()
    data = images_of(options)
    n_layers, n_train = options.layers(LAYERS), options.samples(500)
    epochs = EPOCHS if options.epochs is None else options.epochs
    report = Report(
        "relu",
        "equation 17 as a network that is trained",
        {"C": CHANNELS, "layers": n_layers, "maps": CLASSES, "images per class": n_train, "passes": epochs,
         "data": folder(options).name, "published": PUBLISHED, "PyTorch": torch.__version__},
    )  # fmt: skip
    pictures, labels = held_out_digits(data, range(10), options.n_test)
    X_test, y_test = images(pictures), torch.from_numpy(labels)
    for name, (of_membership, of_lift) in VARIANTS.items():
        rows = []
        for seed in range(options.seeds):
            pictures, labels = training_digits(data, n_train, range(10), seed)
            X, y = images(pictures), torch.from_numpy(labels)
            with reproducible(seed):
                model = network(tuple(X.shape[1:]), n_layers, of_membership=of_membership, of_lift=of_lift)
                trained, seconds = fit(model, X, y, _optimizer(model), epochs=epochs, progress=options.progress)
                rows.append([trained, accuracy(model, X_test, y_test), seconds])
            report.settings["parameters"] = sum(parameter.numel() for parameter in model.parameters())
        trained_, tested, seconds_ = np.array(rows).T
        report.add(
            "Accuracy",
            network=name,
            **{"training images": spread(trained_), "test images": spread(tested), "s": float(seconds_.min())},
        )
    report.remark(
        "Without ReLU the network is affine in the image, whatever its depth: the gap is what an affine map can't tell "
        "apart, and depends on the data. The control has one nonlinearity."
    )
    return report


def network(shape: tuple[int, ...], n_layers: int, *, of_membership: bool, of_lift: bool) -> nn.Module:
    """The network for images of this shape, (C, H, W)."""
    from torch import nn

    channels, height, width = shape
    points = -(-height // 2) // 2 * (-(-width // 2) // 2)
    return nn.Sequential(
        nn.Conv2d(channels, CHANNELS, 5, stride=2, padding=2, bias=False),
        nn.BatchNorm2d(CHANNELS),
        nn.ReLU() if of_lift else nn.Identity(),
        *(block(of_membership) for _ in range(n_layers)),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(CHANNELS * points, CLASSES),
    )


def block(relu: bool) -> nn.Module:
    """A layer: BN(z + E * z - sum_j act(P^j * z))."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            options: dict[str, Any] = {"kernel_size": 3, "padding": 1, "padding_mode": "circular", "bias": False}
            self.E = nn.Conv2d(CHANNELS, CHANNELS, **options)
            self.P = nn.Conv2d(CHANNELS, CLASSES * CHANNELS, **options)  # the maps one after the other
            self.norm = nn.BatchNorm2d(CHANNELS)

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            explained = self.P(z)
            if relu:
                explained = explained.relu()
            stepped: torch.Tensor = self.norm(z + self.E(z) - explained.unflatten(1, (CLASSES, CHANNELS)).sum(1))
            return stepped

    return Block()


def _optimizer(model: nn.Module) -> Any:
    import torch

    def make(steps: int) -> tuple[torch.optim.Optimizer, Any]:
        sgd = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, nesterov=True)
        return sgd, torch.optim.lr_scheduler.CosineAnnealingLR(sgd, steps)

    return make
