"""Sparse codes by proximal gradient steps, x = soft(z - A*(A z - y) / L, lam / L): ISTA, and FISTA with momentum.

Signals are rows of a batch, (m, d), codes (m, n); shapes of other dictionaries are theirs. A step costs A z, A* r and
a few sweeps over the codes. All samples take the same number of steps.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from redunet._backends.tasks import interruptible
from redunet._inputs import checks
from redunet.sparse.dictionaries import Dictionary, Matrix

Array = npt.NDArray[Any]


def soft_threshold(x: npt.ArrayLike, t: npt.ArrayLike) -> Array:
    """Shrink magnitudes by t: x / |x| max(|x| - t, 0), the proximal map of t |x|.

    Parameters
    ----------
    x : array_like
        Real or complex.
    t : float or array_like
        >= 0, one number, or numbers that broadcast to the shape of x.

    Returns
    -------
    ndarray of x's floating dtype and shape
        Exact zeros where |x| <= t.

    Raises
    ------
    ValueError, TypeError
        If t is negative or not finite, or doesn't broadcast; if either is not of numbers.

    Notes
    -----
    argmin_u 1/2 |u - x|^2 + t |u|; Donoho, "De-noising by soft-thresholding", IEEE Transactions on Information Theory
    41 (1995).

    Examples
    --------
    >>> from redunet.sparse import soft_threshold
    >>> soft_threshold([-3.0, 0.5, 2.0], 1.0)
    array([-2.,  0.,  1.])
    >>> soft_threshold([3 + 4j], 2.5)
    array([1.5+2.j])
    """
    values = _numbers(x, "x")
    sizes = _numbers(t, "t")
    if sizes.dtype.kind == "c":
        raise TypeError(f"t has dtype {sizes.dtype}; expected real numbers")
    if not (np.isfinite(sizes).all() and (sizes >= 0).all()):
        raise ValueError("t holds a negative or non-finite number; expected finite numbers >= 0")
    try:
        sizes = np.broadcast_to(sizes, values.shape)
    except ValueError:
        raise ValueError(
            f"t has shape {sizes.shape}; expected a number, or a shape that fits x's {values.shape}"
        ) from None
    return _shrink(values, sizes.astype(values.real.dtype))


def ista(
    A: npt.ArrayLike | Dictionary,
    Y: npt.ArrayLike,
    lam: float,
    *,
    n_iter: int,
    L: float | None = None,
    tol: float | None = None,
    x0: npt.ArrayLike | None = None,
    return_path: bool = False,
) -> Array:
    """Sparse codes by ISTA, iterative soft-thresholding: x <- soft(x - A*(A x - y) / L, lam / L).

    It minimises 1/2 ||y - A x||^2 + lam ||x||_1 for every signal y; the objective never rises.

    Parameters
    ----------
    A : array_like, (d, n), or Dictionary
        The dictionary, whose columns are atoms; real or complex. Or an object with `apply` and `adjoint`, as
        `ConvolutionalDictionary` is.
    Y : array_like, (m, d) or (d,)
        Signals as rows, or one; of other dictionaries (m, *signal_shape) or signal_shape.
    lam : float
        >= 0, the price of a magnitude. Codes are zero from max |A* y| on.
    n_iter : int
        Steps, at most.
    L : float, optional
        At least the largest eigenvalue of A* A, for which it is taken where it isn't given. Below half of it the
        codes may grow without bound.
    tol : float, optional
        Stop when L max |x - z| <= tol max |A* y| for all samples, z what the last step began from: the norm of the
        gradient of a smooth objective, and 0 at a minimum. Default: all steps are taken.
    x0 : array_like, (m, n) or (n,), optional
        Codes to start from. Default: zeros.
    return_path : bool
        Whether to return the codes after every step.

    Returns
    -------
    ndarray, (m, n) or (n,)
        The codes, of the common floating dtype of A, Y and x0. With ``return_path`` those after every step taken,
        (steps, m, n) or (steps, n): the last are the codes.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of another type, shapes don't fit, or values aren't finite; if codes grew
        beyond all bounds, since L is too small.

    Notes
    -----
    Beck, Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems", SIAM Journal on
    Imaging Sciences 2 (2009), (1.4) and theorem 3.1: after k steps the objective is above its minimum by at most
    L ||x0 - x*||^2 / (2 k).

    Examples
    --------
    >>> import numpy as np
    >>> from redunet import sparse
    >>> A = np.array([[1.0, 0.0, 0.6], [0.0, 1.0, 0.8]])
    >>> sparse.ista(A, [3.0, 4.0], 0.5, n_iter=500).round(3) + 0.0
    array([0. , 0. , 4.5])
    """
    return _descend(A, Y, lam, n_iter, L, tol, x0, return_path, accelerated=False)


def fista(
    A: npt.ArrayLike | Dictionary,
    Y: npt.ArrayLike,
    lam: float,
    *,
    n_iter: int,
    L: float | None = None,
    tol: float | None = None,
    x0: npt.ArrayLike | None = None,
    return_path: bool = False,
) -> Array:
    """Sparse codes by FISTA: the steps of `ista` from extrapolated codes, z = x + (t - 1)/t' (x - x of before).

    Here t = 1 at first and t' = (1 + sqrt(1 + 4 t^2)) / 2. Parameters, result and errors are those of `ista`; the
    objective may rise at times.

    Notes
    -----
    Beck, Teboulle (2009), (4.1) to (4.3) and theorem 4.4: after k steps the objective is above its minimum by at most
    2 L ||x0 - x*||^2 / (k + 1)^2.

    Examples
    --------
    >>> import numpy as np
    >>> from redunet import sparse
    >>> A = np.random.default_rng(0).normal(size=(10, 30))
    >>> X = np.zeros((5, 30))
    >>> X[:, [3, 17]] = 2, -1
    >>> codes = sparse.fista(A, X @ A.T, 0.1, n_iter=2000, tol=1e-6)
    >>> bool(np.abs(codes - X).max() < 0.05)
    True
    """
    return _descend(A, Y, lam, n_iter, L, tol, x0, return_path, accelerated=True)


def objective(A: npt.ArrayLike | Dictionary, Y: npt.ArrayLike, X: npt.ArrayLike, lam: float) -> Array:
    """1/2 ||y - A x||^2 + lam ||x||_1 of every sample.

    Parameters
    ----------
    A, Y, lam
        As in `ista`.
    X : array_like, (m, n) or (n,)
        Codes.

    Returns
    -------
    ndarray, (m,) or ()
        In the precision of the codes.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of another type, or shapes don't fit.

    Examples
    --------
    >>> from redunet import sparse
    >>> float(sparse.objective([[1.0, 0.0], [0.0, 2.0]], [3.0, 4.0], [2.0, 1.0], 0.5))
    4.0
    """
    dictionary = _dictionary(A)
    signals, single = _batch(Y, "Y", dictionary.signal_shape)
    codes, _ = _batch(X, "X", dictionary.code_shape)
    price = checks.non_negative(lam, "lam")
    if len(codes) != len(signals):
        raise ValueError(f"X has {len(codes)} samples and Y {len(signals)}; expected a code for every signal")
    residual = (dictionary.apply(codes) - signals).reshape(len(codes), -1)
    norms = np.abs(codes).reshape(len(codes), -1).sum(axis=1)
    values: Array = 0.5 * (np.abs(residual) ** 2).sum(axis=1) + price * norms
    return values[0] if single else values


def _descend(
    A: Any, Y: Any, lam: Any, n_iter: Any, L: Any, tol: Any, x0: Any, return_path: Any, *, accelerated: bool
) -> Array:
    dictionary = _dictionary(A)
    signals, single = _batch(Y, "Y", dictionary.signal_shape)
    lam = checks.non_negative(lam, "lam")
    steps = checks.integer(n_iter, "n_iter", 1)
    tol = None if tol is None else checks.non_negative(tol, "tol")
    keep = checks.flag(return_path, "return_path")
    start = None
    dtype = np.result_type(dictionary.dtype, signals.dtype)
    if x0 is not None:
        start, _ = _batch(x0, "x0", dictionary.code_shape)
        if len(start) != len(signals):
            raise ValueError(f"x0 has {len(start)} samples; expected {len(signals)}, one for every signal")
        dtype = np.result_type(dtype, start.dtype)
    given = L is not None
    largest = checks.positive(L, "L") if given else dictionary.largest_eigenvalue()
    shape = (len(signals), *dictionary.code_shape)
    checks.memory(math.prod(shape) * dtype.itemsize * (steps if keep else 1), "the codes")
    signals = signals.astype(dtype)
    x = np.zeros(shape, dtype) if start is None else start.astype(dtype)
    if largest == 0:  # of a dictionary of zeros: every step is the minimum
        largest = 1.0
    real = dtype.type(0).real.dtype
    step, threshold = real.type(1 / largest), real.type(lam / largest)
    scales = None if tol is None else tol * _peaks(dictionary.adjoint(signals))
    path = np.empty((steps, *shape), dtype) if keep else None
    z, t, taken = x, 1.0, 0
    with np.errstate(over="ignore", invalid="ignore"):  # of steps that are too long, which is said below
        while taken < steps:
            new = _shrink(z - step * _gradient(z, dictionary, signals), threshold)
            if path is not None:
                path[taken] = new
            taken += 1
            if scales is not None and (largest * _peaks(new - z) <= scales).all():
                x = new
                break
            z = new
            if accelerated:
                after = (1 + math.sqrt(1 + 4 * t * t)) / 2
                z = new + real.type((t - 1) / after) * (new - x)
                t = after
            x = new
    if not np.isfinite(x).all():
        cause = (
            f"L is {L!r}; expected at least the largest eigenvalue of A* A"
            if given
            else "A or Y has too large or too small values"
        )
        raise ValueError(f"the codes grew beyond all bounds: {cause}")
    result = x if path is None else path[:taken]
    return (result[:, 0] if path is not None else result[0]) if single else result


@interruptible
def _gradient(z: Array, dictionary: Dictionary, signals: Array) -> Array:
    """A*(A z - y), of 1/2 ||y - A z||^2."""
    return dictionary.adjoint(dictionary.apply(z) - signals)


def _shrink(x: Array, t: Array | np.floating[Any]) -> Array:
    """Soft thresholding of checked numbers, in their dtype."""
    if x.dtype.kind != "c":
        shrunk: Array = x - np.clip(x, -t, t)
        return shrunk
    sizes = np.abs(x)
    kept: Array = np.maximum(sizes - t, 0) / np.where(sizes == 0, sizes.dtype.type(1), sizes)
    return x * kept


def _peaks(X: Array) -> Array:
    """The largest magnitude of every sample, (m,)."""
    peaks: Array = np.abs(X).reshape(len(X), -1).max(axis=1)
    return peaks


def _numbers(value: Any, name: str) -> Array:
    """Real or complex numbers in the dtype to compute in."""
    array = checks.array(value, name)
    checks.numeric(array, name)
    return array.astype(checks.floating(None, array), copy=False)


def _dictionary(A: Any) -> Dictionary:
    if isinstance(A, Dictionary):
        return A
    array = _numbers(A, "A")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"A has shape {array.shape}; expected a matrix (d, n), or a Dictionary")
    if not np.isfinite(array).all():
        raise ValueError("A holds a NaN or infinite value; expected finite values")
    return Matrix(array)


def _batch(value: Any, name: str, shape: tuple[int, ...]) -> tuple[Array, bool]:
    """A batch of finite signals or codes of the dictionary's shape, and whether it was a single one."""
    array = _numbers(value, name)
    single = array.shape == shape
    if single:
        array = array[None]
    if array.shape[1:] != shape or len(array) == 0:
        inner = ", ".join(map(str, shape))
        raise ValueError(
            f"{name} has shape {_numbers(value, name).shape}; expected (m, {inner}) or ({inner},) for this A"
        )
    finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if not finite.all():
        bad = int(np.argmin(finite))
        raise ValueError(f"{name} holds a NaN or infinite value in sample {bad}; expected finite values")
    return array, single
