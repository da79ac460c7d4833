"""`redunet.linalg` for tensors: what comes in of PyTorch comes back of PyTorch, in the memory that was computed in."""

from __future__ import annotations

import numpy as np
import pytest
from torch_support import import_torch

from redunet import linalg

torch = import_torch()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128, torch.int64])
def test_tensors_come_back_as_tensors(dtype):
    A = torch.eye(4, dtype=dtype).repeat(2, 3, 1, 1) * 4
    B = torch.arange(8).reshape(4, 2).to(dtype)
    for found, expected in (
        (linalg.cholesky(A), linalg.cholesky(A.numpy())),
        (linalg.inv(A), linalg.inv(A.numpy())),
        (linalg.solve(A, B), linalg.solve(A.numpy(), B.numpy())),
        (linalg.solve(A.numpy(), B[:, 0]), linalg.solve(A.numpy(), B[:, 0].numpy())),
        (linalg.logdet(A), linalg.logdet(A.numpy())),
        (linalg.det(A[0, 0]), linalg.det(A[0, 0].numpy())),
        (linalg.quadratic_forms(A, B.T).forms, linalg.quadratic_forms(A.numpy(), B.T.numpy()).forms),
    ):
        assert isinstance(found, torch.Tensor)
        assert found.shape == expected.shape
        np.testing.assert_array_equal(found.numpy(), expected)
    found[...] = 0  # it may be written to


def test_gradients_are_refused_by_name():
    A = torch.eye(3, requires_grad=True)
    with pytest.raises(TypeError, match=r"^A is a Tensor that requires gradients: pass A\.detach\(\)$"):
        linalg.inv(A)
    with pytest.raises(TypeError, match=r"^B is a Parameter that requires gradients: pass B\.detach\(\)$"):
        linalg.solve(torch.eye(3), torch.nn.Parameter(torch.ones(3)))
    assert isinstance(linalg.inv(A.detach()), torch.Tensor)
