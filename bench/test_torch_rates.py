"""The rate reduction as a loss, forward and backward, beside the formulations of `bench.baselines.rates`."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from bench import torch_rates  # noqa: E402
from bench.baselines.rates import FORMS  # noqa: E402


@pytest.mark.parametrize("form", [*FORMS, "redunet"])
@pytest.mark.parametrize("size", torch_rates.SIZES, ids=str)
def test_forward_and_backward(
    benchmark: BenchmarkFixture, request: pytest.FixtureRequest, size: tuple[int, int, int], form: str
) -> None:
    if request.config.option.small:
        size = (60, 16, 5)
    if not torch_rates.fits(form, *size, 2e9):
        pytest.skip("more than two gigabytes")
    if form == "masked" and size[2] > 100:
        pytest.skip("LU of such batches fails in PyTorch 2.13 and its MKL")
    Z, y = torch_rates.samples(*size)
    function: Any = FORMS.get(form, torch_rates.redunet)

    def once() -> Any:
        Z.grad = None
        loss = function(Z, y, size[2])
        loss.backward()
        return loss

    loss = benchmark(once)
    gradient = Z.grad
    expected = FORMS["autograd"](Z, y, size[2])
    (wanted,) = torch.autograd.grad(expected, Z)
    assert abs(loss.item() - expected.item()) < 1e-4 * abs(expected.item())
    assert (gradient - wanted).norm() < 1e-3 * wanted.norm()
