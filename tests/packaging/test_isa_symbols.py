"""The check of SIMD levels' symbols (.ci/check_isa_symbols.py) finds what it is there to find."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[2] / ".ci" / "check_isa_symbols.py"

pytestmark = [
    pytest.mark.skipif(not CHECK.exists(), reason="the check is in the checkout only"),
    pytest.mark.skipif(
        any(shutil.which(tool) is None for tool in ("g++", "nm", "c++filt")), reason="needs g++ and binutils"
    ),
]

CLEAN = """namespace redunet::avx2 {
template <class T> T twice(T x) { return x + x; }
float f(float x) { return twice(x); }
}
"""


def check(folder: Path, source: str, level: str = "avx2") -> subprocess.CompletedProcess[str]:
    (folder / "kernels.cpp").write_text(source)
    subprocess.run(
        ["g++", "-std=c++20", "-O0", "-c", "kernels.cpp", "-o", "kernels.o"], cwd=folder, check=True, timeout=300
    )
    command = [sys.executable, str(CHECK), f"{level}={folder / 'kernels.o'}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_symbols_of_the_levels_namespace_pass(tmp_path):
    done = check(tmp_path, CLEAN)
    assert done.returncode == 0
    assert "1 kernel objects, 0 symbols" in done.stdout


@pytest.mark.parametrize(
    ("source", "symbol"),
    [
        (
            "#include <vector>\n" + CLEAN + "int g() { return int(std::vector<int>(3).size()); }",
            "std::vector<int",
        ),
        (CLEAN + "inline float shared(float x) { return x; } float (*p)(float) = shared;", "W shared(float)"),
        (
            "namespace redunet { inline int n() { static int k; return k++; } } int (*q)() = redunet::n;",
            "u redunet::n",
        ),
        ("namespace redunet::baseline { float f(float x) { return x; } }", "T redunet::baseline::f(float)"),
    ],
    ids=["standard template", "inline function", "static of an inline function", "another level"],
)
def test_symbols_outside_are_named(tmp_path, source, symbol):
    done = check(tmp_path, source)
    assert done.returncode == 1
    assert symbol in done.stderr


def test_baseline_may_share(tmp_path):
    assert check(tmp_path, "inline int n() { return 1; } int (*q)() = n;", level="baseline").returncode == 0


def test_nothing_to_look_at_is_no_success(tmp_path):
    done = subprocess.run(
        [sys.executable, str(CHECK), str(tmp_path)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 2
