"""`redunet.distributed` on real ranks: processes of MPI and of torch.distributed, with a thread each.

Where mpi4py, an MPI or PyTorch is missing they skip, unless REDUNET_REQUIRE_MPI or REDUNET_REQUIRE_TORCH is set. Every
job has a deadline, and what is left of it then is killed.
"""

from __future__ import annotations

import importlib.util
import os
import re
import time
from pathlib import Path

import pytest
from interpreters import output
from ranks import ended, mpirun, start_job, start_script

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are ended as POSIX does")

MISSING = {
    "mpi": "mpi4py, or mpirun" if importlib.util.find_spec("mpi4py") is None or mpirun() is None else "",
    "torch": "PyTorch" if importlib.util.find_spec("torch") is None else "",
}


@pytest.fixture(params=["mpi", "torch"])
def carrier(request: pytest.FixtureRequest) -> str:
    """What carries messages."""
    if missing := MISSING[request.param]:
        required = os.environ.get(f"REDUNET_REQUIRE_{request.param.upper()}")
        (pytest.fail if required else pytest.skip)(f"{missing} is not installed")
    return str(request.param)


def job(carrier, size, name, folder):
    return ended(start_job(carrier, size, name, folder))


@pytest.mark.parametrize("size", [2, 3])
def test_networks_are_those_of_one_process(carrier, size, tmp_path):
    codes, out = job(carrier, size, "exact", tmp_path)
    assert not any(codes), out
    name = {"mpi": "MPI", "torch": "torch.distributed"}[carrier]
    for rank in range(size):
        assert f"rank {rank}: Communicator({name}, rank {rank} of {size}, " in out


@pytest.mark.parametrize("size", [2, 3])
def test_an_error_reaches_all_and_leaves_them_in_step(carrier, size, tmp_path):
    codes, out = job(carrier, size, "fails", tmp_path)
    assert not any(codes), out
    everyone = f"and {list(range(size))} are in step"
    for rank in range(size - 1):
        assert f"rank {rank}: rank {size - 1}: OSError: the disk is full, {everyone}" in out
    assert f"rank {size - 1}: the disk is full, {everyone}" in out


def test_ctrl_c_on_one_rank_is_heard_by_all(carrier, tmp_path):
    codes, out = job(carrier, 2, "interrupted", tmp_path)
    assert not any(codes), out
    assert sorted(re.findall(r"rank \d: interrupted", out)) == ["rank 0: interrupted", "rank 1: interrupted"]


def test_a_rank_that_is_killed_ends_the_job(carrier, tmp_path):
    codes, out = job(carrier, 2, "killed", tmp_path)
    seconds = time.time() - float((tmp_path / "killed").read_text())
    assert all(codes), out
    assert "all is well" not in out
    expected = {
        "mpi": r"KILLED BY SIGNAL: 9|signal 9|Killed",
        "torch": r"Connection closed by peer|[Cc]onnection reset",
    }
    assert re.search(expected[carrier], out), out
    assert seconds < 60


def test_an_error_outside_of_a_build_ends_the_job(tmp_path):
    if MISSING["mpi"]:
        pytest.skip(f"{MISSING['mpi']} is not installed")
    codes, out = job("mpi", 2, "strays", tmp_path)
    assert all(codes), out
    assert "LookupError: no such file" in out


def test_the_example():
    if MISSING["mpi"]:
        pytest.skip(f"{MISSING['mpi']} is not installed")
    pytest.importorskip("sklearn")
    example = Path(__file__).resolve().parents[1] / "examples" / "mpi_mnist.py"
    codes, out = ended(start_script("mpi", 2, [str(example)]))
    assert not any(codes), out
    assert "ReduNet(10 layers, 10 classes, C=16 on 8x8, float32;" in out
    assert "Communicator(MPI, rank 0 of 2, " in out
    accuracy = re.search(r"896 digits, 2 processes: \S+ s, accuracy (0\.\d+)", out)
    assert float(accuracy[1]) > 0.92


def test_what_is_no_communicator():
    if MISSING["mpi"]:
        pytest.skip(f"{MISSING['mpi']} is not installed")
    out = output("""
        from redunet import distributed
        try:
            distributed.mpi(3)
        except TypeError as error:
            print(error)
        print(distributed.mpi())
    """)
    wrong, alone = out.splitlines()
    assert wrong == "comm is 3 of type int; expected an mpi4py.MPI.Intracomm"
    assert alone == "Communicator(MPI, rank 0 of 1)"


def test_what_is_no_process_group():
    if MISSING["torch"]:
        pytest.skip(f"{MISSING['torch']} is not installed")
    out = output("""
        from redunet import distributed
        try:
            distributed.torch()
        except RuntimeError as error:
            print(error)
    """)
    assert out == ("torch.distributed is not initialized: call torch.distributed.init_process_group('gloo')\n")


def test_nothing_is_imported_that_is_not_asked_for():
    code = "import sys; from redunet import distributed; print({'torch', 'mpi4py'} & set(sys.modules))"
    assert output(code) == "set()\n"
