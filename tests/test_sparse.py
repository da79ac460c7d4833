"""Sparse codes: optimality, the bounds that the algorithms promise, convolutions against loops, scikit-learn's Lasso.

A step is over where L max |x - z| <= tol max |A* y|, z what it began from. Then s = g(x) - g(z) - L (x - z), g the
gradient of the smooth part, is a subgradient of the objective at x, of norm at most 2 L ||x - z||: that gives the
tolerances of optimality here, rounding beside.
"""

from __future__ import annotations

import numpy as np
import pytest

import redunet as rn
from redunet import sparse

SOLVERS = {"ista": sparse.ista, "fista": sparse.fista}
TOL = 1e-9


def problem(kind="real", m=7, d=9, n=15, seed=0):
    """Unit atoms, signals of three atoms each with noise, and a price that leaves some."""
    random = np.random.default_rng(seed)

    def normal(*shape):
        real = random.normal(size=shape)
        return real if kind == "real" else real + 1j * random.normal(size=shape)

    A = normal(d, n)
    A /= np.linalg.norm(A, axis=0)
    X = normal(m, n) * (random.random((m, n)) < 3 / n)
    return A, X @ A.T + 0.01 * normal(m, d), 0.1


def subgradient(tol, A, Y, X):
    """A bound of the norm of a subgradient, for every sample: of n numbers, each off by 2 tol max |A* y|, and rounding.

    Rounding is that of A*(A x - y): d + n units, twice for complex numbers, of ||A|| (||A|| ||x|| + ||y||).
    """
    norm, x, y = np.linalg.norm(A, 2), np.linalg.norm(X, axis=1), np.linalg.norm(Y, axis=1)
    scale = np.abs(Y @ A.conj()).max(axis=1)
    return 2 * np.sqrt(A.shape[1]) * tol * scale + 2 * sum(A.shape) * np.finfo(float).eps * norm * (norm * x + y)


@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("solve", SOLVERS.values(), ids=list(SOLVERS))
def test_codes_are_optimal(solve, kind):
    """|A*(y - A x)| <= lam everywhere, and it is lam x/|x| where x is not zero."""
    A, Y, lam = problem(kind)
    X = solve(A, Y, lam, n_iter=100_000, tol=TOL)
    correlations = (Y - X @ A.T) @ A.conj()
    bound = subgradient(TOL, A, Y, X)[:, None]
    assert (np.abs(correlations) <= lam + bound).all()
    with np.errstate(invalid="ignore"):
        off = np.abs(correlations - lam * X / np.abs(X))
    assert (off[X != 0] <= np.broadcast_to(bound, X.shape)[X != 0]).all()
    assert 0 < np.count_nonzero(X) < X.size / 2


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_objectives_are_within_the_promised_bounds(kind):
    """ISTA falls monotonically, by L ||x*||^2 / (2 k) at least; FISTA by 2 L ||x*||^2 / (k + 1)^2."""
    A, Y, lam = problem(kind)
    best = sparse.fista(A, Y, lam, n_iter=100_000, tol=1e-12)
    lowest = sparse.objective(A, Y, best, lam)
    L = np.linalg.norm(A, 2) ** 2
    k = np.arange(1, 301)[:, None]
    reach = L * (np.abs(best) ** 2).sum(axis=1)
    rounding = 1e-13 * sparse.objective(A, Y, np.zeros_like(best), lam)  # some hundred units of the objective at zero
    paths = {name: solve(A, Y, lam, n_iter=300, return_path=True) for name, solve in SOLVERS.items()}
    above = {name: np.stack([sparse.objective(A, Y, X, lam) for X in path]) - lowest for name, path in paths.items()}
    assert (np.diff(above["ista"], axis=0) <= rounding).all()
    assert (above["ista"] <= reach / (2 * k) + rounding).all()
    assert (above["fista"] <= 2 * reach / (k + 1) ** 2 + rounding).all()
    assert above["fista"][40].mean() < above["ista"][40].mean() / 2
    assert (np.diff(above["fista"], axis=0) > rounding).any()  # it is not monotone, and nobody says so


def test_one_step_is_the_formula():
    A, Y, lam = problem()
    x0 = np.random.default_rng(1).normal(size=(len(Y), A.shape[1]))
    L = 1.5 * np.linalg.norm(A, 2) ** 2
    moved = x0 - ((x0 @ A.T - Y) @ A) / L
    first = np.sign(moved) * np.maximum(np.abs(moved) - lam / L, 0)
    moved = first - ((first @ A.T - Y) @ A) / L
    second = np.sign(moved) * np.maximum(np.abs(moved) - lam / L, 0)
    path = sparse.ista(A, Y, lam, n_iter=2, L=L, x0=x0, return_path=True)
    np.testing.assert_allclose(path, [first, second], rtol=0, atol=1e-13)
    path = sparse.fista(A, Y, lam, n_iter=3, L=L, x0=x0, return_path=True)
    np.testing.assert_allclose(path[:2], [first, second], rtol=0, atol=1e-13)
    t = (1 + np.sqrt(5)) / 2
    z = second + (t - 1) / ((1 + np.sqrt(1 + 4 * t * t)) / 2) * (second - first)
    moved = z - ((z @ A.T - Y) @ A) / L
    np.testing.assert_allclose(path[2], np.sign(moved) * np.maximum(np.abs(moved) - lam / L, 0), rtol=0, atol=1e-13)


def test_against_scikit_learn():
    """Both objectives are above the minimum by at most what their rules of stopping allow."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    A, Y, lam = problem(m=5, d=30, n=60)
    X = sparse.fista(A, Y, lam, n_iter=100_000, tol=TOL)
    for y, x in zip(Y, X, strict=True):
        model = linear_model.Lasso(lam / len(A), fit_intercept=False, tol=1e-10, max_iter=100_000).fit(A, y)
        ours, theirs = (float(sparse.objective(A, y, code, lam)) for code in (x, model.coef_))
        reach = np.abs(x).sum() + np.abs(model.coef_).sum()
        assert ours <= theirs + subgradient(TOL, A, y[None], x[None])[0] * reach
        assert theirs <= ours + 1e-10 * (y @ y)  # the duality gap at which it stops


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_dtypes_and_single_signals(dtype):
    A, Y, lam = problem("complex" if np.dtype(dtype).kind == "c" else "real")
    A, Y = A.astype(dtype), Y.astype(dtype)
    for solve in SOLVERS.values():
        X = solve(A, Y, lam, n_iter=5)
        assert X.dtype == dtype
        # Products of one row and of several may be summed in other orders: 5 steps of d + n terms of magnitude <= 3.
        atol = 5 * 3 * sum(A.shape) * np.finfo(dtype).eps
        np.testing.assert_allclose(solve(A, Y[2], lam, n_iter=5), X[2], rtol=0, atol=atol)
        path = solve(A, Y[2], lam, n_iter=5, return_path=True)
        assert path.shape == (5, A.shape[1])
        np.testing.assert_allclose(path[-1], X[2], rtol=0, atol=atol)
    assert sparse.objective(A, Y[2], X[2], lam).shape == ()
    assert sparse.ista(A.real, Y, lam, n_iter=1).dtype == dtype
    assert sparse.ista(np.eye(3, dtype=int), [1, 2, 3], 1, n_iter=1).dtype == np.float64


def test_codes_of_an_orthonormal_dictionary_are_thresholded_correlations():
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    Y = np.random.default_rng(1).normal(size=(4, 6))
    X = sparse.ista(Q, Y, 0.3, n_iter=1)
    np.testing.assert_allclose(X, sparse.soft_threshold(Y @ Q, 0.3), rtol=0, atol=1e-14)
    assert not sparse.fista(Q, Y, np.abs(Y @ Q).max() * (1 + 1e-12), n_iter=50).any()


def test_steps_stop_where_nothing_moves():
    A, Y, lam = problem()
    path = sparse.fista(A, Y, lam, n_iter=100_000, tol=1e-6, return_path=True)
    assert 10 < len(path) < 2000
    np.testing.assert_array_equal(sparse.fista(A, Y, lam, n_iter=100_000, tol=1e-6), path[-1])
    again = sparse.ista(A, Y, lam, n_iter=1, x0=path[-1])
    L = np.linalg.norm(A, 2) ** 2
    assert (L * np.abs(again - path[-1]).max(axis=1) <= 4e-6 * np.abs(Y @ A).max(axis=1)).all()
    assert len(sparse.ista(A, np.zeros_like(Y), lam, n_iter=9, tol=0, return_path=True)) == 1
    assert not sparse.ista(np.zeros((2, 3)), [1.0, 2.0], 0, n_iter=3).any()


def test_soft_threshold():
    random = np.random.default_rng(0)
    x = random.normal(size=(5, 4))
    np.testing.assert_array_equal(sparse.soft_threshold(x, 0.5), np.sign(x) * np.maximum(np.abs(x) - 0.5, 0))
    t = random.random(4)
    np.testing.assert_array_equal(sparse.soft_threshold(x, t)[:, 2], sparse.soft_threshold(x[:, 2], t[2]))
    z = x + 1j * random.normal(size=x.shape)
    z[0, 0] = 0
    small = sparse.soft_threshold(z, 0.5)
    np.testing.assert_allclose(np.abs(small), np.maximum(np.abs(z) - 0.5, 0), rtol=0, atol=1e-15)
    np.testing.assert_allclose(np.angle(small[small != 0]), np.angle(z[small != 0]), rtol=0, atol=1e-15)
    assert sparse.soft_threshold(np.float32([1]), 0.5).dtype == np.float32
    assert sparse.soft_threshold(3.0, 1.0) == 2


# --- Convolutions ---

SHAPES = [((4, 2, 3), 7), ((3, 1, 5), 5), ((2, 3, 2, 4), (5, 6)), ((3, 1, 3, 3), (3, 4)), ((2, 2, 1), 1)]


def direct(kernels, X):
    """y[c, t] = sum_{k, s} kernels[k, c, s] x[k, t - s], tap by tap, indices cyclic."""
    axes = tuple(range(2, X.ndim))
    out = np.zeros((len(X), kernels.shape[1], *X.shape[2:]), np.result_type(kernels, X))
    for s in np.ndindex(*kernels.shape[2:]):
        out += np.einsum("kc,mk...->mc...", kernels[(..., *s)], np.roll(X, s, axes))
    return out


def through_the_fft(kernels, X):
    """Rounding of a product of spectra: every pass of radix p is off by p + 5 units in norm (see test_lift.py)."""
    passes = sum(n + 5 for n in X.shape[2:])
    K, x = (np.sqrt((np.abs(a) ** 2).sum(axis=tuple(range(2, a.ndim)))) for a in (kernels, X))
    size = np.sqrt(np.prod(X.shape[2:]))
    return np.finfo(X.dtype).eps * (3 * passes + X.shape[1] + 3) * size * np.einsum("kc,mk->mc", K, x).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize(("shape", "points"), SHAPES)
def test_convolutions_are_the_direct_loop(shape, points, dtype):
    random = np.random.default_rng(0)
    kernels = random.normal(size=shape).astype(dtype)
    if np.dtype(dtype).kind == "c":
        kernels = kernels + 1j * random.normal(size=shape)
    A = sparse.ConvolutionalDictionary(kernels, points)
    X = random.normal(size=(3, *A.code_shape)).astype(dtype)
    Y = random.normal(size=(3, *A.signal_shape)).astype(dtype)
    made = A.apply(X)
    assert made.dtype == dtype
    assert A.dtype == dtype
    assert np.abs(made - direct(kernels, X)).max() <= through_the_fft(kernels, X)
    # The adjoint by its definition: <A x, y> = <x, A* y>, sums over all numbers of products that are as far off.
    left, right = np.vdot(direct(kernels, X), Y), np.vdot(X, A.adjoint(Y))
    scale = np.abs(Y).sum() + np.abs(X).sum()
    assert abs(left - right) <= scale * through_the_fft(np.abs(kernels), np.abs(X) + np.abs(Y).max())


def test_complex_codes_of_real_kernels():
    kernels = np.random.default_rng(0).normal(size=(2, 3, 3))
    A = sparse.ConvolutionalDictionary(kernels, 8)
    X = np.random.default_rng(1).normal(size=(2, 2, 8)) + 1j
    np.testing.assert_allclose(A.apply(X), A.apply(X.real) + 1j * A.apply(X.imag), rtol=0, atol=1e-13)
    assert A.adjoint(A.apply(X)).dtype == np.complex128


@pytest.mark.parametrize(("shape", "points"), SHAPES)
def test_convolutional_codes_are_those_of_the_matrix(shape, points):
    """Column j of the matrix is what the dictionary makes of the code that is 1 at j."""
    A = sparse.ConvolutionalDictionary(np.random.default_rng(0).normal(size=shape), points)
    n = int(np.prod(A.code_shape))
    matrix = A.apply(np.eye(n).reshape(n, *A.code_shape)).reshape(n, -1).T
    largest = np.linalg.norm(matrix, 2) ** 2
    assert A.largest_eigenvalue() == pytest.approx(largest, rel=1e-12)
    Y = np.random.default_rng(1).normal(size=(3, *A.signal_shape))
    lam = 0.2 * np.abs(A.adjoint(Y)).max()
    for solve in SOLVERS.values():
        X = solve(A, Y, lam, n_iter=30)
        flat = solve(matrix, Y.reshape(3, -1), lam, n_iter=30)
        # A step is nonexpansive, extrapolation at most triples what 30 steps of rounding have left: 30 steps of 1e-14.
        np.testing.assert_allclose(X.reshape(3, -1), flat, rtol=0, atol=1e-11)
        np.testing.assert_allclose(
            sparse.objective(A, Y, X, lam), sparse.objective(matrix, Y.reshape(3, -1), flat, lam)
        )
        np.testing.assert_allclose(solve(A, Y[0], lam, n_iter=30), X[0], rtol=0, atol=1e-11)


def test_shifted_signals_have_shifted_codes():
    A = sparse.ConvolutionalDictionary(np.random.default_rng(0).normal(size=(3, 2, 2, 3)), (5, 6))
    Y = np.random.default_rng(1).normal(size=(2, *A.signal_shape))
    X, moved = (sparse.fista(A, signals, 0.1, n_iter=20) for signals in (Y, np.roll(Y, (2, 5), axis=(2, 3))))
    np.testing.assert_allclose(moved, np.roll(X, (2, 5), axis=(2, 3)), rtol=0, atol=1e-11)


def test_the_adjoint_is_the_random_lift_before_its_nonlinearity():
    lift = rn.RandomLift(4, 3, activation="identity", random_state=0)
    Y = np.random.default_rng(0).normal(size=(2, 2, 9))
    expected = lift(Y)
    A = sparse.ConvolutionalDictionary(lift.kernels_, 9)
    np.testing.assert_allclose(A.adjoint(Y), expected, rtol=0, atol=through_the_fft(lift.kernels_.swapaxes(0, 1), Y))


def test_anything_with_the_methods_is_a_dictionary():
    class Half:
        signal_shape, code_shape, dtype = (4,), (4,), np.dtype(float)

        def apply(self, X):
            return 0.5 * X

        def adjoint(self, Y):
            return 0.5 * Y

        def largest_eigenvalue(self):
            return 0.25

    assert isinstance(Half(), sparse.Dictionary)
    np.testing.assert_allclose(sparse.ista(Half(), np.arange(4.0), 0.25, n_iter=1), [0, 1, 3, 5])


def test_the_words_of_the_dictionary():
    assert repr(sparse.ConvolutionalDictionary(np.ones((2, 1, 3, 4)), (5, 6))) == (
        "ConvolutionalDictionary(2 kernels of 3 x 4, signal_shape=(1, 5, 6), dtype=float64)"
    )


A23, Y42, KERNEL = np.ones((2, 3)), np.ones((4, 2)), np.ones((1, 1, 2))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: sparse.ista(np.ones(3), [1.0], 1, n_iter=1), ValueError, r"A has shape \(3,\); expected a matrix"),
        (lambda: sparse.ista([[np.inf]], [1.0], 1, n_iter=1), ValueError, "A holds a NaN or infinite value; expected"),
        (lambda: sparse.ista(A23, np.ones((4, 3)), 1, n_iter=1), ValueError,
         r"Y has shape \(4, 3\); expected \(m, 2\) or \(2,\) for this A"),
        (lambda: sparse.ista(A23, [[1, 2], [1, np.nan]], 1, n_iter=1), ValueError,
         "Y holds a NaN or infinite value in sample 1; expected finite values"),
        (lambda: sparse.ista(A23, ["a", "b"], 1, n_iter=1), TypeError, "Y has dtype <U1; expected real or"),
        (lambda: sparse.ista(A23, Y42, 1, n_iter=1, x0=np.ones((3, 3))), ValueError,
         "x0 has 3 samples; expected 4, one for every signal"),
        (lambda: sparse.ista(A23, Y42, 1, n_iter=1, x0=np.ones(2)), ValueError,
         r"x0 has shape \(2,\); expected \(m, 3\) or \(3,\) for this A"),
        (lambda: sparse.ista(A23, Y42, -1, n_iter=1), ValueError, "lam is -1; expected a finite"),
        (lambda: sparse.ista(A23, Y42, 1, n_iter=0), ValueError, "n_iter is 0; expected an int"),
        (lambda: sparse.ista(A23, Y42, 1, n_iter=1, L=0), ValueError, "L is 0; expected a finite"),
        (lambda: sparse.fista(9 * np.eye(2), [1.0, 2.0], 0, n_iter=999, L=1e-3), ValueError,
         r"the codes grew beyond all bounds: L is 0\.001; expected at least the largest eigenvalue of A\* A"),
        (lambda: sparse.ista(np.float32([[1e30]]), np.float32([1e30]), 0, n_iter=1), ValueError,
         "the codes grew beyond all bounds: A or Y has too large or too small values"),
        (lambda: sparse.objective(A23, Y42, np.ones((3, 3)), 1), ValueError,
         "X has 3 samples and Y 4; expected a code for every signal"),
        (lambda: sparse.soft_threshold([1.0], -1), ValueError, "t holds a negative or non-finite number; exp"),
        (lambda: sparse.soft_threshold([1.0], 1j), TypeError, "t has dtype complex128; expected real numbers"),
        (lambda: sparse.soft_threshold([1.0, 2.0], [1.0, 2.0, 3.0]), ValueError,
         r"t has shape \(3,\); expected a number, or a shape that fits x's \(2,\)"),
        (lambda: sparse.ConvolutionalDictionary(np.ones((2, 3)), 4), ValueError,
         r"kernels has shape \(2, 3\); expected \(K, C, taps\) or \(K, C, height, width\)"),
        (lambda: sparse.ConvolutionalDictionary([[["a"]]], 4), TypeError, "kernels has dtype <U1; expected real or"),
        (lambda: sparse.ConvolutionalDictionary([[[np.nan]]], 4), ValueError, "kernels holds a NaN or infinite value"),
        (lambda: sparse.ConvolutionalDictionary(np.ones((1, 1, 5)), 4), ValueError,
         r"signal_shape is 4; expected 1 numbers, at least the kernels' \(5,\)"),
        (lambda: sparse.ConvolutionalDictionary(KERNEL, (4, 4)), ValueError,
         r"signal_shape is \(4, 4\); expected 1 numbers"),
        (lambda: sparse.ConvolutionalDictionary(KERNEL, 4).apply(np.ones((2, 2, 4))), ValueError,
         r"X has shape \(2, 2, 4\); expected \(m, 1, 4\)"),
        (lambda: sparse.ConvolutionalDictionary(KERNEL, 4).adjoint("no"), TypeError, "Y has dtype <U2; exp"),
    ],
)  # fmt: skip
def test_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
