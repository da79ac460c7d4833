"""Samples that are made: points around axes, waves at random phases, lines and a plane. Seeded, class by class."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks
from redunet._inputs.randomness import Seed, generator

Labels = npt.NDArray[np.int64]


def gaussian_mixture(
    n_samples_per_class: int, *, n_features: int = 2, noise: float = 0.1, random_state: Seed = None
) -> tuple[npt.NDArray[np.float64], Labels]:
    """Points on the unit sphere around the coordinate axes, one class an axis.

    Class j is x = (e_j + noise * n) / norm with n ~ N(0, I).

    Parameters
    ----------
    n_samples_per_class : int
        Points in every class.
    n_features : int
        d, the dimension and the number of classes.
    noise : float
        Standard deviation in every coordinate, before the points are put on the sphere; >= 0.
    random_state : int, numpy.random.Generator, numpy.random.RandomState or None
        A seed for ``numpy.random.default_rng``, or a generator.

    Returns
    -------
    X : ndarray of float64, (d * n_samples_per_class, d)
        Rows of norm 1, class by class.
    y : ndarray of int64
        The classes 0 to d - 1.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of another type.

    Examples
    --------
    >>> X, y = gaussian_mixture(100, n_features=3, random_state=0)
    >>> X.shape, y[[0, 100, 200]].tolist()
    ((300, 3), [0, 1, 2])
    """
    n = checks.integer(n_samples_per_class, "n_samples_per_class", 1)
    d = checks.integer(n_features, "n_features", 1)
    noise = checks.non_negative(noise, "noise")
    random = generator(random_state)
    X = np.concatenate([random.normal(centre, noise, (n, d)) for centre in np.eye(d)])
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X, np.repeat(np.arange(d), n)


def sinusoids(
    n_samples_per_class: int, *, length: int = 150, noise: float = 0.1, random_state: Seed = None
) -> tuple[npt.NDArray[np.float64], Labels]:
    """Sine waves and square waves of one period at random phases: two classes that no shift tells apart.

    Class 0 is sin(2 pi (t / T + phase)) and class 1 its sign, for t = 0 to T - 1, both with Gaussian noise.

    Parameters
    ----------
    n_samples_per_class : int
        Signals in every class.
    length : int
        T, the number of points; >= 2.
    noise : float
        Standard deviation of the noise at every point; the amplitude is 1.
    random_state : int, numpy.random.Generator, numpy.random.RandomState or None
        A seed for ``numpy.random.default_rng``, or a generator.

    Returns
    -------
    X : ndarray of float64, (2 * n_samples_per_class, 1, T)
        Signals, class by class.
    y : ndarray of int64
        The classes 0 (sine) and 1 (square).

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of another type.

    Examples
    --------
    >>> X, y = sinusoids(3, length=8, noise=0, random_state=0)
    >>> X.shape, y.tolist()
    ((6, 1, 8), [0, 0, 0, 1, 1, 1])
    """
    n = checks.integer(n_samples_per_class, "n_samples_per_class", 1)
    T = checks.integer(length, "length", 2)
    noise = checks.non_negative(noise, "noise")
    random = generator(random_state)
    X = np.sin(2 * np.pi * (np.arange(T) / T + random.uniform(0.0, 1.0, (2 * n, 1, 1))))
    X[n:] = np.sign(X[n:])
    X += random.normal(0.0, noise, X.shape)
    return X, np.repeat(np.arange(2), n)


def lines_and_plane(
    n_samples: int, *, noise: float = 0.03, n_outliers: int = 0, random_state: Seed = None
) -> tuple[npt.NDArray[np.float64], Labels]:
    """Two lines and a plane through the origin of R^3, of random directions: clusters that cross each other.

    Coordinates within each are uniform in [-1, 1]; a quarter of the samples lies on each line, the rest on the plane.

    Parameters
    ----------
    n_samples : int
        Samples on the lines and the plane; >= 4.
    noise : float
        Root mean square length of the Gaussian noise, noise / sqrt(3) in every coordinate; >= 0.
    n_outliers : int
        Samples beside, uniform in the cube [-1, 1]^3.
    random_state : int, numpy.random.Generator, numpy.random.RandomState or None
        A seed for ``numpy.random.default_rng``, or a generator.

    Returns
    -------
    X : ndarray of float64, (n_samples + n_outliers, 3)
        Samples, cluster by cluster; outliers last.
    y : ndarray of int64
        The lines 0 and 1, the plane 2, and -1 of outliers.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of another type.

    Examples
    --------
    >>> X, y = lines_and_plane(8, n_outliers=1, random_state=0)
    >>> X.shape, y.tolist()
    ((9, 3), [0, 0, 1, 1, 2, 2, 2, 2, -1])
    """
    n = checks.integer(n_samples, "n_samples", 4)
    noise = checks.non_negative(noise, "noise")
    n_out = checks.integer(n_outliers, "n_outliers", 0)
    random = generator(random_state)
    counts = (n // 4, n // 4, n - 2 * (n // 4))
    bases = [np.linalg.qr(random.normal(size=(3, dim)))[0] for dim in (1, 1, 2)]
    parts = [random.uniform(-1, 1, (m, B.shape[1])) @ B.T for m, B in zip(counts, bases, strict=True)]
    X = np.concatenate(parts)
    X += noise / math.sqrt(3) * random.normal(size=X.shape)
    outliers = random.uniform(-1, 1, (n_out, 3))
    return np.concatenate([X, outliers]), np.repeat([0, 1, 2, -1], (*counts, n_out))
