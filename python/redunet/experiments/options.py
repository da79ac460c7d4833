"""How an experiment is run, and the error where its data are missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from redunet._inputs import checks


@dataclass(frozen=True)
class Options:
    """How an experiment is run.

    Attributes
    ----------
    data : path, optional
        Folder of MNIST's four IDX files. Default: the environment variable REDUNET_MNIST.
    n_layers : int, optional
        Layers of the networks with the published step size. Default: as published.
    n_train, n_test : int, optional
        Samples of each class, at most. Default: as published; all test samples.
    epochs : int, optional
        Passes over the training samples of a network that is trained. Default: the experiment's own.
    seeds : int
        Choices of training samples and random kernels; the first takes the first samples, as published.
    bsds : path, optional
        Folder of BSDS500, for segmentation.
    full : bool
        Whether to train what the authors trained, and as long, where the experiment has a smaller protocol of its own:
        hours on a CPU.
    plain : bool
        Whether to build the plain networks beside the equivariant ones, which take most of the time.
    progress : bool
        Progress bars on standard error.

    Raises
    ------
    ValueError, TypeError
        If one is out of range or of another type.
    """

    data: Path | None = None
    n_layers: int | None = None
    n_train: int | None = None
    n_test: int | None = None
    epochs: int | None = None
    seeds: int = 1
    bsds: Path | None = None
    full: bool = False
    plain: bool = True
    progress: bool = False

    def __post_init__(self) -> None:
        for name in ("n_layers", "n_train", "n_test", "epochs"):
            if (value := getattr(self, name)) is not None:
                checks.integer(value, name, 1)
        checks.integer(self.seeds, "seeds", 1)
        checks.flag(self.full, "full")
        checks.flag(self.plain, "plain")
        checks.flag(self.progress, "progress")
        for name in ("data", "bsds"):
            if (value := getattr(self, name)) is not None:
                checks.path(value, name)

    def layers(self, published: int) -> int:
        """Layers with the published step size."""
        return published if self.n_layers is None else self.n_layers

    def samples(self, published: int) -> int:
        """Training samples of each class."""
        return published if self.n_train is None else min(published, self.n_train)


class DataMissing(RuntimeError):
    """The data that an experiment is about are not here."""
