"""Errors of one rank reach all the others, which name it."""

from __future__ import annotations

import pickle
import re
from typing import ClassVar

import numpy as np
import pytest
from distributed_problems import (
    LAYOUTS,
    agree,
    build_on,
    errors,
    problem,
    reference,
    share,
    uneven,
)
from ranks import on_threads

import redunet as rn
from redunet import distributed
from redunet.distributed.grams import placed


class TestErrors:
    """They reach all, and name the rank."""

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_of_samples(self, backend, layout):
        given = problem("signals")
        rows = uneven(50, 3)
        given["X"][rows[1]][2] = np.nan
        first, second, third = errors(build_on(rows, given, layout=layout))
        assert type(second) is ValueError
        for other in (first, third):
            assert type(other) is distributed.RankError
            assert (other.rank, other.kind) == (1, "ValueError")
            assert str(other) == f"rank 1: ValueError: {second}"
        assert str(second).startswith("X holds NaN or infinity in sample 2")

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("at", [0, 2, 4])
    def test_of_a_callback(self, layout, at):
        given = problem("signals")
        rows = uneven(50, 3)

        def work(comm):
            def look(index, rates):
                if index == at:
                    raise OSError("the disk is full")

            watch = look if comm.rank == 2 else None
            return distributed.build(**share(given, rows[comm.rank]), comm=comm, layout=layout, on_layer=watch)

        *others, own = errors(on_threads(3, work))
        assert type(own) is OSError
        assert [str(error) for error in others] == ["rank 2: OSError: the disk is full"] * 2

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("name", ["signals, many channels", "images"])
    def test_of_a_factorisation_names_its_place(self, backend, name, layout, monkeypatch):
        """Of whatever rank has the frequency."""
        if backend == "cuda":
            pytest.skip("what is spoilt lies on the device")
        given = problem(name)
        rows = uneven(len(given["X"]), 2)
        n_freqs = reference(given)[0].fourier.n_freqs

        def spoilt(self, *, normalize):
            V = original(self, normalize=normalize)
            V[:, :, n_freqs - 2] = np.nan
            return V

        samples = rn._inputs.prepare.Samples
        original = samples.spectra
        monkeypatch.setattr(samples, "spectra", spoilt)
        with pytest.raises(np.linalg.LinAlgError) as expected:
            rn.build(**given)
        results = errors(build_on(rows, given, layout=layout))
        assert sorted(type(error).__name__ for error in results) == ["LinAlgError", "RankError"]
        for error in results:
            assert f"frequency {n_freqs - 2}: I + alpha G is not positive definite" in str(error)
            assert str(error).removeprefix("rank 1: LinAlgError: ").startswith("layer 0, ")
        assert "layer 0, " in str(expected.value)

    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            ("all classes, frequency 1: I + ...", "layer 3, class 1, frequency 6: I + ..."),
            ("class 4, frequency 0: I + ...", "layer 3, class 6, frequency 5: I + ..."),
            ("layer 2, class 0, frequency 0: ...", "layer 2, class 2, frequency 5: ..."),
            ("something else", "something else"),
        ],
    )
    def test_of_a_share_of_the_operators_names_that_of_all(self, said, expected):
        with pytest.raises(np.linalg.LinAlgError, match=f"^{re.escape(expected)}$"), placed(3, 2, 5):
            raise np.linalg.LinAlgError(said)

    DIFFERENT: ClassVar = {
        "n_layers": ({"n_layers": 7}, "n_layers is 7 on rank 1 and 4 on rank 0; expected the same on all ranks"),
        "eta": ({"eta": [0.1] * 4}, r"eta is \[0.1, 0.1, 0.1, 0.1\] on rank 1 and 'auto' on rank 0"),
        "lam": ({"lam": 3}, r"lam is 3 on rank 1 and 20.0 on rank 0"),
        "momentum": ({"momentum": True}, "momentum is True on rank 1 and False on rank 0"),
        "layout": ({"layout": "samples"}, "layout is 'samples' on rank 1 and 'auto' on rank 0"),
        "resume": ({"resume": None, "tol": 0.1}, "tol is 0.1 on rank 1 and None on rank 0"),
        "dtype": ({"dtype": np.float64}, "dtype is float64 on rank 1 and float32 on rank 0"),
        "shape": ({"X": np.ones((13, 3, 8), "f4")}, r"X.shape\[1:\] is \(3, 8\) on rank 1 and \(3, 10\) on rank 0"),
        "axes": ({"y": np.eye(3)[np.arange(12) % 3]}, "y has 2 axes on rank 1 and 1 on rank 0; expected the same"),
        "labels": ({"y": ["a"] * 12}, "y has dtype <U1 on rank 1 and int64 on rank 0; expected one type"),
    }

    @pytest.mark.parametrize("what", DIFFERENT)
    def test_of_what_is_not_the_same(self, what):
        change, message = self.DIFFERENT[what]
        given = problem("signals")
        rows = [slice(0, 38), slice(38, None)]
        shares = [share(given, rows[0]), {**share(given, rows[1]), **change}]
        if what == "shape":
            shares[1]["X"] = shares[1]["X"][:12]
        results = errors(on_threads(2, lambda comm: distributed.build(**shares[comm.rank], comm=comm)))
        for error in results:
            assert type(error) in (ValueError, TypeError)
            with pytest.raises(type(error), match=message):
                raise error

    def test_of_numbers_of_classes(self):
        Pi = np.random.default_rng(0).dirichlet(np.ones(3), 10)
        shares = [{"X": np.ones((10, 4)), "y": Pi}, {"X": np.ones((10, 4)), "y": Pi[:, :2] / Pi[:, :2].sum(1)[:, None]}]
        for error in errors(on_threads(2, lambda comm: distributed.build(**shares[comm.rank], n_layers=1, comm=comm))):
            assert str(error) == "y has 2 classes on rank 1 and 3 on rank 0; expected the same"

    def test_of_no_samples_at_all(self):
        none = {"X": np.empty((0, 4)), "y": []}
        for error in errors(on_threads(2, lambda comm: distributed.build(**none, n_layers=1, comm=comm))):
            assert str(error) == "X has no samples on any rank; expected at least one"

    def test_of_labels_without_samples(self):
        shares = [{"X": np.ones((2, 4)), "y": [0, 1]}, {"X": np.empty((0, 4)), "y": [1]}]
        first, second = errors(
            on_threads(2, lambda comm: distributed.build(**shares[comm.rank], n_layers=1, comm=comm))
        )
        assert str(second) == "y has shape (1,); expected no labels (0,), as X has no samples"
        assert str(first) == f"rank 1: ValueError: {second}"

    def test_of_a_class_without_weight(self):
        given = {"X": np.eye(4), "y": [0, 0, 1, 1], "sample_weight": np.array([1.0, 1, 0, 0])}
        for error in errors(build_on([slice(0, 3), slice(3, 4)], {**given, "y": np.array(given["y"]), "n_layers": 1})):
            assert str(error) == "class 1 has no sample of positive weight; expected no empty class"

    def test_of_vectors_by_frequencies(self):
        given = problem("vectors")
        message = 'layout is "frequencies", and 2 ranks are more than the frequencies, 1; expected "samples" or "auto"'
        for error in errors(build_on(uneven(41, 2), given, layout="frequencies")):
            assert str(error) == message

    def test_of_arguments(self):
        with pytest.raises(TypeError, match="comm is a int; expected a Communicator"):
            distributed.build(np.eye(2), [0, 1], n_layers=1, comm=3)
        with pytest.raises(TypeError, match="unexpected keyword argument 'layers'"):
            distributed.build(np.eye(2), [0, 1], n_layers=1, layers=1, comm=distributed.single())
        with pytest.raises(ValueError, match="layout is 'rows'; expected one of 'auto', 'samples', 'frequencies'"):
            distributed.build(np.eye(2), [0, 1], n_layers=1, layout="rows", comm=distributed.single())

    def test_a_communicator_survives_them(self):
        given = problem("signals")
        rows = uneven(50, 2)

        def work(comm):
            mine = share(given, rows[comm.rank])
            for wrong in ({"lam": -1 if comm.rank else 1}, {"X": mine["X"] * np.nan}):
                with pytest.raises((ValueError, distributed.RankError)):
                    distributed.build(**{**mine, **wrong}, comm=comm)
            return distributed.build(**mine, comm=comm)

        agree(on_threads(2, work), given, rows)

    def test_of_another_rank_survive_pickling(self):
        error = pickle.loads(pickle.dumps(distributed.RankError(3, "ValueError", "X is wrong")))
        assert (str(error), error.rank) == ("rank 3: ValueError: X is wrong", 3)
        assert str(distributed.RankError(1, "KeyError", "")) == "rank 1: KeyError"
