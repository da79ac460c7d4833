"""Losses and pairs of samples against their definitions; processes of a group against one process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from torch_support import import_torch

import redunet as rn

torch = import_torch()
from torch.autograd import gradcheck  # noqa: E402

import redunet.torch as rt  # noqa: E402


def views(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.nn.functional.normalize(torch.randn(shape, generator=generator, dtype=torch.float64), dim=-1).to(dtype)


def rate(Z, epsilon_sq):
    """1/2 log det(I + d/(m eps^2) Z* Z)."""
    m, d = Z.shape
    return np.linalg.slogdet(np.eye(d) + d / (m * epsilon_sq) * Z.T @ Z)[1] / 2


# --- Pairs ---

#: Of small matrices from the views, at the border, and from the features.
PAIRS = [(5, 2, 9), (6, 3, 6), (4, 3, 7), (5, 4, 3), (2, 1, 2), (1, 2, 4), (3, 1, 1)]


@pytest.mark.parametrize("shape", PAIRS, ids=str)
def test_pairs_by_definition(shape):
    Z = views(*shape)
    found = rt.pairwise_rate_reduction(Z, epsilon_sq=0.3)
    samples = Z.numpy()
    expected = [
        [rate(np.concatenate([a, b]), 0.3) - (rate(a, 0.3) + rate(b, 0.3)) / 2 for b in samples] for a in samples
    ]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-13)
    assert torch.equal(found, found.T)
    assert (found.diagonal() == 0).all()


@pytest.mark.parametrize("shape", PAIRS, ids=str)
def test_gradients_of_pairs(shape):
    Z = views(*shape).requires_grad_()
    assert gradcheck(lambda Z: rt.pairwise_rate_reduction(Z, epsilon_sq=0.3), Z)


def test_pairs_a_block_at_a_time(monkeypatch):
    Z = views(7, 2, 6).requires_grad_()
    upstream = torch.rand(7, 7, dtype=torch.float64)
    whole = rt.pairwise_rate_reduction(Z)
    (gradient,) = torch.autograd.grad(whole, Z, upstream)
    monkeypatch.setattr("redunet.torch.pairs._BLOCK", 5 * 16)
    parts = rt.pairwise_rate_reduction(Z)
    assert torch.equal(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts, Z, upstream)[0], gradient)


def test_pairs_of_half_precision_and_errors():
    Z = views(4, 2, 5, dtype=torch.bfloat16).requires_grad_()
    found = rt.pairwise_rate_reduction(Z)
    assert found.dtype == torch.float32
    found.mean().backward()
    assert Z.grad.dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"^Z has shape \(4, 5\); expected \(n, a, d\), at least one of each$"):
        rt.pairwise_rate_reduction(Z[:, 0])
    with pytest.raises(TypeError, match=r"^Z has dtype torch.int64; expected real floating numbers$"):
        rt.pairwise_rate_reduction(torch.ones(2, 2, 2).long())
    with pytest.raises(torch.linalg.LinAlgError, match="not positive definite: epsilon_sq is too small, or Z"):
        rt.pairwise_rate_reduction(1e30 * torch.ones(3, 2, 5))


# --- Losses ---


def test_mcr2():
    Z, y = 3 * views(12, 5), torch.arange(12) % 3
    unit = torch.nn.functional.normalize(Z, dim=1)
    for options in ({}, {"gamma1": 20.0, "gamma2": 0.05}, {"normalize": False}):
        loss = rt.MCR2Loss(epsilon_sq=0.4, **options)
        given = Z if "normalize" in options else unit
        gammas = {key: value for key, value in options.items() if key != "normalize"}
        expected = rt.rate_reduction(given, y, epsilon_sq=0.4, **gammas)
        assert loss(Z, y).item() == pytest.approx(-expected.delta.item(), rel=1e-13)
        assert [x.item() for x in loss.last] == pytest.approx([x.item() for x in expected], rel=1e-13)
        assert not any(x.requires_grad for x in loss.last)
    two = unit.repeat(2, 1)
    image = torch.arange(12).repeat(2)
    ctrl = rt.MCR2CTRLLoss()
    by_class = sum(rate(two[image == i].numpy(), 0.5) for i in range(12)) / 12
    expected = 0.05 * rate(20**0.5 * two.numpy(), 0.5) - by_class
    assert ctrl(two, image).item() == pytest.approx(-expected, rel=1e-12)
    assert "gamma1=20.0, gamma2=0.05" in repr(ctrl)


def test_total_coding_rate():
    Z = views(3, 10, 4)
    expected = -np.mean([rate(view.numpy(), 0.2) for view in Z])
    assert rt.TotalCodingRateLoss()(5 * Z).item() == pytest.approx(expected, rel=1e-12)
    assert rt.TotalCodingRateLoss(normalize=False)(Z[0]).item() == pytest.approx(-rate(Z[0].numpy(), 0.2), rel=1e-12)


def test_emp_ssl():
    Z = views(4, 10, 5)
    mean = Z.mean(0)
    near = np.mean([[v @ c / c.norm() for v, c in zip(view, mean, strict=True)] for view in Z])
    expected = -200 * near - np.mean([rate(view.numpy(), 0.2) for view in Z])
    assert rt.EMPSSLLoss()(2 * Z).item() == pytest.approx(expected, rel=1e-12)


def test_simdino():
    student, teacher = views(5, 8, 6), views(2, 8, 7)[..., :6]
    teacher = torch.nn.functional.normalize(teacher, dim=-1)
    m, d = 8, 6
    pairs = [(t, s) for t in range(2) for s in range(5) if t != s]
    near = np.mean([(teacher[t] * student[s]).sum(1).mean().item() for t, s in pairs])
    spread = (d + m) / (d * m) * np.mean([rate(student[s].numpy(), 0.05) for s in range(2)])
    loss = rt.SimDINOLoss(coeff=0.7)
    assert loss(3 * student, 2 * teacher).item() == pytest.approx(-0.7 * near - spread, rel=1e-12)
    with pytest.raises(
        ValueError, match=r"^student has shape \(2, 8, 6\) and teacher \(5, 8, 6\); expected \(s, m, d\) and"
    ):
        loss(teacher, student)


@pytest.mark.parametrize(
    ("loss", "given"),
    [
        (rt.MCR2Loss(), (views(8, 5), torch.arange(8) % 3)),
        (rt.MCR2CTRLLoss(), (views(8, 5), torch.arange(8) % 4)),
        (rt.TotalCodingRateLoss(), (views(2, 8, 5),)),
        (rt.EMPSSLLoss(), (views(3, 8, 5),)),
        (rt.SimDINOLoss(), (views(3, 8, 5), views(2, 8, 5))),
    ],
    ids=lambda x: type(x).__name__,
)
def test_gradients_of_losses(loss, given):
    Z = given[0].clone().requires_grad_()
    assert gradcheck(lambda Z: loss(1.3 * Z, *given[1:]), Z)
    half = given[0].to(torch.bfloat16)
    assert loss(half, *(x.to(half.dtype) if x.is_floating_point() else x for x in given[1:])).dtype == torch.float32


def test_errors_of_losses():
    with pytest.raises(ValueError, match=r"^epsilon_sq is 0; expected a finite number > 0$"):
        rt.MCR2Loss(epsilon_sq=0)
    with pytest.raises(TypeError, match=r"^normalize is 'no' of type str; expected True or False$"):
        rt.TotalCodingRateLoss(normalize="no")
    with pytest.raises(ValueError, match=r"^invariance is -1; expected a finite number >= 0$"):
        rt.EMPSSLLoss(invariance=-1)
    for loss in (rt.EMPSSLLoss(), rt.TotalCodingRateLoss()):
        with pytest.raises(ValueError, match=r"^Z has shape \(4,\); expected \(views, m, d\)$"):
            loss(torch.ones(4))


def test_mcr2_learns():
    """Two classes on one line each of R^3, mixed up by a linear map: the loss finds orthogonal lines."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 2
    X = torch.eye(3)[y] + 0.3 * torch.eye(3)[1 - y] + 0.02 * torch.randn(60, 3, generator=generator)
    layer = torch.nn.Linear(3, 3, bias=False)
    torch.nn.init.eye_(layer.weight)
    loss, optimiser = rt.MCR2Loss(), torch.optim.SGD(layer.parameters(), lr=1.0)
    for _ in range(60):
        optimiser.zero_grad()
        loss(layer(X), y).backward()
        optimiser.step()
    Z = torch.nn.functional.normalize(layer(X).detach(), dim=1)
    assert (Z[y == 0] @ Z[y == 1].T).abs().mean() < 0.1
    before = torch.nn.functional.normalize(X, dim=1)
    assert (before[y == 0] @ before[y == 1].T).abs().mean() > 0.5


# --- Several processes ---

PROGRAM = textwrap.dedent(
    """
    import os, sys
    import torch, torch.distributed as dist
    import redunet.torch as rt
    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    rank, world, store, loss = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    X = torch.randn(20, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.arange(20) % 3
    # Uneven, with other counts of the classes; or all on one.
    shares = [slice(0, 20), slice(20, 20)] if loss == "empty" else [slice(0, 13), slice(13, 20)]

    def network():
        torch.manual_seed(1)
        return torch.nn.Sequential(torch.nn.Linear(7, 6), torch.nn.Tanh(), torch.nn.Linear(6, 5)).double()

    def value(network, share, group):
        Z, labels = network(X[share]), y[share]
        if loss in ("mcr2", "empty"):
            return rt.MCR2Loss(group=group)(Z, labels)
        if loss == "soft":
            weights = torch.linspace(0.5, 2, 20, dtype=torch.float64)[share]
            pi = torch.softmax(Z[:, :3], 1)
            return -rt.rate_reduction(Z, pi, sample_weight=weights, epsilon_sq=0.5, group=group).delta
        several = torch.stack([Z, torch.tanh(Z), Z.sin()])
        if loss == "simdino":
            # The cosines of a process are of its own samples, whose mean over uneven shares is not that of all.
            return rt.SimDINOLoss(coeff=0.0, group=group)(several, several[:2].detach())
        return rt.TotalCodingRateLoss(group=group)(several)

    def gradient(network, share, group):
        result = value(network, share, group)
        result.backward()
        return result.item(), torch.cat([p.grad.flatten() for p in network.parameters()])

    expected = gradient(network(), slice(0, 20), None)
    found = gradient(DistributedDataParallel(network()), shares[rank], dist.group.WORLD)
    assert abs(found[0] - expected[0]) < 1e-12 * abs(expected[0]), (found[0], expected[0])
    difference = ((found[1] - expected[1]).norm() / expected[1].norm()).item()
    assert difference < 1e-12, difference
    dist.barrier()
    os._exit(0)  # on a busy machine PyTorch's own threads may abort a process that ends in good order
    """
)


def run_processes(program, world, *arguments, cwd, deadline=120):
    """The program once for each rank; the first error ends all."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-c", program]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(world), *arguments],
            env=environment,
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=deadline)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
@pytest.mark.parametrize("loss", ["mcr2", "empty", "soft", "simdino", "total"])
def test_two_processes_are_one(loss, tmp_path):
    run_processes(PROGRAM, 2, str(tmp_path / "store"), loss, cwd=Path(__file__).parent)


def test_a_group_needs_processes():
    with pytest.raises(RuntimeError, match=r"^group is given, and torch.distributed is not initialized: call init_"):
        rt.coding_rate(torch.ones(4, 3), group=object())


# --- The package ---


def test_nothing_else_imports_torch():
    program = "import sys, redunet; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_without_pytorch_the_error_says_what_to_install():
    program = "import sys; sys.modules['torch'] = None; import redunet.torch"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.stderr.strip().endswith("ImportError: redunet.torch needs PyTorch: pip install 'redunet[torch]'")


def test_agrees_with_numpy():
    Z, y = views(20, 5), torch.arange(20) % 4
    expected = rn.rate_reduction(Z.numpy(), y.numpy(), epsilon_sq=0.5).delta
    assert rt.MCR2Loss()(Z, y).item() == pytest.approx(-expected, rel=1e-12)
