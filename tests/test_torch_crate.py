"""CRATE and ToST beside plain models with the published names, written from their descriptions; rates along layers.

The references use explicit attention matrices and three products where ours have fused attention and two.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from torch_support import import_torch

import redunet as rn

torch = import_torch()
from torch import nn  # noqa: E402

from redunet.torch import CRATE, ToST, coding_rate_probe, load_published  # noqa: E402
from redunet.torch import crate as rooms  # noqa: E402
from redunet.torch.crate.probe import subspace_rate  # noqa: E402
from redunet.torch.crate.tost import fourier_positions  # noqa: E402


def images(m, *shape, seed=0, dtype=torch.float32):
    return torch.randn(m, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- Plain models whose modules have the published names ---


class PreNorm(nn.Module):
    def __init__(self, dim, fn):
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(dim), fn

    def forward(self, x):
        return self.fn(self.norm(x))


class SubspaceAttention(nn.Module):
    def __init__(self, dim, heads, dim_head):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, heads * dim_head, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, dim), nn.Dropout(0.0))

    def forward(self, x):
        m, n, _ = x.shape
        out = torch.zeros(m, n, self.qkv.out_features, dtype=x.dtype)
        p = self.qkv.out_features // self.heads
        for h in range(self.heads):
            w = x @ self.qkv.weight[h * p : (h + 1) * p].T
            attention = torch.softmax(w @ w.transpose(1, 2) / math.sqrt(p), dim=-1)
            out[:, :, h * p : (h + 1) * p] = attention @ w
        return self.to_out(out)


class SoftThreshold(nn.Module):
    """relu(x + 0.1 (D^T x - D^T D x) - 0.1 * 0.1), D^T x and D^T D x by themselves; tokens are columns."""

    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim, dim) / dim**0.5)

    def forward(self, x):
        D, columns = self.weight, x.transpose(1, 2)
        return torch.relu(columns + 0.1 * (D.T @ columns - D.T @ (D @ columns)) - 0.1 * 0.1).transpose(1, 2)


class PublishedCRATE(nn.Module):
    def __init__(self, size, patch, classes, dim, depth, heads, channels):
        super().__init__()
        n, numbers = (size // patch) ** 2, channels * patch**2
        self.patch, self.channels = patch, channels
        self.to_patch_embedding = nn.Sequential(
            nn.Identity(), nn.LayerNorm(numbers), nn.Linear(numbers, dim), nn.LayerNorm(dim)
        )
        self.pos_embedding, self.cls_token = (
            nn.Parameter(torch.randn(1, n + 1, dim)),
            nn.Parameter(torch.randn(1, 1, dim)),
        )
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList(
            nn.ModuleList([PreNorm(dim, SubspaceAttention(dim, heads, dim // heads)), PreNorm(dim, SoftThreshold(dim))])
            for _ in range(depth)
        )
        self.mlp_head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, classes))

    def forward(self, X):
        P = self.patch
        rows = [
            torch.stack(
                [X[:, c, i + a, j + b] for a in range(P) for b in range(P) for c in range(self.channels)], dim=1
            )
            for i in range(0, X.shape[2], P)
            for j in range(0, X.shape[3], P)
        ]
        x = self.to_patch_embedding(torch.stack(rows, dim=1))
        x = torch.cat([self.cls_token.repeat(len(X), 1, 1), x], dim=1) + self.pos_embedding
        for attention, ista in self.transformer.layers:
            x = ista(attention(x) + x)
        return self.mlp_head(x[:, 0])


class TokenStatistics(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, dim)
        self.temp = nn.Parameter(torch.rand(heads, 1) + 0.5)
        self.to_out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(0.0))

    def forward(self, x):
        w = self.qkv(x)
        p = w.shape[-1] // self.heads
        parts = [w[:, :, h * p : (h + 1) * p] for h in range(self.heads)]
        energy = torch.stack([(v**2 / (v**2).sum(1, keepdim=True)).sum(-1) for v in parts], dim=1)  # (m, heads, n)
        Pi = torch.softmax(energy * self.temp, dim=1)
        out = []
        for h, v in enumerate(parts):
            weight = Pi[:, h, :, None]
            second = (weight * v**2).sum(1, keepdim=True) / (weight.sum(1, keepdim=True) + 1e-8)
            out.append(-weight * v / (1 + second))
        return self.to_out(torch.cat(out, dim=-1))


class ClassAttention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        p = x.shape[-1] // self.heads
        out = []
        for h in range(self.heads):
            i = slice(h * p, (h + 1) * p)
            attention = torch.softmax((q[:, :1, i] * k[:, :, i]).sum(-1) / math.sqrt(p), dim=-1)
            out.append((attention[:, :, None] * v[:, :, i]).sum(1, keepdim=True))
        return torch.cat([self.proj(torch.cat(out, dim=-1)), x[:, 1:]], dim=1)


class Mlp(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class PublishedBlock(nn.Module):
    def __init__(self, dim, attention, of_class):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim, eps=1e-6), attention
        self.norm2, self.mlp, self.of_class = nn.LayerNorm(dim, eps=1e-6), Mlp(dim), of_class
        self.gamma1, self.gamma2 = nn.Parameter(torch.rand(dim)), nn.Parameter(torch.rand(dim))

    def forward(self, x):
        x = x + self.gamma1 * self.attn(self.norm1(x))
        if not self.of_class:
            return x + self.gamma2 * self.mlp(self.norm2(x))
        x = self.norm2(x)
        return x + torch.cat([self.gamma2 * self.mlp(x[:, :1]), x[:, 1:]], dim=1)


class PublishedToST(nn.Module):
    def __init__(self, classes, dim, depth, heads, stages, channels):
        super().__init__()
        sizes = [channels, *(dim // 2 ** (stages - 1 - i) for i in range(stages))]
        layers = []
        for a, b in pairwise(sizes):
            layers += [nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b)), nn.GELU()]
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Sequential(*layers[:-1])
        self.pos_embeder = nn.Module()
        self.pos_embeder.token_projection = nn.Conv2d(64, dim, 1)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.blocks = nn.ModuleList(PublishedBlock(dim, TokenStatistics(dim, heads), False) for _ in range(depth))
        self.cls_attn_blocks = nn.ModuleList(PublishedBlock(dim, ClassAttention(dim, heads), True) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, classes)

    def forward(self, X):
        x = self.patch_embed.proj(X)
        H, W = x.shape[2:]
        positions = torch.zeros(1, 64, H, W)
        for i in range(16):  # a wave in each axis, its sine and its cosine
            for row in range(H):
                angle = 2 * math.pi * (row + 1) / (H + 1e-6) / 10000 ** (2 * i / 32)
                positions[0, 2 * i, row, :], positions[0, 2 * i + 1, row, :] = math.sin(angle), math.cos(angle)
            for column in range(W):
                angle = 2 * math.pi * (column + 1) / (W + 1e-6) / 10000 ** (2 * i / 32)
                positions[0, 32 + 2 * i, :, column] = math.sin(angle)
                positions[0, 32 + 2 * i + 1, :, column] = math.cos(angle)
        x = (x + self.pos_embeder.token_projection(positions.to(x.dtype))).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        x = torch.cat([self.cls_token.repeat(len(X), 1, 1), x], dim=1)
        for block in self.cls_attn_blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


# --- Sizes, published weights ---


@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        (rooms.crate_tiny, 6_090_856), (rooms.crate_small, 13_116_328), (rooms.crate_base, 22_796_008),
        (rooms.crate_large, 77_641_192), (rooms.tost_tiny, 5_769_328), (rooms.tost_small, 22_589_944),
        (rooms.tost_medium, 71_481_064),
    ],
)  # fmt: skip
def test_published_sizes(make, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in make().parameters()) == parameters


def off(ours, theirs, X):
    """The largest difference of the logits beside the largest logit, both models in double precision."""
    with torch.no_grad():
        expected = theirs.double()(X.double())
        return float((ours.double()(X.double()) - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_weights_of_crate(prefix):
    torch.manual_seed(0)
    theirs = PublishedCRATE(12, 4, 5, 24, 3, 4, 2)
    state = {prefix + name: tensor for name, tensor in theirs.state_dict().items()}
    ours = load_published(state, heads=4, in_channels=2)
    assert isinstance(ours, CRATE)
    assert (ours.image_size, ours.patch_size, len(ours.blocks), ours.training) == ((12, 12), 4, 3, False)
    X = images(6, 2, 12, 12)
    assert off(ours, theirs, X) < 1e-12  # some thousand sums, each of a unit of 1e-16
    state[prefix + "pos_embedding"] = 2 * theirs.pos_embedding.detach()
    assert off(load_published(state, heads=4, in_channels=2), theirs, X) > 1e-3


def test_published_weights_of_tost():
    torch.manual_seed(0)
    theirs = PublishedToST(5, 24, 2, 4, 2, 3)
    with torch.no_grad():
        theirs(images(8, 3, 20, 12))  # so that the running statistics of the batches are not those of the start
    theirs.eval()
    ours = load_published(theirs.state_dict(), image_size=(20, 12))
    assert isinstance(ours, ToST)
    X = images(6, 3, 20, 12, seed=1)
    assert off(ours, theirs, X) < 1e-5  # positions are made in single precision, at angles up to 2 pi
    other = {name: tensor.flip(0) if "gamma" in name else tensor for name, tensor in theirs.state_dict().items()}
    assert off(load_published(other, image_size=(20, 12)), theirs, X) > 1e-3


def test_published_heads_are_known():
    with torch.device("meta"):
        theirs = PublishedCRATE(32, 16, 10, 384, 2, 6, 3)
    state = {name: torch.zeros(tensor.shape) for name, tensor in theirs.state_dict().items()}
    assert load_published(state).blocks[0].attention.heads == 6


# --- Blocks ---


def test_ista_has_two_products_for_three():
    """relu(x + s (D^T x - D^T D x) - s lam), in double precision."""
    torch.manual_seed(0)
    block = rooms.ISTABlock(7, step=0.3, lam=0.2).double()
    x, D = torch.randn(5, 4, 7, dtype=torch.float64), block.D.detach()
    three = torch.relu(x + 0.3 * (x @ D - (x @ D.T) @ D) - 0.3 * 0.2)
    assert 0 < (three == 0).double().mean() < 1
    # Each of 7 products of order 10, three times.
    torch.testing.assert_close(block(x).detach(), three, rtol=0, atol=3 * 7 * 10 * 2.3e-16)
    assert str(block) == "ISTABlock(dim=7, step=0.3, lam=0.2)"


def test_the_second_step_has_no_residual_connection():
    torch.manual_seed(0)
    block = rooms.CRATEBlock(6, 2)
    with torch.no_grad():
        block.ista.D.copy_(torch.eye(6))  # of which a step keeps what is there, less step * lam
        block.attention.out.weight.zero_()
        block.attention.out.bias.zero_()
    x = torch.randn(3, 4, 6)
    expected = torch.relu(nn.functional.layer_norm(x, (6,)) - 0.01)
    torch.testing.assert_close(block(x).detach(), expected, rtol=0, atol=1e-6)  # a unit of float32 each of a few sums


def test_one_head_of_the_whole_dimension_has_no_way_back():
    assert isinstance(rooms.MSSA(6, 1).out, nn.Identity)
    assert rooms.MSSA(6, 3, dim_head=5).U.out_features == 15


@pytest.mark.parametrize("make", [lambda: rooms.CRATEBlock(6, 2), lambda: rooms.ToSTBlock(6, 2)])
def test_gradients_of_blocks(make):
    torch.manual_seed(0)
    block = make().double()
    assert torch.autograd.gradcheck(block, (torch.randn(1, 3, 6, dtype=torch.float64).requires_grad_(),))


def test_order_of_tokens_does_not_matter_to_blocks():
    torch.manual_seed(0)
    order = torch.randperm(9)
    x = torch.randn(2, 9, 12, dtype=torch.float64)
    for block in (rooms.CRATEBlock(12, 3), rooms.ToSTBlock(12, 3)):
        block.double()
        torch.testing.assert_close(block(x[:, order]).detach(), block(x)[:, order].detach(), rtol=0, atol=1e-12)


def test_positions_of_rows_and_columns():
    positions = fourier_positions(torch.zeros(2, 5, 3, 4))
    assert positions.shape == (1, 64, 3, 4)
    assert torch.equal(positions[0, :32, :, 0], positions[0, :32, :, 3])
    assert torch.equal(positions[0, 32:, 0], positions[0, 32:, 2])
    assert positions[0, 0, :, 0].tolist() == pytest.approx([math.sin(2 * math.pi * k / 3) for k in (1, 2, 3)], abs=1e-5)


@pytest.mark.parametrize("make", [CRATE, ToST])
def test_models_learn_which_half_is_bright(make):
    torch.manual_seed(0)
    model = make((8, 12), 4, n_classes=2, dim=12, depth=2, heads=2, in_channels=1)
    y = torch.arange(40) % 2
    X = 0.3 * images(40, 1, 8, 12)
    X[y == 0, :, :, :6] += 1
    X[y == 1, :, :, 6:] += 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), y).backward()
        optimizer.step()
    assert all(parameter.grad is not None for parameter in model.parameters())
    X_new = 0.3 * images(40, 1, 8, 12, seed=1)
    X_new[y == 0, :, :, :6] += 1
    X_new[y == 1, :, :, 6:] += 1
    model.eval()
    assert float((model(X_new).argmax(1) == y).float().mean()) > 0.9
    assert model.tokens(X_new).shape == (40, 7, 12)


# --- Rates along the layers ---


@pytest.mark.parametrize(("n", "p"), [(9, 4), (4, 9), (5, 5)])
def test_rates_are_those_of_the_token_side_and_of_coding_rate(n, p):
    W = images(3, 2, n, p, dtype=torch.float64)
    rates = subspace_rate(W, 0.01)
    unit = W / W.norm(dim=-1, keepdim=True)
    tokens = torch.logdet(torch.eye(n, dtype=torch.float64) + p / (n * 0.01) * unit @ unit.mT).sum(1) / 2
    torch.testing.assert_close(rates, tokens, rtol=1e-12, atol=0)
    ours = [sum(rn.coding_rate(head.numpy(), epsilon_sq=0.01) for head in sample) for sample in unit]
    np.testing.assert_allclose(rates.numpy(), ours, rtol=1e-10)


def passing(model, block, X):
    """What comes into a block of a model, and what leaves it."""
    seen = []
    hook = block.register_forward_hook(lambda module, inputs, z: seen.extend((inputs[0], z)))
    with torch.no_grad():
        model(X)
    hook.remove()
    return seen


@pytest.mark.parametrize("make", [CRATE, ToST])
def test_probe(make):
    torch.manual_seed(0)
    model = make(8, 2, n_classes=3, dim=12, depth=3, heads=2, in_channels=1).double()
    X = images(7, 1, 8, 8, dtype=torch.float64)
    found = coding_rate_probe(model, X, epsilon_sq=0.02)
    assert len(found) == 3
    assert model.training
    model.eval()
    for block, layer in zip(model.blocks, found, strict=True):
        x, z = passing(model, block, X)
        w = block.attention.U(block.norm1(x)).detach().unflatten(-1, (2, 6)).transpose(1, 2)
        rates = subspace_rate(w, 0.02)
        assert layer.rate == pytest.approx(float(rates.mean()), rel=1e-12)
        assert layer.rate_std == pytest.approx(float(rates.std()), rel=1e-9)
        assert layer.nonzeros == pytest.approx(float((z != 0).double().mean()), rel=1e-6)
    assert (found[0].nonzeros < 1) == (make is CRATE)
    assert coding_rate_probe(model, X[:1])[0].rate_std == 0
    assert not model._forward_hooks
    assert not any(module._forward_hooks for module in model.modules())


# --- Errors ---

SMALL = {"n_classes": 2, "dim": 6, "depth": 1, "heads": 2}


def weights():
    return PublishedCRATE(8, 4, 2, 6, 1, 2, 3).state_dict()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: CRATE(8, 3, **SMALL), ValueError, "image_size is 8 and patch_size 3; expected multiples of"),
        (lambda: CRATE((8, 8, 8), 4, **SMALL), ValueError, r"image_size is \(8, 8, 8\); expected one number, or"),
        (lambda: CRATE("8", 4, **SMALL), TypeError, "image_size is '8' of type str; expected an integer"),
        (lambda: CRATE(8, 0, **SMALL), ValueError, "patch_size is 0; expected an integer >= 1"),
        (lambda: CRATE(8, 4, **{**SMALL, "heads": 4}), ValueError, "dim is 6 and heads 4; expected dim to be a"),
        (lambda: CRATE(8, 4, **{**SMALL, "n_classes": 0}), ValueError, "n_classes is 0; expected an integer >= 1"),
        (lambda: CRATE(8, 4, **{**SMALL, "depth": 1.5}), TypeError, "depth is 1.5 of type float; expected an integer"),
        (lambda: CRATE(8, 4, **SMALL, step=0), ValueError, "step is 0; expected a finite number > 0"),
        (lambda: CRATE(8, 4, **SMALL, lam=-1), ValueError, "lam is -1; expected a finite number >= 0"),
        (lambda: CRATE(8, 4, **SMALL)(torch.zeros(2, 1, 8, 8)), ValueError,
         r"X has shape \(2, 1, 8, 8\); expected \(m, 3, 8, 8\)"),
        (lambda: rooms.MSSA(6, 2, dim_head=0), ValueError, "dim_head is 0; expected an integer >= 1"),
        (lambda: rooms.TSSA(6, 4), ValueError, "dim is 6 and heads 4; expected dim to be a multiple of heads"),
        (lambda: ToST(12, 6, **SMALL), ValueError, "patch_size is 6; expected a power of two"),
        (lambda: ToST(8, 8, **SMALL), ValueError, "dim is 6 and patch_size 8; expected dim to be a multiple"),
        (lambda: ToST(8, 4, **SMALL, mlp_ratio=0), ValueError, "mlp_ratio is 0; expected an integer >= 1"),
        (lambda: ToST(8, 4, **SMALL, layer_scale=-1), ValueError, "layer_scale is -1; expected a finite number > 0"),
        (lambda: ToST(8, 4, **SMALL)(torch.zeros(2, 3, 4, 8)), ValueError,
         r"X has shape \(2, 3, 4, 8\); expected \(m, 3, 8, 8\)"),
        (lambda: coding_rate_probe(nn.Linear(2, 2), torch.zeros(1, 2)), TypeError,
         "model is a Linear; expected a CRATE or ToST"),
        (lambda: coding_rate_probe(CRATE(8, 4, **SMALL), torch.zeros(1, 3, 8, 8), epsilon_sq=0), ValueError,
         "epsilon_sq is 0; expected a finite number > 0"),
        (lambda: load_published({"model": 1}), ValueError, r"state_dict holds model, ...; expected the publ"),
        (lambda: load_published(weights()), ValueError,
         "heads is None and dim 6; expected heads, or one of the published dims 384, 576, 768, 1024"),
        (lambda: load_published({**weights(), "more": torch.ones(1)}, heads=2),
         ValueError, "state_dict has unknown or missing tensors, by our names: more"),
        (lambda: load_published(weights(), heads=2, in_channels=5), ValueError,
         r"state_dict has shape \(48,\) at embed\.0\.weight; expected \(45,\)"),
    ],
)  # fmt: skip
def test_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
