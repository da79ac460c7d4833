"""The model of meetings and of large runs: closed forms against the simulation, and what must hold of any network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench import large_runs
from bench.collectives import (
    SMALL_SUM_BYTES,
    Machine,
    all_sum,
    equal_exchange,
    exchange,
    fitted,
    halving,
    meeting,
    predicted,
)
from redunet import distributed

NETWORK = Machine(latency=2e-6, overhead=5e-7, gap=8e-11, per_meeting=1e-5, per_rank=1e-6, duplex=True)
ONE_MACHINE = replace(NETWORK, duplex=False)
SMALL_RUN = large_runs.Run(shape=(10**6, 4, 8), n_classes=3, n_layers=10, rates={"samples": 1e12, "frequencies": 1e12})


@pytest.mark.parametrize("machine", [NETWORK, ONE_MACHINE])
@pytest.mark.parametrize("n_ranks", [2, 3, 4, 7, 100])
@pytest.mark.parametrize("n_bytes", [0.0, 1e3, 1e7])
def test_closed_form_is_the_simulation_of_equal_messages(machine: Machine, n_ranks: int, n_bytes: float) -> None:
    rng = np.random.default_rng(0)
    for ready in (np.zeros(n_ranks), 1e-5 * rng.random(n_ranks), 1e-2 * rng.random(n_ranks)):
        simulated = exchange(ready, machine, to=n_bytes)
        np.testing.assert_allclose(equal_exchange(ready, machine, n_bytes), simulated, rtol=1e-9)


def test_two_ranks_by_hand() -> None:
    L, o, G = NETWORK.latency, NETWORK.overhead, NETWORK.gap
    assert exchange(np.zeros(2), NETWORK, to=1e6).max() == pytest.approx(2 * o + 1e6 * G + L)
    assert exchange(np.zeros(2), ONE_MACHINE, to=1e6).max() == pytest.approx(2 * (o + 1e6 * G) + L)


def test_one_rank_needs_no_messages() -> None:
    ready = np.array([3.0])
    for ended in (exchange(ready, NETWORK, to=1e6), meeting(ready, NETWORK, to=1e6), all_sum(ready, NETWORK, 1e6)):
        assert ended.tolist() == [3.0]
    assert halving(NETWORK, 1, 1e6) == 0
    for way in ("samples", "samples, halving", "frequencies"):
        alone = large_runs.layer(way, SMALL_RUN, 1, NETWORK)
        assert alone is not None
        assert (alone.messages, alone.bound) == (0, "compute")


@pytest.mark.parametrize("machine", [NETWORK, ONE_MACHINE])
def test_more_bytes_ranks_or_seconds_never_take_less(machine: Machine) -> None:
    by_bytes = [all_sum(np.zeros(5), machine, n).max() for n in (0, 1e3, SMALL_SUM_BYTES, 1e6, 1e8)]
    by_ranks = [meeting(np.zeros(n), machine, to=1e4).max() for n in (1, 2, 3, 10, 1000)]
    slower = [meeting(np.zeros(5), machine.slower(by), to=1e4).max() for by in (1, 2, 4)]
    for times in (by_bytes, by_ranks, slower):
        assert (np.diff(times) > 0).all()
    late = np.zeros(5)
    late[2] = 1.0
    assert (meeting(late, machine, to=1e4) >= 1.0).all()


def test_one_receiver_of_all_bytes_is_what_takes_long() -> None:
    to = np.zeros(50)
    to[0] = 1e6
    assert exchange(np.zeros(50), NETWORK, to=to).max() >= 49 * 1e6 * NETWORK.gap
    assert exchange(np.zeros(50), NETWORK, to=np.full(50, 1e6 / 50)).max() < 3 * 1e6 * NETWORK.gap


def test_constants_come_back_from_times_made_of_them() -> None:
    share = {n: predicted(ONE_MACHINE, "share", 2, n, 2) for n in (8, 1 << 10, 1 << 15, 1 << 20, 1 << 22)}
    machine = fitted(share, ONE_MACHINE.overhead)
    assert machine.gap == pytest.approx(ONE_MACHINE.gap, rel=0.01)
    assert predicted(machine, "share", 2, 8, 2) == pytest.approx(share[8], rel=1e-3)


@pytest.mark.parametrize("P", [4, 5, 30, 100])  # of 32 pairs of class and frequency
def test_bytes_of_the_model_are_those_of_the_plan(P: int) -> None:
    k = 3
    run = replace(SMALL_RUN, shape=(10**6, 4, 14))  # of 8 frequencies
    planned = distributed.plan(run.shape, k, comm=large_runs.Given(P, NETWORK)).n_bytes
    only_bytes = Machine(latency=0.0, overhead=0.0, gap=1.0, duplex=True)
    by_samples = large_runs.layer("samples", run, P, only_bytes)
    assert by_samples is not None
    lengths = 2 * 8 * (P - 1)  # of two meetings, which the plan leaves out
    # Within the waiting of the second meeting for the busiest rank of the first.
    assert planned["samples"] <= by_samples.messages - lengths
    assert by_samples.messages - lengths == pytest.approx(planned["samples"], rel=0.1)
    by_frequencies = large_runs.layer("frequencies", run, P, only_bytes)
    assert (by_frequencies is None) == (P > 8)
    if by_frequencies is not None:
        assert by_frequencies.messages == pytest.approx(planned["frequencies"], rel=1e-4)


@pytest.mark.parametrize("way", ["samples", "samples, halving", "grid"])
def test_more_nodes_compute_less(way: str) -> None:
    layers = [large_runs.layer(way, SMALL_RUN, P, NETWORK) for P in (4, 16, 64)]
    computes = [one.compute for one in layers if one is not None]
    assert len(computes) == 3
    assert (np.diff(computes) < 0).all()


def test_skew_waits_for_the_slowest() -> None:
    assert large_runs.waiting(10, NETWORK, 0.0, 0.0) == pytest.approx(0.0, abs=1e-9)
    few, many = (large_runs.waiting(P, NETWORK, 0.02, 0.02) for P in (10, 1000))
    assert 0 < few < many < 0.2


def test_tables_without_measuring(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_runs, "measured_rate", None)
    large_runs.main(["--gflops", "20", "30", "--ranks", "10", "500", "--latency", "1", "--skew", "0", "0"])
    out = capsys.readouterr().out
    assert out.count("| 500 | samples |") == 2
    assert out.count("| frequencies |") == 1  # 500 ranks are more than 420 frequencies
