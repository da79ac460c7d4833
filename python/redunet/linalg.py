"""Batched Hermitian positive definite linear algebra, named and shaped as in `numpy.linalg`.

Every function takes (..., n, n) arrays, float32, float64, complex64 or complex128 (integers: float64), and runs the
whole batch in one call. As LAPACK does, they read the lower triangle of a matrix only.

Arrays of CuPy, PyTorch and JAX on a CUDA device are read where they lie; what comes back is computed there and stays
there, and A and B must agree in dtype and batch. Tensors of PyTorch on the CPU, JAX arrays, and all others of a library
with ``from_dlpack`` give arrays of that library, in the same memory; all else gives NumPy's. Of two arguments the first
that is of such a library decides.

Accuracy. With u the rounding unit of the dtype (6e-8 or 1e-16) and c the condition number of A, as a rule of thumb:
A - L L* and A X - B are a small multiple of n u beside A and beside A X, whatever c is; A inv(A) - I, and the relative
errors of an inverse and of a solution, are n u c; the error of a log det is n u times the root of n where A is well
conditioned, and up to n u c. Single precision is computed in single precision, where NumPy's functions compute in
double inside: at c = 1e6 a float32 inverse is good for one or two digits. A matrix whose factorisation fails in single
precision is done again in double (but on CUDA), so that what NumPy factors is factored. The tests hold residuals of
inverses within ten times that of two substitutions with the factor, for conditions up to 0.1 / (n u).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from redunet._backends import arrays, select_for, select_with
from redunet._backends.host_contract import HostBackend
from redunet._inputs import checks, words

Array = npt.NDArray[Any]

#: Multiply-adds that one thread does sooner than the cores are counted and woken (about 10 microseconds).
SERIAL_WORK = 100_000

__all__ = [
    "QuadraticForms",
    "SlogDet",
    "cholesky",
    "det",
    "inv",
    "logdet",
    "logdet_of_sums",
    "quadratic_forms",
    "slogdet",
    "solve",
]


def cholesky(A: npt.ArrayLike, *, backend: words.Backend = "auto", n_threads: int | None = None) -> Array:
    """Lower triangular L with A = L L*.

    Parameters
    ----------
    A : (..., n, n) array
        Hermitian positive definite matrices; the lower triangle is read.
    backend, n_threads
        As in `redunet.build`.

    Returns
    -------
    L : (..., n, n) array of A's floating dtype
        The factors, zero above the diagonal.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a matrix is not square or not positive definite; the message gives its index in the batch: "matrix 3 of 10",
        or "matrix (3, 5) of shape (10, 8)".

    Examples
    --------
    >>> import redunet as rn
    >>> rn.linalg.cholesky([[4.0, 2.0], [2.0, 5.0]])
    array([[2., 0.],
           [1., 2.]])
    """
    array, module, cores = _batch(A, backend, n_threads)
    return _back(_run(module.cholesky, array, n_threads=cores), A)


def inv(A: npt.ArrayLike, *, backend: words.Backend = "auto", n_threads: int | None = None) -> Array:
    """Inverses of Hermitian positive definite matrices, by one Cholesky factorisation each.

    Parameters and errors are those of `cholesky`.

    Returns
    -------
    (..., n, n) array of A's floating dtype
        Hermitian to the last bit.

    Examples
    --------
    >>> import redunet as rn
    >>> rn.linalg.inv([[4.0, 0.0], [0.0, 2.0]])
    array([[0.25, 0.  ],
           [0.  , 0.5 ]])
    """
    array, module, cores = _batch(A, backend, n_threads)
    return _back(_run(module.inv, array, n_threads=cores), A)


def solve(
    A: npt.ArrayLike, B: npt.ArrayLike, *, backend: words.Backend = "auto", n_threads: int | None = None
) -> Array:
    """X with A X = B, for Hermitian positive definite A.

    Parameters
    ----------
    A : (..., n, n) array
        Hermitian positive definite matrices; the lower triangle is read.
    B : (n,) or (..., n, r) array
        Right-hand sides; batches broadcast, and a single axis is a single vector, as in `numpy.linalg.solve`.
    backend, n_threads
        As in `redunet.build`.

    Returns
    -------
    (..., n) or (..., n, r) array
        The solutions, of the common floating dtype of A and B.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a matrix is not square or not positive definite; the message gives its index in the batch.
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> import redunet as rn
    >>> rn.linalg.solve([[4.0, 2.0], [2.0, 5.0]], [2.0, 5.0])
    array([0., 1.])
    """
    array, module, cores = _batch(A, backend, n_threads)
    rhs = _there(B, "B", array) if arrays.holds(A) or arrays.holds(B) else checks.array(B, "B")
    vector = rhs.ndim == 1
    if vector:
        rhs = rhs.reshape((*rhs.shape, 1))
    n = array.shape[-1]
    if rhs.ndim < 1 or rhs.shape[-2] != n:
        wanted = f"({n},) or (..., {n}, r) to go with A of shape {array.shape}"
        raise ValueError(f"B has shape {np.shape(B)}; expected {wanted}")
    if isinstance(rhs, np.ndarray):
        if rhs.dtype != array.dtype or rhs.shape[:-2] != array.shape[:-2]:
            array, rhs = _in_common(array, rhs, "B", np.shape(B))
        rhs = arrays.plain(rhs, array.dtype)
    X = _run(module.solve, array, rhs, n_threads=cores)
    return _back(X.reshape(X.shape[:-1]) if vector else X, A, B)


def _there(B: Any, name: str, A: Any) -> Any:
    """An argument beside an A, one of which lies on a CUDA device: both must, in one dtype and batch."""
    if isinstance(A, np.ndarray) or not arrays.holds(B):
        raise TypeError(f"one of A and {name} lies on a CUDA device and the other does not; expected both there")
    rhs = arrays.view(B, name)
    if (there := rhs.__dlpack_device__()) != (expected := A.__dlpack_device__()):
        raise ValueError(f"{name} lies on CUDA device {there[1]}; expected that of A, {expected[1]}")
    if rhs.dtype != A.dtype:
        raise TypeError(f"{name} has dtype {rhs.dtype} on a CUDA device; expected that of A, {A.dtype}")
    if rhs.shape[:-2] != A.shape[:-2]:
        raise ValueError(f"A has shape {A.shape} and {name} {rhs.shape}; expected equal batches on a CUDA device")
    return rhs


def _in_common(array: Array, rhs: Array, name: str, given: tuple[int, ...]) -> tuple[Array, Array]:
    """A and B in their common dtype and batch; B is an argument of this name and shape."""
    kind = checks.FLOATS.get(np.result_type(array, rhs).char) if rhs.dtype.kind in "fciub" else None
    if kind is None:
        raise TypeError(f"{name} has dtype {rhs.dtype}; expected real or complex numbers of at most double precision")
    try:
        batch = np.broadcast_shapes(array.shape[:-2], rhs.shape[:-2])
    except ValueError:
        raise ValueError(f"A has shape {array.shape} and {name} {given}; expected batches that broadcast") from None
    array = np.ascontiguousarray(np.broadcast_to(array, (*batch, *array.shape[-2:])), dtype=kind)
    return array, np.broadcast_to(rhs, (*batch, *rhs.shape[-2:])).astype(kind, copy=False)


def logdet(A: npt.ArrayLike, *, backend: words.Backend = "auto", n_threads: int | None = None) -> Array:
    """Natural logarithms of the determinants, 2 sum log diag(L); they neither overflow nor lose the sign.

    Parameters and errors are those of `cholesky`.

    Returns
    -------
    (...) real array, or a scalar for one matrix
        log det A.

    Examples
    --------
    >>> import redunet as rn
    >>> rn.linalg.logdet([[[4.0, 0.0], [0.0, 2.0]]]).round(6)
    array([2.079442])
    """
    array, module, cores = _batch(A, backend, n_threads)
    return _back(_run(module.logdet, array, n_threads=cores)[()], A, like=array)  # of one matrix a scalar


class SlogDet(NamedTuple):
    """What `slogdet` gives, as `numpy.linalg.slogdet` does.

    Attributes
    ----------
    sign : (...) real array
        Ones: determinants of positive definite matrices are positive.
    logabsdet : (...) real array
        log det A.
    """

    sign: Array
    logabsdet: Array


def slogdet(A: npt.ArrayLike, *, backend: words.Backend = "auto", n_threads: int | None = None) -> SlogDet:
    """Sign and logarithm of the determinants, for programs that call `numpy.linalg.slogdet`; see `logdet`.

    Parameters and errors are those of `cholesky`.

    Returns
    -------
    SlogDet
        ``(sign, logabsdet)``.

    Examples
    --------
    >>> import redunet as rn
    >>> sign, logabsdet = rn.linalg.slogdet([[4.0, 0.0], [0.0, 2.0]])
    >>> float(sign), float(logabsdet.round(6))
    (1.0, 2.079442)
    """
    array, module, cores = _batch(A, backend, n_threads)
    found = _run(module.logdet, array, n_threads=cores)
    return SlogDet(_back(np.ones_like(found)[()], A, like=array), _back(found[()], A, like=array))


def det(A: npt.ArrayLike, *, backend: words.Backend = "auto", n_threads: int | None = None) -> Array:
    """Determinants; infinite or zero where they leave the range of the dtype, which `logdet` does not.

    Parameters and errors are those of `cholesky`.

    Returns
    -------
    (...) real array, or a scalar for one matrix
        exp(log det A).

    Examples
    --------
    >>> import redunet as rn
    >>> rn.linalg.det([[4.0, 0.0], [0.0, 2.0]]).round(6)
    np.float64(8.0)
    """
    array, module, cores = _batch(A, backend, n_threads)
    with np.errstate(over="ignore", under="ignore"):
        found = np.exp(_run(module.logdet, array, n_threads=cores))
    return _back(found[()], A, like=array)


class QuadraticForms(NamedTuple):
    """What `quadratic_forms` gives.

    Attributes
    ----------
    forms : (..., m) real array, or (...) for a single vector
        x* A^-1 x, never negative.
    logdet : (...) real array
        log det A.
    """

    forms: Array
    logdet: Array


def quadratic_forms(
    A: npt.ArrayLike, X: npt.ArrayLike, *, backend: words.Backend = "auto", n_threads: int | None = None
) -> QuadraticForms:
    """x* A^-1 x of vectors x, and log det A, from one Cholesky factorisation of each matrix.

    They are what a Gaussian log likelihood of covariance A, or a coding length that a sample adds, is made of.

    Parameters
    ----------
    A : (..., n, n) array
        Hermitian positive definite matrices; the lower triangle is read.
    X : (n,) or (..., m, n) array
        Vectors, one per row, as samples are; batches broadcast, and a single axis is a single vector.
    backend, n_threads
        As in `redunet.build`.

    Returns
    -------
    QuadraticForms
        ``(forms, logdet)``, of the real dtype that belongs to the common dtype of A and X. The forms are ||y||^2 with
        L y = x and A = L L*, so never negative; their relative error is n u c at most (see above).

    Raises
    ------
    numpy.linalg.LinAlgError
        If a matrix is not square or not positive definite; the message gives its index in the batch.
    ValueError, TypeError
        If the shapes do not fit, or X holds no numbers.

    Examples
    --------
    >>> import redunet as rn
    >>> forms, logdet = rn.linalg.quadratic_forms([[4.0, 0.0], [0.0, 2.0]], [[2.0, 0.0], [2.0, 2.0]])
    >>> forms.round(12).tolist(), float(logdet.round(6))
    ([1.0, 3.0], 2.079442)
    """
    array, module, _ = _batch(A, backend, n_threads, "quadratic_forms")
    rows = checks.array(X, "X")
    vector = rows.ndim == 1
    if vector:
        rows = rows[None]
    n = array.shape[-1]
    if rows.ndim < 1 or rows.shape[-1] != n:
        wanted = f"({n},) or (..., m, {n}) to go with A of shape {array.shape}"
        raise ValueError(f"X has shape {np.shape(X)}; expected {wanted}")
    if rows.dtype != array.dtype or rows.shape[:-2] != array.shape[:-2]:
        array, rows = _in_common(array, rows, "X", np.shape(X))
    cores = _cores((array.size + rows.size) * n, n_threads)
    forms, logdet = _run(module.quadratic_forms, array, arrays.plain(rows, array.dtype), n_threads=cores)
    forms = forms[..., 0] if vector else forms
    return QuadraticForms(_back(forms, A, X), _back(logdet[()], A, X))


def logdet_of_sums(
    A: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike, *, backend: words.Backend = "auto",
    n_threads: int | None = None,
) -> Array:  # fmt: skip
    """log det(A[first] + A[second]) for many pairs of few matrices, without the array of their sums.

    As ``logdet(A[first] + A[second])``: what merging codes or mixtures needs of all pairs that may merge. With k
    matrices and all pairs, ``first, second = numpy.triu_indices(k, 1)``.

    Parameters
    ----------
    A : (N, n, n) array
        Hermitian matrices, of which only the sums must be positive definite; the lower triangle is read.
    first, second : (...) int arrays
        Indices 0..N-1; they broadcast against each other.
    backend, n_threads
        As in `redunet.build`.

    Returns
    -------
    (...) real array, or a scalar for one pair
        The log dets, of the real dtype that belongs to A's.

    Raises
    ------
    numpy.linalg.LinAlgError
        If A is not of square matrices, or a sum is not positive definite; the message gives its index among the pairs.
    ValueError, TypeError
        If A has not three axes, or the indices don't fit, are no integers, or out of range.

    Examples
    --------
    >>> import redunet as rn
    >>> rn.linalg.logdet_of_sums([[[1.0]], [[2.0]], [[6.0]]], 1, [0, 1, 2]).round(6)
    array([1.098612, 1.386294, 2.079442])
    """
    array, module, _ = _batch(A, backend, n_threads, "logdet_of_sums")
    if array.ndim != 3:
        raise ValueError(f"A has shape {array.shape}; expected (N, n, n)")
    i, j = _indices(first, "first", len(array)), _indices(second, "second", len(array))
    try:
        shape = np.broadcast_shapes(i.shape, j.shape)
    except ValueError:
        raise ValueError(f"first has shape {i.shape} and second {j.shape}; expected shapes that broadcast") from None
    i, j = (arrays.plain(np.broadcast_to(index, shape), np.dtype(np.int64)) for index in (i, j))
    cores = _cores(i.size * array.shape[1] ** 3, n_threads)
    found = _run(module.logdet_of_sums, array, i, j, n_threads=cores, batch=i.shape)
    return _back(found[()], A)  # of one pair a scalar


def _indices(value: npt.ArrayLike, name: str, n: int) -> npt.NDArray[np.int64]:
    index = checks.array(value, name)
    if index.dtype.kind not in "iu" and index.size:  # an empty list is of doubles
        raise TypeError(f"{name} has dtype {index.dtype}; expected integers")
    outside = index[(index < 0) | (index >= n)]
    if outside.size:
        raise ValueError(f"{name} holds {outside[0]}; expected indices from 0 to {n - 1}, of the {n} matrices of A")
    return index.astype(np.int64, copy=False)


def _batch(
    A: npt.ArrayLike, backend: str, n_threads: int | None, function: str = "cholesky"
) -> tuple[Array, HostBackend, int]:
    """A as backends read it, the module that has a function of this name for it, and the threads of a call."""
    if function == "cholesky" and arrays.holds(A):
        there = arrays.view(A, "A")
        _check_square(there.shape)
        return there, select_for(there, backend)[1], _cores(0, n_threads)  # type: ignore[return-value]
    array = np.asarray(checks.array(A, "A"), order="C")
    dtype = array.dtype
    if dtype is not checks.FLOATS.get(dtype.char):  # integers, and other orders of bytes
        kind = checks.FLOATS.get("d" if dtype.kind in "iub" else dtype.char)
        if kind is None:
            raise TypeError(f"A has dtype {dtype}; expected float32, float64, complex64 or complex128")
        array = array.astype(kind, copy=False)
    if not array.flags.aligned:
        array = array.copy()
    _check_square(array.shape)
    shape = array.shape
    return array, select_with(function, backend), _cores(array.size * shape[-1], n_threads)


def _check_square(shape: tuple[int, ...]) -> None:
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise np.linalg.LinAlgError(f"A has shape {shape}; expected square matrices (..., n, n)")


def _run(
    function: Callable[..., Any], array: Array, *others: Array, n_threads: int, batch: tuple[int, ...] | None = None
) -> Any:
    """What a backend's function gives; its error names a matrix by the index that the caller has for it."""
    try:
        return function(array, *others, n_threads=n_threads)
    except np.linalg.LinAlgError as error:
        shape = array.shape[:-2] if batch is None else batch
        place = re.fullmatch(r"matrix (\d+) of (\d+) (.*)", str(error))
        if place is None or len(shape) < 2 or int(place[2]) != math.prod(shape):
            raise
        index = tuple(map(int, np.unravel_index(int(place[1]), shape)))
        raise np.linalg.LinAlgError(f"matrix {index} of shape {shape} {place[3]}") from None


def _back(found: Any, *given: Any, like: Any = None) -> Array:
    """The result, of the library of what was given; where ``like`` lies, which on a device numbers come to last."""
    if like is not None and not isinstance(like, np.ndarray):
        found = type(like)(np.asarray(found), near=like)
    result: Array = arrays.give_back(found, *given)
    return result


def _cores(work: int, n_threads: int | None) -> int:
    """Threads for so many multiply-adds."""
    return 1 if n_threads is None and work < SERIAL_WORK else checks.threads(n_threads)
