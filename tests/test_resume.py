"""Builds that stop and go on: ``resume``, ``checkpoint``, and the network of an interrupted build."""

from __future__ import annotations

import inspect
import os
import pickle
import signal
import time
from dataclasses import fields, replace
from typing import ClassVar

import numpy as np
import pytest
from interpreters import output, python

import redunet as rn
from redunet import _backends
from redunet.transforms.cyclic import Fourier

needs_posix = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")

SHAPES = [(60, 3), (45, 3, 7), (24, 12, 4, 5)]  # of the last one classes are factors
SCHEMES = {
    "fixed": {"eta": 0.2},
    "natural": {},
    "search": {"eta": "search"},
    "momentum": {"momentum": True},
    "momentum, search": {"momentum": True, "eta": "search"},
    "given": {"assignment": "given"},
    "each step": {"eta": np.linspace(0.1, 0.3, 6)},
    "weights, backward": {"dft_norm": "backward", "sample_weight": np.linspace(0.5, 2, 60)},
}


def problem(shape, dtype=np.float64):
    rng = np.random.default_rng(sum(shape))
    y = np.arange(shape[0]) % 4
    return (rng.standard_normal((4, *shape[1:]))[y] + 0.7 * rng.standard_normal(shape)).astype(dtype), y


def same(found, expected):
    """Two networks and their features, to the last bit."""
    (net, Z), (other, W) = found, expected
    np.testing.assert_array_equal(Z, W)
    same_layers(net, other)


def same_layers(net, other):
    assert net.n_layers == other.n_layers
    for name in ("dense", "factors", "etas", "betas", "alphas"):
        np.testing.assert_array_equal(getattr(net.operators, name), getattr(other.operators, name), err_msg=name)
    for name in ("rate", "per_class"):
        np.testing.assert_array_equal(getattr(net.rates, name), getattr(other.rates, name), err_msg=name)


def first_layers(net, n):
    """The layers and what precedes them; with momentum the last rates of a cut network are those of its features."""
    rates = replace(net.rates, rate=net.rates.rate[:n], per_class=net.rates.per_class[:n])
    return net.operators.layers(0, n), rates


def same_beginning(net, whole):
    n = net.n_layers
    found, expected = first_layers(net, n), first_layers(whole, n)
    for one, other in zip(found, expected, strict=True):
        for name in (field.name for field in fields(one)):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


class TestResume:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_is_the_build_that_never_stopped(self, backend, scheme, shape, dtype, tmp_path):
        X, y = problem(shape, dtype)
        options = {"epsilon_sq": 0.5, "lam": 20.0, **SCHEMES[scheme]}
        if "sample_weight" in options:
            options["sample_weight"] = options["sample_weight"][: len(X)]
        eta = options.pop("eta", "auto")
        steps = (lambda n: eta[:n]) if isinstance(eta, np.ndarray) else (lambda n: eta)
        whole = rn.build(X, y, n_layers=6, eta=eta, **options)
        for n in (1, 4):
            before, _ = rn.build(X, y, n_layers=n, eta=steps(n), **options)
            same(rn.build(X, y, n_layers=6, eta=eta, resume=before, **options), whole)
        before.save(tmp_path / "net")
        same(rn.build(X, y, n_layers=6, eta=eta, resume=tmp_path / "net", **options), whole)
        same(rn.build(X, y, n_layers=6, eta=eta, resume=whole[0], **options), whole)  # nothing is left to build

    @pytest.mark.parametrize("lam", [1.0, 1e4])
    @pytest.mark.parametrize("epsilon_sq", [0.04, 10.0])
    @pytest.mark.parametrize("scheme", ["natural", "search", "momentum", "momentum, search"])
    def test_does_not_depend_on_steps_that_were_tried(self, backend, scheme, epsilon_sq, lam):
        """Classes without structure, so that steps are halved or searched for long, and gates change with each."""
        rng = np.random.default_rng(0)
        X, Pi = rng.standard_normal((119, 14)), rng.dirichlet(np.full(3, 0.5), 119)
        options = {"n_layers": 4, "lam": lam, "epsilon_sq": epsilon_sq, **SCHEMES[scheme]}
        whole = rn.build(X, Pi, **options)
        same(rn.build(X, Pi, resume=whole[0], **options), whole)

    @pytest.mark.parametrize("epsilon_sq", [1e-5, 1e-4, 1e-2])
    @pytest.mark.parametrize("n_features", [2, 3])
    def test_where_rounding_decides(self, backend, n_features, epsilon_sq):
        """Labels at random: the rate reduction is a small difference, and momentum restarts by its last digits."""
        rng = np.random.default_rng(1)
        X, y = rng.standard_normal((200, n_features)).astype(np.float32), rng.integers(0, 2, 200)
        options = {"epsilon_sq": epsilon_sq, "lam": 0.0, "momentum": True}
        whole = rn.build(X, y, n_layers=6, **options)
        for n in (2, 3, 5):
            before, _ = rn.build(X, y, n_layers=n, **options)
            same(rn.build(X, y, n_layers=6, resume=before, **options), whole)

    def test_of_complex_samples_and_soft_membership(self, backend):
        X, _ = problem((40, 3, 6))
        X = X + 1j * X[::-1]
        Pi = np.random.default_rng(0).dirichlet(np.ones(3), 40)
        whole = rn.build(X, Pi, n_layers=5, momentum=True)
        same(rn.build(X, Pi, n_layers=5, momentum=True, resume=rn.build(X, Pi, n_layers=2, momentum=True)[0]), whole)

    @pytest.mark.parametrize("scheme", ["natural", "search", "momentum"])
    def test_where_nothing_rises_any_more(self, backend, scheme):
        """One class: every step is zero, and the search of the layers that follow needs no trial."""
        X, _ = problem((20, 3))
        options = {"epsilon_sq": 0.5, **SCHEMES[scheme]}
        whole = rn.build(X, np.zeros(20), n_layers=4, **options)
        before, _ = rn.build(X, np.zeros(20), n_layers=2, **options)
        same(rn.build(X, np.zeros(20), n_layers=4, resume=before, **options), whole)

    @pytest.mark.parametrize("scheme", ["natural", "search", "momentum"])
    def test_tol_stops_where_it_would_have(self, backend, scheme):
        X, y = problem((60, 3))
        options = {"n_layers": 300, "tol": 1e-3, "patience": 4, "epsilon_sq": 0.5, **SCHEMES[scheme]}
        whole = rn.build(X, y, **options)
        n = whole[0].n_layers
        assert 4 < n < 300
        for stop in (1, n - 2, n - 1, n):
            before, _ = rn.build(X, y, **{**options, "n_layers": stop, "tol": None})
            same(rn.build(X, y, resume=before, **options), whole)

    def test_goes_on_with_another_step(self, backend):
        X, y = problem((60, 3))
        before, _ = rn.build(X, y, n_layers=2, eta=0.1)
        net, Z = rn.build(X, y, n_layers=5, eta=[9, 9, 0.3, 0.2, 0.1], resume=before)
        same((net, Z), rn.build(X, y, n_layers=5, eta=[0.1, 0.1, 0.3, 0.2, 0.1]))

    def test_calls_back_from_where_it_goes_on(self, backend):
        X, y = problem((60, 3))
        before, _ = rn.build(X, y, n_layers=2)
        seen = []
        net, _ = rn.build(X, y, n_layers=4, resume=before, on_layer=lambda index, rates: seen.append((index, rates)))
        assert [index for index, _ in seen] == [2, 3, 4]
        np.testing.assert_array_equal([rates.rate for _, rates in seen], net.rates.rate[2:])

    def test_leaves_the_network_it_goes_on_from(self, backend):
        X, y = problem((60, 3))
        before, Z = rn.build(X, y, n_layers=2, momentum=True)
        saved = pickle.loads(pickle.dumps(before))
        rn.build(X, y, n_layers=5, momentum=True, resume=before)
        same((before, Z), (saved, Z))

    OTHERS: ClassVar = {
        "n_channels": ({"X": problem((60, 4))[0]}, "resume was built with n_channels 3; expected 4, as in this"),
        "signal_shape": ({"X": problem((60, 3, 5))[0]}, r"signal_shape \(7,\); expected \(5,\)"),
        "group": ({"group": "dihedral"}, "group 'cyclic'; expected 'dihedral'"),
        "dtype": ({"dtype": np.float32}, r"dtype dtype\('float64'\); expected dtype\('float32'\)"),
        "dft_norm": ({"dft_norm": "backward"}, "dft_norm 'ortho'; expected 'backward'"),
        "epsilon_sq": ({"epsilon_sq": 0.2}, "epsilon_sq 0.5; expected 0.2"),
        "lam": ({"lam": 3}, "lam 20.0; expected 3.0"),
        "assignment": ({"assignment": "given"}, "assignment 'estimated'; expected 'given'"),
        "classes": ({"y": np.arange(60) % 4 + 1}, r"has the classes \[0 1 2 3\]; expected those of y, \[1 2 3 4\]"),
        "number of classes": ({"y": np.arange(60) % 3}, "resume has the classes"),
        "counts": ({"y": np.minimum(np.arange(60) % 5, 3)}, "resume was built with other numbers of samples, or wei"),
        "weights": ({"sample_weight": np.linspace(1, 2, 60)}, "resume was built with other numbers of samples, or w"),
        "samples": ({"X": problem((60, 3, 7))[0][::-1]}, "resume was built from samples, or labels, whose coding"),
        "labels": ({"y": np.repeat(np.arange(4), 15)}, "resume was built from samples, or labels, whose coding"),
        "fewer layers": ({"n_layers": 1}, "resume has 2 layers and n_layers is 1; expected at least as many"),
        "keep": ({"keep": "features"}, "resume needs operators, and keep is 'features'; expected keep=\"operators\""),
    }  # fmt: skip

    #: What may be another in a build that goes on.
    FREE: ClassVar = {
        "channels", "eta", "momentum", "tol", "patience", "backend", "n_threads", "progress", "on_layer", "resume",
        "checkpoint", "every",
    }  # fmt: skip

    def test_knows_of_every_option_whether_it_must_be_the_same(self):
        held = {name for change, _ in self.OTHERS.values() for name in change}
        unknown = inspect.signature(rn.build).parameters.keys() - held - self.FREE
        assert not unknown, f"build has {unknown}: must a build that goes on have the same? See OTHERS and FREE"

    @pytest.mark.parametrize("other", OTHERS)
    def test_names_what_is_not_the_same(self, backend, other):
        X, y = problem((60, 3, 7))
        given = {"X": X, "y": y, "epsilon_sq": 0.5, "lam": 20.0}
        before, _ = rn.build(**given, n_layers=2)
        change, message = self.OTHERS[other]
        with pytest.raises(ValueError, match=message):
            rn.build(**{**given, "n_layers": 4, **change}, resume=before)

    def test_what_is_no_network(self, tmp_path):
        X, y = problem((60, 3))
        with pytest.raises(TypeError, match="resume is 3 of type int; expected a ReduNet or its file"):
            rn.build(X, y, n_layers=2, resume=3)
        with pytest.raises(FileNotFoundError):
            rn.build(X, y, n_layers=2, resume=tmp_path / "none")
        (tmp_path / "text").write_text("no network")
        with pytest.raises(ValueError, match="text' cannot be loaded"):
            rn.build(X, y, n_layers=2, resume=tmp_path / "text")
        features, _ = rn.build(X, y, n_layers=1, keep="features")
        with pytest.raises(ValueError, match='resume was built with keep="features"; expected a network with its'):
            rn.build(X, y, n_layers=2, resume=features)

    def test_another_backend_may_go_on(self, backend):
        X, y = problem((45, 3, 7), np.float32)
        options = {"n_layers": 4, "epsilon_sq": 0.5, "lam": 20.0}
        before, _ = rn.build(X, y, **{**options, "n_layers": 2}, backend="numpy")
        net, Z = rn.build(X, y, **options, resume=before)
        assert net.backend == backend
        np.testing.assert_allclose(Z, rn.build(X, y, **options, backend="numpy")[1], atol=1e-3)


class TestCheckpoint:
    @pytest.mark.parametrize("scheme", ["natural", "search", "momentum", "momentum, search"])
    def test_holds_the_layers_so_far(self, backend, scheme, tmp_path):
        X, y = problem((60, 3))
        path, sizes, read = tmp_path / "net", [], []

        def look(index, rates):
            read.append(rn.load(path, mmap=False) if path.exists() else None)
            sizes.append(0 if read[-1] is None else read[-1].n_layers)

        net, Z = rn.build(X, y, n_layers=7, checkpoint=path, every=3, on_layer=look, **SCHEMES[scheme])
        assert sizes == [0, 0, 0, 3, 3, 3, 6, 6]
        for cut in read[3:]:
            same_beginning(cut, net)
        same_layers(rn.load(path), net)
        same(rn.build(X, y, n_layers=7, resume=read[4], **SCHEMES[scheme]), (net, Z))

    def test_changes_nothing(self, backend, tmp_path):
        X, y = problem((45, 3, 7), np.float32)
        for scheme in SCHEMES.values():
            options = {**scheme, "n_layers": 6}
            if "sample_weight" in options:
                options["sample_weight"] = options["sample_weight"][:45]
            same(rn.build(X, y, checkpoint=tmp_path / "net", every=1, **options), rn.build(X, y, **options))

    def test_may_replace_the_file_that_it_goes_on_from(self, backend, tmp_path):
        X, y = problem((60, 3))
        path = tmp_path / "net"
        for n in (2, 5, 6):
            rn.build(X, y, n_layers=n, checkpoint=path, every=2, resume=path if path.exists() else None)
        same_layers(rn.load(path), rn.build(X, y, n_layers=6)[0])

    def test_of_a_build_that_ends_early_is_the_whole(self, backend, tmp_path):
        X, y = problem((60, 3))
        net, _ = rn.build(X, y, n_layers=9, checkpoint=tmp_path / "net", on_layer=lambda index, rates: index == 4)
        assert net.n_layers == 4
        same_layers(rn.load(tmp_path / "net"), net)

    def test_wrong_ones(self, tmp_path):
        X, y = problem((60, 3))
        with pytest.raises(ValueError, match=r"checkpoint is '.*none.net'; expected a file in a folder that exists"):
            rn.build(X, y, n_layers=2, checkpoint=tmp_path / "none" / "net")
        with pytest.raises(ValueError, match="checkpoint needs operators, and keep is 'features'"):
            rn.build(X, y, n_layers=2, checkpoint=tmp_path / "net", keep="features")
        with pytest.raises(ValueError, match="every is 0; expected an integer >= 1"):
            rn.build(X, y, n_layers=2, checkpoint=tmp_path / "net", every=0)
        with pytest.raises(OSError, match="It is a folder"):
            rn.build(X, y, n_layers=2, checkpoint=tmp_path)

    @needs_posix
    def test_survives_being_killed_at_any_moment(self, backend, tmp_path):
        """Killed three times while it builds, and gone on with each time: the network is that of one build."""
        path, every, n_layers = tmp_path / "net", 7, 250
        code = f"""
            import os, time, numpy as np, redunet as rn
            X = np.random.default_rng(0).standard_normal((20, 3))

            def say(index, rates):
                print(index, flush=True)
                time.sleep(2e-3)  # all layers last longer than the kills are apart

            path = {str(path)!r}
            rn.build(X, np.arange(20) % 2, n_layers={n_layers}, eta=0.1, momentum=True, checkpoint=path, every={every},
                     resume=path if os.path.exists(path) else None, on_layer=say, backend={backend!r})
            time.sleep(100)  # on a machine that is too busy to kill it before
        """
        kept = 0
        for delay in np.random.default_rng().uniform(0, 0.15, 3):
            process = python(code)
            try:
                first = process.stdout.readline()
                assert int(first) == kept
                time.sleep(delay)
                process.kill()
                out, err = process.communicate(timeout=60)
            finally:
                process.kill()
                process.wait()
            assert (process.returncode, err) == (-signal.SIGKILL, "")
            whole_lines = [line for line in (first + out).splitlines(keepends=True) if line.endswith("\n")]
            reported = int(whole_lines[-1])
            kept = rn.load(path).n_layers if path.exists() else 0
            assert reported // every * every <= kept <= reported + 1, delay
        X, y = np.random.default_rng(0).standard_normal((20, 3)), np.arange(20) % 2
        options = {"n_layers": n_layers, "eta": 0.1, "momentum": True}
        found = rn.build(X, y, checkpoint=path, resume=path if path.exists() else None, **options)
        same(found, rn.build(X, y, **options))
        assert os.listdir(tmp_path) == ["net"]  # nothing of a save that was killed


class TestInterrupted:
    @pytest.mark.parametrize("at", [0, 1, 3, 6])
    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_has_the_layers_that_were_there(self, backend, scheme, at, tmp_path):
        X, y = problem((60, 3))
        options = {"epsilon_sq": 0.5, "lam": 20.0, **SCHEMES[scheme], "n_layers": 6}

        def press(index, rates):
            if index == at:
                raise KeyboardInterrupt("Ctrl-C")

        with pytest.raises(KeyboardInterrupt) as caught:
            rn.build(X, y, on_layer=press, **options)
        stop = caught.value
        assert type(stop) is rn.BuildInterrupted
        assert isinstance(stop.__cause__, KeyboardInterrupt)
        if at == 0:
            assert stop.net is None
            assert str(stop) == "no layer was built"
            return
        assert str(stop) == f"{at} layers were built"
        whole = rn.build(X, y, **options)
        same_beginning(stop.net, whole[0])
        assert len(stop.net.rates.delta) == at + 1
        stop.net.save(tmp_path / "net")
        np.testing.assert_array_equal(rn.load(tmp_path / "net").transform(X), stop.net.transform(X))
        same(rn.build(X, y, resume=stop.net, **options), whole)

    def test_without_operators_there_is_no_network(self, backend):
        X, y = problem((60, 3))

        def press(index, rates):
            if index == 2:
                raise KeyboardInterrupt

        with pytest.raises(rn.BuildInterrupted) as caught:
            rn.build(X, y, n_layers=4, keep="features", on_layer=press)
        assert caught.value.net is None

    @pytest.mark.parametrize("at_the_end", ["save", "inverse"])
    def test_after_the_last_layer_has_them_all(self, backend, at_the_end, tmp_path, monkeypatch):
        """While the last checkpoint is written, or features are taken back from their spectra."""

        def press(*arguments, **options):
            raise KeyboardInterrupt

        X, y = problem((45, 3, 7))
        net, _ = rn.build(X, y, n_layers=3)
        monkeypatch.setattr(*{"save": (rn.ReduNet, "save"), "inverse": (Fourier, "inverse")}[at_the_end], press)
        with pytest.raises(rn.BuildInterrupted) as caught:
            rn.build(X, y, n_layers=3, checkpoint=tmp_path / "net")
        same_layers(caught.value.net, net)

    @pytest.mark.parametrize("scheme", ["natural", "momentum"])
    def test_on_the_way_through_layers_that_are_there_nothing_is_lost(self, backend, scheme, monkeypatch):
        X, y = problem((45, 3, 7))
        net, _ = rn.build(X, y, n_layers=3, **SCHEMES[scheme])

        def press(*arguments, **options):
            raise KeyboardInterrupt

        monkeypatch.setattr(_backends.select(backend)[1], "build", press)
        with pytest.raises(rn.BuildInterrupted) as caught:
            rn.build(X, y, n_layers=6, resume=net, **SCHEMES[scheme])
        same_layers(caught.value.net, net)

    def test_survives_pickling(self):
        X, y = problem((60, 3))
        net, _ = rn.build(X, y, n_layers=2)
        for stop in (rn.BuildInterrupted(net), rn.BuildInterrupted()):
            back = pickle.loads(pickle.dumps(stop))
            assert type(back) is rn.BuildInterrupted
            assert str(back) == str(stop)
            assert (back.net is None) == (stop.net is None)
        same_layers(pickle.loads(pickle.dumps(rn.BuildInterrupted(net))).net, net)

    @needs_posix
    @pytest.mark.parametrize("options", ["", "eta='search'", "momentum=True"], ids=str)
    def test_by_a_signal_in_the_middle_of_a_layer(self, backend, options):
        out = output(f"""
            import os, signal, threading, numpy as np, redunet as rn
            X, y = np.random.default_rng(0).standard_normal((200, 16, 64)), np.arange(200) % 4
            timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
            start = lambda index, rates: timer.start() if index == 1 else None
            try:
                rn.build(X, y, n_layers=2000, backend={backend!r}, on_layer=start, {options})
            except rn.BuildInterrupted as stop:
                net = stop.net
            n = net.n_layers
            assert len(net.rates.delta) == n + 1 and np.isfinite(net.rates.delta).all()
            more, Z = rn.build(X, y, n_layers=n + 1, resume=net, backend={backend!r}, {options})
            whole, W = rn.build(X, y, n_layers=n + 1, backend={backend!r}, {options})
            np.testing.assert_array_equal(Z, W)
            np.testing.assert_array_equal(more.operators.dense, whole.operators.dense)
            np.testing.assert_array_equal(more.rates.per_class, whole.rates.per_class)
            print("the same")
        """)
        assert out == "the same\n"


@pytest.mark.parametrize("scheme", ["search", "momentum", "momentum, search"])
class TestWatchers:
    """They see a layer when it is there, and not after the construction."""

    def test_on_layer_ends_the_network(self, backend, scheme):
        X, y = problem((60, 3))
        seen = []

        def watch(index, rates):
            seen.append(rates.rate)
            return index == 3

        net, Z = rn.build(X, y, n_layers=10**6, keep="features", on_layer=watch, **SCHEMES[scheme])
        short, W = rn.build(X, y, n_layers=3, **SCHEMES[scheme])
        assert len(seen) == 4
        np.testing.assert_array_equal(seen[:3], net.rates.rate[:3])
        np.testing.assert_array_equal(net.rates.per_class, short.rates.per_class)
        np.testing.assert_array_equal(Z, W)

    def test_tol_ends_the_network(self, backend, scheme):
        X, y = problem((60, 3))
        net, Z = rn.build(X, y, n_layers=10**6, keep="features", tol=1e-2, patience=2, **SCHEMES[scheme])
        assert 2 < net.n_layers < 60
        short, W = rn.build(X, y, n_layers=net.n_layers, **SCHEMES[scheme])
        np.testing.assert_array_equal(net.etas, short.etas)
        np.testing.assert_array_equal(Z, W)
