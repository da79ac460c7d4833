"""The script for a machine with a GPU, as far as one without can try it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

CUDA = Path(__file__).resolve().parents[1] / "cuda"
SCRIPT = CUDA / "on_device.sh"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a script of bash")


def test_its_words_are_what_bash_reads():
    subprocess.run(["bash", "-n", SCRIPT], check=True)


def test_without_a_word_it_says_what_there_is_and_touches_nothing(tmp_path):
    done = subprocess.run([SCRIPT], capture_output=True, text=True, env={**os.environ, "OUT": str(tmp_path / "report")})
    assert done.returncode == 2
    for part in ("build", "tests", "times", "profile"):
        assert f"cuda/on_device.sh {part} " in done.stdout
    assert not any((tmp_path / "report").iterdir())


def test_kernels_of_a_profile_are_summed():
    """Of the table alone, which stands below other lines, whose numbers have commas."""
    spec = importlib.util.spec_from_file_location("kernel_times", CUDA / "kernel_times.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    name = "void redunet::cuda::move_kernel<redunet::cuda::Complex<float>>(Responses, Move)"
    text = f"""==PROF== Connected to process 1
"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"
"0","{name}","gpu__time_duration.sum","ns","1,200"
"1","{name}","gpu__time_duration.sum","ns","800"
"1","{name}","dram__bytes.sum","byte","16"
"""
    assert list(module.summed(text.splitlines())) == [
        (module.short(name), "dram__bytes.sum", 1, 16.0),
        (module.short(name), "gpu__time_duration.sum", 2, 2000.0),
    ]
    assert module.short(name) == "move_kernel<Complex<float>>"
    assert list(module.summed(["==PROF== nothing"])) == []
