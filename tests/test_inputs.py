"""What arrays, labels and numbers may come as: every kind is taken for what it is, or refused by the argument's name.

Nothing is lost on the way in: no mask, no order of bytes, no zeros that a sparse matrix doesn't store, no gradient, no
label that is missing. PyTorch and sparse matrices are known by what they can do, so that stand-ins serve here.
"""

from __future__ import annotations

import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import redunet as rn
from redunet import linalg

M = 12
X = np.random.default_rng(5).normal(size=(M, 4))
SIGNALS = X.reshape(M, 2, 2)
SQUARE = np.stack([np.eye(4) * (i + 1.0) for i in range(M)])
Y = np.arange(M) % 3


def build(samples=X, labels=Y, **options):
    return rn.build(samples, labels, n_layers=1, **options)


def estimators():
    sklearn = pytest.importorskip("redunet.sklearn", reason="scikit-learn is not installed")
    return (sklearn.ReduNetTransformer(1), sklearn.ReduNetClassifier(1), sklearn.NearestSubspaceClassifier(1))


#: Every public function that takes numbers: the argument's name, good numbers, and the call.
NUMBERS = {
    "build": ("X", X, build),
    "transform": ("X", X, lambda A: build()[0].transform(A)),
    "assign": ("X", X, lambda A: build()[0].assign(A)),
    "coding_length": ("Z", X, lambda A: rn.coding_length(A, epsilon_sq=0.1)),
    "coding_length with a mean": ("Z", X, lambda A: rn.coding_length(A, epsilon_sq=0.1, mean="estimate")),
    "coding_rate": ("Z", X, rn.coding_rate),
    "rate_reduction": ("Z", X, lambda A: rn.rate_reduction(A, Y)),
    "gradient": ("Z", X, lambda A: rn.rate_reduction_gradient(A, Y)),
    "sample_weight": ("sample_weight", np.ones(M), lambda A: build(sample_weight=A)),
    "weight of a rate": ("sample_weight", np.ones(M), lambda A: rn.coding_rate(X, sample_weight=A)),
    "eta": ("eta", np.ones(2), lambda A: rn.build(X, Y, n_layers=2, eta=A)),
    "membership": ("y", np.eye(3)[Y], lambda A: build(labels=A)),
    "cholesky": ("A", SQUARE, linalg.cholesky),
    "inv": ("A", SQUARE, linalg.inv),
    "logdet": ("A", SQUARE, linalg.logdet),
    "solve": ("A", SQUARE, lambda A: linalg.solve(A, np.ones(4))),
    "right-hand side": ("B", np.ones(4), lambda B: linalg.solve(SQUARE, B)),
    "lift": ("X", SIGNALS, rn.RandomLift(2, 2, random_state=0)),
    "fit of a lift": ("X", SIGNALS, lambda A: rn.RandomLift(2, 2, random_state=0).fit(A).kernels_),
    "pooled lift": ("X", SIGNALS, lambda A: rn.PooledLift(8, 2, random_state=0).fit_transform(A)),
    "polar": ("images", SIGNALS, lambda A: rn.to_polar(A, n_channels=2, n_angles=3)),
    "shifts": ("X", SIGNALS, rn.shifts),
    "fit of subspaces": ("Z", X, lambda A: rn.NearestSubspace(1).fit(A, Y).bases_[0]),
    "scores": ("Z", X, lambda A: rn.NearestSubspace(1).fit(X, Y).scores(A)),
    "scores of shifts": ("Z", SIGNALS, lambda A: rn.NearestSubspace(1).fit(SIGNALS, Y).scores_all_shifts(A)),
    "fit of neighbours": ("Z", X, lambda A: rn.CosineNeighbors(1).fit(A, Y).predict(X)),
    "neighbours": ("Z", X, lambda A: rn.CosineNeighbors(1).fit(X, Y).predict(A)),
}
FACES = {
    f"{number} {method}": ("X", X, number, method) for number in range(3) for method in ("fit", "transform or predict")
}


def face(number, method):
    def call(A):
        estimator = estimators()[number]
        if method == "fit":
            return estimator.fit(A, Y).classes_
        fitted = estimator.fit(X, Y)
        return fitted.transform(A) if number == 0 else fitted.predict(A)

    return call


def cases():
    for where, (name, good, call) in NUMBERS.items():
        yield pytest.param(name, good, call, id=where)
    for where, (name, good, number, method) in FACES.items():
        yield pytest.param(name, good, face(number, method), id=f"estimator {where}")


def first(result):
    """Something comparable of whatever a function gives."""
    if isinstance(result, tuple) and isinstance(result[0], rn.ReduNet):
        return result[1]
    return np.asarray(result[0] if isinstance(result, tuple) else result)


@pytest.mark.parametrize(("name", "good", "call"), list(cases()))
class TestNumbers:
    def test_of_another_order_of_bytes(self, name, good, call):
        for dtype in ("f4", "f8", "c8", "c16", "i2"):
            whole = good.round() if dtype == "i2" else good
            try:
                native = first(call(whole.astype(dtype)))
            except (TypeError, ValueError) as error:  # complex samples where only real ones are taken
                with pytest.raises(type(error)):
                    call(whole.astype(">" + dtype))
                continue
            for order in "<>":
                np.testing.assert_array_equal(first(call(whole.astype(order + dtype))), native)

    def test_masks(self, name, good, call):
        whole = np.ma.masked_array(good, mask=np.zeros(good.shape, bool))
        np.testing.assert_array_equal(first(call(whole)), first(call(good)))
        np.testing.assert_array_equal(first(call(np.ma.masked_array(good))), first(call(good)))
        spoiled = whole.copy()
        spoiled[(-1,) * good.ndim] = np.ma.masked
        for masked in (spoiled, list(spoiled), tuple(spoiled)):
            with pytest.raises(ValueError, match=f"^{name} has 1 masked entries; expected none"):
                call(masked)

    def test_sparse_matrices(self, name, good, call):
        sparse = SimpleNamespace(nnz=3, toarray=lambda: good, shape=good.shape, dtype=good.dtype)
        with pytest.raises(TypeError, match=f"^{name} is a sparse SimpleNamespace; .*pass {name}.toarray()"):
            call(sparse)

    def test_sparse_matrices_of_scipy(self, name, good, call):
        sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
        for kind in (sparse.csr_array, sparse.coo_matrix, sparse.dia_array, sparse.lil_matrix):
            with pytest.raises(TypeError, match=f"^{name} is a sparse {kind.__name__}; expected a dense array"):
                call(kind(np.eye(3)))

    def test_tensors(self, name, good, call):
        class Tensor:
            requires_grad = False
            device = SimpleNamespace(type="cpu")
            dtype = "torch.float64"

            def __init__(self, **attributes):
                vars(self).update(attributes)

            def __array__(self, dtype=None, copy=None):
                if vars(self):
                    raise RuntimeError("can't")
                return good

        np.testing.assert_array_equal(first(call(Tensor())), first(call(good)))
        for attributes, message in (
            ({"requires_grad": True}, rf"is a Tensor that requires gradients: pass {name}.detach\(\)"),
            ({"dtype": "torch.bfloat16"}, "has dtype torch.bfloat16, which NumPy doesn't know: convert it to float32"),
            ({"device": SimpleNamespace(type="mps")}, rf"lies on the device .*mps.*: pass {name}.cpu\(\)"),
            ({"conjugate": True}, "is a Tensor that NumPy can't read; expected an array: can't"),
        ):
            with pytest.raises(TypeError, match=f"^{name} {message}"):
                call(Tensor(**attributes))

    def test_what_is_no_number(self, name, good, call):
        ragged = [[1.0, 2.0], [3.0]]
        text = np.full(good.shape, "x")
        dates = np.zeros(good.shape, "M8[s]")
        records = np.zeros(good.shape, [("a", "f8")])
        for wrong in (ragged, text, text.tolist(), dates, records, {}, np.full(good.shape, None), object()):
            with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
                call(wrong)


def test_tensors_of_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: stand-ins are tested above")
    for case in cases():
        name, good, call = case.values
        tensor = torch.tensor(good)
        np.testing.assert_array_equal(first(call(tensor)), first(call(good)))
        wrong = [tensor.clone().requires_grad_(), tensor.bfloat16(), tensor.to("meta"), tensor.to_sparse()]
        wrong.append(torch.complex(tensor, tensor).conj())
        for other in wrong:
            with pytest.raises(TypeError, match=f"^{name} "):
                call(other)


def test_frames_of_pandas():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(X)
    _, Z = build()
    for nullable in (frame, frame.astype("Float64"), frame.astype({0: "Float64"})):
        np.testing.assert_array_equal(build(nullable)[1], Z)
        np.testing.assert_array_equal(build()[0].transform(nullable), Z)
    _, single = build(X.astype("f4"))
    np.testing.assert_array_equal(build(frame.astype("Float32"))[1], single)
    counts = (10 * frame).round()
    for dtype in ("Int64", "Int8", int):
        np.testing.assert_array_equal(build(counts.astype(dtype))[1], build(counts)[1])
    np.testing.assert_array_equal(build((frame > 0).astype("boolean"))[1], build(X > 0)[1])
    mixed = frame.assign(flag=frame[0] > 0, count=np.arange(M))
    np.testing.assert_array_equal(build(mixed)[1], build(mixed.astype(float))[1])
    missing = frame.astype("Float64")
    missing.iloc[7, 1] = pandas.NA
    with pytest.raises(ValueError, match="X holds NaN or infinity in sample 7"):
        build(missing)
    for other in ("text", pandas.Timestamp("2020"), pandas.Categorical(["a"] * M)):
        with pytest.raises(TypeError, match=r"X has dtype .*; expected real or complex numbers"):
            build(frame.assign(other=other))


def matrix(values):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, against the class
        return np.matrix(values)


class TestLabels:
    def test_of_another_order_of_bytes(self):
        for dtype in ("i4", "f8", "U3", "M8[D]"):
            native = Y.astype("i8").astype(dtype)
            net, Z = build(labels=native.astype(native.dtype.newbyteorder(">")))
            assert net.classes_.dtype == native.dtype
            assert net.classes_.dtype.isnative
            np.testing.assert_array_equal(Z, build()[1])

    def test_missing_ones_of_any_dtype(self):
        text = np.array(["a", "b", "c"], dtype=object)[Y]
        missing = {
            "NaN or infinite": [
                np.where(Y == 2, np.nan, Y),
                np.where(Y == 2, np.inf, Y),
                np.where(Y == 2, np.nan, Y + 1j),
                np.where(Y == 2, np.nan, Y).tolist(),
                np.where(Y == 2, np.nan, text),  # NaN in an array of objects
                np.where(Y == 2, np.nan, text).tolist(),  # which NumPy alone would read as the text 'nan'
            ],
            "missing": [
                np.where(Y == 2, np.datetime64("NaT", "D"), np.datetime64("2020-01-01")),
                np.where(Y == 2, np.timedelta64("NaT", "s"), np.timedelta64(1, "s")),
                np.where(Y == 2, None, text),
                np.where(Y == 2, None, text).tolist(),
                np.where(Y == 2, None, Y.astype(object)),
                np.array(np.where(Y == 2, None, text), dtype=np.dtypes.StringDType(na_object=None)),
            ],
        }
        for kind, all_labels in missing.items():
            message = f"^y holds a {kind} label; expected a label for every sample, and sample 2 has none$"
            for labels in all_labels:
                for call in (
                    lambda y: build(labels=y),
                    lambda y: rn.rate_reduction(X, y),
                    lambda y: rn.NearestSubspace(1).fit(X, y),
                    lambda y: rn.NearestSubspace(1).fit(X, Y).score(X, y),
                    lambda y: rn.CosineNeighbors(1).fit(X, y),
                    *(lambda y, e=e: e.fit(X, y) for e in estimators()),
                    lambda y: estimators()[1].fit(X, Y).score(X, y),
                ):
                    with pytest.raises(ValueError, match=message):
                        call(labels)

    def test_of_several_types(self):
        for labels in ([1, "a"] * 6, [b"a", "b"] * 6, [True, "a"] * 6, [0, "x", None] * 4):
            with pytest.raises(TypeError, match="y holds labels that cannot be compared with one another"):
                build(labels=labels)

    def test_in_a_column(self):
        _, Z = build(labels=np.zeros(M))
        np.testing.assert_array_equal(build(labels=np.ones((M, 1)))[1], Z)  # a membership of one class
        message = rf"^y has shape \({M}, 1\); expected labels \({M},\): pass numpy.ravel\(y\)"
        for column in (Y[:, None], matrix(Y).T, Y[:, None] + 0.5, Y[:, None].tolist()):
            with pytest.raises(ValueError, match=message):
                build(labels=column)
        for classifier in (rn.NearestSubspace(1), rn.CosineNeighbors(1)):
            with pytest.raises(ValueError, match=message):
                classifier.fit(X, Y[:, None])
            with pytest.raises(ValueError, match=message):
                classifier.fit(X, Y).score(X, Y[:, None])
        with pytest.raises(TypeError, match=message):
            build(labels=np.array(["a", "b", "c"])[Y][:, None])
        with pytest.raises(ValueError, match=rf"^y has shape \(1, {M}\); expected labels"):
            build(labels=matrix(Y))

    def test_of_pandas(self):
        pandas = pytest.importorskip("pandas", reason="pandas is not installed")
        text = np.array(["a", "b", "c"])[Y]
        for labels, classes in (
            (pandas.Series(Y, dtype="Int64"), np.arange(3)),
            (pandas.array(Y, dtype="Int8"), np.arange(3, dtype=np.int8)),
            (pandas.Series(Y, dtype="Float64"), np.arange(3.0)),
            (pandas.Series(text, dtype="string"), ["a", "b", "c"]),
            (pandas.Series(text, dtype="category"), ["a", "b", "c"]),
            (pandas.Categorical(text), ["a", "b", "c"]),
            (pandas.Series(Y, index=np.arange(M)[::-1]), np.arange(3)),
            (pandas.get_dummies(Y), np.arange(3)),
            (pandas.get_dummies(Y).astype("boolean"), np.arange(3)),
        ):
            net, Z = build(labels=labels)
            assert net.classes_.tolist() == list(classes)
            if isinstance(classes, np.ndarray):
                assert net.classes_.dtype == classes.dtype
            np.testing.assert_array_equal(Z, build()[1])
        flags = pandas.Series(Y == 0, dtype="boolean")
        assert build(labels=flags)[0].classes_.dtype == bool
        for dtype in ("Int64", "Float64", "boolean", "string", "category", "datetime64[ns]", object):
            column = pandas.Series(Y == 0 if dtype == "boolean" else Y).astype(dtype)
            column.iloc[4] = None
            for call in (lambda y: build(labels=y), *(lambda y, e=e: e.fit(X, y) for e in estimators())):
                with pytest.raises(ValueError, match=r"^y holds a .* label; .*, and sample 4 has none$"):
                    call(column)


class TestScalars:
    @pytest.mark.parametrize("kind", [np.float32, np.float64, np.array, lambda x: np.array(x, "f4"), float])
    def test_numbers_of_numpy(self, kind):
        _, Z = build(epsilon_sq=0.25, lam=2.0, eta=0.5)
        _, W = build(epsilon_sq=kind(0.25), lam=kind(2.0), eta=kind(0.5), tol=kind(0.0))
        np.testing.assert_array_equal(W, Z)

    @pytest.mark.parametrize("kind", [np.int8, np.uint64, np.array, np.int64])
    def test_integers_of_numpy(self, kind):
        net, _ = rn.build(X, Y, n_layers=kind(2), patience=kind(3), n_threads=kind(1))
        assert net.n_layers == 2

    def test_flags_of_numpy(self):
        assert build(momentum=np.bool_(True))[0].n_layers == 1
        assert isinstance(rn.rate_reduction(X, Y, per_class=np.array(True)).class_rate, np.ndarray)

    def test_results_are_scalars_where_numpy_gives_them(self, backend):
        for dtype in ("f4", "f8", "c8", "c16"):
            value = linalg.logdet(np.eye(3, dtype=dtype) * 2)
            assert type(value) is (np.float32 if np.finfo(dtype).bits == 32 else np.float64)
            assert linalg.logdet(np.eye(3, dtype=dtype)[None] * 2).shape == (1,)
        assert json.dumps(linalg.logdet(np.eye(2))) == "0.0"
        reduction = rn.rate_reduction(X, Y)
        lengths = [rn.coding_length(X, epsilon_sq=0.1, mean=mean) for mean in ("zero", "estimate")]
        for number in (*reduction, rn.coding_rate(X), *lengths):
            assert type(number) is float

    @pytest.mark.parametrize("dtype", [">f4", ">f8", ">c8", ">c16", "=f4", "<c16"])
    def test_dtype_in_any_order_of_bytes(self, backend, dtype):
        for samples in (X, SIGNALS, X.round().astype("i4")):
            native = np.dtype(dtype).newbyteorder("=")
            net, Z = build(samples, dtype=native)
            other, W = build(samples, dtype=dtype)
            assert other.dtype == W.dtype == native
            assert other.dtype.isnative
            np.testing.assert_array_equal(W, Z)
            np.testing.assert_array_equal(other.transform(samples), net.transform(samples))

    def test_signal_shape_of_one_axis(self):
        sklearn = pytest.importorskip("redunet.sklearn", reason="scikit-learn is not installed")
        samples = np.random.default_rng(0).normal(size=(M, 8))
        for make in (
            lambda shape: sklearn.ReduNetTransformer(1, signal_shape=shape),
            lambda shape: sklearn.ReduNetClassifier(1, signal_shape=shape),
            lambda shape: sklearn.RandomLift(2, 2, signal_shape=shape, random_state=0),
        ):
            expected = make((4,)).fit(samples, Y)
            for shape in (4, [4], np.int32(4), np.array(4), np.array([4])):
                found = make(shape).fit(samples, Y)
                for method in ("transform", "decision_function"):
                    if hasattr(expected, method):
                        np.testing.assert_array_equal(
                            getattr(found, method)(samples), getattr(expected, method)(samples)
                        )
            for wrong in (0, -4, 2.0, "4", (), (1, 2, 4), [[4]], (4.0,), True, {4}, object()):
                with pytest.raises((TypeError, ValueError), match="signal_shape"):
                    make(wrong).fit(samples, Y)


def test_tables_of_signals():
    """Tables have two axes: names of features are those of flattened signals, and pandas is asked for with tables."""
    pytest.importorskip("pandas", reason="pandas is not installed")
    sklearn = pytest.importorskip("redunet.sklearn", reason="scikit-learn is not installed")
    for make in (
        lambda **options: sklearn.ReduNetTransformer(1, **options),
        lambda **options: sklearn.RandomLift(2, 2, random_state=0, **options),
    ):
        plain = make().fit(SIGNALS, Y)
        assert len(plain.get_feature_names_out()) == plain.transform(SIGNALS)[0].size
        tables = make(signal_shape=2).set_output(transform="pandas")
        found = tables.fit_transform(X, Y)
        np.testing.assert_array_equal(found.to_numpy(), plain.transform(SIGNALS).reshape(M, -1))
        for call in (plain.set_output(transform="pandas").transform, lambda A, p=plain: p.fit_transform(A, Y)):
            with pytest.raises(
                ValueError, match=rf"X has shape \({M}, 2, 2\), and set_output asks for a table of pandas"
            ):
                call(SIGNALS)


def test_the_first_of_every_class():
    spoiled = np.ma.masked_equal(Y, 1)
    for arguments, name in (((np.ma.masked_greater(X, 0), Y), "X"), ((X, spoiled), "y")):
        with pytest.raises(ValueError, match=f"^{name} has .* masked entries"):
            rn.datasets.first_per_class(*arguments, 1)
    with pytest.raises(ValueError, match=r"^classes has 1 masked entries"):
        rn.datasets.first_per_class(X, Y, 1, classes=np.ma.masked_equal([0, 1], 1))
    with pytest.raises(ValueError, match=r"^y holds a NaN or infinite label"):
        rn.datasets.first_per_class(X, np.where(Y == 2, np.nan, Y), 1)


def test_nothing_warns_on_the_way():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for labels in (["a", "b", "c"] * 4, np.array(["a", "b", "c"], dtype=np.dtypes.StringDType())[Y]):
            build(X.tolist(), labels)
