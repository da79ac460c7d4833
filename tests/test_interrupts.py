"""Signals: Ctrl-C ends every call within a second, and a handler that returns changes nothing."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time

import numpy as np
import pytest
from interpreters import output, python

from redunet._backends import tasks

needs_posix = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")

#: What is made ready, and one call of two seconds or more on a usual machine; it is repeated on a faster one.
CALLS = {
    "many small layers": (
        "X = rng.standard_normal((200, 2))",
        "rn.build(X, np.arange(200) % 2, n_layers=10**7, keep='features')",
    ),
    "large vectors": (
        "X = rng.standard_normal((2000, 300))",
        "rn.build(X, np.arange(2000) % 4, n_layers=10**4, keep='features')",
    ),
    "signals": (
        "X = rng.standard_normal((300, 24, 96))",
        "rn.build(X, np.arange(300) % 4, n_layers=10**4, keep='features')",
    ),
    "one inverse": ("A = 2 * np.eye(4500)", "rn.linalg.inv(A)"),
    "two inverses": ("A = np.stack([2 * np.eye(3500)] * 2)", "rn.linalg.inv(A, n_threads=2)"),
    "one solution": ("A, B = 2 * np.eye(3500), np.ones((3500, 3500))", "rn.linalg.solve(A, B)"),
    "wide features": (
        "X = rng.standard_normal((3000, 5000), dtype=np.float32)",
        "rn.rate_reduction(X, np.arange(3000) % 3)",
    ),
    "clusters": ("X = rng.standard_normal((60000, 20))", "rn.clustering.merge_path(X, epsilon_sq=0.1)"),
    "many samples to cluster": (
        "X = rng.standard_normal((2_000_000, 8))",
        "rn.clustering.merge_path(X, epsilon_sq=0.1)",
    ),
    "regions": (
        "X = rng.standard_normal((300, 400, 3)); labels = np.arange(120_000).reshape(300, 400)",
        "rn.segmentation.merge_regions(X, labels, epsilon_sq=0.5, boundary_bits=1.0)",
    ),
    "a large image": (
        "X = rng.standard_normal((900, 1500, 3), dtype="
        "np.float32); labels = np.arange(1500) // 9 + np.zeros((900, 1), int)",
        "rn.segmentation.segment(X, color='none', superpixels=labels, window=15)",
    ),
    "local codes": (
        "from redunet.classifiers import MICL; X = rng.standard_normal((60000, 500), dtype=np.float32);"
        "model = MICL(0.5, n_neighbors=20).fit(X, np.arange(60000) % 10)",
        "model.predict(X)",
    ),
    "transform": (
        "net, _ = rn.build(np.eye(1200, dtype='f'), np.arange(1200) % 3, n_layers=1);"
        "X = rng.standard_normal((40000, 1200), dtype=np.float32)",
        "net.transform(X)",
    ),
}
#: The same of what is NumPy's on any backend.
CALLS_OF_NUMPY = {
    "long signals": ("X = rng.standard_normal((2, 8, 3000017), dtype=np.float32)", "rn.coding_rate(X)"),
    "lift": ("X = rng.standard_normal((6000, 1, 28, 28))", "rn.RandomLift(64, 9, random_state=0)(X)"),
    "large kernels": ("X = rng.standard_normal((2, 400, 1000))", "rn.RandomLift(400, 1000, random_state=0)(X)"),
    "shifts": ("X = rng.standard_normal((800, 4, 256))", "rn.shifts(X)"),
    "merging": (
        "X = rng.standard_normal((5000, 10))",
        "rn.clustering.merge_path(X, epsilon_sq=0.1, backend='numpy')",
    ),
    "vertex steps": (
        "X = rng.standard_normal((100000, 100))",
        "rn.clustering.vertex_steps(X, np.arange(100000) % 8, epsilon_sq=0.1)",
    ),
    "metrics of segmentations": (
        "labels = rng.permutation(4_000_000).reshape(2000, 2000) * 10**9",
        "rn.segmentation.covering(labels, labels.T)",
    ),
    "distances": (
        "labels = rng.integers(0, 2, (3000, 3000))",
        "rn.segmentation.boundary_displacement_error(labels, labels)",
    ),
    "polar": ("X = rng.standard_normal((9000, 64, 64))", "rn.to_polar(X, n_channels=64, n_angles=400)"),
    "splines": (
        "X = rng.integers(0, 255, (1, 6000, 6000), dtype=np.uint8); import scipy.ndimage",
        "rn.to_polar(X, n_channels=300, n_angles=4000, compat=True)",
    ),
    "subspaces": (
        "X = rng.standard_normal((3000, 3000), dtype=np.float32)",
        "rn.NearestSubspace(5).fit(X, np.zeros(3000, int))",
    ),
    "neighbours": (
        "X = rng.standard_normal((15000, 3000), dtype=np.float32); model = rn.CosineNeighbors().fit(X, X[:, 0] > 0)",
        "model.predict(X)",
    ),
}


@needs_posix
@pytest.mark.parametrize("name", CALLS)
def test_ctrl_c_ends_a_call_within_a_second(backend, name):
    if backend == "cuda" and "n_layers=10**" not in CALLS[name][1]:
        pytest.skip("a device takes no second for it, and an emulated one hours")
    shortest_wait(backend, *CALLS[name])


@needs_posix
@pytest.mark.parametrize("name", CALLS_OF_NUMPY)
def test_ctrl_c_ends_what_numpy_does_within_a_second(name):
    if name == "splines":
        pytest.importorskip("scipy")
    shortest_wait("auto", *CALLS_OF_NUMPY[name])


def shortest_wait(backend, ready, call):
    waits = []
    while not waits or (waits[-1] > 1 and len(waits) < 5):  # more chances on a machine busy with other things
        waits.append(seconds_to_stop(backend, ready, call))
    assert waits[-1] < 1, waits


def seconds_to_stop(backend, ready, call):
    """From Ctrl-C to the KeyboardInterrupt of a call in a process of its own, which must then be as good as new."""
    process = python(f"""
        import numpy as np, redunet as rn
        rng = np.random.default_rng(0)
        with rn.use_backend({backend!r}):
            rn.build(np.eye(2), [0, 1], n_layers=1)
            {ready}
            try:
                print("at work", flush=True)
                while True:
                    {call}
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            net, Z = rn.build(np.eye(2), [0, 1], n_layers=1)
            print(Z.shape)
    """)
    try:
        assert process.stdout.readline() == "at work\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        sent = time.perf_counter()
        line = process.stdout.readline()
        waited = time.perf_counter() - sent
        assert line == "interrupted\n"
        process.wait(timeout=100)  # for a call of LAPACK that nobody waits for any more
        out, err = process.stdout.read(), process.stderr.read()  # not communicate: readline may have read ahead
        assert (out, err, process.returncode) == ("(2, 2)\n", "", 0)
        return waited
    finally:
        process.kill()
        process.communicate()


@needs_posix
def test_ctrl_c_in_a_callback_ends_the_build(backend):
    out = output(f"""
        import numpy as np, os, signal, redunet as rn
        layers = []

        def press(index, rates):
            layers.append(index)
            if index == 3:
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(1000):  # Python hears of it between two of its instructions
                    pass

        try:
            rn.build(np.eye(6), np.arange(6) % 2, n_layers=10**6, keep="features", on_layer=press, backend={backend!r})
        except KeyboardInterrupt:
            print(layers)
    """)
    assert out == "[0, 1, 2, 3]\n"


@needs_posix
def test_a_signal_handler_that_returns_lets_the_build_go_on(backend):
    out = output(f"""
        import signal, numpy as np, redunet as rn
        calls = []
        signal.signal(signal.SIGALRM, lambda *_: calls.append(1))
        X, y = np.random.default_rng(0).standard_normal((300, 8, 32)), np.arange(300) % 4
        net, Z = rn.build(X, y, n_layers=20, keep="features", backend={backend!r})
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        same = []
        while not calls or len(same) < 5:  # a fast build may end before the first signal
            same.append(np.array_equal(Z, rn.build(X, y, n_layers=20, keep="features", backend={backend!r})[1]))
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(all(same))
    """)
    assert out == "True\n"


class TestTasks:
    @pytest.mark.parametrize("n_threads", [1, 2, 5, 100])
    def test_each_runs_once(self, n_threads):
        done = []
        tasks.run([lambda i=i: done.append(i) for i in range(50)], n_threads)
        assert sorted(done) == list(range(50))
        tasks.run([], n_threads)

    @pytest.mark.parametrize("n_threads", [1, 3])
    def test_the_first_that_fails_raises_its_error(self, n_threads):
        def task(i):
            time.sleep(0.001 * (i == 7))  # so that a later one may fail before
            if i >= 7:
                raise ValueError(str(i))

        done = [lambda i=i: task(i) for i in range(30)]
        for _ in range(5):
            with pytest.raises(ValueError, match=r"^7$"):
                tasks.run(done, n_threads)

    def test_without_further_threads_the_caller_does_all(self, monkeypatch):
        def refuse(_):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        done = []
        tasks.run([lambda i=i: done.append((i, threading.current_thread())) for i in range(4)], 3)
        assert done == [(i, threading.main_thread()) for i in range(4)]

    def test_a_wait_that_no_signal_ends_hears_it_all_the_same(self):
        """As on Windows: `interrupt_main` sets what a signal does, and ends no wait."""
        release = threading.Event()
        began = time.perf_counter()
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # nohup's shell has it ignored
        threading.Timer(0.1, _thread.interrupt_main).start()
        try:
            with pytest.raises(KeyboardInterrupt):
                tasks.run([lambda: release.wait(20)])
        finally:
            release.set()
            signal.signal(signal.SIGINT, before)
        assert time.perf_counter() - began < 10

    def test_long_calls_run_beside_the_main_thread_and_short_ones_on_it(self):
        @tasks.interruptible
        def where(array, *, name):
            with np.errstate(invalid="raise"):
                pass
            return threading.current_thread() is threading.main_thread(), np.geterr()["over"], name

        with np.errstate(over="raise"):
            assert where(np.empty(tasks.SMALL), name="long") == (False, "raise", "long")
            assert where(np.empty(tasks.SMALL - 1), name="short") == (True, "raise", "short")
