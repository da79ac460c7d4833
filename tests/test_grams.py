"""`ClassGrams` and `forget_class`: what is added and forgotten is what would have been built without it.

Bounds: `grams.bounds` itself where Gram matrices are compared with those made anew, in the norm that it is stated in;
what `test_backends` promises of a layer, 1e-4 in single and 1e-10 in double precision, where layers and features are.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import pickle
import struct
import warnings
from dataclasses import replace

import numpy as np
import pytest
from oracle import relative

import redunet as rn
from redunet.network import class_gram
from redunet.network.grams import LARGEST_ERROR

#: Samples of three classes: shape, dtype, group.
KINDS = {
    "vectors": ((61, 6), "f8", "cyclic"),
    "vectors, single": ((50, 33), "f4", "cyclic"),
    "vectors, complex": ((40, 5), "c16", "cyclic"),
    "signals": ((45, 4, 9), "f8", "cyclic"),
    "signals, single": ((45, 12, 8), "f4", "cyclic"),
    "images": ((30, 3, 4, 5), "f8", "cyclic"),
    "images, complex": ((30, 2, 5, 3), "c8", "cyclic"),
    "signals, dihedral": ((41, 3, 8), "f8", "dihedral"),
    "images, dihedral": ((32, 2, 4, 3), "f4", "dihedral"),
}
LABELS = np.array(["a", "bird", "c"])


def samples(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal(shape)
    X = X + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else X
    y = LABELS[rng.permutation(np.arange(shape[0]) % 3)]
    X = X + 2 * rng.standard_normal((3, *shape[1:]))[np.searchsorted(LABELS, y)]
    return X.astype(dtype), y


@pytest.fixture(params=KINDS)
def kind(request, monkeypatch):
    """Samples, labels, group and what layers agree to; pieces are short, so that there are several."""
    monkeypatch.setattr(class_gram, "PIECE", 7)
    shape, dtype, group = KINDS[request.param]
    return *samples(shape, dtype), group, 1e-4 if dtype in ("f4", "c8") else 1e-10


def same(a, b):
    """To the last bit."""
    for one, other in zip(a._classes, b._classes, strict=True):
        assert one.label.dtype == other.label.dtype
        assert (one.name, one.size, one.error) == (other.name, other.size, other.error)
        assert one.gram.tobytes() == other.gram.tobytes()
    for name in ("n_channels", "signal_shape", "group", "real"):
        assert getattr(a, name) == getattr(b, name)


def distances(a, b):
    """Of each class, relative to its size, in the norm of `bounds`."""
    weights = a.fourier.freq_weights / a.fourier.n_columns
    pairs = zip(a._classes, b._classes, strict=True)
    return np.array([weights @ np.linalg.norm(x.gram - y.gram, axis=(1, 2)) / y.size for x, y in pairs])


def agree(a, b):
    """To both bounds, which are small."""
    assert a.classes_.tolist() == b.classes_.tolist()
    np.testing.assert_array_equal(a.sizes, b.sizes)
    assert (a.bounds + b.bounds < 1e-11).all()
    assert (distances(a, b) <= a.bounds + b.bounds).all()


def test_grams_are_sums_over_samples(backend, kind):
    X, y, group, _ = kind
    grams = rn.ClassGrams.of(X, y, group=group)
    assert grams.grams.shape == (3, X.shape[1], X.shape[1], *grams.fourier.freq_shape)
    assert grams.grams.dtype == grams.fourier.spectral_dtype(np.dtype("f8" if grams.real else "c16"))
    norms = np.linalg.norm(X.reshape(len(X), -1).astype(np.result_type(X, "f8")), axis=1)
    Z = X.astype(np.result_type(X, "f8")) / norms.reshape(-1, *[1] * (X.ndim - 1))
    for one, label in zip(grams._classes, LABELS, strict=True):
        V = grams.fourier._spectra(Z[y == label]).reshape(
            -1, X.shape[1], grams.fourier.n_freqs, grams.fourier.n_columns
        )
        direct = np.einsum("icph,idph->pcd", V, V.conj())
        assert np.abs(direct - one.gram).max() <= 4 * one.error
        np.testing.assert_array_equal(one.gram, one.gram.conj().swapaxes(-1, -2))


def test_added_piece_by_piece(backend, kind):
    X, y, group, _ = kind
    whole = rn.ClassGrams.of(X, y, group=group)
    grams = rn.ClassGrams.of(X[:1], y[:1], group=group)
    for start in range(1, len(X), 11):
        grams = grams.add(X[start : start + 11], y[start : start + 11])
    agree(grams, whole)


def test_forgotten_samples_are_those_never_added(backend, kind):
    X, y, group, _ = kind
    gone = np.random.default_rng(1).permutation(len(X))[: len(X) // 2]
    rest = np.setdiff1d(np.arange(len(X)), gone)
    left = rn.ClassGrams.of(X, y, group=group).forget(X[gone], y[gone])
    agree(left, rn.ClassGrams.of(X[rest], y[rest], group=group))
    few = [np.flatnonzero(y == label)[0] for label in LABELS]
    agree(left.add(X[gone], y[gone]), rn.ClassGrams.of(X, y, group=group))
    others = np.setdiff1d(np.arange(len(X)), few)
    last = rn.ClassGrams.of(X, y, group=group).forget(X[others], y[others])
    agree(last, rn.ClassGrams.of(X[few], y[few], group=group))


def test_a_forgotten_class_leaves_no_bit(backend, kind, tmp_path):
    """Whatever the order in which samples of the classes came, in memory and in the file."""
    X, y, group, _ = kind
    for label in LABELS:
        others = y != label
        without = rn.ClassGrams.of(X[others], y[others], group=group)
        grams = rn.ClassGrams.of(X, y, group=group).forget_class(label)
        same(grams, without)
        assert grams.classes_.dtype == without.classes_.dtype
        same(rn.ClassGrams.of(X, y, group=group).forget(X[~others], y[~others]), without)
        layers = [some.layer(eta=0.5) for some in (grams, without)]
        np.testing.assert_array_equal(*(net.transform(X) for net in layers))
        assert grams.rates() == without.rates()
        for name, some in (("grams", grams), ("without", without)):
            some.save(tmp_path / name)
        assert (tmp_path / "grams").read_bytes() == (tmp_path / "without").read_bytes()


def test_merged_owners_share_no_sample(backend, kind):
    X, y, group, _ = kind
    parts = np.array_split(np.arange(len(X)), 3)
    owners = [rn.ClassGrams.of(X[part], y[part], group=group) for part in parts]
    agree(owners[0].merge(owners[1]).merge(owners[2]), rn.ClassGrams.of(X, y, group=group))
    same(owners[0].merge(owners[1]), owners[1].merge(owners[0]))
    apart = [rn.ClassGrams.of(X[y == label], y[y == label], group=group) for label in LABELS[::-1]]
    same(apart[0].merge(apart[1]).merge(apart[2]), rn.ClassGrams.of(X, y, group=group))


def test_the_layer_is_that_of_build(backend, kind):
    X, y, group, tolerance = kind
    for dft_norm in ("ortho", "backward"):
        net, _ = rn.build(X, y, n_layers=1, group=group, epsilon_sq=0.3, lam=20.0, dft_norm=dft_norm)
        grams = rn.ClassGrams.of(X, y, group=group)
        made = grams.layer(epsilon_sq=0.3, lam=20.0, dft_norm=dft_norm, dtype=X.dtype, eta=net.etas)
        assert relative(made.layers[0].E, net.layers[0].E) < tolerance
        for j in range(3):
            assert relative(made.layers[0].Cs[j], net.layers[0].Cs[j]) < tolerance
        assert relative(made.transform(X), net.transform(X)) < tolerance
        np.testing.assert_allclose(made.assign(X), net.assign(X), atol=100 * tolerance)
        rates = grams.rates(epsilon_sq=0.3, dft_norm=dft_norm)
        assert rates.delta == pytest.approx(net.rates.delta[0], rel=tolerance)
        np.testing.assert_allclose(made.rates.per_class[0], net.rates.per_class[0], rtol=tolerance)
        assert made.rates.rate[0] == rates.rate
        assert np.isnan(made.rates.delta[1])
        natural = grams.layer(epsilon_sq=0.3, dft_norm=dft_norm)
        assert natural.etas[0] == pytest.approx(2 / net.operators.alphas[0])
        assert natural.dtype == np.result_type(X, "f8")


def test_owners_build_a_network_layer_by_layer(backend):
    """Gram matrices of features, summed: what two owners of samples exchange is the network of both."""
    X, y = samples((60, 4, 7), "f8")
    net, Z = rn.build(X, y, n_layers=4, eta=3.0)
    features = [X[:25], X[25:]]
    labels = [y[:25], y[25:]]
    for index in range(4):
        mine, yours = (rn.ClassGrams.of(*owner) for owner in zip(features, labels, strict=True))
        layer = mine.merge(yours).layer(eta=3.0)
        assert layer.rates.delta[0] == pytest.approx(net.rates.delta[index], rel=1e-10)
        features = [layer.transform(some) for some in features]
    assert relative(np.concatenate(features), Z) < 1e-8


def test_a_layer_can_be_gone_on_from():
    X, y = samples((60, 5), "f8")
    layer = rn.ClassGrams.of(X, y).layer(eta=0.5)
    net, Z = rn.build(X, y, n_layers=4, eta=0.5, resume=layer)
    expected, W = rn.build(X, y, n_layers=4, eta=0.5)
    assert relative(Z, W) < 1e-9
    np.testing.assert_allclose(net.rates.delta, expected.rates.delta, rtol=1e-9)


def test_any_number_of_threads_gives_the_same_bits(backend):
    X, y = samples((300, 9, 8), "f4")
    same(*(rn.ClassGrams.of(X, y, n_threads=n) for n in (1, 3)))


def test_single_precision_is_summed_in_double():
    """The Gram matrices of samples are those of the same numbers in double precision."""
    X, y = samples((64, 3, 10), "f4")
    agree(rn.ClassGrams.of(X, y), rn.ClassGrams.of(X.astype("f8"), y))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_bound_holds_when_little_is_left(backend, dtype):
    """One sample of hundreds: the error is that of all, against a Gram matrix of one."""
    X, y = samples((500, 5, 6), dtype, seed=4)
    y[:] = "a"
    grams = rn.ClassGrams.of(X, y)
    left = grams.forget(X[1:], y[1:])
    fresh = rn.ClassGrams.of(X[:1], y[:1])
    error, bound = distances(left, fresh)[0], left.bounds[0]
    assert 100 * fresh.bounds[0] < bound < LARGEST_ERROR
    assert 0 < error <= bound + fresh.bounds[0]
    assert bound == pytest.approx(2 * 500 * grams.bounds[0], rel=0.02)  # what is forgotten was summed twice


def test_what_is_known_too_badly_is_rebuilt(backend):
    X, y = samples((240, 4), "f8")
    grams = rn.ClassGrams.of(X, y)
    keep = np.flatnonzero(y == "a")[:1]
    gone = np.flatnonzero(y == "a")[1:]
    largest = 10 * grams.bounds[0]
    with pytest.raises(
        ValueError, match=r"X leaves 1 of 80 samples of class 'a', whose Gram matrix is known to .* then"
    ):
        grams.forget(X[gone], y[gone], largest_error=largest)
    assert grams.sizes.tolist() == [80, 80, 80]
    rest = np.setdiff1d(np.arange(240), gone)
    same(grams.rebuild("a", X[keep]), rn.ClassGrams.of(X[rest], y[rest]))
    allowed = grams.forget(X[gone], y[gone])
    assert allowed.bounds[0] > largest
    same(allowed.rebuild("a", X[keep]), rn.ClassGrams.of(X[rest], y[rest]))


def test_channels_may_come_last():
    """Every method that takes samples; and a shape that looks like the usual mistake is a warning."""
    X, y = samples((33, 3, 9, 8), "f8")
    last = np.moveaxis(X, 1, -1)
    grams, same_grams = rn.ClassGrams.of(X[:20], y[:20]), rn.ClassGrams.of(last[:20], y[:20], channels="last")
    same(grams, same_grams)
    same(grams.add(X[20:], y[20:]), more := same_grams.add(last[20:], y[20:], channels="last"))
    same(grams.add(X[20:], y[20:]).forget(X[:3], y[:3]), more.forget(last[:3], y[:3], channels="last"))
    kept = y == LABELS[1]
    same(grams.rebuild(LABELS[1], X[kept]), same_grams.rebuild(LABELS[1], last[kept], channels="last"))
    with pytest.warns(UserWarning, match=r"channels='last'"):
        rn.ClassGrams.of(last, y)
    with pytest.raises(ValueError, match=r"X has shape \(33, 9, 8, 3\); expected \(m, 3, 9, 8\)"):
        grams.add(last, y)
    with pytest.raises(ValueError, match="channels is 'middle'; expected one of 'first', 'last'"):
        rn.ClassGrams.of(X, y, channels="middle")


def test_nothing_else_changes():
    """A value: what is added to or forgotten from stays as it was, and nothing can be written to."""
    X, y = samples((30, 4), "f8")
    grams = rn.ClassGrams.of(X, y)
    before = pickle.loads(pickle.dumps(grams))
    more = grams.add(X, y)
    grams.forget(X[:5], y[:5]), grams.forget_class("a"), grams.merge(more), grams.rebuild("c", X)
    same(grams, before)
    assert more.sizes.tolist() == [20, 20, 20]
    for some in (grams, before):
        with pytest.raises(ValueError, match="read-only"):
            some._classes[0].gram[0] = 0
    with pytest.raises(AttributeError):
        grams.n_channels = 3
    assert grams.forget_class("a")._classes[0].gram is grams._classes[1].gram


def test_forgetting_more_than_was_there():
    X, y = samples((30, 4), "f8")
    grams = rn.ClassGrams.of(X, y)
    with pytest.raises(ValueError, match="X holds 20 samples of class 'a', which has 10; expected no more"):
        grams.forget(np.concatenate([X, X]), np.concatenate([y, y]))
    with pytest.raises(ValueError, match="a label in y is 'd'; expected one of the classes 'a', 'bird', 'c'"):
        grams.forget(X[:1], ["d"])
    with pytest.raises(ValueError, match="X holds the samples of all classes; expected that some are left"):
        grams.forget(X, y)
    off = "X holds samples of class 'bird' that were not added: what is left is off from a Gram matrix of {} samples by"
    others = np.random.default_rng(5).standard_normal((10, 4))
    with pytest.raises(ValueError, match=off.format(0)):
        grams.forget(others, ["bird"] * 10)
    with pytest.raises(ValueError, match=off.format(1)):
        grams.forget(others[:9], ["bird"] * 9)
    with pytest.raises(ValueError, match=off.format(9)):  # whose trace would be 10
        grams.forget(np.zeros((1, 4)), ["bird"])
    twice = rn.ClassGrams.of(X, y).forget(X[:9], y[:9])
    some = np.flatnonzero(y[:9] == "bird")
    with pytest.raises(ValueError, match="that were not added"):
        twice.forget(X[np.repeat(some, 2)[: twice.sizes[1]]], ["bird"] * len(np.repeat(some, 2)[: twice.sizes[1]]))


def test_errors_name_the_argument():
    X, y = samples((30, 4, 5), "f8")
    grams = rn.ClassGrams.of(X, y)
    with pytest.raises(ValueError, match=r"X has shape \(30, 5, 4\); expected \(m, 4, 5\)"):
        grams.add(X.swapaxes(1, 2), y)
    with pytest.raises(TypeError, match="X has dtype complex128; expected real samples"):
        grams.add(X + 1j, y)
    bad = X.copy()
    bad[17, 2, 3] = np.nan
    with pytest.raises(ValueError, match="X holds NaN or infinity in sample 17; expected finite numbers"):
        grams.add(bad, y)
    with pytest.raises(TypeError, match="y has labels of the dtypes <U1, <U4, int64; expected one kind"):
        grams.add(X, np.arange(30) % 2)
    with pytest.raises(ValueError, match=r"y is a membership of shape \(30, 2\); expected labels \(30,\)"):
        grams.add(X, np.full((30, 2), 0.5))
    with pytest.raises(ValueError, match="other has group 'dihedral'; expected 'cyclic', as these have"):
        grams.merge(rn.ClassGrams.of(X, y, group="dihedral"))
    with pytest.raises(ValueError, match="other has real False; expected True"):
        grams.merge(rn.ClassGrams.of(X + 1j, y))
    with pytest.raises(TypeError, match="other has labels of the dtypes"):
        grams.merge(rn.ClassGrams.of(X, np.arange(30) % 2))
    with pytest.raises(ValueError, match="label is 'd'; expected one of the classes 'a', 'bird', 'c'"):
        grams.forget_class("d")
    with pytest.raises(ValueError, match="label is 'a', the only class; expected that one is left"):
        grams.forget_class("bird").forget_class("c").forget_class("a")
    with pytest.raises(TypeError, match="dtype is complex64; expected float32 or float64, of real samples"):
        grams.layer(dtype="c8")
    with pytest.raises(ValueError, match="eta is 'search'; expected one of 'auto'"):
        grams.layer(eta="search")
    with pytest.raises(ValueError, match=r"lam is 1e\+300: lam C"):
        grams.layer(lam=1e300)
    with pytest.raises(ValueError, match=r"this network has no rates after its layer, .* ClassGrams: save these"):
        grams.layer().save("net")


@pytest.mark.parametrize(
    "labels",
    [
        np.array([3, 1, 2], np.uint8),
        np.array([True, False, True]),
        np.array([0.5, -1.5, 2.0]),
        np.array([b"x", b"yy", b"z"]),
        np.array(["2020-01-01", "2021-01-01", "2019-01-01"], "M8[D]"),
        np.array(["x", "yy", "z"], object),
        np.array(["x", "yy", "z"], np.dtypes.StringDType()),
    ],
    ids=lambda labels: str(labels.dtype),
)
def test_labels_of_every_dtype_come_back(labels, tmp_path):
    X = np.random.default_rng(0).standard_normal((30, 3))
    y = labels[np.arange(30) % 3]
    grams = rn.ClassGrams.of(X[:13], y[:13]).add(X[13:], y[13:])
    classes = np.unique(y)
    np.testing.assert_array_equal(grams.classes_, classes)
    assert grams.classes_.dtype == classes.dtype
    grams.save(tmp_path / "grams")
    same(rn.ClassGrams.load(tmp_path / "grams"), grams)
    np.testing.assert_array_equal(grams.forget_class(classes[0]).classes_, classes[1:])
    np.testing.assert_array_equal(grams.layer().classes_, classes)


@pytest.fixture(params=["vectors", "images, complex", "signals, dihedral"])
def saved(request, tmp_path):
    shape, dtype, group = KINDS[request.param]
    X, y = samples(shape, dtype)
    grams = rn.ClassGrams.of(X, y, group=group)
    grams.save(tmp_path / "grams")
    return grams, tmp_path / "grams"


def test_a_file_gives_back_every_bit(saved):
    grams, path = saved
    loaded = rn.ClassGrams.load(path)
    same(loaded, grams)
    assert all(one.gram.base is None for some in (loaded, grams) for one in some._classes)
    with pytest.raises(ValueError, match="cannot be loaded: it holds no redunet network"):
        rn.load(path)
    rn.build(np.eye(4), [0, 1, 0, 1], n_layers=1)[0].save(path)
    with pytest.raises(ValueError, match="cannot be loaded: it holds no redunet ClassGrams"):
        rn.ClassGrams.load(path)


def test_no_damaged_file_loads(saved):
    """Cut anywhere, or with a byte that is another: an error with the path, or what was saved."""
    grams, path = saved
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(data), 150):
        path.write_bytes(data[:place])
        with pytest.raises(ValueError, match="grams' cannot be loaded: "):
            rn.ClassGrams.load(path)
        changed = bytearray(data)
        changed[place] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        with contextlib.suppress(ValueError):
            same(rn.ClassGrams.load(path), grams)  # a space in the header


def rewritten(path, **tensors):
    """The file with other tensors, and checksums that fit."""
    from redunet.network import storage

    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    own = json.loads(header.pop("__metadata__")["redunet grams"])
    del own["checksums"]
    dtypes = {"F64": "<f8", "I64": "<i8", "U8": "u1"}
    given = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        part = data[8 + length + begin : 8 + length + end]
        given[name] = np.frombuffer(part, dtypes[entry["dtype"]]).reshape(entry["shape"]).copy()
    for name, change in tensors.items():
        given[name] = change(given[name]) if name in given else change(own)
    storage.write_sealed(str(path), "redunet grams", own, {name: given[name] for name in header})


def test_no_absurd_file_loads(saved):
    grams, path = saved
    good = path.read_bytes()

    def larger(G):
        return 1.1 * G

    def skew(G):
        G[0, 0, 0, 1] += 1
        return G

    for change, message in (
        ({"sizes": lambda sizes: 0 * sizes}, "tensor 'sizes' holds .* at 0; expected sizes of at least 1"),
        ({"errors": lambda errors: errors * np.nan}, "tensor 'errors' holds .* at 0; expected finite errors >= 0"),
        ({"grams": lambda G: G + np.inf}, "tensor 'grams' holds .* expected finite numbers"),
        ({"grams": larger}, "the Gram matrix of class 'a' has the trace"),
        ({"grams": skew}, "the Gram matrix of class 'a' is not one: expected Hermitian matrices"),
        ({"grams": lambda G: -G}, "the Gram matrix of class 'a' is not one"),
        ({"grams": lambda G: G[:, :, :1]}, "tensor 'grams' is float64 .*; expected <f8"),
        ({"sizes": lambda sizes: sizes[:2]}, "tensor 'grams' is float64 .*; expected <f8"),
        ({"header": lambda own: own.update(n_channels=0)}, "n_channels is 0; expected an integer >= 1"),
        ({"header": lambda own: own.update(format_version=9)}, "it has format version 9; this redunet reads version 1"),
        ({"header": lambda own: own.pop("real")}, "its header lacks 'real'"),
    ):
        path.write_bytes(good)
        rewritten(path, **change)
        with pytest.raises(ValueError, match=f"grams' cannot be loaded: {message}"):
            rn.ClassGrams.load(path)
    path.write_bytes(good)
    rewritten(path)
    same(rn.ClassGrams.load(path), grams)


def test_saving_that_fails_leaves_what_was_there(saved, monkeypatch):
    grams, path = saved
    good = path.read_bytes()
    with pytest.raises(OSError, match="nowhere"):
        grams.save(path.parent / "nowhere" / "grams")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError):
        grams.add(*samples((9, *[grams.n_channels, *grams.signal_shape]), "f8" if grams.real else "c16")).save(path)
    assert path.read_bytes() == good
    assert [some.name for some in path.parent.iterdir()] == ["grams"]


def test_bounds_of_large_classes():
    """What the docs say of them: pieces, not samples, are what errors grow with."""
    fourier = rn.ClassGrams.of(np.eye(3), [0, 1, 2]).fourier

    def bound(m):
        pieces = m // class_gram.PIECE
        added = class_gram.UNIT * class_gram.PIECE * pieces * (pieces + 1) / 2
        return (pieces * class_gram.sum_error(class_gram.PIECE, fourier) + added) / m

    assert bound(60_000) < 1e-13
    assert bound(10**8) < 3e-11


def test_repr():
    X, y = samples((30, 4, 5), "f8")
    assert repr(rn.ClassGrams.of(X, y)) == "ClassGrams(3 classes, 30 samples, C=4 on 5; 2304 B)"
    assert "C=4 on 5, dihedral" in repr(rn.ClassGrams.of(X, y, group="dihedral"))


class TestForgetClass:
    """From a network: bit for bit what `build` makes of the others."""

    def test_bits(self, backend, kind, tmp_path):
        X, y, group, _ = kind
        settings = {"group": group, "epsilon_sq": 0.2, "lam": 30.0, "dft_norm": "backward"}
        net, _ = rn.build(X, y, n_layers=3, eta=0.4, **settings)
        for label in ("bird", "c"):
            rest = y != label
            expected, W = rn.build(X[rest], y[rest], n_layers=3, eta=0.4, **settings)
            for given in ((X, y), (X[rest], y[rest])):
                without, Z = rn.forget_class(net, *given, label, eta=0.4)
                np.testing.assert_array_equal(Z, W)
                for name, some in (("without", without), ("expected", expected)):
                    some.save(tmp_path / name)
                assert (tmp_path / "without").read_bytes() == (tmp_path / "expected").read_bytes()

    @pytest.mark.parametrize("options", [{"eta": "search"}, {"momentum": True}, {"eta": "auto"}])
    def test_steps(self, options):
        """Those of the network without trials, or chosen again."""
        X, y = samples((45, 3, 7), "f8")
        weights = np.random.default_rng(0).uniform(0.5, 2, 45)
        settings = {"sample_weight": weights, "assignment": "given"}
        net, _ = rn.build(X, y, n_layers=5, **options, **settings)
        rest = y != "a"
        again = {"n_layers": 5, "assignment": "given", "sample_weight": weights[rest]}
        momentum = "momentum" in options
        for eta in (net.etas, options.get("eta", "auto")):
            without, Z = rn.forget_class(net, X, y, np.str_("a"), eta=eta, sample_weight=weights)
            expected, W = rn.build(X[rest], y[rest], eta=eta, momentum=momentum, **again)
            np.testing.assert_array_equal(Z, W)
            np.testing.assert_array_equal(without.etas, expected.etas)
            np.testing.assert_array_equal(without.betas, expected.betas)
        assert not np.array_equal(expected.etas, net.etas)

    def test_channels_may_be_last(self):
        X, y = samples((30, 16, 16), "f8")
        net, _ = rn.build(X, y, n_layers=2, eta=0.5, channels="first")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            expected, W = rn.forget_class(net, X, y, "c", eta=0.5)
            without, Z = rn.forget_class(net, np.moveaxis(X, 1, -1), y, "c", eta=0.5, channels="last")
        np.testing.assert_array_equal(without.operators.dense, expected.operators.dense)
        np.testing.assert_array_equal(Z, np.moveaxis(W, 1, -1))

    def test_dates_in_any_unit(self):
        X, _ = samples((30, 4), "f8")
        days = np.array(["2020-01-01", "2021-01-01"], "M8[ns]")[np.arange(30) % 2]
        net, _ = rn.build(X, days, n_layers=1)
        for label in (np.datetime64("2020-01-01"), datetime.date(2020, 1, 1)):
            assert rn.forget_class(net, X, days, label)[0].classes_.tolist() == [days[1].item()]
        grams = rn.ClassGrams.of(X, days.astype("M8[D]"))
        assert grams.forget_class(np.datetime64("2020-01-01", "s")).sizes.tolist() == [15]

    def test_features_are_far_from_those_before(self):
        """What is forgotten was in the network: features of samples are others, and those of no network that knew."""
        X, y = samples((60, 6), "f8")
        net, _ = rn.build(X, y, n_layers=5, eta=0.5)
        without, _ = rn.forget_class(net, X, y, "a", eta=0.5)
        never, _ = rn.build(X[y != "a"], y[y != "a"], n_layers=5, eta=0.5)
        np.testing.assert_array_equal(without.transform(X), never.transform(X))
        assert relative(without.transform(X), net.transform(X)) > 1e-3

    def test_errors(self):
        X, y = samples((30, 4), "f8")
        net, _ = rn.build(X, y, n_layers=2, eta=0.5)
        with pytest.raises(ValueError, match="label is 'd'; expected one of the classes 'a', 'bird', 'c'"):
            rn.forget_class(net, X, y, "d")
        some = y == "a"
        expected = r"y holds the classes \['a'\]; expected those of the network, \['a', 'bird', 'c'\], or all but 'c'"
        with pytest.raises(ValueError, match=expected):
            rn.forget_class(net, X[some], y[some], "c")
        one, _ = rn.build(X[some], y[some], n_layers=1)
        with pytest.raises(ValueError, match="label is 'a', the only class; expected that one is left"):
            rn.forget_class(one, X, y, "a")
        with pytest.raises(ValueError, match=r"X has shape \(30, 5\); this network expects \(m, 4\)"):
            rn.forget_class(net, np.ones((30, 5)), y, "c")
        for label in (["c", ["d"]], {"c"}):
            with pytest.raises(ValueError, match=r"label is .*; expected one of the classes"):
                rn.forget_class(net, X, y, label)
        without, _ = rn.forget_class(replace(net, _operators=None), X, y, "c")
        assert without.classes_.tolist() == ["a", "bird"]
