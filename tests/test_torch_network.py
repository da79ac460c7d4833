"""`redunet.torch.ReduNet` against the network that it is made of; heads; what a module of PyTorch has to do."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from torch_support import import_torch

import redunet as rn

torch = import_torch()

from redunet.torch import LinearHead, NearestSubspaceHead, ReduNet  # noqa: E402

#: Shape of samples, dtype, and options of build.
KINDS = {
    "vectors": ((30, 5), "f4", {}),
    "complex vectors": ((30, 5), "c16", {}),
    "signals": ((30, 4, 9), "f8", {}),
    "even signals": ((30, 4, 8), "f4", {"eta": 0.5}),
    "complex signals": ((30, 3, 6), "c8", {}),
    "images": ((24, 3, 5, 6), "f8", {"dft_norm": "backward"}),
    "mirrored signals": ((30, 4, 7), "f8", {"group": "dihedral"}),
    "mirrored images": ((24, 3, 4, 5), "f4", {"group": "dihedral"}),
    "mirrored complex images": ((24, 3, 5, 4), "c16", {"group": "dihedral"}),
    "momentum": ((30, 4, 9), "f8", {"momentum": True}),
    "small classes": ((12, 16, 5), "f8", {}),
}


def samples(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal(shape)
    return (X + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else X).astype(dtype)


def built(kind="signals", **options):
    shape, dtype, given = KINDS[kind]
    X = samples(shape, dtype)
    net, Z = rn.build(X, np.arange(len(X)) % 3, n_layers=4, lam=30.0, **given, **options)
    return X, net, Z


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def close(tensor, array, net, factor=1.0):
    """Four layers double an error each at most, of gates by lam = 30; single precision 6e-8, double 1e-16."""
    tolerance = factor * (1e-4 if net.dtype in (np.float32, np.complex64) else 1e-12)
    np.testing.assert_allclose(tensor.detach().numpy(), array, atol=tolerance)


class TestNetwork:
    def test_has_the_features_of_the_network(self, kind):
        _, net, _ = built(kind)
        X = samples(KINDS[kind][0], KINDS[kind][1], seed=5)
        close(ReduNet(net)(torch.from_numpy(X)), net.transform(X), net)

    def test_goes_back_to_the_last_bit(self, kind):
        X, net, _ = built(kind)
        back = ReduNet(net, learn=("operators", "lam")).to_network()
        assert np.array_equal(back.etas, net.etas)
        assert (back.lam, back.dtype, back.group) == (net.lam, net.dtype, net.group)
        for a, b in zip(back.layers, net.layers, strict=True):
            np.testing.assert_array_equal(a.E, b.E)
            np.testing.assert_array_equal(a.Cs, b.Cs)
        if kind != "small classes":  # whose factors have become dense
            np.testing.assert_array_equal(back.transform(X), net.transform(X))
        again = ReduNet(back).to_network()
        np.testing.assert_array_equal(again.operators.dense, back.operators.dense)

    def test_a_trained_network_is_saved_and_loaded(self, tmp_path):
        X, net, _ = built()
        module = ReduNet(net, learn=("operators", "eta", "lam"))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(1.1)
        back = module.to_network()
        back.save(tmp_path / "net")
        close(module(torch.from_numpy(X)), rn.load(tmp_path / "net").transform(X), net)
        assert back.lam == pytest.approx(1.1 * net.lam)
        assert np.abs(back.etas / net.etas - 1.1).max() < 1e-12

    @pytest.mark.parametrize("kind", ["signals", "mirrored images", "complex signals", "vectors", "momentum"])
    def test_gradient_to_samples(self, kind):
        """Central differences in double precision, of noise in the samples: h^2 times third derivatives of 30^3."""
        _, net, _ = built(kind)
        wide = np.result_type(KINDS[kind][1], np.float64)
        module = ReduNet(net).to(torch.float64)
        X, d = (torch.from_numpy(samples((4, *KINDS[kind][0][1:]), wide, seed)) for seed in (6, 7))
        X.requires_grad_()
        noise = torch.from_numpy(samples(tuple(X.shape), wide, 8))

        def loss(X):
            return (noise.conj() * module(X)).real.sum()

        loss(X).backward()
        h = 1e-5
        with torch.no_grad():
            slope = (loss(X + h * d) - loss(X - h * d)) / (2 * h)
        assert abs(float(slope) - float((X.grad.conj() * d).real.sum())) < 1e-5 * float(X.grad.norm() * d.norm())

    def test_coordinates_are_an_isometry(self, kind):
        _, net, _ = built(kind)
        X = torch.from_numpy(samples(KINDS[kind][0], KINDS[kind][1], 3))
        module = ReduNet(net)
        Z, coordinates = module(X).flatten(1), module(X, spectral=True)
        assert not coordinates.is_complex()
        close(coordinates @ coordinates.T, (Z @ Z.mH).real.detach().numpy(), net)

    @pytest.mark.filterwarnings("ignore:.*autocast.* is deprecated:FutureWarning")  # PyTorch 2.4, its own
    def test_checkpoints_give_the_same_gradient(self):
        for kind in ("signals", "momentum"):
            X, net, _ = built(kind)
            found = []
            for every in (0, 1, 3, 7):
                module = ReduNet(net, learn=("operators", "eta", "lam"), checkpoint_every=every)
                module(torch.from_numpy(X)).sin().sum().backward()
                found.append([parameter.grad for parameter in module.parameters()])
            for other in found[1:]:
                for a, b in zip(other, found[0], strict=True):
                    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)

    def test_checkpoints_keep_less(self):
        X, net, _ = built()
        sizes = []
        for every in (0, 4):
            kept = []
            with torch.autograd.graph.saved_tensors_hooks(lambda x, kept=kept: kept.append(x) or x, lambda x: x):
                ReduNet(net, checkpoint_every=every)(torch.from_numpy(X))
            sizes.append(sum(x.nbytes for x in {x.data_ptr(): x for x in kept}.values()))
        assert sizes[1] < sizes[0] / 2

    def test_what_is_learnt(self):
        _, net, _ = built()
        names = {
            learn: {name for name, _ in ReduNet(net, learn=learn).named_parameters()}
            for learn in ((), "lam", ("operators",), ("eta", "lam"))
        }
        assert names[()] == set()
        assert names["lam"] == {"lam"}
        assert names[("operators",)] == {f"layers.{i}.operators" for i in range(4)}
        assert names[("eta", "lam")] == {"lam", *(f"layers.{i}.eta" for i in range(4))}
        module = ReduNet(net, learn=("operators", "eta", "lam"))
        module(torch.from_numpy(samples((5, 4, 9), "f8", 2))).sin().sum().backward()
        assert all(float(parameter.grad.abs().max()) > 0 for parameter in module.parameters())

    def test_state_dict(self):
        """Into a module of other numbers, to the last bit; not into one of another shape."""
        X, net, _ = built()
        _, other, _ = built(epsilon_sq=0.3)
        for learn in (("operators",), ("operators", "eta", "lam")):
            one, two = ReduNet(net, learn=learn), ReduNet(other, learn=learn)
            two.load_state_dict(pickle.loads(pickle.dumps(one.state_dict())), strict=True)
            np.testing.assert_array_equal(two(torch.from_numpy(X)).detach(), one(torch.from_numpy(X)).detach())
            np.testing.assert_array_equal(two.to_network().operators.alphas, net.operators.alphas)
            np.testing.assert_array_equal(two.to_network().etas, net.etas)
        _, images, _ = built("images")
        with pytest.raises(ValueError, match="the state is of a network with n_channels = 4; expected 3"):
            ReduNet(images).load_state_dict(ReduNet(net).state_dict())
        state = ReduNet(net).state_dict()
        del state["layers.2.operators"]
        with pytest.raises(RuntimeError, match=r"Missing key\(s\).*layers.2.operators"):
            ReduNet(net).load_state_dict(state)
        state = ReduNet(net).state_dict()
        state["_extra_state"]["shape"]["group"] = "dihedral"
        with pytest.raises(ValueError, match="the state is of a network with group = dihedral; expected cyclic"):
            ReduNet(net).load_state_dict(state)

    def test_is_saved_as_weights_only(self, tmp_path):
        X, net, _ = built()
        module = ReduNet(net)
        torch.save(module.state_dict(), tmp_path / "state")
        other = ReduNet(net).randomize(torch.Generator().manual_seed(0))
        other.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
        close(other(torch.from_numpy(X)), net.transform(X), net)

    def test_precision_is_the_parameters(self):
        X, net, _ = built("even signals")
        module = ReduNet(net)
        single, double = module(torch.from_numpy(X)), copy.deepcopy(module).to(torch.float64)(torch.from_numpy(X))
        assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
        assert ReduNet(net).to(torch.float64).to_network().dtype == np.float64
        close(single.double(), double.detach().numpy(), net)
        with torch.autocast("cpu", torch.bfloat16):
            assert module(torch.from_numpy(X).bfloat16()).dtype == torch.float32

    def test_meta_device(self):
        _, net, _ = built()
        module = ReduNet(net).to("meta")
        assert module(torch.empty(7, 4, 9, device="meta")).shape == (7, 4, 9)

    def test_random_kernels_are_as_large(self, kind):
        X, net, _ = built(kind)
        module, other = ReduNet(net), ReduNet(net).randomize(torch.Generator().manual_seed(1))
        again = ReduNet(net).randomize(torch.Generator().manual_seed(1))
        for a, b, c in zip(other.layers, module.layers, again.layers, strict=True):
            assert torch.equal(a.operators, c.operators)
            total, expected = (float(x.operators.detach().double().square().sum()) for x in (a, b))
            assert 0.5 < total / expected < 2  # a sum of some hundreds of squares
            assert not torch.allclose(a.operators, b.operators)
        features = other(torch.from_numpy(X))
        assert features.shape == X.shape
        assert features.is_complex() == np.iscomplexobj(X)

    def test_trains(self):
        """Of a small problem the loss falls, with every kind of parameter."""
        X, net, _ = built("even signals")
        y = torch.arange(len(X)) % 3
        model = torch.nn.Sequential(ReduNet(net, learn=("operators", "eta", "lam")), LinearHead(4 * 8, 3))
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        losses = []
        for _ in range(40):
            loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(X)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(np.log(3), rel=1e-6)
        assert losses[-1] < 0.5 * losses[0]

    def test_walk_is_advance_step_by_step(self):
        for kind in ("signals", "momentum"):
            X, net, _ = built(kind)
            module = ReduNet(net)
            V = module.spectra(torch.from_numpy(X))
            along = list(module.walk(V))
            assert len(along) == 4
            torch.testing.assert_close(along[-1][0], module.advance(V), rtol=0, atol=0)
            np.testing.assert_allclose(along[-1][1], net.assign(X), atol=1e-11)

    def test_another_sharpness(self):
        X, net, _ = built()
        softer = dataclasses.replace(net, lam=2.0, _operators=dataclasses.replace(net.operators, lam=2.0))
        for learn in ((), "lam"):
            module = ReduNet(net, learn=learn).set_lam(2.0)
            close(module(torch.from_numpy(X)), softer.transform(X), net)
            assert len(list(module.parameters())) == len(learn[:1])
        with pytest.raises(ValueError, match=r"^lam is -1\.0; expected a finite number >= 0$"):
            ReduNet(net).set_lam(-1.0)

    def test_zeros_stay_zeros(self):
        X, net, _ = built()
        X[3] = 0
        X = torch.from_numpy(X).requires_grad_()
        Z = ReduNet(net)(X)
        assert not Z[3].any()
        Z.sum().backward()
        assert bool(torch.isfinite(X.grad).all())

    def test_errors(self):
        X, net, _ = built()
        X = torch.from_numpy(X)
        features, _ = rn.build(X.numpy(), np.arange(len(X)) % 3, n_layers=1, keep="features")
        module = ReduNet(net)
        for make, error, message in (
            (lambda: ReduNet(3), TypeError, "^net is a int; expected a redunet.ReduNet$"),
            (lambda: ReduNet(features), ValueError, '^this network was built with keep="features"'),
            (lambda: ReduNet(net, learn=("E",)), ValueError,
             "^learn is 'E'; expected one of 'operators', 'eta', 'lam'$"),
            (lambda: ReduNet(net, checkpoint_every=-1), ValueError,
             "^checkpoint_every is -1; expected an integer >= 0$"),
            (lambda: module(X.numpy()), TypeError, "^X is a ndarray; expected a tensor$"),
            (lambda: module(X[:, :3]), ValueError,
             r"^X has shape \(30, 3, 9\); this network expects \(m, 4, 9\)$"),
            (lambda: module(X.to(torch.complex128)), TypeError,
             "^X has dtype torch.complex128; this network was built from real samples$"),
            (lambda: module(X / 0), ValueError, "^features of sample 0 are NaN or infinite after the layer"),
        ):  # fmt: skip
            with pytest.raises(error, match=message):
                make()
        for name in ("lam", "eta"):
            learnt = ReduNet(net, learn=name)
            with torch.no_grad():
                next(learnt.parameters()).fill_(-1.0)
            with pytest.raises(ValueError, match=rf"^{name} is -1\.0; expected a number >= 0$"):
                learnt.to_network()

    def test_is_immutable_beside_its_parameters(self):
        _, net, _ = built()
        module = ReduNet(net, learn=())
        with torch.no_grad():
            module.layers[0].operators.zero_()
        assert np.abs(net.operators.dense[0]).max() > 0
        assert dataclasses.replace(net).etas is net.etas


class TestLinearHead:
    def test_starts_at_zero_and_scales(self):
        head = LinearHead(12, 4)
        Z = torch.randn(3, 3, 4, generator=torch.Generator().manual_seed(0))
        assert not head(Z).any()
        with torch.no_grad():
            head.linear.weight.copy_(torch.eye(12)[:4])
        torch.testing.assert_close(head(Z), Z.flatten(1)[:, :4] * 12**0.5)

    def test_errors(self):
        with pytest.raises(ValueError, match=r"^n_features is 0; expected an integer >= 1$"):
            LinearHead(0, 2)
        with pytest.raises(TypeError, match=r"^n_classes is 2\.0 of type float; expected an integer$"):
            LinearHead(3, 2.0)
        with pytest.raises(ValueError, match=r"^Z has shape \(2, 5\); expected 4 numbers of each sample$"):
            LinearHead(4, 2)(torch.zeros(2, 5))


class TestNearestSubspaceHead:
    @pytest.mark.parametrize("dtype", ["f8", "c16"])
    @pytest.mark.parametrize("learn", [False, True])
    def test_is_the_classifier(self, dtype, learn):
        Z = samples((40, 3, 4), dtype)
        classifier = rn.NearestSubspace(4).fit(Z, np.arange(40) % 3)
        head = NearestSubspaceHead(classifier, beta=3.0, learn=learn).to(torch.float64 if dtype == "f8" else None)
        new = samples((20, 3, 4), dtype, 1)
        logits = head(torch.from_numpy(new))
        np.testing.assert_allclose(logits.detach(), -3.0 * classifier.scores(new), rtol=1e-5, atol=1e-4)
        assert len(list(head.parameters())) == 2 * learn
        np.testing.assert_array_equal(classifier.classes_[logits.argmax(1)], classifier.predict(new))

    def test_gradient(self):
        Z = samples((40, 3, 4), "f8")
        head = NearestSubspaceHead(rn.NearestSubspace(4).fit(Z, np.arange(40) % 3), learn=True).double()
        z = torch.from_numpy(samples((5, 12), "f8", 1)).requires_grad_()
        assert torch.autograd.gradcheck(head, (z,))

    def test_errors(self):
        fitted = rn.NearestSubspace(1).fit(np.eye(4), [0, 0, 1, 1])
        with pytest.raises(TypeError, match=r"^classifier is a int; expected a redunet.NearestSubspace$"):
            NearestSubspaceHead(3)
        with pytest.raises(ValueError, match=r"^classifier is not fitted; call its fit first$"):
            NearestSubspaceHead(rn.NearestSubspace(2))
        with pytest.raises(ValueError, match=r"^beta is 0; expected a finite number > 0$"):
            NearestSubspaceHead(fitted, beta=0)
        with pytest.raises(ValueError, match=r"^Z has shape \(2, 5\); expected 4 numbers of each sample$"):
            NearestSubspaceHead(fitted)(torch.zeros(2, 5))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit:DeprecationWarning")
def test_a_trace_is_good_for_batches_of_its_size():
    X, y = np.random.default_rng(0).standard_normal((20, 3, 8)).astype(np.float32), np.arange(20) % 2
    module = ReduNet(rn.build(X, y, n_layers=2)[0])
    traced = torch.jit.trace(module, torch.from_numpy(X))
    other = torch.from_numpy(X[::-1].copy())
    assert torch.equal(traced(other), module(other))
