"""Messages between ranks: sums, agreement, and the choice of a layout by what they cost."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from distributed_problems import (
    LAYOUTS,
    errors,
    problem,
    reference,
    share,
    uneven,
)
from ranks import on_threads, successes

from redunet import distributed
from redunet.distributed.communicator import Rooms
from redunet.distributed.grams import blocks_of
from redunet.distributed.plan import meetings


class TestCommunicator:
    @pytest.mark.parametrize("n", [0, 1, 5, 9000])
    @pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", "i8"])
    def test_sums(self, dtype, n):
        parts = [(np.random.default_rng(rank).standard_normal((3, n)) * 100).astype(dtype) for rank in range(3)]
        expected = parts[0] + parts[1] + parts[2]

        def work(comm):
            mine = parts[comm.rank].copy()
            comm.all_sum(mine)
            return mine

        for total in successes(on_threads(3, work)):
            assert total.tobytes() == expected.tobytes()

    def test_messages(self):
        def work(comm):
            uneven = comm.share(np.full(comm.rank, comm.rank, np.int16))
            assert [part.tolist() for part in uneven] == [[], [1], [2, 2]]
            swapped = comm.all_to_all([np.array([10 * comm.rank + other]) for other in range(3)])
            assert [int(part[0]) for part in swapped] == [comm.rank, 10 + comm.rank, 20 + comm.rank]
            assert comm.gather({"rank": comm.rank}) == [{"rank": rank} for rank in range(3)]
            return comm.broadcast(f"from {comm.rank}")

        assert successes(on_threads(3, work)) == ["from 0"] * 3

    def test_sums_are_in_place(self):
        with pytest.raises(ValueError, match="array is not contiguous; expected one that is, to be summed in place"):
            distributed.single().all_sum(np.zeros((3, 4))[:, :2])

    def test_says_what_it_is(self):
        comm = distributed.single()
        assert repr(comm) == "Communicator(single, rank 0 of 1)"
        comm.measured()
        assert re.fullmatch(r"Communicator\(single, rank 0 of 1, \S+ us a meeting, \S+ GB/s\)", repr(comm))

    def test_work_is_done_once(self):
        assert distributed.single().run(lambda: 3) == 3
        with pytest.raises(KeyError, match="x"):
            distributed.single().run(lambda: {}["x"])

    def test_others_are_told_at_their_next_meeting(self):
        def work(comm):
            def fail():
                if comm.rank == 1:
                    raise MemoryError
                for _ in range(100):
                    comm.all_sum(np.zeros(3))

            return comm.run(fail)

        first, second = errors(on_threads(2, work))
        assert (str(first), type(second)) == ("rank 1: MemoryError", MemoryError)

    @pytest.mark.parametrize("seed", range(40))
    def test_whoever_fails_wherever(self, seed):
        """Ranks that fail first say so themselves, all others say who did; twice, as nobody is out of step."""
        rng = np.random.default_rng(seed)
        size, meetings = int(rng.integers(2, 5)), rng.integers(0, 4, rng.integers(1, 8)).tolist()
        fails = {rank: int(rng.integers(0, len(meetings) + 1)) for rank in range(size) if rng.uniform() < 0.4}

        def work(comm):
            def steps():
                for index, kind in enumerate([*meetings, None]):
                    if fails.get(comm.rank) == index:
                        raise LookupError(f"before meeting {index}")
                    if kind == 0:
                        comm.all_sum(np.ones(3))
                    elif kind == 1:
                        comm.all_sum(np.ones(9000))
                    elif kind == 2:
                        comm.gather(comm.rank)
                    elif kind == 3:
                        comm.all_to_all([np.ones(comm.rank + other) for other in range(comm.size)])

            ends = []
            for _ in range(2):
                try:
                    ends.append(comm.run(steps))
                except (LookupError, distributed.RankError) as error:
                    ends.append(type(error))
            return ends

        first = min(fails.values(), default=None)
        for rank, ends in enumerate(successes(on_threads(size, work))):
            own = first is not None and fails.get(rank) == first
            assert ends == [None if first is None else LookupError if own else distributed.RankError] * 2

    def test_the_end_is_agreed_on(self):
        """A rank whose work was done before another's failed does not believe that all is well."""
        first, second = errors(on_threads(2, lambda comm: comm.run(lambda: 1 / (1 - comm.rank))))
        assert (str(first), type(second)) == ("rank 1: ZeroDivisionError: division by zero", ZeroDivisionError)


class TestRooms:
    """Memory for messages."""

    def test_is_used_again_when_nobody_looks_at_it(self):
        rooms, n = Rooms(), 1 << 20
        with rooms.kept():
            first = rooms.of(n)
            message = first[100:200]
            message[:] = 7
            place = first.ctypes.data
            del first
            other = rooms.of(n)  # the message is still there
            other[:] = 1
            assert (message == 7).all()
            del message
            assert rooms.of(n // 2).ctypes.data == place

    def test_goes_at_the_end(self):
        rooms = Rooms()
        with rooms.kept():
            late = rooms.of(1 << 20)
            rooms.of(1 << 20)
            assert len(rooms.free) == 1
        assert not rooms.free
        del late
        assert not rooms.free

    def test_is_bounded(self, monkeypatch):
        """The largest are kept that fit."""
        monkeypatch.setattr("redunet.distributed.communicator.KEPT_BYTES", 5 << 17)
        rooms = Rooms()
        with rooms.kept():
            every = [rooms.of(n << 17) for n in (1, 3, 2)]
            del every
            assert [len(memory) >> 17 for memory in rooms.free] == [2, 3]
            rooms.of(6 << 17)
            assert sum(map(len, rooms.free)) <= 5 << 17


def planned(shape: tuple[int, ...], k: int, speed: tuple[float, float], size: int = 2, **options: Any) -> Any:
    def work(comm):
        comm._speed = distributed.Speed(*speed)
        return distributed.plan(shape, k, comm=comm, **options)

    plans = successes(on_threads(size, work))
    assert all(plan == plans[0] for plan in plans)
    return plans[0]


class TestPlan:
    @pytest.mark.parametrize("size", [2, 3, 5, 17])
    @pytest.mark.parametrize("name", ["signals", "signals, many channels", "few samples", "dihedral", "vectors"])
    def test_bytes_are_those_of_the_busiest_rank(self, name, size):
        """In a layer of a fixed step."""
        given = {**problem(name), "eta": 0.1, "keep": "features"}
        m, rows = len(given["X"]), uneven(len(given["X"]), size)
        options = {"group": given.get("group", "cyclic"), "dtype": given["X"].dtype}
        plan = planned((m, *given["X"].shape[1:]), 3, (1e-5, 1e9), size=size, **options)

        def sent(n_layers, layout):
            def work(comm):
                distributed.build(**share({**given, "n_layers": n_layers}, rows[comm.rank]), comm=comm, layout=layout)
                return sum(comm.busiest), comm.n_meetings

            return np.array(successes(on_threads(size, work)))

        for layout in LAYOUTS if size <= reference(given)[0].fourier.n_freqs else ["samples"]:
            n_bytes, n_meetings = (sent(4, layout) - sent(3, layout)).T
            assert n_bytes.tolist() == [plan.n_bytes[layout]] * size
            assert n_meetings.tolist() == [meetings(m, 3)[layout]] * size

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 12, 100])
    @pytest.mark.parametrize(("n_numbers", "n_freqs"), [(2, 1), (4, 3), (11, 6), (3, 50)])
    def test_shares_are_all_pairs_as_equal_as_can_be(self, n_numbers, n_freqs, size):
        made = np.zeros((n_numbers, n_freqs), int)
        counts = []
        for blocks in blocks_of(n_numbers, n_freqs, size):
            assert len(blocks) <= 3
            for block in blocks:
                made[block.numbers, block.freqs] += 1
                assert block.whole == (block.numbers == slice(0, n_numbers))
            counts.append(sum(block.size(block.numbers) for block in blocks))
        assert (made == 1).all()
        assert max(counts) - min(counts) <= 1

    @pytest.mark.parametrize(("numbers", "of_a_sum", "of_a_layer"), [(4096, 1, 3), (4097, 2, 5)])
    def test_large_sums_take_two_meetings(self, numbers, of_a_sum, of_a_layer):
        def work(comm):
            comm.all_sum(np.ones(numbers))
            return comm.n_meetings

        assert successes(on_threads(2, work)) == [of_a_sum] * 2
        assert meetings(numbers, 1)["frequencies"] == of_a_layer

    def test_many_samples_are_shared(self):
        plan = planned((60000, 5, 100), 10, (1e-5, 1e9))
        assert plan.layout == "samples"
        assert repr(plan).startswith(
            "Plan(by samples: at 10 us a meeting and 1 GB/s; a layer sends by samples 95.25 kB in 0.115 ms"
        )

    def test_many_channels_are_shared(self):
        assert planned((50, 100, 200), 10, (1e-5, 1e9)).layout == "frequencies"

    def test_latency_decides_on_small_ones(self):
        assert planned((50, 10, 20), 2, (1e-5, 1e9)).layout == "frequencies"
        assert planned((50, 10, 20), 2, (1e-2, 1e12)).layout == "samples"

    def test_what_cannot_be_shared(self):
        few = "5 ranks are more than the frequencies, 3"
        plan = planned((50, 10, 4), 2, (1e-3, 1e9), size=5)
        assert (plan.layout, plan.why) == ("samples", few)
        plan = planned((50, 100, 4), 2, (1e-5, 1e9), size=5)
        assert (plan.layout, plan.why) == ("samples", f"{few}; 3 ranks would send faster")
        assert plan.n_bytes["frequencies"] == planned((50, 100, 4), 2, (1e-5, 1e9), size=3).n_bytes["frequencies"]
        assert planned((50, 10), 2, (1e-5, 1e9)).layout == "samples"

    def test_what_is_asked_for(self):
        for layout in LAYOUTS:
            plan = planned((50, 10, 20), 2, (1e-5, 1e9), layout=layout)
            assert (plan.layout, plan.why) == (layout, "as asked for")

    def test_is_measured(self):
        plans = successes(on_threads(2, lambda comm: distributed.plan((50, 10, 20), 2, comm=comm)))
        assert plans[0] == plans[1]
        assert all(seconds > 0 for seconds in plans[0].seconds.values())

    def test_wrong_arguments(self):
        comm = distributed.single()
        with pytest.raises(TypeError, match="comm is a int; expected a Communicator"):
            distributed.plan((3, 4), 2, comm=3)
        for shape in ((3,), 3, (1, 2, 3, 4, 5)):
            with pytest.raises(ValueError, match=r"shape is .*; expected"):
                distributed.plan(shape, 2, comm=comm)
        with pytest.raises(ValueError, match="shape is 0; expected an integer >= 1"):
            distributed.plan((0, 3), 2, comm=comm)
        with pytest.raises(ValueError, match="n_classes is 0; expected an integer >= 1"):
            distributed.plan((3, 3), 0, comm=comm)
