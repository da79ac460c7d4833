"""What classes weigh: `class_weight` of scikit-learn, as weights of samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks

Array = npt.NDArray[Any]
ClassWeight = Mapping[Any, float] | Literal["balanced"] | None


def with_class_weight(class_weight: ClassWeight, y: Array, weights: Array | None) -> Array | None:
    """Weights of samples, (m,), times those of their classes; None where all are 1.

    Parameters
    ----------
    class_weight : {"balanced"}, mapping of labels to numbers > 0, or None
        ``"balanced"``: all classes weigh the same, and all samples together what they weighed. Labels that a mapping
        does not have weigh 1, but if y lacks some that it has as well, one of them is misspelt, which is an error.
    y : (m,) array
        Labels.
    weights : (m,) array, optional
        Weights > 0.
    """
    if class_weight is None:
        return weights
    classes, codes = checks.labels(y, len(y))
    if isinstance(class_weight, str) and class_weight == "balanced":
        totals = np.bincount(codes, weights, minlength=len(classes))
        factors = totals.sum() / (len(classes) * totals)
    elif isinstance(class_weight, Mapping):
        labels = classes.tolist()
        given = {label: checks.positive(weight, "class_weight") for label, weight in class_weight.items()}
        missing = [label for label in labels if label not in given]
        if missing and len(given) > len(labels) - len(missing):
            raise ValueError(f"class_weight has the labels {list(given)}; expected those of y, {labels}")
        factors = np.array([given.get(label, 1.0) for label in labels])
    else:
        raise (ValueError if isinstance(class_weight, str) else TypeError)(
            f"class_weight is {class_weight!r}; expected 'balanced', a mapping of labels to numbers, or None"
        )
    if (factors == 1).all():
        return weights
    result: Array = factors[codes] if weights is None else weights * factors[codes]
    return result
