"""Watching a construction: ``on_layer``, ``tol`` and ``patience``, the progress bar."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import redunet as rn


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    return rng.standard_normal((20, 3, 4)), np.arange(20) % 2


class TestOnLayer:
    def test_sees_the_input_of_every_layer_and_the_end(self, backend, problem):
        seen = []
        net, _ = rn.build(*problem, n_layers=4, on_layer=lambda index, rates: seen.append((index, rates)))
        assert [index for index, _ in seen] == [0, 1, 2, 3, 4]
        for index, rates in seen:
            assert type(index) is int
            assert isinstance(rates, rn.RateReduction)
            assert [type(number) for number in rates] == [float] * 3
            assert rates.rate == net.rates.rate[index]
            np.testing.assert_allclose(rates.class_rate, net.rates.class_rate[index], rtol=1e-15)
            assert rates.delta == rates.rate - rates.class_rate

    def test_a_true_result_ends_the_network_before_that_layer(self, backend, problem):
        for last in (1, 2, 3):
            seen = []

            def stop(index, rates, last=last, seen=seen):
                seen.append(index)
                return np.bool_(index == last)  # any truth value does

            net, Z = rn.build(*problem, n_layers=4, on_layer=stop)
            short, W = rn.build(*problem, n_layers=last)
            assert seen == list(range(last + 1))
            assert net.n_layers == len(net.layers) == len(net.etas) == last
            assert net.rates.rate.shape == (last + 1,)
            np.testing.assert_array_equal(Z, W)
            np.testing.assert_array_equal(net.rates.per_class, short.rates.per_class)
            np.testing.assert_array_equal(net.layers[-1].Cs, short.layers[-1].Cs)
            np.testing.assert_array_equal(net.transform(problem[0]), short.transform(problem[0]))

    def test_cannot_stop_before_the_first_layer(self, backend, problem):
        net, _ = rn.build(*problem, n_layers=4, on_layer=lambda index, rates: True)
        assert net.n_layers == 1

    def test_stopping_after_the_last_layer_changes_nothing(self, backend, problem):
        net, _ = rn.build(*problem, n_layers=3, on_layer=lambda index, rates: index == 3)
        assert net.n_layers == 3

    def test_works_without_kept_operators_and_with_fixed_steps(self, backend, problem):
        for options in (
            {"keep": "features"},
            {"eta": [0.1, 0.2, 0.3, 0.4]},
            {"keep": "features", "eta": 0.3},
        ):
            net, Z = rn.build(*problem, n_layers=4, on_layer=lambda index, rates: index == 2, **options)
            eta = options.get("eta", "auto")
            short, W = rn.build(*problem, n_layers=2, eta=eta[:2] if isinstance(eta, list) else eta)
            np.testing.assert_array_equal(Z, W)
            np.testing.assert_array_equal(net.etas, short.etas)

    @pytest.mark.parametrize("at", [0, 1, 3])
    @pytest.mark.parametrize("error", [RuntimeError, SystemExit, StopIteration])
    def test_an_exception_in_it_ends_the_build_and_comes_through(self, backend, problem, at, error):
        def fail(index, rates):
            if index == at:
                raise error("from the caller")

        with pytest.raises(error, match="from the caller") as caught:
            rn.build(*problem, n_layers=3, on_layer=fail)
        assert caught.value.__cause__ is None
        net, _ = rn.build(*problem, n_layers=3)  # and leaves nothing broken behind
        assert net.n_layers == 3

    def test_may_build_another_network(self, backend, problem):
        inner = []
        net, Z = rn.build(
            *problem,
            n_layers=2,
            on_layer=lambda index, rates: inner.append(rn.build(*problem, n_layers=2)[1]),
        )
        assert len(inner) == 3
        for W in inner:
            np.testing.assert_array_equal(W, Z)
        assert net.n_layers == 2


class TestTol:
    def test_stops_when_the_rate_reduction_stays(self, backend):
        """Two orthogonal vectors: the best Delta R is there from the start, so it never rises."""
        X, y = np.eye(2), [0, 1]
        for patience in (1, 2, 5):
            net, _ = rn.build(X, y, n_layers=50, tol=1e-6, patience=patience)
            assert net.n_layers == patience
        assert rn.build(X, y, n_layers=50, tol=1e-6)[0].n_layers == 10
        assert rn.build(X, y, n_layers=3, tol=1e-6)[0].n_layers == 3

    def test_counts_from_the_last_rise(self, backend, problem):
        net, _ = rn.build(*problem, n_layers=60, tol=1e-3, patience=4)
        whole, _ = rn.build(*problem, n_layers=net.n_layers)
        delta = whole.rates.delta
        best, last_rise = delta[0], 0
        for index, value in enumerate(delta[1:], 1):
            assert index - 1 - last_rise < 4  # not stopped earlier
            if value > best * (1 + 1e-3):
                best, last_rise = value, index
        assert net.n_layers - last_rise == 4
        assert 4 < net.n_layers < 60

    def test_of_zero_waits_for_any_rise(self, backend, problem):
        net, _ = rn.build(*problem, n_layers=8, tol=0.0, patience=1)
        assert (np.diff(net.rates.delta)[:-1] > 0).all()

    def test_works_beside_on_layer(self, backend):
        seen = []
        net, _ = rn.build(np.eye(2), [0, 1], n_layers=50, tol=0.1, patience=3, on_layer=lambda i, r: seen.append(i))
        assert net.n_layers == 3
        assert seen == [0, 1, 2, 3]


class TestProgress:
    def test_is_silent_unless_asked(self, backend, problem, capfd):
        rn.build(*problem, n_layers=3)
        assert capfd.readouterr() == ("", "")

    @staticmethod
    def terminal(monkeypatch):
        """Makes standard error a terminal, in ASCII; gives its text."""
        stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict", newline="")
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys, "stderr", stream)

        def text():
            stream.flush()
            return stream.buffer.getvalue().decode("ascii")

        return text

    def test_shows_the_rates_with_tqdm(self, backend, problem, monkeypatch):
        pytest.importorskip("tqdm")
        text = self.terminal(monkeypatch)
        net, _ = rn.build(*problem, n_layers=3, progress=True)
        err = text()
        assert "3/3" in err
        rates = net.rates
        assert f"R={rates.rate[-1]:.4f}, R_c={rates.class_rate[-1]:.4f}, Delta R={rates.delta[-1]:.4f}" in err

    def test_shows_one_line_without_tqdm(self, backend, problem, monkeypatch):
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
        text = self.terminal(monkeypatch)
        net, _ = rn.build(*problem, n_layers=3, progress=True)
        err = text()
        assert "\rlayer 3/3  " in err
        assert err.endswith(f"Delta R={net.rates.delta[-1]:.4f}\n")
        assert err.count("\n") == 1

    def test_shows_at_most_ten_a_second(self, problem, monkeypatch):
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
        clock = iter(np.arange(100.0, 200.0, 0.03))
        monkeypatch.setattr("redunet.progress.time.monotonic", lambda: float(next(clock)))
        text = self.terminal(monkeypatch)
        rn.build(*problem, n_layers=20, progress=True)
        # 20 layers at 0.03 s: the first, every fourth after it (0.12 s), and the last.
        shown = [int(line.split("/")[0]) for line in text().split("\rlayer ")[1:]]
        assert shown == [0, 4, 8, 12, 16, 20]

    def test_is_lines_in_a_file(self, problem, capsys, monkeypatch):
        """Without a terminal nothing is written over: no control characters, and few lines."""
        clock = iter(np.arange(100.0, 200.0, 3.0))
        monkeypatch.setattr("redunet.progress.time.monotonic", lambda: float(next(clock)))
        rn.build(*problem, n_layers=9, progress=True)
        out, err = capsys.readouterr()
        assert out == ""
        assert err.isascii()
        assert all(character.isprintable() or character == "\n" for character in err)
        # 9 layers at 3 s: the first, every fourth after it (12 s), and the last.
        assert [line.split()[1] for line in err.splitlines()] == ["0/9", "4/9", "8/9", "9/9"]

    @pytest.mark.parametrize("options", [{}, {"eta": "search"}, {"momentum": True}], ids=str)
    def test_needs_no_standard_error(self, problem, monkeypatch, options):
        _, Z = rn.build(*problem, n_layers=3, **options)
        closed = io.StringIO()
        closed.close()
        bare = SimpleNamespace(write=lambda text: None, flush=lambda: None)

        def broken(*_):
            raise BrokenPipeError

        for stream in (None, closed, bare, SimpleNamespace(write=broken, flush=broken)):
            with monkeypatch.context() as patch:
                patch.setattr(sys, "stderr", stream)
                _, W = rn.build(*problem, n_layers=3, progress=True, **options)
            np.testing.assert_array_equal(W, Z)

    @pytest.mark.parametrize("with_tqdm", [True, False])
    def test_ends_its_line_when_the_build_fails(self, problem, monkeypatch, with_tqdm):
        if not with_tqdm:
            monkeypatch.setitem(sys.modules, "tqdm.auto", None)

        def fail(index, rates):
            raise RuntimeError("stop here")

        text = self.terminal(monkeypatch)
        with pytest.raises(RuntimeError, match="stop here"):
            rn.build(*problem, n_layers=3, progress=True, on_layer=fail)
        assert text().endswith("\n")

    def test_changes_nothing(self, backend, problem, capsys):
        _, Z = rn.build(*problem, n_layers=3)
        _, W = rn.build(*problem, n_layers=3, progress=True)
        np.testing.assert_array_equal(Z, W)
