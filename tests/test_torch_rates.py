"""Rates of tensors against `redunet.rates` and finite differences, and everything that PyTorch does with a function."""

from __future__ import annotations

import numpy as np
import pytest
from torch_support import import_torch, makes_code

import redunet as rn

torch = import_torch()
from torch.autograd import gradcheck, gradgradcheck  # noqa: E402

from redunet.torch import RateReduction, coding_rate, formula, rate_reduction  # noqa: E402

SHAPES = [(14, 5), (4, 9), (6, 3, 5), (5, 2, 3, 4)]
#: gamma1, gamma2.
GAMMAS = [(1.0, 1.0), (20.0, 0.05)]


def features(shape, dtype=torch.float64, requires_grad=False):
    generator = torch.Generator().manual_seed(sum(shape))
    Z = torch.randn(shape, generator=generator, dtype=torch.float64)
    Z = Z / Z.flatten(1).norm(dim=1).reshape(-1, *[1] * (Z.ndim - 1))
    return Z.to(dtype).requires_grad_(requires_grad)


def membership(m, k, requires_grad=False):
    """Rows that add up to anything."""
    generator = torch.Generator().manual_seed(m)
    return torch.rand(m, k, generator=generator, dtype=torch.float64).requires_grad_(requires_grad)


def weights(m):
    return torch.linspace(0.3, 2.0, m, dtype=torch.float64)


@pytest.mark.parametrize("dft_norm", ["ortho", "backward"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_are_those_of_numpy(shape, soft, weighted, dft_norm):
    Z = features(shape)
    m = len(Z)
    pi = membership(m, 3)
    y = pi / pi.sum(1, keepdim=True) if soft else torch.arange(m) % 3
    w = weights(m) if weighted else None
    found = rate_reduction(Z, y, epsilon_sq=0.3, sample_weight=w, dft_norm=dft_norm)
    options = {"epsilon_sq": 0.3, "dft_norm": dft_norm, "sample_weight": None if w is None else w.numpy()}
    expected = rn.rate_reduction(Z.numpy(), y.numpy(), **options)
    assert isinstance(found, RateReduction)
    for value, number in zip(found, expected, strict=True):
        assert value.shape == ()
        assert value.dtype == torch.float64
        assert value.item() == pytest.approx(number, rel=1e-13, abs=1e-14)
    rate = coding_rate(Z, epsilon_sq=0.3, sample_weight=w, dft_norm=dft_norm)
    assert rate.item() == pytest.approx(expected.rate, rel=1e-13)


@pytest.mark.parametrize(("gamma1", "gamma2"), GAMMAS)
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_with_and_without_a_gradient_and_by_the_formula(shape, soft, gamma1, gamma2):
    Z = features(shape)
    y = membership(len(Z), 3) if soft else torch.arange(len(Z)) % 3
    arguments = {"epsilon_sq": 0.3, "gamma1": gamma1, "gamma2": gamma2, "sample_weight": weights(len(Z))}
    without = rate_reduction(Z, y, **arguments)
    with_one = rate_reduction(Z.clone().requires_grad_(), y, **arguments)
    for a, b in zip(without, with_one, strict=True):
        assert a.item() == pytest.approx(b.item(), rel=1e-12)
        assert not a.requires_grad
    assert without.delta.item() == pytest.approx(gamma2 * without.rate.item() - without.class_rate.item(), rel=1e-12)
    plain = formula.rate_reduction(Z, y, arguments["sample_weight"], 0.3, gamma1, gamma2, "ortho")
    assert without.delta.item() == pytest.approx(plain.item(), rel=1e-11, abs=1e-12)


@pytest.mark.parametrize("what", ["delta", "rate", "class_rate", "all"])
@pytest.mark.parametrize("dft_norm", ["ortho", "backward"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients(shape, soft, dft_norm, what):
    """gradcheck's tolerances, 1e-5 and 1e-3 of the value, lie far above differences of smooth functions."""
    Z = features(shape, requires_grad=True)
    y = membership(len(Z), 2, requires_grad=True) if soft else torch.arange(len(Z)) % 2
    options = {"epsilon_sq": 0.5 * Z[0, 0].numel(), "dft_norm": dft_norm, "gamma1": 3.0, "gamma2": 0.4}

    def function(*given):
        found = rate_reduction(given[0], given[1] if soft else y, sample_weight=weights(len(Z)), **options)
        return 2 * found.delta + 3 * found.rate - 5 * found.class_rate if what == "all" else getattr(found, what)

    given = (Z, y) if soft else (Z,)
    assert gradcheck(function, given)
    if what in ("delta", "all") and dft_norm == "ortho":
        assert gradgradcheck(function, given)


@pytest.mark.parametrize("shape", [(14, 5), (6, 3, 5)], ids=str)
def test_gradients_of_the_coding_rate(shape):
    Z = features(shape, requires_grad=True)
    assert gradcheck(lambda Z: coding_rate(Z, epsilon_sq=0.5), Z)
    assert gradgradcheck(lambda Z: coding_rate(Z, epsilon_sq=0.5), Z)


def test_the_gradient_to_features_is_that_of_numpy():
    Z = features((30, 6), requires_grad=True)
    y = torch.arange(30) % 4
    rate_reduction(Z, y, epsilon_sq=0.2).delta.backward()
    expected = rn.rate_reduction_gradient(Z.detach().numpy(), y.numpy(), epsilon_sq=0.2)
    np.testing.assert_array_equal(Z.grad.numpy(), expected)


def test_classes_may_be_empty():
    Z = features((12, 5), requires_grad=True)
    sparse = torch.tensor([0, 3, 7] * 4)
    dense = torch.tensor([0, 1, 2] * 4)
    found, expected = rate_reduction(Z, sparse, n_classes=10), rate_reduction(Z, dense)
    assert [x.item() for x in found] == [x.item() for x in expected]
    (a,), (b,) = torch.autograd.grad(found.delta, Z), torch.autograd.grad(expected.delta, Z)
    assert torch.equal(a, b)
    one_hot = torch.nn.functional.one_hot(sparse, 10).double()
    assert rate_reduction(Z, one_hot).delta.item() == pytest.approx(expected.delta.item(), rel=1e-13)


def test_what_a_first_share_in_an_empty_class_costs():
    """One-sided, a sample at a time: its share alone codes itself."""
    Z = features((6, 4))
    pi = torch.zeros(6, 3, dtype=torch.float64)
    pi[:, :2] = membership(6, 2)
    pi.requires_grad_()
    w = weights(6)
    (gradient,) = torch.autograd.grad(rate_reduction(Z, pi, epsilon_sq=0.4, sample_weight=w).delta, pi)
    h = 1e-6
    for i in range(6):
        moved = pi.detach().clone()
        moved[i, 2] = h
        both = [rate_reduction(Z, p, epsilon_sq=0.4, sample_weight=w).delta.item() for p in (moved, pi.detach())]
        # It is linear in the share: what is left is rounding, 1e-16 / h.
        assert (both[0] - both[1]) / h == pytest.approx(gradient[i, 2].item(), abs=1e-8)


def test_a_class_of_samples_without_weight_is_empty():
    Z = features((9, 4), requires_grad=True)
    y = torch.arange(9) % 3
    w = (y != 1).double()
    found = rate_reduction(Z, y, sample_weight=w)
    (gradient,) = torch.autograd.grad(found.delta, Z)
    kept = y != 1
    expected = rn.rate_reduction(Z.detach()[kept].numpy(), y[kept].numpy())
    assert found.delta.item() == pytest.approx(expected.delta, rel=1e-13)
    assert (gradient[~kept] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_precisions(dtype):
    Z = features((30, 8), dtype, requires_grad=True)
    y = torch.arange(30) % 3
    found = rate_reduction(Z, y)
    assert found.delta.dtype == torch.promote_types(dtype, torch.float32)
    found.delta.backward()
    assert Z.grad.dtype == dtype
    exact = Z.detach().double().requires_grad_()
    rate_reduction(exact, y).delta.backward()
    unit = torch.finfo(dtype).eps
    assert (Z.grad.double() - exact.grad).norm() < max(unit, 1e-5) * exact.grad.norm()


def test_autocast():
    layer = torch.nn.Linear(8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        Z = layer(features((20, 8), torch.float32))
        assert Z.dtype == torch.bfloat16
        loss = -rate_reduction(Z, torch.arange(20) % 2).delta
    assert loss.dtype == torch.float32
    loss.backward()
    assert torch.isfinite(layer.weight.grad).all()


def test_in_any_order_of_memory():
    Z = features((10, 6))
    y = torch.arange(10) % 3
    odd = Z.T.contiguous().T
    sliced = torch.stack([Z, Z], dim=2)[:, :, 1]
    views = [Z.clone(), odd, sliced]
    results = []
    for view in views:
        view.requires_grad_()
        found = rate_reduction(view, y)
        found.delta.backward()
        results.append((found.delta.item(), view.grad))
        assert torch.equal(results[0][1], view.grad)
    assert len({value for value, _ in results}) == 1
    both = torch.stack([y, y], dim=1)[:, 0]
    assert rate_reduction(Z, both).delta.item() == results[0][0]


def test_the_number_of_threads_changes_nothing():
    Z = features((400, 24), torch.float32, requires_grad=True)
    y = torch.arange(400) % 5
    before, found = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            value = rate_reduction(Z, y).delta
            found.append((value.item(), torch.autograd.grad(value, Z)[0]))
    finally:
        torch.set_num_threads(before)
    assert len({value for value, _ in found}) == 1
    assert all(torch.equal(found[0][1], gradient) for _, gradient in found)


# --- What PyTorch does with functions ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("y", ["labels", "membership", "none"])
def test_operators_are_well_behaved(y, dtype):
    Z = features((9, 4), dtype)
    given = {"labels": torch.arange(9) % 2, "membership": membership(9, 2), "none": None}[y]
    arguments = (Z, given, None, 0.5, 1.0, 1.0, "ortho")
    torch.library.opcheck(torch.ops.redunet.rates.default, arguments)
    torch.library.opcheck(torch.ops.redunet.rates_and_gradient.default, (*arguments, y == "membership"))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # PyTorch's own doing
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # its own compiler calls what it deprecates
@pytest.mark.parametrize(
    ("soft", "compiler"), [(False, "aot_eager"), (True, "aot_eager"), pytest.param(False, "inductor", marks=makes_code)]
)
def test_compiles_whole(soft, compiler):
    Z = features((12, 5), requires_grad=True)
    y = membership(12, 3) if soft else torch.arange(12) % 3

    def loss(Z):
        found = rate_reduction(torch.nn.functional.normalize(torch.tanh(Z), dim=1), y, epsilon_sq=0.4)
        return -found.delta + 0.1 * found.class_rate

    torch._dynamo.reset()
    value = torch.compile(loss, fullgraph=True, backend=compiler)(Z)
    (compiled,) = torch.autograd.grad(value, Z)
    (eager,) = torch.autograd.grad(loss(Z), Z)
    torch.testing.assert_close(value, loss(Z), rtol=0 if compiler == "aot_eager" else 1e-12, atol=0)
    torch.testing.assert_close(compiled, eager, rtol=1e-12, atol=1e-14)


@pytest.mark.filterwarnings("ignore:At pre-dispatch tracing:UserWarning")  # PyTorch 2.4, of every operator
def test_exports():
    class Loss(torch.nn.Module):
        def forward(self, Z, y):
            return rate_reduction(Z, y).delta

    Z, y = features((12, 5)), torch.arange(12) % 3
    program = torch.export.export(Loss(), (Z, y))
    assert program.module()(Z, y).item() == rate_reduction(Z, y).delta.item()


def test_function_transforms():
    Z = features((12, 5))
    y = torch.arange(12) % 3
    batch = torch.stack([Z, 2 * Z, Z.flip(0)])

    def delta(Z):
        return rate_reduction(Z, y).delta

    expected = [torch.autograd.grad(delta(z.requires_grad_()), z)[0] for z in batch.clone().unbind()]
    assert torch.equal(torch.func.grad(delta)(Z), expected[0])
    assert torch.equal(torch.func.vmap(torch.func.grad(delta))(batch), torch.stack(expected))
    values = torch.func.vmap(delta)(batch)
    assert values.tolist() == [delta(z).item() for z in batch]
    several = torch.stack([y, y.flip(0)])
    found = torch.func.vmap(lambda y: rate_reduction(Z, y).delta)(several)
    assert found.tolist() == [rate_reduction(Z, labels).delta.item() for labels in several]
    hessian = torch.func.jacrev(torch.func.grad(delta))(Z)
    assert torch.allclose(hessian, torch.autograd.functional.hessian(delta, Z), rtol=1e-10, atol=1e-12)


def test_deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        Z = features((12, 5), requires_grad=True)
        rate_reduction(Z, torch.arange(12) % 3).delta.backward()
    finally:
        torch.use_deterministic_algorithms(False)


# --- Errors ---


def test_never_a_nan():
    Z = features((6, 4))
    y = torch.arange(6) % 2
    broken = Z.clone()
    broken[4, 1] = float("nan")
    for given in (broken, broken.requires_grad_()):
        with pytest.raises(ValueError, match=r"^Z holds NaN or infinity in sample 4; expected finite float64 numbers$"):
            rate_reduction(given, y)
    # Squares overflow float32: it is done in double. Three samples a class in four dimensions: there ones are lost.
    assert all(torch.isfinite(value) for value in rate_reduction(Z.float() * 1e30, y))
    with pytest.raises(
        torch.linalg.LinAlgError, match=r"I \+ alpha G is not positive definite; epsilon_sq is too small"
    ):
        rate_reduction(Z * 1e30, y)


Z43 = torch.ones(4, 3)
LABELS = torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: coding_rate(np.ones((4, 3))), TypeError, "Z is a ndarray; expected a tensor"),
        (lambda: coding_rate(torch.ones(4, 3).long()), TypeError, r"Z has dtype torch.int64; expected real floating"),
        (lambda: coding_rate(torch.ones(4)), ValueError, r"Z has shape \(4,\); expected \(m, d\) or \(m, C, T\) or"),
        (lambda: coding_rate(torch.ones(0, 3)), ValueError, r"Z has shape \(0, 3\); expected .* at least one of each"),
        (lambda: coding_rate(Z43, epsilon_sq=0), ValueError, r"epsilon_sq is 0; expected a finite number > 0"),
        (lambda: coding_rate(Z43, dft_norm="no"), ValueError, r"dft_norm is 'no'; expected one of 'ortho', 'backward'"),
        (lambda: coding_rate(Z43, epsilon_sq=1e-39), ValueError, r"epsilon_sq is 1e-39 and the samples weigh 4"),
        (
            lambda: coding_rate(Z43, sample_weight=torch.ones(3)),
            ValueError,
            r"sample_weight has shape \(3,\); expected \(4,\)",
        ),
        (
            lambda: coding_rate(Z43, sample_weight=-torch.ones(4)),
            ValueError,
            "sample_weight has negative or non-finite entries; expected finite numbers >= 0",
        ),
        (lambda: coding_rate(Z43, sample_weight=torch.zeros(4)), ValueError, "sample_weight adds up to 0.0; expected"),
        (lambda: rate_reduction(Z43, [0, 1, 0, 1]), TypeError, "y is a list; expected a tensor"),
        (lambda: rate_reduction(Z43, LABELS[:3]), ValueError, r"y has shape \(3,\); expected labels \(4,\) or a"),
        (lambda: rate_reduction(Z43, LABELS.float()), TypeError, "y has dtype torch.float32; expected integer labels"),
        (
            lambda: rate_reduction(Z43, LABELS[:, None]),
            TypeError,
            "y is a membership of dtype torch.int64; expected fl",
        ),
        (lambda: rate_reduction(Z43, LABELS - 1), ValueError, "y is -1 for sample 0; expected labels >= 0"),
        (lambda: rate_reduction(Z43, LABELS, n_classes=1), ValueError, "y is 1 for sample 1; expected labels < 1"),
        (lambda: rate_reduction(Z43, LABELS, n_classes=0), ValueError, "n_classes is 0; expected an integer >= 1"),
        (
            lambda: rate_reduction(Z43, torch.ones(4, 2), n_classes=3),
            ValueError,
            r"n_classes is 3 and y has shape \(4, 2\); expected 2",
        ),
        (
            lambda: rate_reduction(Z43, -torch.ones(4, 2)),
            ValueError,
            "y is a membership with negative or non-finite entries; expected finite numbers >= 0",
        ),
        (lambda: rate_reduction(Z43, LABELS, gamma1=-1), ValueError, "gamma1 is -1; expected a finite number > 0"),
        (lambda: rate_reduction(Z43, LABELS, gamma2=0), ValueError, "gamma2 is 0; expected a finite number > 0"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        call()
