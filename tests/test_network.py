"""The network as an object: sizes, `repr`, layers, immutability, new samples in any pieces."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from oracle import relative, rounding

import redunet as rn


def problem(shape, k=2, dtype=float):
    rng = np.random.default_rng(0)
    X = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        X = X + 1j * rng.standard_normal(shape)
    return X.astype(dtype), np.arange(shape[0]) % k


def network(shape=(9, 3, 4), n_layers=4, **options):
    return rn.build(*problem(shape), n_layers=n_layers, **options)[0]


def assert_read_only(value):
    """No array that an object holds, at any depth, may be written."""
    if isinstance(value, np.ndarray):
        assert not value.flags.writeable
        return
    for part in getattr(value, "__dict__", {}).values():
        assert_read_only(part)


class TestRepr:
    def test_of_signals(self, backend):
        net = network((9, 3, 8))
        delta = net.rates.delta
        assert repr(net) == (
            f"ReduNet(4 layers, 2 classes, C=3 on 8, float64; 8.438 KiB; Delta R {delta[0]:.4g} -> {delta[-1]:.4g})"
        )  # 4 layers, 3 operators, 5 frequencies of 3 x 3 complex numbers of 16 bytes: 8640 bytes

    def test_of_vectors_and_images(self, backend):
        assert "2 classes, d=5, float64; " in repr(network((9, 5)))
        assert "C=2 on 3x5, float64; " in repr(network((9, 2, 3, 5)))

    def test_says_what_is_factored_and_what_is_not_kept(self, backend):
        assert "2 of 3 operators factored" in repr(network((8, 9, 4)))
        assert "operators not kept; Delta R" in repr(network(keep="features"))

    @pytest.mark.parametrize(
        ("size", "text"), [(24, "24 B"), (1024, "1 KiB"), (3 << 19, "1.5 MiB"), (5 << 30, "5 GiB")]
    )
    def test_sizes_are_readable(self, size, text):
        from redunet.network.redunet import _bytes

        assert _bytes(size) == text

    def test_of_everything_is_ascii(self):
        """Standard output may have any encoding: on Windows a pipe has the code page's."""
        net = network()
        subspaces = rn.NearestSubspace(2).fit(*problem((9, 3)))
        neighbours = rn.CosineNeighbors(2).fit(*problem((9, 3)))
        lift = rn.RandomLift(2, (2, 3), activation="soft", threshold=1.0)
        reduction = rn.rate_reduction(*problem((9, 3)), per_class=True)
        parts = [net.rates, net.layers, net.layers[0], net.operators, net.fourier, reduction]
        for thing in (net, *parts, subspaces, neighbours, lift, network(keep="features"), network((9, 2, 3, 5))):
            assert repr(thing).isascii()
            assert str(thing).isascii()

    @pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp932", "utf-16"])
    def test_is_printed_in_any_encoding(self, encoding):
        code = "import numpy as np, redunet as rn; print(rn.build(np.ones((4, 2, 3, 2)), [0, 0, 1, 1], n_layers=1)[0])"
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": encoding},
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.decode(encoding).startswith("ReduNet(1 layers, 2 classes, C=2 on 3x2, float64; ")

    def test_of_a_layer(self, backend):
        layer = network(eta=0.25).layers[0]
        assert repr(layer) == "Layer(eta=0.25, lam=500, n_classes=2)"


class TestAttributes:
    def test_tell_the_problem(self, backend):
        X, y = problem((9, 3, 5, 4), dtype=np.float32)
        net, _ = rn.build(X, y, n_layers=2, epsilon_sq=0.2, lam=7, assignment="given", dft_norm="backward", eta=0.1)
        assert (net.n_layers, net.n_classes, net.n_channels, net.signal_shape) == (2, 2, 3, (5, 4))
        assert (net.epsilon_sq, net.lam, net.assignment, net.dft_norm) == (0.2, 7.0, "given", "backward")
        assert net.dtype == np.float32
        assert net.backend == backend
        np.testing.assert_array_equal(net.etas, [0.1, 0.1])
        assert net.rates.rate.shape == net.rates.delta.shape == net.rates.class_rate.shape == (3,)
        assert net.rates.per_class.shape == (3, 2)
        # Three operators, 5 * (4 // 2 + 1) frequencies of 3 x 3 numbers, 8 bytes each, 2 layers.
        assert net.nbytes == 2 * 3 * 15 * 9 * 8

    @pytest.mark.parametrize(
        ("shape", "freqs"),
        [((9, 3), ()), ((9, 3, 7), (4,)), ((9, 3, 1), (1,)), ((9, 3, 5, 6), (5, 4)), ((9, 3, 1, 1), (1, 1))],
        ids=str,
    )
    def test_operators_have_the_shape_of_the_whole_problem(self, backend, shape, freqs):
        X, y = problem(shape, dtype=complex)
        for samples, expected in ((X.real, freqs), (X, shape[2:])):
            net, _ = rn.build(samples, y, n_layers=1)
            assert net.layers[0].E.shape == (3, 3, *expected)
            assert net.layers[0].Cs.shape == (2, 3, 3, *expected)
            assert net.layers[0].gammas.shape == (2,)
            assert net.fourier.freq_shape == expected


class TestLayers:
    def test_are_a_sequence(self, backend):
        net = network()
        layers = net.layers
        assert len(layers) == 4
        assert len(list(layers)) == 4
        np.testing.assert_array_equal(layers[-1].E, layers[3].E)
        np.testing.assert_array_equal(layers[np.int64(2)].E, layers[2].E)
        assert [layer.eta for layer in layers] == net.etas.tolist()
        assert [layer.eta for layer in reversed(layers)] == net.etas[::-1].tolist()
        assert relative(layers[0].E, layers[1].E) > 1e-3  # they do differ

    def test_may_be_sliced(self, backend):
        layers = network().layers
        for part in (slice(None), slice(1, 3), slice(None, None, -2), slice(5, 9), slice(-2, None)):
            got = layers[part]
            assert isinstance(got, list)
            expected = range(4)[part]
            assert len(got) == len(expected)
            for layer, index in zip(got, expected, strict=True):
                np.testing.assert_array_equal(layer.Cs, layers[index].Cs)

    @pytest.mark.parametrize("index", [4, -5, 99])
    def test_end(self, backend, index):
        with pytest.raises(IndexError, match=f"layer {index} of a network of 4 layers"):
            network().layers[index]


class TestImmutability:
    def test_attributes_cannot_be_set(self, backend):
        net = network()
        for target, name in ((net, "etas"), (net, "n_channels"), (net.rates, "rate")):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(target, name, None)
        for name in ("E", "Cs", "eta", "lam", "gammas"):
            with pytest.raises(AttributeError):
                setattr(net.layers[0], name, None)

    @pytest.mark.parametrize("shape", [(9, 3), (9, 3, 4), (5, 12)], ids=str)
    def test_its_arrays_cannot_be_written(self, backend, shape):
        net = network(shape)
        arrays = [net.classes_, net.etas, net.rates.rate, net.rates.per_class, net.layers[0].gammas]
        arrays += [net.operators.dense, net.operators.factors]
        for array in arrays:
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0

    @pytest.mark.parametrize("keep", ["operators", "features"])
    @pytest.mark.parametrize("shape", [(9, 3), (9, 3, 4), (5, 12)], ids=str)
    def test_copies_cannot_be_written_either(self, shape, keep):
        net = network(shape, keep=keep)
        copies = {f"pickle {p}": pickle.loads(pickle.dumps(net, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)}
        copies |= {"copy": copy.copy(net), "deepcopy": copy.deepcopy(net), "replace": dataclasses.replace(net, lam=2.0)}
        copies["a copy of a copy"] = copy.deepcopy(copies["pickle 2"])
        for other in copies.values():
            assert_read_only(other)
            np.testing.assert_array_equal(other.classes_, net.classes_)
            np.testing.assert_array_equal(other.rates.per_class, net.rates.per_class)
            if keep == "operators":
                np.testing.assert_array_equal(other.layers[1].Cs, net.layers[1].Cs)

    @pytest.mark.parametrize("part", ["rates", "operators", "layers"])
    def test_nor_can_copies_of_its_parts(self, part):
        value = getattr(network(), part)
        for other in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
            assert_read_only(other)

    @pytest.mark.parametrize("shape", [(9, 3), (9, 3, 4), (5, 12)], ids=str)
    def test_use_does_not_change_it(self, backend, shape):
        net = network(shape)
        X, _ = problem(shape)
        before = net.operators.dense.copy(), net.operators.factors.copy(), net.transform(X)
        for array in (
            net.layers[0].E,
            net.layers[0].Cs,
        ):  # theirs or the network's, but never written through
            if array.flags.writeable:
                array[...] = 0
        net.rates.delta[...] = 0
        net.assign(X)
        np.testing.assert_array_equal(net.operators.dense, before[0])
        np.testing.assert_array_equal(net.operators.factors, before[1])
        np.testing.assert_array_equal(net.transform(X), before[2])
        assert net.rates.delta[0] != 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64])
@pytest.mark.parametrize("shape", [(33, 4), (33, 3, 5), (17, 2, 3, 4), (9, 20, 3)], ids=str)
class TestNewSamples:
    def test_have_features_of_unit_norm_and_assignments_that_sum_to_one(self, backend, shape, dtype):
        X, y = problem(shape, k=3, dtype=dtype)
        net, _ = rn.build(X, y, n_layers=2)
        new = X[:7][::-1] + X[:7]
        Z, pi = net.transform(new), net.assign(new)
        unit = float(np.finfo(dtype).eps) * Z[0].size
        assert Z.shape == new.shape
        assert Z.dtype == dtype
        assert pi.shape == (7, 3)
        assert pi.dtype == np.float64
        assert (pi >= 0).all()
        assert np.abs(pi.sum(axis=1) - 1).max() < 3 * np.finfo(dtype).eps
        assert np.abs(np.linalg.norm(Z.reshape(7, -1), axis=1) - 1).max() < 4 * unit

    def test_of_training_end_where_training_ended(self, backend, shape, dtype):
        """The same path, though training may sort its samples."""
        X, y = problem(shape, k=3, dtype=dtype)
        net, Z = rn.build(X, y, n_layers=1, lam=1.0)
        assert relative(net.transform(X), Z) < (1e-4 if np.finfo(dtype).bits == 32 else 1e-10)

    def test_in_pieces_are_the_pieces(self, backend, shape, dtype, monkeypatch):
        """No sample depends on its neighbours, up to sums that are ordered by the number of columns."""
        X, y = problem(shape, k=3, dtype=dtype)
        net, _ = rn.build(X, y, n_layers=1, lam=1.0, epsilon_sq=0.5)
        Z, pi = net.transform(X), net.assign(X)
        slack = rounding(
            dtype,
            C=shape[1],
            N=int(np.prod(shape[2:])),
            epsilon_sq=0.5,
            lam=1.0,
            alpha_max=float(net.operators.alphas.max()),
        )
        for piece in (slice(0, 1), slice(3, 4), slice(0, 16), slice(2, None), slice(None, None, 2)):
            assert relative(net.transform(X[piece]), Z[piece]) < slack
            assert relative(net.assign(X[piece]), pi[piece]) < slack
        monkeypatch.setattr("redunet.transforms.cyclic.CHUNK_BYTES", 300)
        np.testing.assert_array_equal(net.transform(X), Z)


def test_real_samples_fit_a_complex_network(backend):
    X, y = problem((9, 3, 4), dtype=complex)
    net, _ = rn.build(X, y, n_layers=2)
    assert relative(net.transform(X.real), net.transform(X.real.astype(complex))) == 0
    assert net.transform(X.real).dtype == complex


def test_public_names():
    """Every name of `__all__` is there, and `dir` shows it before it is imported."""
    assert set(rn.__all__) <= set(dir(rn))
    for name in (
        "build",
        "ReduNet",
        "RateReduction",
        "coding_length",
        "coding_rate",
        "load",
        "linalg",
        "show_config",
    ):
        assert getattr(rn, name) is not None
    with pytest.raises(AttributeError, match=re.escape("module 'redunet' has no attribute 'bild'")):
        _ = rn.bild
