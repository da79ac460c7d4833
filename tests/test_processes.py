"""Whole processes: how they end, fork, run in sub-interpreters, and what they do where threads are few."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest
from interpreters import output, python

from redunet._backends import status

needs_posix = pytest.mark.skipif(os.name != "posix", reason="fork and signals are POSIX")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="namespaces and limits of this kind are Linux's")

FORKED = """
import os, threading, time, warnings, numpy as np, redunet as rn
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks with threads

def say(text):
    os.write(1, f"{text}\\n".encode())  # whole, whoever else writes

def parents_child(work):
    # Forks, and works in the child, which says what came of it.
    child = os.fork()
    if child == 0:
        try:
            work()
            say("worked")
        except RuntimeError as error:
            say(error)
        finally:
            os._exit(0)
    return child

def end(child):
    deadline = time.monotonic() + 60
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            say("hangs")
            return
        time.sleep(0.01)
"""


@pytest.fixture
def forkable(backend):
    if backend == "cuda":
        pytest.skip("CUDA does not survive a fork")
    return backend


@pytest.mark.parametrize("more", ["", ", on_layer=lambda index, rates: None"], ids=["polls", "calls back"])
@pytest.mark.parametrize("shape", [(300, 5, 32), (100, 40), (60, 2)], ids=str)
def test_a_daemon_thread_may_be_at_work_when_python_ends(backend, more, shape):
    out = output(f"""
        import threading, time, numpy as np, redunet as rn
        X = np.random.default_rng(0).standard_normal({shape})
        y = np.arange(len(X)) % 3

        def construct():
            while True:
                rn.build(X, y, n_layers=10**4, keep="features", backend={backend!r}{more})

        threading.Thread(target=construct, daemon=True).start()
        time.sleep(0.3)
        print("ends")
    """)
    assert out == "ends\n"


@pytest.mark.parametrize("call", ["inv(A)", "solve(A, A)", "logdet(A)", "cholesky(B)"])
def test_a_daemon_thread_may_factor_when_python_ends(compiled, call):
    """In NumPy BLAS is at work, not this package."""
    out = output(f"""
        import threading, time, numpy as np, redunet as rn
        A, B = 2 * np.eye(300), np.stack([2 * np.eye(20)] * 500)

        def factor():
            while True:
                rn.linalg.{call}

        for _ in range(3):
            threading.Thread(target=factor, daemon=True).start()
        time.sleep(0.2)
        print("ends")
    """)
    assert out == "ends\n"


def test_features_are_transformed_while_python_ends(backend):
    """No thread can be started any more: the last ones standing do it."""
    out = output(f"""
        import atexit, numpy as np, redunet as rn
        X = np.random.default_rng(0).standard_normal((3000, 4, 64))  # several pieces of the Fourier transform
        net, Z = rn.build(X, np.arange(3000) % 2, n_layers=1, backend={backend!r}, n_threads=3)

        def last():
            print(np.array_equal(net.transform(X, n_threads=3), Z) or abs(net.transform(X) - Z).max() < 1e-12)

        atexit.register(last)
    """)
    assert out == "True\n"


@needs_posix
def test_fork_while_another_thread_builds(forkable):
    """The child has the locks of the builder, and not the builder; its own child likewise."""
    out = output(
        FORKED
        + f"""
X, y = np.random.default_rng(0).standard_normal((200, 12, 16)), np.arange(200) % 3
work = lambda n=2: rn.build(X, y, n_layers=n, n_threads=3, keep="features", backend={forkable!r})
builders = [threading.Thread(target=work, args=(10**6,), daemon=True) for _ in range(2)]
for builder in builders:
    builder.start()

def twice():
    work()
    end(parents_child(work))
    work()

for _ in range(5):
    time.sleep(0.02)
    end(parents_child(twice))
os._exit(0)
"""
    )
    assert out == "worked\n" * 10


@needs_posix
def test_a_child_goes_on_with_the_build_whose_callback_forked_it(forkable):
    out = output(
        FORKED
        + f"""
X, y = np.random.default_rng(0).standard_normal((90, 12, 16)), np.arange(90) % 3
child = None

def fork(index, rates):
    global child
    if index == 2:
        child = os.fork()

settings = dict(n_layers=4, n_threads=3, backend={forkable!r})
expected = rn.build(X, y, **settings)[1]
Z = rn.build(X, y, on_layer=fork, **settings)[1]
say(np.array_equal(Z, expected))
if child == 0:
    os._exit(0)
end(child)
"""
    )
    assert out == "True\nTrue\n"


@needs_posix
def test_a_child_that_comes_back_into_a_run_of_threads_is_an_error(backend):
    """Its parent's threads have part of the work in hand: numbers without it would be wrong."""
    if backend != "cpu":
        pytest.skip("the engine's threads are the CPU engine's")
    out = output(
        FORKED
        + """
import signal
parent = os.getpid()
children = []

def fork(*_):
    if os.getpid() == parent and not children:
        children.append(os.fork())

signal.signal(signal.SIGALRM, fork)
X, y = np.random.default_rng(0).standard_normal((600, 300)), np.arange(600) % 3
expected = rn.build(X, y, n_layers=2, n_threads=2)[1]
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    while not children:
        Z = rn.build(X, y, n_layers=2, n_threads=2)[1]
    say("right" if np.array_equal(Z, expected) else "wrong")
except RuntimeError as error:
    assert "forked" in str(error) and os.getpid() != parent
    say("right")
if os.getpid() != parent:
    os._exit(0)
end(children[0])
"""
    )
    assert out == "right\nright\n"


@needs_linux
def test_a_child_may_have_the_process_id_of_its_parent(forkable):
    """Each is number 1 of its own namespace, as where a container starts another."""
    process = python(
        FORKED
        + f"""
import ctypes, sys
X, y = np.random.default_rng(0).standard_normal((200, 12, 16)), np.arange(200) % 3
work = lambda: rn.build(X, y, n_layers=3, n_threads=3, backend={forkable!r})
NEW_USER, NEW_PROCESSES = 0x10000000, 0x20000000

def first():
    work()
    assert os.getpid() == 1 and ctypes.CDLL(None).unshare(NEW_PROCESSES) == 0
    end(parents_child(second))

def second():
    assert os.getpid() == 1
    work()

if ctypes.CDLL(None).unshare(NEW_USER | NEW_PROCESSES) != 0:
    sys.exit(77)
end(parents_child(first))
"""
    )
    out, err = process.communicate(timeout=120)
    if process.returncode == 77:
        pytest.skip("this system lets nobody make namespaces")
    assert (out, err) == ("worked\nworked\n", "")


@needs_linux
def test_no_further_thread_is_no_error(backend):
    """A thread's stack is as large as the limit of stacks: with this one none can be had."""
    import resource

    most = resource.getrlimit(resource.RLIMIT_STACK)[1]
    if most != resource.RLIM_INFINITY:
        pytest.skip("stacks are limited already")
    code = f"""
        import threading, numpy as np, redunet as rn
        X, y = np.random.default_rng(0).standard_normal((3000, 8, 32)), np.arange(3000) % 3
        try:
            threading.Thread(target=int).start()
            print("threads can be had")
        except RuntimeError:
            pass
        net, Z = rn.build(X, y, n_layers=2, n_threads=4, backend={backend!r})
        print(float(abs(Z).sum()), float(abs(net.transform(X, n_threads=4)).sum()), rn.linalg.inv(np.eye(600)).sum())
    """
    quiet = {"OPENBLAS_NUM_THREADS": "1"}
    with_threads = output(code, env=quiet)
    without = output(code, env=quiet, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_STACK, (1 << 50, most)))
    assert with_threads == "threads can be had\n" + without


SUB_INTERPRETER = """
import warnings
warnings.simplefilter("ignore")  # NumPy warns that it knows one interpreter only
import redunet as rn
from redunet._backends import select, status
print(select()[0], rn.linalg.inv([[2.0]]), rn.build([[1.0, 0.0], [0.0, 1.0]], [0, 1], n_layers=1)[1].shape)
states = status()
print(states["cpu"], "|", states["cuda"])
"""


def test_in_a_sub_interpreter_numpy_takes_over():
    module = next((name for name in ("_interpreters", "_xxsubinterpreters") if importlib.util.find_spec(name)), None)
    if module is None:
        pytest.skip("this Python has no sub-interpreters to be made")
    if status()["cpu"] != "available":
        pytest.skip("redunet._cpu can't be used")
    out = output(f"""
        import sys, warnings
        warnings.simplefilter("ignore")
        import {module} as interpreters
        if sys.version_info < (3, 12):
            interpreter = interpreters.create()
        elif sys.version_info < (3, 13):
            interpreter = interpreters.create(isolated=False)
        else:
            interpreter = interpreters.create("legacy")
        failed = interpreters.run_string(interpreter, {SUB_INTERPRETER!r})
        assert failed is None, failed
    """)
    lines = out.splitlines()
    assert lines[0] == "numpy [[0.5]] (2, 2)"
    assert "runs in the main interpreter of a process only" in lines[1].partition("|")[0]
