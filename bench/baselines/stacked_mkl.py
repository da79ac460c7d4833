"""`StackedExpert` with MKL's strided batches of products in the place of NumPy's loop over BLAS calls."""

from __future__ import annotations

import numpy as np

from bench.baselines.mkl import gemm_batch
from bench.baselines.stacked import Array, StackedExpert


class StackedMkl(StackedExpert):
    """Parameters as `StackedExpert`; a single frequency is one product a thread, over samples."""

    name = "stacked, MKL"

    def _gram(self, P: Array) -> Array:
        out = np.empty((P.shape[0], P.shape[1], P.shape[1]), P.dtype)
        gemm_batch(P, P, out, transpose_B=True)
        return out

    def _product(self, M: Array, P: Array, out: Array) -> None:  # type: ignore[override]
        if not self.by_samples:
            gemm_batch(M, P, out)
            return
        m = P.shape[2]
        bounds = [m * i // self.n_threads for i in range(self.n_threads + 1)]
        pieces = list(map(slice, bounds[:-1], bounds[1:]))
        list(self.threads.map(lambda piece: gemm_batch(M, P[:, :, piece], out[:, :, piece]), pieces))
