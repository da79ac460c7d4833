"""Dictionaries: the linear maps A from codes to signals, a matrix or sums of cyclic convolutions with kernels.

All that a solver needs of one is A x, A* y and the largest eigenvalue of A* A. Codes and signals come in batches,
(m, *code_shape) and (m, *signal_shape). A convolution is a (C, K) matrix at each frequency: applied through the FFT.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks
from redunet.transforms import correlate

Array = npt.NDArray[Any]


@runtime_checkable
class Dictionary(Protocol):
    """What `ista` and `fista` take beside a matrix: any object with these attributes and methods.

    Attributes
    ----------
    signal_shape, code_shape : tuple of int
        Shapes of one signal y and of its code x.
    dtype : numpy.dtype
        Of A: float32, float64, complex64 or complex128.
    """

    @property
    def signal_shape(self) -> tuple[int, ...]:
        """Shape of one signal."""

    @property
    def code_shape(self) -> tuple[int, ...]:
        """Shape of one code."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of A."""

    def apply(self, X: Array) -> Array:
        """A x of every code: (m, *code_shape) to (m, *signal_shape)."""

    def adjoint(self, Y: Array) -> Array:
        """A* y of every signal: (m, *signal_shape) to (m, *code_shape)."""

    def largest_eigenvalue(self) -> float:
        """Of A* A: the Lipschitz constant of the gradient A* (A x - y)."""


class Matrix:
    """A (d, n) as a dictionary: codes (m, n) to signals (m, d)."""

    def __init__(self, A: Array) -> None:
        self.A = A
        self.signal_shape, self.code_shape = A.shape[:1], A.shape[1:]
        self.dtype = A.dtype

    def apply(self, X: Array) -> Array:
        """X A^T."""
        product: Array = X @ self.A.astype(X.dtype, copy=False).T
        return product

    def adjoint(self, Y: Array) -> Array:
        """Y A-conjugate."""
        product: Array = Y @ self.A.astype(Y.dtype, copy=False).conj()
        return product

    def largest_eigenvalue(self) -> float:
        """Of the smaller of A* A and A A*, in double precision."""
        A = self.A.astype(np.result_type(self.dtype, np.float64), copy=False)
        wide = A if len(A) <= A.shape[1] else A.T
        return float(np.linalg.eigvalsh(wide @ wide.conj().T)[-1])


class ConvolutionalDictionary:
    """Signals that are sums of cyclic convolutions of codes with kernels, y_c = sum_k kernels[k, c] * x_k.

    Codes have a channel for every kernel and a number for every point, (m, K, T) or (m, K, H, W); signals are
    (m, C, T) or (m, C, H, W). The adjoint, cyclic correlation with the kernels, is what `redunet.RandomLift` computes
    before its nonlinearity: its kernels may be given here. Shifting a signal cyclically shifts its code.

    Parameters
    ----------
    kernels : array_like, (K, C, taps) or (K, C, height, width)
        Real or complex; no longer than the signal.
    signal_shape : int or tuple of int
        T, or (H, W): the points of the signals, without channels.

    Attributes
    ----------
    signal_shape : tuple of int
        (C, T) or (C, H, W), the shape of one signal.
    code_shape : tuple of int
        (K, T) or (K, H, W), the shape of its code.
    dtype : numpy.dtype
        That of the kernels; float64 for integers.

    Raises
    ------
    ValueError, TypeError
        If the kernels are no such array, hold a NaN or infinite value, or don't fit into the signal.

    Notes
    -----
    At each of F frequencies A is a (C, K) matrix, so that A x and A* y of m samples cost m F C K multiplications and
    the FFTs of m (C + K) channels, however long the kernels are. The largest eigenvalue of A* A is that of the
    matrices. Zeiler, Krishnan, Taylor, Fergus, "Deconvolutional Networks", CVPR 2010; Wohlberg, "Efficient Algorithms
    for Convolutional Sparse Representations", IEEE Transactions on Image Processing 25 (2016).

    Examples
    --------
    >>> import numpy as np
    >>> from redunet import sparse
    >>> A = sparse.ConvolutionalDictionary([[[1.0, -1.0]], [[1.0, 1.0]]], 6)
    >>> x = np.zeros((1, 2, 6))
    >>> x[0, 0, 2] = x[0, 1, 5] = 1
    >>> A.apply(x).round(12) + 0.0
    array([[[ 1.,  0.,  1., -1.,  0.,  1.]]])
    >>> round(A.largest_eigenvalue(), 12)
    4.0
    """

    def __init__(self, kernels: npt.ArrayLike, signal_shape: int | tuple[int, ...]) -> None:
        given = checks.array(kernels, "kernels")
        checks.numeric(given, "kernels")
        if given.ndim not in (3, 4) or 0 in given.shape:
            raise ValueError(f"kernels has shape {given.shape}; expected (K, C, taps) or (K, C, height, width)")
        dtype = checks.floating(None, given)
        self.kernels: Array = given.astype(dtype)
        if not np.isfinite(self.kernels).all():
            raise ValueError("kernels holds a NaN or infinite value; expected finite values")
        points = signal_shape if isinstance(signal_shape, (tuple, list)) else (signal_shape,)
        points = tuple(checks.integer(n, "signal_shape", 1) for n in points)
        taps = given.shape[2:]
        if len(points) != len(taps) or any(t > n for t, n in zip(taps, points, strict=True)):
            raise ValueError(
                f"signal_shape is {signal_shape!r}; expected {len(taps)} numbers, at least the kernels' {taps}"
            )
        self.signal_shape: tuple[int, ...] = (given.shape[1], *points)
        self.code_shape: tuple[int, ...] = (given.shape[0], *points)
        self.dtype: np.dtype[Any] = dtype
        self._spectra: dict[np.dtype[Any], Array] = {}

    def apply(self, X: npt.ArrayLike) -> Array:
        """A x of every code.

        Parameters
        ----------
        X : array_like, (m, *code_shape)
            Codes.

        Returns
        -------
        ndarray, (m, *signal_shape)
            Of the common dtype of the codes and the kernels.
        """
        codes = self._batch(X, "X", self.code_shape)
        return self._through(codes, self._spectrum(codes.dtype))

    def adjoint(self, Y: npt.ArrayLike) -> Array:
        """A* y of every signal.

        Parameters
        ----------
        Y : array_like, (m, *signal_shape)
            Signals.

        Returns
        -------
        ndarray, (m, *code_shape)
            Of the common dtype of the signals and the kernels.
        """
        given = self._batch(Y, "Y", self.signal_shape)
        return self._through(given, self._spectrum(given.dtype).conj().transpose(0, 2, 1))

    def largest_eigenvalue(self) -> float:
        """Of A* A: the largest squared singular value over all frequencies."""
        D = self._spectrum(np.dtype(np.complex128 if self.dtype.kind == "c" else np.float64))
        wide = D if D.shape[1] <= D.shape[2] else D.transpose(0, 2, 1)
        return float(np.linalg.eigvalsh(wide @ wide.conj().transpose(0, 2, 1))[:, -1].max())

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.kernels.shape[2:]))
        about = f"signal_shape={self.signal_shape}, dtype={self.dtype}"
        return f"ConvolutionalDictionary({len(self.kernels)} kernels of {size}, {about})"

    def _batch(self, given: npt.ArrayLike, name: str, shape: tuple[int, ...]) -> Array:
        array = checks.array(given, name)
        checks.numeric(array, name)
        if array.shape[1:] != shape:
            raise ValueError(f"{name} has shape {array.shape}; expected (m, {', '.join(map(str, shape))})")
        return array.astype(np.result_type(checks.floating(None, array), self.dtype), copy=False)

    def _spectrum(self, dtype: np.dtype[Any]) -> Array:
        """The DFT of the kernels by frequency, (F, K, C): half of it for real dtypes. Kept once made."""
        if dtype not in self._spectra:
            padded = np.zeros((*self.kernels.shape[:2], *self.signal_shape[1:]), dtype)
            padded[tuple(slice(n) for n in self.kernels.shape)] = self.kernels
            self._spectra[dtype] = correlate.spectrum(padded, dtype)
        return self._spectra[dtype]

    def _through(self, samples: Array, matrices: Array) -> Array:
        """Samples through a matrix at each frequency: (F, channels in, channels out)."""
        V = correlate.spectrum(samples, samples.dtype)
        return correlate.signals(correlate.products(V, matrices), samples.shape[2:], samples.dtype)
