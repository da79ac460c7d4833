"""What classifiers on features share: features checked, samples in pieces, accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks

Array = npt.NDArray[Any]

# Samples are scored in pieces whose temporary arrays together have about this size.
CHUNK_BYTES = 1 << 26


def features(Z: npt.ArrayLike, name: str = "Z") -> Array:
    """Finite samples of floating dtype."""
    array = checks.samples(Z, name)
    array = array.astype(checks.floating(None, array), copy=False)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity; expected finite numbers")
    return array


def truth(y: npt.ArrayLike, m: int) -> Array:
    """One label per sample; NumPy would broadcast another shape against the predictions."""
    classes, labels = checks.labels(y, m)
    truth: Array = classes[labels]
    return truth


def accuracy(predicted: Array, y: npt.ArrayLike) -> float:
    """The share of labels predicted as in y."""
    return float(np.mean(predicted == truth(y, len(predicted))))


def chunks(m: int, bytes_per_sample: int) -> Iterator[slice]:
    """Pieces of the samples that together have about `CHUNK_BYTES`."""
    step = max(1, CHUNK_BYTES // max(1, bytes_per_sample))
    return (slice(start, min(start + step, m)) for start in range(0, m, step))


class Classifier:
    """The shape of a sample, and accuracy."""

    classes_: Array
    _sample_shape: tuple[int, ...]

    def _check(self, Z: npt.ArrayLike, name: str = "Z") -> Array:
        if not hasattr(self, "_sample_shape"):
            raise ValueError(f"this {type(self).__name__} is not fitted; call fit first")
        array = features(Z, name)
        if array.shape[1:] != self._sample_shape:
            expected = ", ".join(map(str, ("m", *self._sample_shape)))
            message = f"{name} has shape {array.shape}; expected ({expected}), like the features it was fitted to"
            raise ValueError(message)
        return array

    def _decode(self, codes: Array) -> Array:
        labels: Array = self.classes_[codes]
        return labels

    def predict(self, Z: npt.ArrayLike) -> Array:
        """Labels of samples, (m,)."""
        raise NotImplementedError

    def score(self, Z: npt.ArrayLike, y: npt.ArrayLike) -> float:
        """Accuracy: the share of samples whose label is predicted as in ``y``, (m,)."""
        return accuracy(self.predict(Z), y)
