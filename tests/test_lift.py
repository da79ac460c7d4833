"""The random lift against a direct loop over its definition, at sizes that reach every block of the computation."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import redunet as rn
from redunet.frontends import lift as module


def direct(X, kernels):
    """out[i, c, t] = sum_{c', s} K[c, c', s] X[i, c', (t + s) mod T], tap by tap, in double precision; 1-D or 2-D."""
    axes = tuple(range(2, X.ndim))
    out = np.zeros((len(X), len(kernels), *X.shape[2:]))
    for s in np.ndindex(*kernels.shape[2:]):
        moved = np.roll(X.astype(np.float64), tuple(-n for n in s), axes)
        out += np.einsum("oc,mc...->mo...", kernels[(..., *s)], moved)
    return out


def bound(X, kernels):
    """Rounding of a sum of n products in any order: n units times the sum of the magnitudes; 2 more for casts."""
    eps = np.finfo(X.dtype if X.dtype.kind == "f" else np.float64).eps
    n = kernels[0].size
    return (n + 2) * eps * direct(np.abs(X.astype(np.float64)), np.abs(kernels))


SHAPES = [
    ((3, 2, 11), 4),
    ((3, 1, 5), 5),
    ((2, 3, 4), 9),
    ((2, 1, 1), 3),
    ((3, 2, 6, 7), 3),
    ((2, 1, 3, 5), (4, 11)),
    ((2, 2, 5, 4), (1, 4)),
]


@pytest.mark.parametrize("block", [1, 1000, 1 << 22])  # one row at a time, some, everything
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_correlation_is_the_direct_loop(shape, size, dtype, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", block)
    X = np.random.default_rng(0).normal(size=shape).astype(dtype)
    lift = rn.RandomLift(5, size, activation="identity", random_state=0)
    out = lift(X)
    assert out.dtype == dtype
    assert out.shape == (len(X), 5, *X.shape[2:])
    assert (np.abs(out - direct(X, lift.kernels_)) <= bound(X, lift.kernels_)).all()


def spectral_bound(X, kernels):
    """Rounding of the correlation through the FFT, the same for every entry of a sample and channel.

    A radix-p step of an FFT of unitary scale sums p products with rounded twiddle factors: a relative error in norm
    of at most (p + 5) units, added up over the prime factors; e is the sum over the axes. The spectrum of x is off by
    e ||x|| and is multiplied by at most ||K||_1, that of K by e ||K|| and is multiplied by at most ||x||_1; the sum
    of C' products and the inverse are off by C' + 2 + e units of at most ||K||_1 ||x||.
    """
    eps = np.finfo(X.dtype).eps
    e = sum(p + 5 for n in X.shape[2:] for p in prime_factors(n))
    axes = tuple(range(2, X.ndim))
    x, K = np.abs(X.astype(np.float64)), np.abs(kernels)
    one = np.einsum("oc,mc->mo", K.sum(axes), np.sqrt((x**2).sum(axes)))
    two = np.einsum("oc,mc->mo", np.sqrt((K**2).sum(axes)), x.sum(axes))
    total = eps * ((2 * e + X.shape[1] + 2) * one + e * two)
    return total.reshape(*total.shape, *(1 for _ in axes))


def prime_factors(n):
    p = next((p for p in range(2, n + 1) if n % p == 0), None)
    return [] if p is None else [p, *prime_factors(n // p)]


@pytest.mark.parametrize("block", [1, 1000, 1 << 22])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_correlation_by_the_fft_is_the_direct_loop(shape, size, dtype, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", block)
    monkeypatch.setattr(module, "MOST_TAPS", 0)
    X = np.random.default_rng(0).normal(size=shape).astype(dtype)
    lift = rn.RandomLift(5, size, activation="identity", random_state=0)
    out = lift(X)
    assert out.dtype == dtype
    assert (np.abs(out - direct(X, lift.kernels_)) <= spectral_bound(X, lift.kernels_)).all()


def test_few_taps_keep_exact_zeros_and_many_take_the_fft(monkeypatch):
    X = np.random.default_rng(0).normal(size=(2, 1, 300))
    X[..., 30:] = 0
    few, many = (rn.RandomLift(4, n, activation="identity", random_state=0) for n in (256, 257))
    assert (few(X)[..., 30:45] == 0).all()  # 256 points from t < 45 on end before the signal starts again
    assert (np.abs(many(X) - direct(X, many.kernels_)) <= spectral_bound(X, many.kernels_)).all()
    monkeypatch.setattr(module, "_correlate", None)
    many(X)
    with pytest.raises(TypeError, match="not callable"):
        few(X)


def test_seeded_kernels_are_the_authors():
    for shape, size in (((2, 3, 8), (5,)), ((2, 3, 8, 8), (5, 5))):
        lift = rn.RandomLift(4, 5, random_state=10).fit(np.zeros(shape))
        expected = np.random.RandomState(10).normal(0.0, 1.0, (4, 3, *size))
        assert np.array_equal(lift.kernels_, expected)


def test_activations():
    X = np.random.default_rng(1).normal(size=(4, 2, 9))
    u = rn.RandomLift(3, 4, activation="identity", random_state=0)(X)
    assert np.array_equal(rn.RandomLift(3, 4, random_state=0)(X), np.maximum(u, 0))
    assert np.array_equal(rn.RandomLift(3, 4, threshold=0.5, random_state=0)(X), np.maximum(u - 0.5, 0))
    soft = rn.RandomLift(3, 4, activation="soft", threshold=0.5, random_state=0)(X)
    # u - clip(u) is one rounding, as is abs(u) - threshold: equal.
    assert np.array_equal(soft, np.sign(u) * np.maximum(np.abs(u) - 0.5, 0))


@pytest.mark.parametrize("activation", ["relu", "identity", "soft"])
@pytest.mark.parametrize(("shape", "shift"), [((3, 2, 10), 3), ((3, 2, 6, 7), (2, 5))])
def test_shifts_of_the_input_shift_the_output(shape, shift, activation):
    X = np.random.default_rng(2).normal(size=shape)
    lift = rn.RandomLift(4, 3, activation=activation, threshold=0.1 * (activation == "soft"), random_state=0)
    axes = tuple(range(2, X.ndim)) if isinstance(shift, tuple) else -1
    out, moved = np.roll(lift(X), shift, axes), lift(np.roll(X, shift, axes))
    rounding = np.roll(bound(X, lift.kernels_), shift, axes)
    assert (np.abs(out - moved) <= 2 * rounding).all()


@pytest.mark.parametrize("size", [3, 4])
@pytest.mark.parametrize("activation", ["relu", "identity", "soft"])
@pytest.mark.parametrize("shape", [(3, 2, 10), (3, 2, 6, 7)])
def test_symmetric_kernels_commute_with_mirrors_up_to_a_shift(shape, activation, size):
    X = np.random.default_rng(2).normal(size=shape)
    options = {"activation": activation, "threshold": 0.1 * (activation == "soft"), "random_state": 0}
    lift = rn.RandomLift(4, size, symmetric=True, **options)
    out, plain = lift(X), rn.RandomLift(4, size, **options)
    for axis in range(2, len(shape)):

        def mirrored(Z, shift, axis=axis):
            return np.roll(np.flip(Z, axis), shift, axis)

        rounding = 2 * mirrored(bound(X, lift.kernels_), 1 - size)
        error = np.abs(lift(mirrored(X, 0)) - mirrored(out, 1 - size))
        assert (error <= rounding).all()
        assert (np.abs(plain(mirrored(X, 0)) - mirrored(plain(X), 1 - size)) > rounding).any()
    signal_axes = tuple(range(2, len(shape)))
    assert np.array_equal(lift.kernels_, np.flip(lift.kernels_, signal_axes))
    drawn = plain.kernels_
    flips = [(), (2,)] if len(shape) == 3 else [(), (2,), (3,), (2, 3)]
    np.testing.assert_allclose(lift.kernels_, np.mean([np.flip(drawn, axes) for axes in flips], axis=0), rtol=1e-14)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("uint8", "float64"), ("int64", "float64"), ("bool", "float64"), ("float16", "float32"), ("float32", "float32")],
)
def test_dtypes(dtype, expected):
    X = np.random.default_rng(0).integers(0, 2, (3, 1, 6)).astype(dtype)
    out = rn.RandomLift(2, 3, random_state=0)(X)
    assert out.dtype == expected
    kernels = rn.RandomLift(2, 3, random_state=0).fit(X).kernels_
    wide = X.astype(expected)
    assert (np.abs(out - np.maximum(direct(wide, kernels), 0)) <= bound(wide, kernels)).all()


def test_kernels_are_kept_until_fit():
    X = np.random.default_rng(0).normal(size=(2, 1, 8))
    lift = rn.RandomLift(3, 2, random_state=np.random.default_rng(5))
    first = lift(X)
    assert np.array_equal(lift.transform(X), first)
    kernels = lift.kernels_
    assert lift.fit(X) is lift
    assert not np.array_equal(lift.kernels_, kernels)  # the generator has moved on
    seeded = rn.RandomLift(3, 2, random_state=5)
    assert np.array_equal(seeded.fit_transform(X), seeded.fit_transform(X))
    assert not np.array_equal(rn.RandomLift(3, 2)(X), rn.RandomLift(3, 2)(X))


def test_generators_of_both_kinds_and_numpy_integers():
    X = np.zeros((1, 2, 4))
    for make in (np.random.default_rng, np.random.RandomState):
        assert np.array_equal(
            rn.RandomLift(3, 2, random_state=make(7)).fit(X).kernels_, make(7).normal(0.0, 1.0, (3, 2, 2))
        )
    a, b = rn.RandomLift(3, 2, random_state=np.int64(7)).fit(X), rn.RandomLift(3, 2, random_state=7).fit(X)
    assert np.array_equal(a.kernels_, b.kernels_)


def test_input_is_not_changed_and_may_be_strided_or_a_list():
    X = np.random.default_rng(0).normal(size=(4, 3, 10))
    before = X.copy()
    lift = rn.RandomLift(2, 3, random_state=0)
    out = lift(X[::2, :, ::-1])
    assert np.array_equal(X, before)
    assert np.array_equal(out, lift(X[::2, :, ::-1].tolist()))


def test_pickle_and_repr():
    X = np.random.default_rng(0).normal(size=(2, 1, 8))
    lift = rn.RandomLift(3, (2,), activation="soft", threshold=0.5, random_state=1)
    out = lift(X)
    assert np.array_equal(pickle.loads(pickle.dumps(lift))(X), out)
    assert repr(lift) == "RandomLift(3, (2,), activation='soft', threshold=0.5, random_state=1)"
    assert repr(rn.RandomLift(3, 2, symmetric=True)).endswith("'relu', symmetric=True, random_state=None)")
    assert repr(rn.RandomLift(3, 2)) == "RandomLift(3, 2, activation='relu', random_state=None)"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_channels": 0}, ValueError, "n_channels is 0; expected an integer >= 1"),
        ({"n_channels": 1.5}, TypeError, "n_channels is 1.5 of type float; expected an integer"),
        ({"kernel_size": 0}, ValueError, "kernel_size is 0; expected an integer >= 1"),
        ({"kernel_size": (3, 0)}, ValueError, "kernel_size is 0; expected an integer >= 1"),
        ({"kernel_size": (3, 3, 3)}, ValueError, r"kernel_size is \(3, 3, 3\); expected one number, or one for each"),
        ({"activation": "tanh"}, ValueError, "activation is 'tanh'; expected one of 'relu', 'identity', 'soft'"),
        ({"threshold": -1.0}, ValueError, "threshold is -1.0; expected a finite number >= 0"),
        ({"activation": "soft"}, ValueError, "threshold is 0.0; expected a number > 0 with activation='soft'"),
        (
            {"activation": "identity", "threshold": 1},
            ValueError,
            "threshold is 1; expected 0 with activation='identity'",
        ),
        ({"symmetric": 1}, TypeError, "symmetric is 1"),
        ({"random_state": "x"}, TypeError, "random_state is 'x' of type str; expected an integer, a numpy Generator"),
        ({"random_state": True}, TypeError, "random_state is True of type bool"),
        ({"random_state": -1}, ValueError, r"random_state is -1; expected a seed in \[0, 2\*\*32\)"),
        ({"random_state": 1 << 32}, ValueError, r"random_state is 4294967296; expected a seed in"),
    ],
)
def test_parameter_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        rn.RandomLift(**{"n_channels": 2, "kernel_size": 3, **arguments})


def test_sample_errors(monkeypatch):
    lift = rn.RandomLift(2, 3, random_state=0).fit(np.zeros((1, 2, 8)))
    with pytest.raises(ValueError, match=r"X has shape \(4, 8\); expected \(m, C, T\) or \(m, C, H, W\)"):
        lift(np.zeros((4, 8)))
    with pytest.raises(TypeError, match="X has dtype complex128; expected real numbers"):
        lift(np.zeros((4, 2, 8), complex))
    with pytest.raises(
        ValueError, match=r"X has shape \(4, 3, 8\); expected \(m, 2, T\), as the kernels were drawn for"
    ):
        lift(np.zeros((4, 3, 8)))
    with pytest.raises(ValueError, match=r"X has shape \(4, 1, 8\); expected \(m, 2, H, W\), as the kernels were"):
        rn.RandomLift(2, (3, 3)).fit(np.zeros((1, 2, 8, 8)))(np.zeros((4, 1, 8)))
    with pytest.raises(ValueError, match=r"kernel_size is \(3, 3\); expected 1 numbers for X of shape \(4, 2, 8\)"):
        rn.RandomLift(2, (3, 3))(np.zeros((4, 2, 8)))
    X = np.zeros((5, 2, 8))
    monkeypatch.setattr(module, "BLOCK_BYTES", 1)
    for bad, most_taps in ((np.nan, 256), (-np.inf, 256), (np.nan, 0), (-np.inf, 0)):
        monkeypatch.setattr(module, "MOST_TAPS", most_taps)
        X[3, 1, 2] = bad
        with pytest.raises(ValueError, match="X holds a NaN or infinite value in sample 3; expected finite values"):
            lift(X)
    monkeypatch.setattr("redunet._inputs.checks.available_memory", lambda: 10)
    with pytest.raises(MemoryError, match="the lifted samples need"):
        lift(np.zeros((5, 2, 8)))


@pytest.mark.parametrize("kernel_size", [7, (3, 3)], ids=str)
@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
def test_kernels_are_the_numbers_of_one_draw(make, kernel_size):
    """They are drawn channel by channel; an odd number of each, since some generators make normal numbers in pairs."""
    size = (3, 7) if kernel_size == 7 else (3, 3, 3)
    lift = rn.RandomLift(5, kernel_size, random_state=make(4)).fit(np.zeros((1, 3, *(9,) * (len(size) - 1))))
    np.testing.assert_array_equal(lift.kernels_, make(4).normal(0.0, 1.0, (5, *size)))
