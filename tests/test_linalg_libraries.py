"""`redunet.linalg` for other libraries' arrays, which come back in their own; and what it calls a matrix of a batch.

A stand-in for such a library is here; `test_torch_linalg.py` has PyTorch.
"""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest

from redunet import linalg

A = np.stack([np.eye(4) * (i + 1.0) for i in range(6)]).reshape(2, 3, 4, 4)
B = np.arange(12.0).reshape(4, 3)
#: Every function, with arrays for it and what it gives.
CALLS = {
    "cholesky": (linalg.cholesky, (A,)),
    "inv": (linalg.inv, (A,)),
    "solve": (linalg.solve, (A, B)),
    "solve of a vector": (linalg.solve, (A, B[:, 0])),
    "logdet": (linalg.logdet, (A,)),
    "logdet of one": (linalg.logdet, (A[0, 0],)),
    "det": (linalg.det, (A,)),
    "slogdet": (linalg.slogdet, (A,)),
    "quadratic forms": (linalg.quadratic_forms, (A, B.T)),
    "quadratic forms of one": (linalg.quadratic_forms, (A[0, 0], B[:, 0])),
    "sums": (lambda A: linalg.logdet_of_sums(A, [0, 1], 2), (A.reshape(6, 4, 4),)),
}


class Theirs:
    """An array of another library, as the array API has it: it says its namespace, and gives its memory by DLPack."""

    def __init__(self, array):
        self.array = np.asarray(array)

    def __array__(self, dtype=None, copy=None):
        return self.array

    def __array_namespace__(self):
        return SimpleNamespace(from_dlpack=lambda other: Theirs(np.from_dlpack(other)))


def parts(found):
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("name", CALLS)
def test_what_comes_in_of_a_library_comes_back_in_it(backend, name):
    call, given = CALLS[name]
    expected = parts(call(*given))
    assert all(isinstance(part, (np.ndarray, np.floating)) for part in expected)
    for which in range(len(given)):  # one of two is enough
        found = parts(call(*(Theirs(array) if i == which else array for i, array in enumerate(given))))
        assert all(isinstance(part, Theirs) for part in found)
        for part, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(part.array, wanted)
            assert part.array.dtype == wanted.dtype


def test_lists_frames_and_subclasses_give_numpys():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    for given in (np.eye(2).tolist(), pandas.DataFrame(np.eye(2)), np.eye(2).view(np.recarray)):
        assert type(linalg.inv(given)) is np.ndarray


def test_a_tensor_that_requires_gradients_is_refused_by_name():
    class Tensor(Theirs):
        requires_grad = True

    for name, (call, given) in CALLS.items():
        with pytest.raises(TypeError, match=r"^A is a Tensor that requires gradients: pass A\.detach\(\)$"):
            call(Tensor(given[0]), *given[1:])
        if len(given) == 2:
            argument = "X" if "forms" in name else "B"
            with pytest.raises(TypeError, match=rf"^{argument} is a Tensor that requires gradients: pass {argument}\."):
                call(given[0], Tensor(given[1]))


@pytest.mark.parametrize("name", [name for name in CALLS if name != "sums" and "one" not in name])
def test_the_first_matrix_that_fails_is_named_by_its_place(backend, name):
    call, given = CALLS[name]
    bad = np.tile(given[0][:1], (5, 1, 1, 1))
    bad[3, 1, 2, 2] = bad[4, 0, 0, 0] = -1
    message = "matrix (3, 1) of shape (5, 3) is not positive definite"
    for n_threads in (1, 3):
        with pytest.raises(np.linalg.LinAlgError, match=f"^{re.escape(message)}$"):
            call(bad, *given[1:]) if n_threads == 1 else linalg.cholesky(bad, n_threads=n_threads)


def test_places_in_batches_of_one_axis_of_broadcast_ones_and_of_pairs(backend):
    bad = np.stack([np.eye(3), -np.eye(3)])
    with pytest.raises(np.linalg.LinAlgError, match=r"^matrix 1 of 2 is not positive definite$"):
        linalg.cholesky(bad)
    with pytest.raises(np.linalg.LinAlgError, match=r"^matrix \(0, 1\) of shape \(4, 2\) is not positive definite$"):
        linalg.solve(bad, np.ones((4, 1, 3, 2)))
    with pytest.raises(np.linalg.LinAlgError, match=r"^matrix \(1, 1\) of shape \(2, 2\) is not positive definite$"):
        linalg.logdet_of_sums(2 * bad + 3 * np.eye(3) * [[[1]], [[0]]], [[0], [1]], [0, 1])


@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
def test_determinants(backend, dtype):
    random = np.random.default_rng(0)
    for n in (1, 3, 20):
        G = random.normal(size=(5, n, n)) + (1j * random.normal(size=(5, n, n)) if np.dtype(dtype).kind == "c" else 0)
        H = (G @ np.swapaxes(G, -1, -2).conj() / n + np.eye(n)).astype(dtype)  # eigenvalues from 1 on
        sign, logabsdet = linalg.slogdet(H)
        np.testing.assert_array_equal(logabsdet, linalg.logdet(H))
        np.testing.assert_array_equal(sign, np.ones(5))
        assert sign.dtype == logabsdet.dtype == linalg.det(H).dtype == H.real.dtype
        # exp of a log det that is off by n u cond, and rounded itself
        cond = np.linalg.cond(H).max()
        np.testing.assert_allclose(
            linalg.det(H), np.linalg.det(H.astype(complex)).real, rtol=10 * n * cond * np.finfo(dtype).eps
        )
    large = np.eye(200, dtype=dtype) * 1e30
    assert linalg.det(large) == np.inf
    assert linalg.det(np.linalg.inv(large)) == 0
    assert linalg.slogdet(np.eye(2)) == (1.0, 0.0)
