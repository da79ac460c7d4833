"""Intel MKL by ctypes, from the wheel `mkl`: strided batches of products, and compact batched factorisations.

Sequential MKL: whoever calls brings the threads. Matrices are NumPy's, rows first. On processors that are not Intel's
MKL takes its AVX2 or SSE path, and is no measure of them.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# MKL's enumerations
_ROW_MAJOR, _NO_TRANS, _TRANS = 101, 111, 112
_LOWER = 122
_SEQUENTIAL = 1
_LETTERS = {"float32": "s", "float64": "d", "complex64": "c", "complex128": "z"}


@cache
def library() -> ctypes.CDLL | None:
    """MKL's single dynamic library; None where the wheel is not installed."""
    try:
        files = importlib.metadata.files("mkl") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    path = next((file.locate() for file in files if file.name.startswith("libmkl_rt.so")), None)
    if path is None:
        return None
    mkl = ctypes.CDLL(str(path))
    mkl.MKL_Set_Threading_Layer(_SEQUENTIAL)
    return mkl


def _loaded() -> ctypes.CDLL:
    mkl = library()
    if mkl is None:
        raise RuntimeError("MKL is not installed")
    return mkl


def _real(x: float, dtype: np.dtype[Any]) -> ctypes.c_float | ctypes.c_double:
    return ctypes.c_float(x) if dtype == np.float32 else ctypes.c_double(x)


def gemm_batch(A: Array, B: Array, out: Array, *, transpose_B: bool = False) -> None:
    """out = A B, or A B^T, for batches of real matrices whose rows are contiguous; any strides beyond that."""
    for M in (A, B, out):
        if M.ndim != 3 or M.strides[2] != M.itemsize or M.dtype != A.dtype:
            raise ValueError("expected batches of matrices with contiguous rows, of one dtype")
    rows, inner, columns = A.shape[1], A.shape[2], out.shape[2]
    letter = _LETTERS[A.dtype.name]
    operands: list[Any] = []
    for M in (A, B):
        operands += [
            ctypes.c_void_p(M.ctypes.data),
            ctypes.c_int(M.strides[1] // M.itemsize),
            ctypes.c_int(M.strides[0] // M.itemsize),
        ]
    getattr(_loaded(), f"cblas_{letter}gemm_batch_strided")(
        _ROW_MAJOR,
        _NO_TRANS,
        _TRANS if transpose_B else _NO_TRANS,
        ctypes.c_int(rows),
        ctypes.c_int(columns),
        ctypes.c_int(inner),
        _real(1.0, A.dtype),
        *operands,
        _real(0.0, A.dtype),
        ctypes.c_void_p(out.ctypes.data),
        ctypes.c_int(out.strides[1] // out.itemsize),
        ctypes.c_int(out.strides[0] // out.itemsize),
        ctypes.c_int(len(A)),
    )


class Compact:
    """A batch (B, n, n) in MKL's compact format, packed for the widest registers that MKL uses here.

    Parameters
    ----------
    A : ndarray
        float32, float64, complex64 or complex128, contiguous.
    """

    def __init__(self, A: Array) -> None:
        self.mkl = _loaded()
        self.letter = _LETTERS[A.dtype.name]
        self.batch, self.n = A.shape[0], A.shape[1]
        self.dtype = A.dtype
        self.format = self.mkl.mkl_get_format_compact()
        n = ctypes.c_int(self.n)
        size = getattr(self.mkl, f"mkl_{self.letter}get_size_compact")
        size.restype = ctypes.c_int
        nbytes = size(n, n, ctypes.c_int(self.format), ctypes.c_int(self.batch))
        self._held = np.zeros(nbytes + 64, np.uint8)
        self.at = ctypes.c_void_p(-(-self._held.ctypes.data // 64) * 64)
        self.pack(A)

    def _pointers(self, A: Array) -> Any:
        addresses = A.ctypes.data + np.arange(self.batch, dtype=np.uintp) * np.uintp(A.strides[0])
        return addresses, ctypes.c_void_p(addresses.ctypes.data)

    def pack(self, A: Array) -> None:
        """Numbers of A into the compact format."""
        held, pointers = self._pointers(A)
        n = ctypes.c_int(self.n)
        getattr(self.mkl, f"mkl_{self.letter}gepack_compact")(
            _ROW_MAJOR, n, n, pointers, n, self.at, n, ctypes.c_int(self.format), ctypes.c_int(self.batch)
        )
        del held

    def keep(self) -> None:
        """Remember the packed matrices as they are now."""
        self._kept = self._held.copy()

    def restore(self) -> None:
        """The matrices that were kept."""
        np.copyto(self._held, self._kept)

    def unpack(self, out: Array) -> Array:
        """The matrices as they are now."""
        held, pointers = self._pointers(out)
        n = ctypes.c_int(self.n)
        getattr(self.mkl, f"mkl_{self.letter}geunpack_compact")(
            _ROW_MAJOR, n, n, pointers, n, self.at, n, ctypes.c_int(self.format), ctypes.c_int(self.batch)
        )
        del held
        return out

    def cholesky(self) -> None:
        """L in the lower triangles; what is above is left as it was."""
        info = ctypes.c_int(0)
        n = ctypes.c_int(self.n)
        getattr(self.mkl, f"mkl_{self.letter}potrf_compact")(
            _ROW_MAJOR, _LOWER, n, self.at, n, ctypes.byref(info), ctypes.c_int(self.format), ctypes.c_int(self.batch)
        )

    def invert(self) -> None:
        """Inverses by LU without pivots, which is what the compact routines have."""
        info = ctypes.c_int(0)
        n = ctypes.c_int(self.n)
        tail = ctypes.c_int(self.format), ctypes.c_int(self.batch)
        factor = getattr(self.mkl, f"mkl_{self.letter}getrfnp_compact")
        factor(_ROW_MAJOR, n, n, self.at, n, ctypes.byref(info), *tail)
        work, lwork = np.empty(1, self.dtype), ctypes.c_int(-1)
        inverse = getattr(self.mkl, f"mkl_{self.letter}getrinp_compact")
        inverse(_ROW_MAJOR, n, self.at, n, ctypes.c_void_p(work.ctypes.data), lwork, ctypes.byref(info), *tail)
        work = np.empty(max(int(work[0].real), 1), self.dtype)
        lwork = ctypes.c_int(len(work))
        inverse(_ROW_MAJOR, n, self.at, n, ctypes.c_void_p(work.ctypes.data), lwork, ctypes.byref(info), *tail)
