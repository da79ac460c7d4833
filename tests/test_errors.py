"""Every message of the checks at the public boundary, by its text: which argument, what came, what was expected."""

from __future__ import annotations

import builtins
import re

import numpy as np
import pytest

import redunet as rn
from redunet import linalg
from redunet._inputs import checks

X = np.eye(4)
Y = [0, 1, 0, 1]
SIGNALS = np.ones((4, 2, 3))


def build(samples=X, labels=Y, n_layers=1, **options):
    return rn.build(samples, labels, n_layers=n_layers, **options)


def spoiled(value, at=(2, 1), shape=(4, 4)):
    array = np.ones(shape)
    array[at] = value
    return array


SHAPES = "expected (m, d), (m, C, T) or (m, C, H, W)"
SAMPLES = [
    (["a", "b"], TypeError, "X has dtype <U1; expected real or complex numbers"),
    (np.array([[None, 1]]), TypeError, "X has dtype object; expected real or complex numbers"),
    (np.zeros((2, 2), "M8[s]"), TypeError, "X has dtype datetime64[s]; expected real or complex numbers"),
    (np.ones((2, 2), np.longdouble), TypeError, "expected at most double precision"),
    (np.ones((2, 2), np.clongdouble), TypeError, "expected at most double precision"),
    (1.0, ValueError, f"X has shape (); {SHAPES}"),
    (np.ones(4), ValueError, f"X has shape (4,); {SHAPES}"),
    (np.ones((2, 2, 2, 2, 2)), ValueError, f"X has shape (2, 2, 2, 2, 2); {SHAPES}"),
    (np.ones((0, 4)), ValueError, "X has shape (0, 4); expected at least one sample, channel and point"),
    (np.ones((4, 0)), ValueError, "X has shape (4, 0); expected at least one sample, channel and point"),
    (
        np.ones((4, 2, 0)),
        ValueError,
        "X has shape (4, 2, 0); expected at least one sample, channel and point",
    ),
    (spoiled(np.nan), ValueError, "X holds NaN or infinity in sample 2; expected finite float64 numbers"),
    (spoiled(-np.inf), ValueError, "X holds NaN or infinity in sample 2; expected finite float64 numbers"),
    (
        spoiled(np.nan) * 1j,
        ValueError,
        "X holds NaN or infinity in sample 2; expected finite complex128 numbers",
    ),
    (spoiled(np.nan, (3, 0, 1), (4, 2, 3)), ValueError, "X holds NaN or infinity in sample 3"),
]

OPTIONS = [
    ({"n_layers": 0}, ValueError, "n_layers is 0; expected an integer >= 1"),
    ({"n_layers": -3}, ValueError, "n_layers is -3; expected an integer >= 1"),
    ({"n_layers": True}, ValueError, "n_layers is True; expected an integer >= 1"),
    ({"n_layers": 2.0}, TypeError, "n_layers is 2.0 of type float; expected an integer"),
    ({"n_layers": "2"}, TypeError, "n_layers is '2' of type str; expected an integer"),
    ({"eta": "fast"}, ValueError, "eta is 'fast'; expected one of 'auto'"),
    ({"eta": [0.1, 0.2]}, ValueError, "eta has shape (2,); expected a number, or (1,): one per layer"),
    ({"eta": [[0.1]]}, ValueError, "eta has shape (1, 1); expected a number, or (1,): one per layer"),
    ({"eta": None}, TypeError, "eta is None; expected a number, one number per layer, 'auto' or 'search'"),
    ({"eta": 1j}, TypeError, "eta is 1j; expected a number, one number per layer, 'auto' or 'search'"),
    ({"eta": True}, TypeError, "eta is True; expected a number, one number per layer, 'auto' or 'search'"),
    ({"eta": -0.5}, ValueError, "eta holds a negative or non-finite step size; expected finite numbers >= 0"),
    (
        {"eta": [np.nan]},
        ValueError,
        "eta holds a negative or non-finite step size; expected finite numbers >= 0",
    ),
    (
        {"eta": 1e300},
        ValueError,
        "eta reaches 1e+300: eta C / (m_j epsilon_sq) overflows float64; expected smaller steps",
    ),
    ({"epsilon_sq": 0}, ValueError, "epsilon_sq is 0; expected a finite number > 0"),
    ({"epsilon_sq": -0.1}, ValueError, "epsilon_sq is -0.1; expected a finite number > 0"),
    ({"epsilon_sq": np.nan}, ValueError, "epsilon_sq is nan; expected a finite number"),
    ({"epsilon_sq": np.inf}, ValueError, "epsilon_sq is inf; expected a finite number"),
    ({"epsilon_sq": "0.1"}, TypeError, "epsilon_sq is '0.1' of type str; expected a number"),
    ({"epsilon_sq": True}, TypeError, "epsilon_sq is True of type bool; expected a number"),
    (
        {"epsilon_sq": 1e-200},
        ValueError,
        "epsilon_sq is 1e-200 and the samples weigh 4: alpha = C / (m epsilon_sq) is",
    ),
    ({"epsilon_sq": 1e-320}, ValueError, "is out of the range of float64; expected numbers nearer to 1"),
    (
        {"epsilon_sq": 1e-30, "dtype": "f4"},
        ValueError,
        "is out of the range of float32; expected numbers nearer to 1",
    ),
    (
        {"epsilon_sq": 1e30, "dtype": "f4"},
        ValueError,
        "is out of the range of float32; expected numbers nearer to 1",
    ),
    ({"lam": -1}, ValueError, "lam is -1; expected a finite number >= 0"),
    ({"lam": np.inf}, ValueError, "lam is inf; expected a finite number"),
    ({"lam": None}, TypeError, "lam is None of type NoneType; expected a number"),
    (
        {"lam": 1e300},
        ValueError,
        "lam is 1e+300: lam C / (m_j epsilon_sq) overflows float64; expected a smaller number",
    ),
    (
        {"sample_weight": [1, 1]},
        ValueError,
        "sample_weight has shape (2,); expected (4,): one weight per sample",
    ),
    ({"sample_weight": 1}, ValueError, "sample_weight has shape (); expected (4,): one weight per sample"),
    ({"sample_weight": list("abcd")}, TypeError, "sample_weight has dtype <U1; expected real numbers"),
    (
        {"sample_weight": [1, -1, 1, 1]},
        ValueError,
        "sample_weight holds a negative or non-finite weight; expected",
    ),
    (
        {"sample_weight": [1, np.nan, 1, 1]},
        ValueError,
        "sample_weight holds a negative or non-finite weight; expected",
    ),
    (
        {"sample_weight": [1e308] * 4},
        ValueError,
        "sample_weight adds up to more than a float64 holds; expected smaller",
    ),
    (
        {"sample_weight": [1e-310] * 4},
        ValueError,
        "the samples weigh 4e-310: alpha = C / (m epsilon_sq) is out of the",
    ),
    (
        {"sample_weight": [0] * 4},
        ValueError,
        "class 0 has no sample of positive weight; expected no empty class",
    ),
    ({"assignment": "guess"}, ValueError, "assignment is 'guess'; expected one of 'estimated', 'given'"),
    ({"assignment": None}, ValueError, "assignment is None; expected one of 'estimated', 'given'"),
    ({"dft_norm": "forward"}, ValueError, "dft_norm is 'forward'; expected one of 'ortho', 'backward'"),
    ({"keep": True}, ValueError, "keep is True; expected one of 'operators', 'features'"),
    ({"tol": -1e-3}, ValueError, "tol is -0.001; expected a finite number >= 0"),
    ({"tol": "auto"}, TypeError, "tol is 'auto' of type str; expected a number"),
    ({"patience": 0}, ValueError, "patience is 0; expected an integer >= 1"),
    ({"patience": 1.5}, TypeError, "patience is 1.5 of type float; expected an integer"),
    ({"n_threads": 0}, ValueError, "n_threads is 0; expected an integer >= 1"),
    ({"n_threads": "all"}, TypeError, "n_threads is 'all' of type str; expected an integer"),
    ({"dtype": "float16"}, TypeError, "dtype is float16; expected float32, float64, complex64 or complex128"),
    ({"dtype": int}, TypeError, "dtype is int64; expected float32, float64, complex64 or complex128"),
    ({"backend": "gpu"}, ValueError, "backend is 'gpu'; expected one of 'auto', 'cuda', 'cpu', 'numpy'"),
]

LABELS = [
    ([0, 1], ValueError, "y has shape (2,); expected labels (4,) or a membership (4, k)"),
    (3, ValueError, "y has shape (); expected labels (4,) or a membership (4, k)"),
    (np.zeros((4, 1, 1)), ValueError, "y has shape (4, 1, 1); expected labels (4,) or a membership (4, k)"),
    ([0, 1, np.nan, 1], ValueError, "y holds a NaN or infinite label; expected a label for every sample"),
    (
        [0, 1, "x", None],
        TypeError,
        "y holds labels that cannot be compared with one another; expected one type",
    ),
    (np.empty((4, 0)), ValueError, "y has shape (4, 0); expected at least one class"),
    ([list("ab")] * 4, TypeError, "y is a membership of dtype <U1; expected real numbers"),
    (
        [[1.5, -0.5]] * 4,
        ValueError,
        "y is a membership with negative or non-finite entries; expected entries in [0, 1]",
    ),
    (
        [[np.nan, 1]] * 4,
        ValueError,
        "y is a membership with negative or non-finite entries; expected entries in [0, 1]",
    ),
    (
        [[1, 0], [0, 1], [0.5, 0.4], [0, 1]],
        ValueError,
        "membership whose row 2 sums to 0.9; expected rows that sum to 1",
    ),
    (
        [[1, 0], [0, 1], [1, 1], [0, 1]],
        ValueError,
        "y is a membership whose row 2 sums to 2; expected rows that sum",
    ),
    (
        [[1, 0], [1, 0], [1, 0], [1, 0]],
        ValueError,
        "y is a membership whose class 1 has no sample; expected no empty",
    ),
    ([[0.5, 0.5, 0]] * 4, ValueError, "class 2 has no sample of positive weight; expected no empty class"),
]


def ids(cases):
    return [re.sub(r"\W+", " ", message)[:60] for _, _, message in cases]


@pytest.mark.parametrize(("samples", "error", "message"), SAMPLES, ids=ids(SAMPLES))
def test_of_samples(samples, error, message):
    n = len(samples) if np.ndim(samples) else 1
    with pytest.raises(error, match=re.escape(message)):
        build(samples, np.zeros(n))
    message = message.replace("X ", "Z ", 1)  # the same checks under the name of the other argument
    for function in (rn.rate_reduction, rn.rate_reduction_gradient):
        with pytest.raises(error, match=re.escape(message)):
            function(samples, np.zeros(n))
    with pytest.raises(error, match=re.escape(message)):
        rn.coding_rate(samples)
    if "dtype" in message or np.ndim(samples) == 2:
        with pytest.raises(error, match=re.escape(message)):
            rn.coding_length(samples, epsilon_sq=1)


@pytest.mark.parametrize(("options", "error", "message"), OPTIONS, ids=ids(OPTIONS))
def test_of_options(options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        build(**options)
    if set(options) <= {"epsilon_sq", "sample_weight", "dft_norm", "n_threads", "backend"}:
        for function in (rn.rate_reduction, rn.rate_reduction_gradient):
            with pytest.raises(error, match=re.escape(message)):
                function(X, Y, **options)


@pytest.mark.parametrize(("labels", "error", "message"), LABELS, ids=ids(LABELS))
def test_of_labels(labels, error, message):
    for function in (build, rn.rate_reduction, rn.rate_reduction_gradient):
        with pytest.raises(error, match=re.escape(message)):
            function(X, labels)


def test_a_class_whose_samples_weigh_nothing_is_named():
    with pytest.raises(ValueError, match="class 'b' has no sample of positive weight"):
        build(labels=["a", "b", "a", "b"], sample_weight=[1, 0, 1, 0])


def test_infinity_is_found_on_the_way_to_a_narrower_precision():
    with pytest.raises(ValueError, match="X holds NaN or infinity in sample 2; expected finite float32 numbers"):
        build(1e200 * spoiled(np.inf), dtype=np.float32)


def test_infinity_in_a_later_piece_is_found(monkeypatch):
    monkeypatch.setattr("redunet.transforms.cyclic.CHUNK_BYTES", 64)
    for n_threads in (1, 3):
        with pytest.raises(ValueError, match="X holds NaN or infinity in sample 3"):
            build(spoiled(np.inf, (3, 0)), n_threads=n_threads)


class TestRates:
    def test_units_and_means(self):
        for function in (rn.coding_rate, lambda Z, **options: rn.rate_reduction(Z, Y, **options)):
            with pytest.raises(ValueError, match="unit is 'bit'; expected one of 'nats', 'bits'"):
                function(X, unit="bit")
        with pytest.raises(ValueError, match="unit is 'bit'; expected one of 'nats', 'bits'"):
            rn.coding_length(X, epsilon_sq=1, unit="bit")
        with pytest.raises(ValueError, match="mean is 'none'; expected one of 'zero', 'estimate'"):
            rn.coding_length(X, epsilon_sq=1, mean="none")

    def test_the_coding_length_is_for_vectors(self):
        with pytest.raises(ValueError, match=re.escape("Z has shape (4, 2, 3); expected vectors (m, d)")):
            rn.coding_length(SIGNALS, epsilon_sq=1)

    @pytest.mark.parametrize("mean", ["zero", "estimate"])
    def test_distortion_of_the_coding_length(self, mean):
        with pytest.raises(ValueError, match="epsilon_sq is 0; expected a finite number > 0"):
            rn.coding_length(X, epsilon_sq=0, mean=mean)
        with pytest.raises(ValueError, match="Z holds NaN or infinity in sample 2"):
            rn.coding_length(spoiled(np.nan), epsilon_sq=1, mean=mean)


class TestNetwork:
    def test_samples_of_another_shape(self):
        for samples, expected in ((X, "(m, 4)"), (SIGNALS, "(m, 2, 3)")):
            net, _ = build(samples)
            for other in (X[:, :3], SIGNALS[:, :1], np.ones((2, 4, 1, 1))):
                for function in (net.transform, net.assign):
                    message = f"X has shape {other.shape}; this network expects {expected}"
                    with pytest.raises(ValueError, match=re.escape(message)):
                        function(other)

    def test_complex_samples(self):
        net, _ = build()
        with pytest.raises(TypeError, match="X has dtype complex128; this network was built from real samples"):
            net.transform(X + 0j)

    def test_samples_that_are_no_numbers(self):
        net, _ = build()
        with pytest.raises(TypeError, match="X has dtype <U1; expected real or complex numbers"):
            net.assign([list("abcd")])
        with pytest.raises(ValueError, match="X holds NaN or infinity in sample 2"):
            net.transform(spoiled(np.nan))
        with pytest.raises(ValueError, match="n_threads is 0; expected an integer >= 1"):
            net.transform(X, n_threads=0)
        with pytest.raises(ValueError, match="backend is 'gpu'; expected one of"):
            net.transform(X, backend="gpu")


class TestNumerics:
    def test_a_matrix_that_rounding_makes_singular_is_named(self, backend):
        """Equal samples and alpha = 1e22 in double precision: beside alpha G of rank 1, I vanishes."""
        same = np.random.default_rng(0).standard_normal((1, 8, 64))
        samples = np.repeat(same, 16, axis=0)
        message = (
            r"^layer 0, (all classes|class 0), frequency \d+: I \+ alpha G is not positive definite; epsilon_sq is"
        )
        with pytest.raises(np.linalg.LinAlgError, match=message):
            build(samples, np.zeros(16), epsilon_sq=1e-22)
        _, Z = build(samples, np.zeros(16))  # and nothing is left broken
        assert np.isfinite(Z).all()


class TestLinalg:
    @pytest.mark.parametrize("function", [linalg.cholesky, linalg.inv, linalg.logdet, lambda A: linalg.solve(A, [1.0])])
    def test_of_the_matrix(self, function):
        expected = "expected float32, float64, complex64 or complex128"
        for A in (
            np.eye(2, dtype=np.float16),
            np.eye(2, dtype=object),
            [["a"]],
            np.eye(2, dtype=np.longdouble),
        ):
            with pytest.raises(TypeError, match=f"A has dtype .*; {expected}"):
                function(A)
        for A in (1.0, np.ones(3), np.ones((2, 3)), np.ones((4, 2, 1))):
            message = f"A has shape {np.shape(A)}; expected square matrices (..., n, n)"
            with pytest.raises(np.linalg.LinAlgError, match=re.escape(message)):
                function(A)

    def test_of_the_right_hand_side(self):
        for B in (np.ones(3), np.ones((3, 2)), np.ones((2, 3, 1)), 1.0):
            message = f"B has shape {np.shape(B)}; expected (2,) or (..., 2, r) to go with A of shape (2, 2)"
            with pytest.raises(ValueError, match=re.escape(message)):
                linalg.solve(np.eye(2), B)
        message = "A has shape (3, 2, 2) and B (4, 2, 1); expected batches that broadcast"
        with pytest.raises(ValueError, match=re.escape(message)):
            linalg.solve(np.tile(np.eye(2), (3, 1, 1)), np.ones((4, 2, 1)))
        for B in (np.ones(2, object), np.ones(2, np.longdouble), np.array(["a", "b"])):
            with pytest.raises(TypeError, match=r"B has dtype .*; expected real or complex numbers of at most double"):
                linalg.solve(np.eye(2), B)

    def test_of_the_vectors_of_quadratic_forms(self):
        for X in (np.ones(3), np.ones((3, 4)), np.ones((2, 2, 1)), 1.0):
            message = f"X has shape {np.shape(X)}; expected (2,) or (..., m, 2) to go with A of shape (2, 2)"
            with pytest.raises(ValueError, match=re.escape(message)):
                linalg.quadratic_forms(np.eye(2), X)
        message = "A has shape (3, 2, 2) and X (4, 1, 2); expected batches that broadcast"
        with pytest.raises(ValueError, match=re.escape(message)):
            linalg.quadratic_forms(np.tile(np.eye(2), (3, 1, 1)), np.ones((4, 1, 2)))
        with pytest.raises(TypeError, match=r"X has dtype object; expected real or complex numbers of at most double"):
            linalg.quadratic_forms(np.eye(2), np.ones(2, object))
        with pytest.raises(np.linalg.LinAlgError, match="matrix 1 of 2 is not positive definite"):
            linalg.quadratic_forms([np.eye(2), -np.eye(2)], np.ones(2), backend="numpy")

    def test_of_the_indices_of_logdet_of_sums(self):
        A = np.tile(np.eye(2), (3, 1, 1))
        for first, second, error, message in (
            ([0, 3], 0, ValueError, "first holds 3; expected indices from 0 to 2, of the 3 matrices of A"),
            (0, -1, ValueError, "second holds -1; expected indices from 0 to 2, of the 3 matrices of A"),
            ([0.0], 0, TypeError, "first has dtype float64; expected integers"),
            ([0, 1], [0, 1, 2], ValueError, "first has shape (2,) and second (3,); expected shapes that broadcast"),
        ):
            with pytest.raises(error, match=re.escape(message)):
                linalg.logdet_of_sums(A, first, second)
        with pytest.raises(ValueError, match=re.escape("A has shape (2, 2); expected (N, n, n)")):
            linalg.logdet_of_sums(np.eye(2), 0, 0)
        with pytest.raises(np.linalg.LinAlgError, match=re.escape("A has shape (2, 3, 2); expected square matrices")):
            linalg.logdet_of_sums(np.ones((2, 3, 2)), 0, 0)

    def test_of_threads_and_backend(self):
        with pytest.raises(ValueError, match="n_threads is 0; expected an integer >= 1"):
            linalg.inv(np.eye(2), n_threads=0)
        with pytest.raises(ValueError, match="backend is 'lapack'; expected one of"):
            linalg.inv(np.eye(2), backend="lapack")


class TestMemory:
    @pytest.mark.parametrize("eta", ["auto", 0.5])
    def test_is_checked_before_anything_is_allocated(self, eta):
        message = r"^1000000000000000 layers and the features of 4 samples need \d+\.\d GiB, and .* GiB of memory are"
        with pytest.raises(MemoryError, match=message):
            build(n_layers=10**15, eta=eta)
        with pytest.raises(MemoryError, match=r"need .* GiB"):
            build(n_layers=10**30, eta=eta)

    def test_needed_is_compared_with_what_is_free(self, monkeypatch):
        """A layer has 3 operators of 4 x 4 numbers and 5 numbers of rates and step; the features are held twice.

        A search holds the best trial too, momentum the layer before.
        """
        samples = np.random.default_rng(0).standard_normal((6, 4))
        spectra = 6 * 4 * 8
        needed = 100 * (3 * 16 * 8 + 5 * 8) + 2 * spectra
        monkeypatch.setattr(checks, "available_memory", lambda: needed - 1)
        with pytest.raises(MemoryError, match=r"100 layers and the features of 6 samples need 0\.0 GiB"):
            build(samples, [0, 1] * 3, n_layers=100)
        monkeypatch.setattr(checks, "available_memory", lambda: needed)
        build(samples, [0, 1] * 3, n_layers=100)
        build(samples, [0, 1] * 3, n_layers=100, keep="features")
        for more, options in (
            (1, {"eta": "search"}),
            (1, {"momentum": True}),
            (2, {"eta": "search", "momentum": True}),
        ):
            monkeypatch.setattr(checks, "available_memory", lambda more=more: needed + more * spectra - 1)
            with pytest.raises(MemoryError):
                build(samples, [0, 1] * 3, n_layers=100, **options)
            monkeypatch.setattr(checks, "available_memory", lambda more=more: needed + more * spectra)
            build(samples, [0, 1] * 3, n_layers=100, **options)
        monkeypatch.setattr(checks, "available_memory", lambda: None)  # a system that does not say
        build(samples, [0, 1] * 3, n_layers=100)

    def test_available_is_read_from_the_system(self, monkeypatch, tmp_path):
        def opener(text):
            file = tmp_path / "meminfo"
            file.write_text(text)
            return lambda *_: real_open(file)

        real_open = builtins.open
        monkeypatch.setattr(builtins, "open", opener("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"))
        assert checks.available_memory() == 2 << 20
        monkeypatch.setattr(builtins, "open", opener("MemTotal: 9 kB\n"))
        assert checks.available_memory() is None

        def missing(*_):
            raise FileNotFoundError

        monkeypatch.setattr(builtins, "open", missing)
        assert checks.available_memory() is None
