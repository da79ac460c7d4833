"""The lecture's experiments, whole: a documented function for each, and one command, ``redunet experiment NAME``.

Every function takes `Options` and gives a `Report`, which writes ``results.json``, ``report.md`` and figures.

>>> from redunet import experiments
>>> report = experiments.run("gauss2d", experiments.Options(n_layers=50, n_train=40))
>>> report.tables["Test samples"][0]["nearest subspace, 1"]
'1.0000'
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from redunet._backends import instead_of_engine
from redunet._inputs import checks
from redunet.experiments import digits, needs
from redunet.experiments.options import DataMissing, Options
from redunet.experiments.report import Report
from redunet.terminal import tell

__all__ = ["EXPERIMENTS", "DataMissing", "Experiment", "Options", "Report", "run"]


@dataclass(frozen=True)
class Experiment:
    """Where an experiment is written down, and what it is.

    Attributes
    ----------
    module, function : str
        The function is ``redunet.experiments.<module>.<function>``.
    what : str
        In a line.
    needs_mnist : bool
        Whether it needs the folder of MNIST's files.
    needs_torch : bool
        Whether it needs PyTorch.
    needs : tuple of str
        Other packages that it can't do without, by the names under which they are imported.
    """

    module: str
    function: str
    what: str
    needs_mnist: bool = True
    needs_torch: bool = False
    needs: tuple[str, ...] = ()

    def check(self, options: Options) -> None:
        """An error where a package or the data are missing."""
        needs.require(*(("torch",) if self.needs_torch else ()), *self.needs)
        if options.bsds is not None:
            needs.require("scipy", "skimage")
        if self.needs_mnist:
            digits.check_folder(options)

    def load(self) -> Callable[[Options], Report]:
        """The function."""
        found: Callable[[Options], Report] = getattr(
            importlib.import_module(f"redunet.experiments.{self.module}"), self.function
        )
        return found


EXPERIMENTS = {
    "gauss2d": Experiment("gaussians", "gauss2d", "two Gaussians on the circle, 2000 layers", False),
    "gauss3d": Experiment("gaussians", "gauss3d", "three Gaussians on the sphere, 2000 layers", False),
    "rot01": Experiment("rotations", "rot01", "MNIST's 0 and 1 at every rotation, 3500 layers", needs=("scipy",)),
    "rot10": Experiment("rotations", "rot10", "ten digits at every rotation, 40 layers", needs=("scipy",)),
    "trans01": Experiment("translations", "trans01", "MNIST's 0 and 1 at every translation, 2000 layers"),
    "trans10": Experiment("translations", "trans10", "ten digits at every translation, 25 layers"),
    "iris": Experiment("vectors", "iris", "Fisher's irises, 4000 layers", False, needs=("sklearn",)),
    "sinusoid": Experiment("sinusoids", "sinusoid", "sine against square waves, 2000 layers", False),
    "mnist": Experiment("vectors", "mnist_vectors", "MNIST as vectors, 50 layers"),
    "forward10": Experiment("translations", "forward10", "ten digits, constructed only, all test digits, 30 layers"),
    "lifts": Experiment("lifts", "lifts", "random lifts against sparse codes as lifts"),
    "mirrors": Experiment("mirrors", "mirrors", "pairs of digits with mirror images and without, 10 layers"),
    "incremental": Experiment(
        "incremental",
        "incremental",
        "digits two classes at a time, and one forgotten, 10 layers",
        needs=("sklearn",),
    ),
    "micl": Experiment(
        "micl", "micl", "incremental coding length against k-NN, SVM, QDA: MNIST and small sets", needs=("sklearn",)
    ),
    "small": Experiment(
        "small_data", "small_data", "tables and few images: against simple rivals", False, needs=("sklearn",)
    ),
    "series": Experiment(
        "time_series",
        "time_series",
        "time series, few cases: against MiniRocket",
        False,
        needs=("scipy", "sklearn", "aeon"),
    ),
    "clustering": Experiment(
        "clusters", "clustering", "coding length against k-means, mixtures, HDBSCAN, Ward", False, needs=("sklearn",)
    ),
    "sparse": Experiment("unrolled", "sparse_codes", "sparse codes in few steps: ISTA, FISTA, LISTA", False, True),
    "crate": Experiment("transformers", "white_box", "a white-box transformer: rates along its layers", True, True),
    "relu": Experiment("relu_membership", "relu_membership", "equation 17 trained, with ReLU and without", True, True),
    "mcr2": Experiment(
        "representations", "representations", "features by rate reduction and by cross-entropy", True, True
    ),
    "labelnoise": Experiment(
        "label_noise", "label_noise", "wrong labels: rate reduction against cross-entropy", True, True
    ),
    "segmentation": Experiment(
        "segments",
        "segmentation",
        "images by coding length against felzenszwalb and mean colour",
        False,
        needs=("skimage",),
    ),
    "finetune": Experiment("finetune", "finetune", "a constructed network trained by backpropagation", True, True),
    "depth": Experiment("depth", "depth", "how few layers: step schemes compared", needs=("scipy",)),
    "ablations": Experiment("ablations", "ablations", "what each choice does, on rot01", needs=("scipy",)),
}


def run(name: str, options: Options | None = None) -> Report:
    """Run one experiment. What it needs is looked for first; figures are left out where matplotlib is not installed.

    A line on standard error says so, and that the compiled engine is missing where it is.

    Parameters
    ----------
    name : str
        One of `EXPERIMENTS`.
    options : Options, optional
        Default: as published.

    Raises
    ------
    ValueError, TypeError
        If there is no such experiment, or the options are none.
    DataMissing, FileNotFoundError
        If its data are not here.
    ImportError
        If a package that it needs is not installed: the message says which, and how it is.
    """
    checks.choice(name, "name", tuple(EXPERIMENTS))
    chosen: object = Options() if options is None else options
    if not isinstance(chosen, Options):
        raise TypeError(f"options is a {type(chosen).__name__}; expected Options or None")
    experiment = EXPERIMENTS[name]
    experiment.check(chosen)
    if slow := instead_of_engine():
        tell(f"redunet: {slow}")
    if not needs.is_here("matplotlib"):
        tell(f"redunet: no figures without {needs.how_to_install('matplotlib')}")
    return experiment.load()(chosen)
