"""How many threads a call takes: what is asked for, by argument or environment, within what can help."""

from __future__ import annotations

import builtins
import re

import numpy as np
import pytest

import redunet as rn
from redunet import linalg
from redunet._inputs import checks

X, Y = np.eye(4), [0, 1, 0, 1]
NO_COUNTS = ["0", "000", "-1", "+1", " 1", "two", "", "1.5", "1e9", "1_0", "0x2", "\u00b2", "\u0663", "\uff11"]


@pytest.mark.parametrize("text", NO_COUNTS)
def test_what_is_no_count_in_the_environment_is_refused_by_name(monkeypatch, text):
    monkeypatch.setenv("REDUNET_NUM_THREADS", text)
    with pytest.raises(ValueError, match=re.escape(f"REDUNET_NUM_THREADS is {text!r}; expected an integer >= 1")):
        rn.build(X, Y, n_layers=1)
    rn.build(X, Y, n_layers=1, n_threads=1)


@pytest.mark.parametrize("value", [0, -1, -(2**40), 1.0, "2", True, int, np.nan, [2]], ids=repr)
def test_what_is_no_count_as_an_argument_is_refused_by_name(value):
    for call in (
        lambda: rn.build(X, Y, n_layers=1, n_threads=value),
        lambda: rn.build(X, Y, n_layers=1)[0].transform(X, n_threads=value),
        lambda: rn.coding_rate(X, n_threads=value),
        lambda: rn.rate_reduction_gradient(X, Y, n_threads=value),
        lambda: linalg.inv(X, n_threads=value),
        lambda: linalg.solve(X, X, n_threads=value),
    ):
        with pytest.raises((TypeError, ValueError), match=r"^n_threads is .*; expected an integer"):
            call()


def test_the_argument_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("REDUNET_NUM_THREADS", "003")
    assert checks.threads(None) == 3
    assert checks.threads(5) == 5
    assert checks.threads(np.int64(4)) == 4


@pytest.mark.parametrize(("processors", "most"), [(2, 16), (100, 100), (None, 16)])
def test_more_than_can_help_is_left_out(monkeypatch, processors, most):
    monkeypatch.setattr("os.cpu_count", lambda: processors)
    for asked in (most - 1, most, most + 1, 2**31, 2**63, 10**5000):
        assert checks.threads(asked) == min(asked, most)
    for digits in (str(most), "0" + str(most + 1), str(2**31), "9" * 5000):
        monkeypatch.setenv("REDUNET_NUM_THREADS", digits)
        assert checks.threads(None) == most


def test_results_are_the_same_for_counts_beyond_reason(backend):
    samples = np.random.default_rng(0).standard_normal((40, 5, 16))
    labels = np.arange(40) % 2
    _, expected = rn.build(samples, labels, n_layers=2, n_threads=1)
    for n_threads in (10**5, 2**31, 2**64):
        net, Z = rn.build(samples, labels, n_layers=2, n_threads=n_threads)
        np.testing.assert_array_equal(Z, expected)
        np.testing.assert_array_equal(net.transform(samples, n_threads=n_threads), net.transform(samples))
        np.testing.assert_array_equal(net.assign(samples, n_threads=n_threads), net.assign(samples))
        assert rn.coding_rate(Z, n_threads=n_threads) == rn.coding_rate(Z)
        np.testing.assert_array_equal(linalg.inv(X, n_threads=n_threads), linalg.inv(X))


class TestDefault:
    @pytest.fixture(autouse=True)
    def unset(self, monkeypatch):
        monkeypatch.delenv("REDUNET_NUM_THREADS", raising=False)

    def test_is_the_cores_that_this_process_may_use(self, monkeypatch):
        monkeypatch.setattr(checks, "_cgroup_cores", lambda: 1 << 20)
        monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 2, 5}, raising=False)
        assert checks.threads(None) == 3
        monkeypatch.delattr("os.sched_getaffinity")
        monkeypatch.setattr("os.cpu_count", lambda: 6)
        assert checks.threads(None) == 6
        monkeypatch.setattr("os.cpu_count", lambda: None)
        assert checks.threads(None) == 1
        monkeypatch.setattr("os.cpu_count", lambda: 6)
        monkeypatch.setattr(checks, "_cgroup_cores", lambda: 2)
        assert checks.threads(None) == 2

    @pytest.mark.parametrize(
        ("text", "cores"),
        [("150000 100000", 2), ("100000 100000", 1), ("max 100000", 1 << 20), ("", 1 << 20)],
    )
    def test_is_within_the_quota_of_a_container(self, monkeypatch, tmp_path, text, cores):
        real_open = builtins.open
        (tmp_path / "cpu.max").write_text(text)
        monkeypatch.setattr(builtins, "open", lambda *_: real_open(tmp_path / "cpu.max"))
        assert checks._cgroup_cores.__wrapped__() == cores
