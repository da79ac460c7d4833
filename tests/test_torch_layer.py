"""The layer of `redunet.torch` against autograd of the plain formula, and as an operation of PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from torch_support import import_torch, makes_code

torch = import_torch()

from redunet.torch import layer_formula, redu_layer  # noqa: E402
from redunet.torch.layer import _layer, _layer_backward  # noqa: E402

ETA = 0.5
#: m, C, F, k, d and P of features.
SHAPES = {
    "signals": (19, 5, 6, 4, 1, 2),
    "many channels": (40, 20, 5, 3, 1, 2),
    "vectors": (23, 7, 1, 3, 1, 1),
    "columns": (9, 3, 4, 3, 2, 1),
    "one sample": (1, 4, 3, 2, 1, 2),
    "one class": (8, 3, 4, 1, 1, 2),
}


def problem(shape, dtype=torch.float64, seed=0):
    """Features of unit norm, operators of no symmetry, gammas, weights of frequencies."""
    m, C, F, k, d, P = shape
    g = torch.Generator().manual_seed(seed)
    w = torch.randint(1, 3, (F,), generator=g)
    V = torch.randn(m, C, F * d, P, generator=g, dtype=torch.float64)
    V = V / (V.square() * (w / d).repeat_interleave(d)[:, None]).sum((1, 2, 3), keepdim=True).sqrt()
    operators = torch.eye(C, dtype=torch.float64)[:, :, None] * torch.tensor([1.0, 0.0])[:P]
    operators = operators + 0.5 * torch.randn(k + 1, F, C, C, P, generator=g, dtype=torch.float64)
    return V.to(dtype), operators.to(dtype), (torch.rand(k, generator=g) / k).tolist(), w


def plain(V, operators, gammas, w, eta, lam, d=1):
    """The layer as it stands in the paper, all classes of all samples: for autograd."""
    numbers = [torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else x[..., 0] for x in (V, operators)]
    v = numbers[0].unflatten(2, (-1, d))
    responses = torch.einsum("jpcb,ibpx->jicpx", numbers[1], v)
    weights = (w.to(V.dtype) / d)[:, None]
    rho = (weights * responses[1:].abs().square()).sum((2, 3, 4)).sqrt()
    pi = torch.softmax(-lam * rho, 0)
    shares = pi * torch.tensor(gammas, dtype=V.dtype)[:, None]
    step = responses[0] - (shares[:, :, None, None, None] * responses[1:]).sum(0)
    u = v + eta * step
    z = u / (weights * u.abs().square()).sum((1, 2, 3), keepdim=True).sqrt()
    z = z.flatten(2)
    return (torch.view_as_real(z) if z.is_complex() else z[..., None]), pi.T


def gradients(function, V, operators, lam, seed=1):
    """Of sum(noise * Z) to V, operators, eta and lam; and Z, pi."""
    inputs = [V, operators, torch.tensor(ETA, dtype=V.dtype), torch.tensor(lam, dtype=V.dtype)]
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    Z, pi = function(*inputs)
    noise = torch.randn(Z.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    (noise.to(Z.dtype) * Z).sum().backward()
    return Z.detach(), pi.detach(), *(x.grad for x in inputs)


def relative(a, b, floor=0.0):
    return float((a.double() - b.double()).norm() / max(float(b.double().norm()), floor))


def both(shape, lam, dtype):
    """Ours, and the plain formula in double precision."""
    V, operators, gammas, w = problem(SHAPES[shape], dtype)
    d = SHAPES[shape][4]
    ours = gradients(
        lambda V, A, eta, lam: redu_layer(V, A, gammas, eta, lam, freq_weights=w, n_columns=d), V, operators, lam
    )
    expected = gradients(
        lambda V, A, eta, lam: plain(V, A, gammas, w, eta, lam, d), V.double(), operators.double(), lam
    )
    return ours, expected


@pytest.mark.parametrize("lam", [0.0, 1.0, 30.0, 500.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_in_double_precision(shape, lam):
    """rho is good to some units of 1e-16, pi to lam times that; what is left away is below the unit (lam rho of it)."""
    ours, expected = both(shape, lam, torch.float64)
    scale = float(expected[3].norm())
    for name, a, b in zip(("Z", "pi", "V", "operators", "eta", "lam"), ours, expected, strict=True):
        assert relative(a, b, floor=scale if name == "lam" else 0) < 1e-13 * max(1, lam), name


@pytest.mark.parametrize("lam", [1.0, 30.0, 500.0])
@pytest.mark.parametrize("shape", ["signals", "many channels", "vectors"])
def test_gradients_in_single_precision(shape, lam):
    ours, expected = both(shape, lam, torch.float32)
    assert [x.dtype for x in ours] == [torch.float32, torch.float64, *[torch.float32] * 4]
    scale = float(expected[3].norm())
    for name, a, b in zip(("Z", "pi", "V", "operators", "eta", "lam"), ours, expected, strict=True):
        assert relative(a, b, floor=scale if name == "lam" else 0) < 2e-6 * max(1, lam), name


def test_gates_of_the_tests_are_soft_and_hard():
    V, operators, gammas, w = problem(SHAPES["signals"])
    share = [
        float((redu_layer(V, operators, gammas, ETA, lam, freq_weights=w)[1].amax(1) > 1 - 1e-7).double().mean())
        for lam in (1.0, 30.0, 500.0)
    ]
    assert share[0] == 0, share
    assert 0 < share[2] < 1, share


def test_gradcheck():
    V, operators, gammas, w = problem((3, 2, 2, 3, 1, 2))
    inputs = [x.requires_grad_() for x in (V, operators, torch.tensor(ETA).double(), torch.tensor(5.0).double())]
    assert torch.autograd.gradcheck(lambda *x: redu_layer(*x[:2], gammas, *x[2:], freq_weights=w)[0], inputs)


@pytest.mark.parametrize("shape", SHAPES)
def test_formula_for_other_devices(shape):
    """What runs where there is no engine, on the CPU."""
    V, operators, gammas, w = problem(SHAPES[shape])
    d, eta, lam = SHAPES[shape][4], torch.tensor(ETA).double(), torch.tensor(30.0).double()
    upstream = torch.randn(V.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    made = layer_formula.forward(V, operators, gammas, w, eta, lam, d)
    expected = _layer(V, operators, w, eta, lam, None, gammas, d)
    back = layer_formula.backward(upstream, V, made[0], operators, gammas, w, eta, lam, *made[1:], d)
    right = _layer_backward(upstream, V, expected[0], operators, w, eta, lam, *expected[1:], gammas, d)
    for a, b in zip((made[0], made[1], made[3], *back), (expected[0], expected[1], expected[3], *right), strict=True):
        assert a.shape == b.shape
        assert a.is_contiguous()
        assert relative(a, b, floor=1e-3) < 1e-10
    there = made[1] > 0
    assert relative(made[2][there], expected[2][there]) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype):
    V, operators, gammas, w = problem(SHAPES["signals"], dtype)
    eta, lam = torch.tensor(ETA), torch.tensor(30.0)
    made = _layer(V, operators, w, eta, lam, None, gammas, 1)
    torch.library.opcheck(_layer, (V, operators, w, eta, lam, made[1].argmax(1), gammas, 1))
    upstream = torch.ones_like(V)
    torch.library.opcheck(_layer_backward, (upstream, V, made[0], operators, w, eta, lam, *made[1:], gammas, 1))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo's own
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # its own compiler calls what it deprecates
@pytest.mark.parametrize("compiler", ["aot_eager", pytest.param("inductor", marks=makes_code)])
def test_compiles_without_a_break(compiler):
    V, operators, gammas, w = problem(SHAPES["signals"])

    def loss(V, operators):
        Z, pi = redu_layer(torch.tanh(V), operators, gammas, ETA, 30.0, freq_weights=w)
        return (Z.sin() * pi.sum()).sum()

    torch._dynamo.reset()
    inputs = V.requires_grad_(), operators.requires_grad_()
    expected = torch.autograd.grad(loss(*inputs), inputs)
    got = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend=compiler)(*inputs), inputs)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_functional_transforms():
    V, operators, gammas, w = problem(SHAPES["signals"])

    def loss(V, operators):
        return redu_layer(V, operators, gammas, ETA, 30.0, freq_weights=w)[0].sin().sum()

    x = V.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(x, operators), x)
    torch.testing.assert_close(torch.func.grad(loss)(V, operators), expected)
    several = torch.func.vmap(torch.func.grad(loss), in_dims=(0, None))(torch.stack([V, V]), operators)
    torch.testing.assert_close(several, torch.stack([expected, expected]))


def test_strides_and_nearest_do_not_matter():
    V, operators, gammas, w = problem(SHAPES["many channels"])
    Z, pi = redu_layer(V, operators, gammas, ETA, 30.0, freq_weights=w)
    strided = V.transpose(0, 2).contiguous().transpose(0, 2), operators.transpose(2, 3).contiguous().transpose(2, 3)
    assert not any(x.is_contiguous() for x in strided)
    other, _ = redu_layer(*strided, gammas, ETA, 30.0, freq_weights=w, nearest=pi.argmax(1))
    assert other.is_contiguous()
    torch.testing.assert_close(other, Z, rtol=0, atol=1e-13)


def test_saves_features_alone():
    """Memory is O(V) a layer: not k + 1 responses."""
    V, operators, gammas, w = problem((64, 6, 8, 10, 1, 2))
    V.requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.data_ptr()) or x, lambda x: x):
        Z, _ = redu_layer(V, operators, gammas, ETA, 30.0, freq_weights=w)
    assert {V.data_ptr(), operators.data_ptr(), Z.data_ptr()} <= set(kept)
    assert len(kept) == 9


def test_zeros_stay_zero_and_have_a_gradient():
    V, operators, gammas, w = problem(SHAPES["signals"])
    V[2] = 0
    V.requires_grad_()
    Z, _ = redu_layer(V, operators, gammas, ETA, 30.0, freq_weights=w)
    assert not Z[2].any()
    Z.sum().backward()
    assert bool(torch.isfinite(V.grad).all())


def test_is_differentiable_once():
    V, operators, gammas, w = problem(SHAPES["signals"])
    V.requires_grad_()
    (g,) = torch.autograd.grad(
        redu_layer(V, operators, gammas, ETA, 30.0, freq_weights=w)[0].sin().sum(), V, create_graph=True
    )
    with pytest.raises(RuntimeError, match=r"^redu_layer can be differentiated once, and not again$"):
        g.sum().backward()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"V": [[1.0]]}, TypeError, r"^V is a list; expected a tensor$"),
        ({"V": torch.zeros(3, 2, 4, 2).half()}, TypeError, r"^V has dtype torch.float16; expected torch.float32 or"),
        ({"V": torch.zeros(3, 2, 4)}, ValueError, r"^V has shape \(3, 2, 4\); expected \(m, C, F d, P\), P = 1 or 2$"),
        ({"operators": torch.zeros(3, 4, 2, 2, 2).double()}, TypeError,
         r"^operators are torch.float64 on cpu; expected torch.float32 on cpu, as V$"),
        ({"operators": torch.zeros(3, 4, 2, 3, 2)}, ValueError,
         r"^operators have shape \(3, 4, 2, 3, 2\); expected \(k \+ 1, F, C, C, P\) = \(3, 4, 2, 2, 2\)$"),
        ({"n_columns": 3}, ValueError, r"^V has 4 columns; expected a multiple of n_columns = 3$"),
        ({"nearest": torch.zeros(2).long()}, ValueError, r"^nearest has shape \(2,\); expected \(3,\)$"),
        ({"freq_weights": torch.ones(3)}, ValueError, r"^freq_weights has shape \(3,\); expected \(4,\)$"),
        ({"eta": torch.ones(2)}, ValueError, r"^eta has shape \(2,\); expected one number$"),
        ({"lam": -1.0}, ValueError, r"^lam is -1.0; expected a number >= 0$"),
        ({"lam": float("nan")}, ValueError, r"^lam is nan; expected a number >= 0$"),
        ({"nearest": torch.full((3,), 2)}, ValueError, "nearest is not one class for every sample"),
        ({"V": torch.full((3, 2, 4, 2), np.inf)}, ValueError,
         r"^features of sample 0 are NaN or infinite after the layer; expected finite V and operators$"),
        ({"operators": torch.full((3, 4, 2, 2, 2), np.nan)}, ValueError, "^features of sample 0 are NaN or infinite"),
    ],
)  # fmt: skip
def test_errors(change, error, message):
    arguments = {
        "V": torch.ones(3, 2, 4, 2), "operators": torch.ones(3, 4, 2, 2, 2), "gammas": [0.5, 0.5], "eta": 0.5,
        "lam": 30.0, **change,
    }  # fmt: skip
    with pytest.raises(error, match=message):
        redu_layer(**arguments)
