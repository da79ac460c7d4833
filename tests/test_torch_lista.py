"""LISTA: exactly ISTA before it is trained, gradients by finite differences, and training that lowers the error."""

from __future__ import annotations

import numpy as np
import pytest
from torch_support import import_torch

from redunet import sparse

torch = import_torch()
from redunet.torch import LISTA  # noqa: E402


def problem(m=6, d=7, n=11, seed=0):
    random = np.random.default_rng(seed)
    A = random.normal(size=(d, n))
    A /= np.linalg.norm(A, axis=0)
    X = random.normal(size=(m, n)) * (random.random((m, n)) < 0.2)
    return A, X @ A.T + 0.01 * random.normal(size=(m, d))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("n_iter", [1, 2, 7])
def test_it_starts_as_ista(n_iter, tied):
    """In double precision: n_iter steps, each with d + 2 n sums of numbers of order 1 to 10."""
    A, Y = problem()
    Z = LISTA(A, 0.05, n_iter, tied=tied)(torch.from_numpy(Y)).detach().numpy()
    expected = sparse.ista(A, Y, 0.05, n_iter=n_iter)
    assert np.count_nonzero(expected) > 0
    np.testing.assert_allclose(Z, expected, rtol=0, atol=n_iter * (7 + 2 * 11) * 10 * np.finfo(float).eps)


@pytest.mark.parametrize("tied", [True, False])
def test_gradients_are_those_of_finite_differences(tied):
    A, Y = problem(m=2, d=3, n=4)
    network = LISTA(A, 0.05, 3, tied=tied)
    signals = torch.from_numpy(Y).requires_grad_()
    names = [name for name, _ in network.named_parameters()]

    def codes(Y, *parameters):
        return torch.func.functional_call(network, dict(zip(names, parameters, strict=True)), (Y,))

    assert torch.autograd.gradcheck(codes, (signals, *network.parameters()))


def test_shapes_and_words():
    A, Y = problem()
    network = LISTA(torch.from_numpy(A).float(), 0.1, 4, tied=False)
    assert str(network) == "LISTA(d=7, n=11, n_iter=4, tied=False)"
    assert {name: tuple(p.shape) for name, p in network.named_parameters()} == {
        "We": (4, 11, 7), "S": (3, 11, 11), "theta": (4, 11),
    }  # fmt: skip
    assert network(torch.zeros(2, 3, 7)).shape == (2, 3, 11)
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert {name: tuple(p.shape) for name, p in LISTA(A, 0.1, 1).named_parameters()}["S"] == (0, 11, 11)
    other = LISTA(np.ones((7, 11)), 1, 4, tied=False).float()
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(torch.from_numpy(Y).float()), network(torch.from_numpy(Y).float()))


def test_training_beats_the_steps_that_it_began_from():
    """On signals that it has not seen: the error of two thresholdings beside the lasso's codes halves, at least."""
    A, Y = problem(m=500)
    codes = sparse.fista(A, Y, 0.05, n_iter=5000, tol=1e-8)
    Y, codes = torch.from_numpy(Y), torch.from_numpy(codes)
    torch.manual_seed(0)
    network = LISTA(A, 0.05, 2)

    def error(rows):
        return ((network(Y[rows]) - codes[rows]) ** 2).sum()

    held_out = slice(400, None)
    before = float(error(held_out).detach())
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        error(slice(400)).backward()
        optimizer.step()
    assert float(error(held_out).detach()) < before / 2


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: LISTA(np.ones(3), 1, 1), ValueError, r"A has shape \(3,\); expected \(d, n\)"),
        (lambda: LISTA(np.ones((3, 2)) * 1j, 1, 1), TypeError, "A has dtype complex128; expected real numbers"),
        (lambda: LISTA("text", 1, 1), TypeError, "A has dtype <U4; expected real or complex numbers"),
        (lambda: LISTA(np.full((2, 2), np.nan), 1, 1), ValueError, "A holds a NaN or infinite value; expected finite"),
        (lambda: LISTA(np.zeros((2, 2)), 1, 1), ValueError, "A holds zeros only; expected a dictionary"),
        (lambda: LISTA(np.ones((3, 2)), -1, 1), ValueError, "lam is -1; expected a finite number >= 0"),
        (lambda: LISTA(np.ones((3, 2)), 1, 0), ValueError, "n_iter is 0; expected an integer >= 1"),
        (lambda: LISTA(np.ones((3, 2)), 1, 1, tied=1), TypeError, "tied is 1 of type int; expected True or False"),
        (lambda: LISTA(np.ones((3, 2)), 1, 1)(torch.ones(4, 2)), ValueError, r"Y has shape \(4, 2\); expected"),
    ],
)  # fmt: skip
def test_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
