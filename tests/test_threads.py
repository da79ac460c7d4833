"""Threads: any number of them, the GIL, fork, nothing started at import."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from interpreters import output

import redunet as rn

needs_posix = pytest.mark.skipif(os.name != "posix", reason="signals and fork are POSIX")
needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted in /proc")


def problem(shape, k=3, dtype=np.float32):
    rng = np.random.default_rng(sum(shape))
    return rng.standard_normal(shape).astype(dtype), rng.permutation(np.arange(shape[0]) % k)


@pytest.mark.parametrize(
    "shape", [(200, 3), (33, 17), (64, 5, 9), (40, 20, 7), (50, 3, 6, 5), (9, 31, 4, 4), (300, 40, 3)], ids=str
)
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_results_are_bitwise_equal_for_any_number_of_threads(backend, shape, soft, monkeypatch):
    monkeypatch.setattr("redunet.transforms.cyclic.CHUNK_BYTES", 4000)  # the transforms have several pieces, too
    X, y = problem(shape)
    if soft:
        y = np.random.default_rng(0).dirichlet(np.ones(3), len(X))
    weights = np.random.default_rng(1).uniform(0.5, 2, len(X))
    net, Z = rn.build(X, y, n_layers=3, sample_weight=weights, n_threads=1)
    gradient = rn.rate_reduction_gradient(Z, y, n_threads=1)
    for n_threads in (2, 3, 7):
        other, W = rn.build(X, y, n_layers=3, sample_weight=weights, n_threads=n_threads)
        np.testing.assert_array_equal(W, Z)
        np.testing.assert_array_equal(other.rates.per_class, net.rates.per_class)
        np.testing.assert_array_equal(other.rates.rate, net.rates.rate)
        np.testing.assert_array_equal(other.operators.dense, net.operators.dense)
        np.testing.assert_array_equal(other.operators.factors, net.operators.factors)
        np.testing.assert_array_equal(other.transform(X, n_threads=n_threads), net.transform(X, n_threads=1))
        np.testing.assert_array_equal(other.assign(X, n_threads=n_threads), net.assign(X, n_threads=1))
        np.testing.assert_array_equal(rn.rate_reduction_gradient(Z, y, n_threads=n_threads), gradient)
        assert rn.rate_reduction(Z, y, n_threads=n_threads) == rn.rate_reduction(Z, y, n_threads=1)


def test_repeated_builds_are_bitwise_equal(backend):
    X, y = problem((64, 5, 9))
    _, Z = rn.build(X, y, n_layers=3)
    for _ in range(3):
        np.testing.assert_array_equal(rn.build(X, y, n_layers=3)[1], Z)


def test_several_python_threads_may_build_at_once(backend):
    problems = [problem((40 + i, 4, 6)) for i in range(6)]

    def construct(Xy):
        net, Z = rn.build(*Xy, n_layers=5, backend=backend, n_threads=2)
        return Z, net.transform(Xy[0], backend=backend), net.rates.rate

    serial = list(map(construct, problems))
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for one, other in zip(pool.map(construct, problems), serial, strict=True):
                for a, b in zip(one, other, strict=True):
                    np.testing.assert_array_equal(a, b)


def test_one_network_may_transform_in_several_threads(backend):
    X, y = problem((60, 4, 6))
    net, _ = rn.build(X, y, n_layers=4)
    expected = [net.transform(X[i:]) for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda i: net.transform(X[i:], backend=backend), range(8)))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_other_python_threads_run_during_a_build(backend):
    """A thread that wakes every 5 ms must get its turn while one call builds for half a second or more."""
    X, y = problem((400, 32, 16))
    started = time.perf_counter()
    rn.build(X, y, n_layers=1)
    layer = time.perf_counter() - started
    n_layers = max(2, int(0.6 / layer))
    ticks = []
    finished = threading.Event()

    def tick():
        while not finished.wait(0.005):
            ticks.append(time.perf_counter())

    thread = threading.Thread(target=tick)
    thread.start()
    started = time.perf_counter()
    rn.build(X, y, n_layers=n_layers, keep="features")
    ended = time.perf_counter()
    finished.set()
    thread.join()
    during = [moment for moment in ticks if started < moment < ended]
    # Each wake-up may wait for the interpreter's 5 ms switch interval and for a busy machine: one in eight is enough.
    assert len(during) > (ended - started) / 0.005 / 8


@needs_posix
def test_fork_after_a_threaded_build(backend):
    """A forked child has none of its parent's threads; a build there must not wait for them."""
    if backend == "cuda":
        pytest.skip("CUDA does not survive a fork; see the next test")
    out = output(f"""
        import multiprocessing, warnings, numpy as np, redunet as rn
        warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)  # newer Pythons, any threads
        rng = np.random.default_rng(0)
        X, y = rng.standard_normal((80, 5, 9)), np.arange(80) % 3

        def construct(_):
            net, Z = rn.build(X, y, n_layers=4, n_threads=3, backend={backend!r})
            return Z, net.transform(X, n_threads=2, backend={backend!r})

        if __name__ == "__main__":
            before = construct(0)
            with multiprocessing.get_context("fork").Pool(2) as pool:
                results = pool.map_async(construct, range(4)).get(timeout=60)
            same = [np.array_equal(a, b) for result in [*results, construct(0)] for a, b in zip(result, before)]
            print(len(same), all(same))
    """)
    assert out == "10 True\n"


@needs_posix
def test_cuda_says_that_it_does_not_survive_a_fork(backend):
    """And `auto` computes on the processor in the child."""
    if backend != "cuda":
        pytest.skip("the others do")
    out = output("""
        import os, warnings, numpy as np, redunet as rn
        warnings.simplefilter("ignore", DeprecationWarning)
        X, y = np.eye(4), np.arange(4) % 2
        rn.build(X, y, n_layers=1, backend="cuda")
        if os.fork() == 0:
            try:
                rn.build(X, y, n_layers=1, backend="cuda")
            except RuntimeError as error:
                print("forked" in str(error), "spawn" in str(error), rn.build(X, y, n_layers=1)[0].backend != "cuda")
        else:
            os.wait()
            print(rn.build(X, y, n_layers=1, backend="cuda")[0].backend)
    """)
    assert out == "True True True\ncuda\n"


@needs_proc
def test_import_starts_no_thread_and_loads_nothing_it_does_not_need(backend):
    out = output(f"""
        import os, sys, threading
        import numpy
        threads = len(os.listdir("/proc/self/task"))
        import redunet
        redunet._backends.select({backend!r})
        print(len(os.listdir("/proc/self/task")) - threads, threading.active_count())
        print(*sorted({{"matplotlib", "scipy", "sklearn", "safetensors", "tqdm", "torch"}} & set(sys.modules)))
    """)
    assert out == "0 1\n\n"


@needs_proc
def test_calls_leave_no_python_thread_behind(backend):
    before = threading.active_count()
    X, y = problem((64, 5, 9))
    net, _ = rn.build(X, y, n_layers=2, n_threads=5)
    net.transform(X, n_threads=5)
    assert threading.active_count() == before
