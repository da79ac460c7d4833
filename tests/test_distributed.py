"""`redunet.distributed`: ranks that are threads, against one process: steps, shares, watchers, going on."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from distributed_problems import (
    LAYOUTS,
    PROBLEMS,
    SCHEMES,
    agree,
    build_on,
    errors,
    layouts_of,
    problem,
    reference,
    same_networks,
    share,
    uneven,
)
from ranks import on_threads, successes

import redunet as rn
from redunet import distributed


class TestExactness:
    @pytest.mark.parametrize("size", [2, 3])
    @pytest.mark.parametrize("name", PROBLEMS)
    def test_several_ranks(self, backend, name, size):
        given = problem(name)
        rows = uneven(len(given["X"]), size)
        for layout in layouts_of(name, size):
            agree(build_on(rows, given, layout=layout), given, rows)

    @pytest.mark.parametrize("size", [1, 4])
    @pytest.mark.parametrize("name", ["vectors", "signals, many channels", "dihedral, images"])
    def test_any_number_of_ranks(self, name, size):
        given = problem(name)
        rows = uneven(len(given["X"]), size)
        for layout in layouts_of(name, size):
            agree(build_on(rows, given, layout=layout), given, rows)

    @pytest.mark.parametrize("size", [5, 17])
    @pytest.mark.parametrize("name", ["vectors", "signals, many channels"])
    def test_more_ranks_than_frequencies_or_pairs(self, backend, name, size):
        given = problem(name)
        rows = uneven(len(given["X"]), size)
        agree(build_on(rows, given), given, rows)

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("name", ["signals, many channels", "few samples"])
    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_any_step(self, backend, scheme, name, layout):
        given = {**problem(name), **SCHEMES[scheme]}
        rows = uneven(len(given["X"]), 2)
        agree(build_on(rows, given, layout=layout), given, rows)

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_factors_are_kept_by_frequencies(self, layout):
        given = problem("few samples")
        net = successes(build_on(uneven(15, 2), given, layout=layout))[0][0]
        assert net.operators.ranks.tolist() == ([0, 5, 5, 5] if layout == "frequencies" else [0, 0, 0, 0])

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_two_runs_are_the_same_to_the_last_bit(self, backend, layout):
        given = {**problem("signals"), "momentum": True}
        first, second = (successes(build_on(uneven(50, 3), given, layout=layout)) for _ in range(2))
        for (net, Z), (other, W) in zip(first, second, strict=True):
            same_networks(net, other)
            np.testing.assert_array_equal(Z, W)

    def test_shares_of_large_sums(self, monkeypatch):
        """Every sum by shares, as those of many samples are."""
        monkeypatch.setattr("redunet.distributed.communicator.SMALL_SUM_BYTES", 0)
        given = problem("signals")
        rows = uneven(50, 3)
        agree(build_on(rows, given, layout="frequencies"), given, rows)


class TestShares:
    """Who has what."""

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("name", ["signals", "signals, soft, weights", "images"])
    @pytest.mark.parametrize(
        "parts",
        [[0, 50], [1, 49], [50, 0], [0, 0, 50], [20, 1, 29], [1, 1, 48]],
        ids=lambda parts: "-".join(map(str, parts)),
    )
    def test_of_any_size(self, backend, name, parts, layout):
        given = problem(name)
        bounds = np.minimum(np.cumsum([0, *parts]), len(given["X"])).tolist()
        bounds[-1] = len(given["X"])
        rows = [slice(first, last) for first, last in pairwise(bounds)]
        agree(build_on(rows, given, layout=layout), given, rows)

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("name", ["signals", "few samples"])
    def test_ranks_without_a_class(self, backend, name, layout):
        given = problem(name)
        order = np.argsort(given["y"], kind="stable")
        given = share(given, order)
        rows = [slice(0, len(order) // 3), slice(len(order) // 3, None)]
        agree(build_on(rows, given, layout=layout), given, rows)

    @pytest.mark.parametrize(
        "labels",
        [
            np.array(["a", "bc", "def"]),
            np.array(["b", "a", "c"], dtype=object),
            np.array([b"x", b"yy", b"z"]),
            np.array(["2001-01-01", "2000-01-01", "2002-02-02"], dtype="M8[D]"),
            np.array([True, False, True]),
            np.array([3.5, -1.0, 2.0]),
        ],
        ids=lambda labels: labels.dtype.name,
    )
    def test_labels_of_any_kind(self, labels):
        given = problem("signals")
        classes = np.sort(given["y"])
        given["y"] = labels[classes]
        rows = [slice(0, 17), slice(17, 17), slice(17, None)]  # the first has one class, the second none
        agree(build_on(rows, given, layout="samples"), given, rows)

    def test_labels_of_two_lengths_and_lists(self):
        given = problem("signals")
        y = np.array(["a", "longer"])[np.arange(50) // 25]
        rows = [slice(0, 25), slice(25, None)]
        shares = [
            {"X": given["X"][some].tolist(), "y": np.unique(y[some])[np.zeros(25, int)].tolist()} for some in rows
        ]
        results = on_threads(2, lambda comm: distributed.build(**shares[comm.rank], n_layers=2, comm=comm))
        net = successes(results)[0][0]
        np.testing.assert_array_equal(net.classes_, ["a", "longer"])
        assert net.classes_.dtype == y.dtype

    def test_membership_that_is_soft_on_one_rank_only(self, backend):
        given = problem("signals, soft")
        Pi = given["y"].copy()
        Pi[:20] = np.eye(3)[np.arange(20) % 2]  # one class is not there
        given["y"] = Pi
        for layout in LAYOUTS:
            rows = [slice(0, 20), slice(20, 20), slice(20, None)]
            agree(build_on(rows, given, layout=layout), given, rows)

    def test_membership_of_ones_and_zeros(self):
        given = problem("signals")
        given["y"] = np.eye(3)[np.sort(given["y"])]
        rows = [slice(0, 16), slice(16, None)]
        agree(build_on(rows, given, layout="samples"), given, rows)

    def test_weights_on_one_rank_only(self):
        given = problem("signals, many channels")
        given["sample_weight"][:20] = 1
        rows = [slice(0, 20), slice(20, None)]
        for layout in LAYOUTS:
            shares = [share(given, some) for some in rows]
            del shares[0]["sample_weight"]
            agree(
                on_threads(2, lambda comm: distributed.build(**shares[comm.rank], comm=comm, layout=layout)),  # noqa: B023
                given,
                rows,
            )

    def test_new_samples_are_a_matter_of_each_rank(self):
        given = problem("signals")
        rows = uneven(50, 2)
        results = successes(build_on(rows, given))
        whole = results[0][0].transform(given["X"])
        for (net, _), some in zip(results, rows, strict=True):
            np.testing.assert_allclose(net.transform(given["X"][some]), whole[some], atol=1e-6)


class TestWatching:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_one_rank_ends_the_network_of_all(self, layout):
        given = {**problem("signals"), "n_layers": 9}
        rows = uneven(50, 3)
        seen: list[list[int]] = [[], [], []]

        def work(comm):
            def look(index, rates):
                seen[comm.rank].append(index)
                return comm.rank == 1 and index == 3

            watch = {"on_layer": look} if comm.rank else {}
            return distributed.build(**share(given, rows[comm.rank]), comm=comm, layout=layout, **watch)

        agree(on_threads(3, work), {**given, "n_layers": 3}, rows)
        assert seen == [[], [0, 1, 2, 3], [0, 1, 2, 3]]

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_tol(self, layout):
        given = {**problem("signals, many channels"), "n_layers": 60, "tol": 1e-3, "patience": 3}
        rows = uneven(45, 2)
        results = build_on(rows, given, layout=layout)
        assert successes(results)[0][0].n_layers < 60
        agree(results, given, rows)

    def test_progress_is_shown_by_rank_0(self, capsys):
        given = {**problem("signals"), "progress": True}
        successes(build_on(uneven(50, 3), given))
        assert capsys.readouterr().err.count("layer 4/4") == 1

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_an_interrupt_of_one_rank_is_one_of_all(self, layout, tmp_path):
        given = {**problem("signals"), "n_layers": 9, "checkpoint": tmp_path / "net", "every": 2}
        rows = uneven(50, 3)

        def work(comm):
            def look(index, rates):
                if index == 5:
                    raise KeyboardInterrupt

            watch = {"on_layer": look} if comm.rank == 1 else {}
            return distributed.build(**share(given, rows[comm.rank]), comm=comm, layout=layout, **watch)

        stops = errors(on_threads(3, work))
        there = 5 if layout == "samples" else 4
        whole = reference({**problem("signals"), "n_layers": there})[0]
        for stop in stops:
            assert type(stop) is rn.BuildInterrupted
            assert str(stop) == f"{there} layers were built"
            same_networks(stop.net, stops[0].net)
            np.testing.assert_allclose(stop.net.etas, whole.etas, rtol=1e-4)
        assert str(stops[0].__cause__) == f"rank 1: BuildInterrupted: {there} layers were built"


class TestResume:
    @pytest.mark.parametrize("after", LAYOUTS)
    @pytest.mark.parametrize("before", [*LAYOUTS, "serial"])
    @pytest.mark.parametrize("scheme", ["auto", "momentum, search"])
    def test_goes_on_with_other_ranks_and_layouts(self, scheme, before, after, tmp_path):
        given = {**problem("few samples"), **SCHEMES[scheme], "n_layers": 5}
        start = {**given, "n_layers": 2, "checkpoint": tmp_path / "net"}
        if before == "serial":
            rn.build(**start)
        else:
            successes(build_on(uneven(15, 3), start, layout=before))
        rows = uneven(15, 2)
        agree(build_on(rows, {**given, "resume": tmp_path / "net"}, layout=after), given, rows)

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_with_the_same_ranks_it_is_the_build_that_never_stopped(self, layout, tmp_path):
        given = {**problem("signals"), "momentum": True, "n_layers": 5}
        rows = uneven(50, 2)
        whole = successes(build_on(rows, given, layout=layout))
        successes(build_on(rows, {**given, "n_layers": 3, "checkpoint": tmp_path / "net"}, layout=layout))
        for (net, Z), (other, W) in zip(
            successes(build_on(rows, {**given, "resume": tmp_path / "net"}, layout=layout)), whole, strict=True
        ):
            same_networks(net, other)
            np.testing.assert_array_equal(Z, W)

    def test_one_process_goes_on(self):
        given = {**problem("few samples"), "n_layers": 4}
        net = successes(build_on(uneven(15, 2), {**given, "n_layers": 2}))[0][0]
        agree([rn.build(**given, resume=net)], given, [slice(None)])

    def test_of_other_samples_is_an_error_of_all(self):
        given = problem("signals")
        net = rn.build(**given)[0]
        results = errors(build_on(uneven(50, 2), {**given, "X": given["X"][::-1], "resume": net, "n_layers": 6}))
        for error in results:
            assert "resume was built from samples, or labels, whose coding rates are" in str(error)

    def test_a_checkpoint_is_written_by_rank_0(self, tmp_path):
        given = problem("signals")
        rows = uneven(50, 2)

        def work(comm):
            folder = tmp_path / str(comm.rank)
            if comm.rank == 0:
                folder.mkdir()
            return distributed.build(**share(given, rows[comm.rank]), comm=comm, checkpoint=folder / "net")

        net = successes(on_threads(2, work))[0][0]
        assert [path.name for path in tmp_path.iterdir()] == ["0"]
        same_networks(rn.load(tmp_path / "0" / "net"), net)
