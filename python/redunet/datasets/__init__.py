"""Data to try a network on: made here, scikit-learn's digits, and MNIST's and CIFAR-10's files from a folder.

Samples come as `redunet.build` takes them, (m, d), (m, C, T) or (m, C, H, W), with labels (m,). Nothing is downloaded.
"""

from redunet.datasets.cifar import cifar10
from redunet.datasets.digits import digits
from redunet.datasets.idx import load_idx, mnist
from redunet.datasets.samples import Split, first_per_class
from redunet.datasets.synthetic import gaussian_mixture, lines_and_plane, sinusoids

__all__ = [
    "Split",
    "cifar10",
    "digits",
    "first_per_class",
    "gaussian_mixture",
    "lines_and_plane",
    "load_idx",
    "mnist",
    "sinusoids",
]
