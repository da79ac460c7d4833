"""The installed package as a stranger meets it: metadata, files, import time, threads, the README's own text.

These tests look at the package that Python imports (installed, or a source tree on the path); those that need
an installation's metadata or a checkout beside the tests are skipped where there is none.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import redunet

ROOT = Path(__file__).parents[2]
PACKAGE = Path(redunet.__file__).parent

# What `import redunet` may take, NumPy included, in seconds.
IMPORT_BUDGET = 0.15
# On a busy machine NumPy alone may use that up; then redunet may add this share of NumPy's time.
OWN_SHARE = 0.5
IMPORT_TRIES = 40


def run_python(code: str, folder: str = PACKAGE.anchor, **environment: str) -> str:
    """Run `code` in a fresh interpreter that finds this same package; return what it prints."""
    path = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"PYTHONPATH": path} | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def import_seconds(module: str) -> float:
    """Of the processor, for importing it in a fresh interpreter: others that wait for it too don't count."""
    return float(run_python(f"import time; t = time.process_time(); import {module}; print(time.process_time() - t)"))


def checkout_file(name: str) -> str:
    """Return the text of a file of the checkout that holds these tests."""
    file = ROOT / name
    if not file.exists():
        pytest.skip(f"no {name} beside the tests")
    return file.read_text(encoding="utf-8")


def test_version_is_that_of_the_distribution(metadata):
    assert metadata["Version"] == redunet.__version__


def test_version_stands_in_one_place():
    pattern = re.compile(rf"[\"']{re.escape(redunet.__version__)}[\"']")
    places = [
        file.relative_to(ROOT).as_posix()
        for folder, ending in [
            ("python", "*.py"),
            ("cpp", "*.[ch]pp"),
            (".", "*.toml"),
            (".", "CMakeLists.txt"),
        ]
        for file in ((ROOT / folder).glob(ending) if folder == "." else (ROOT / folder).rglob(ending))
        if pattern.search(file.read_text(encoding="utf-8"))
    ]
    assert places == ["python/redunet/__init__.py"]


def test_the_hard_dependency_is_numpy_alone(metadata):
    required = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(re.split(r"[^\w-]", line)[0] for line in required) == ["numpy"]


def test_extras(metadata):
    assert set(metadata.get_all("Provides-Extra")) == {
        "sklearn",
        "plot",
        "image",
        "torch",
        "mpi",
        "progress",
        "cuda",
        "test",
        "docs",
        "bench",
        "rivals",
        "all",
    }


def test_license_and_python_versions(metadata):
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.10"
    files = [file.name for file in importlib.metadata.files("redunet")]
    assert "LICENSE" in files


def test_command_line_entry_point(metadata):
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="redunet")
    assert script.value == "redunet.cli:main"
    assert callable(script.load())


@pytest.mark.parametrize("name", ["py.typed", "_cpu.pyi", "_build_info.pyi"])
def test_types_are_shipped(name):
    assert (PACKAGE / name).is_file()


def test_build_info_agrees_with_what_is_there():
    if importlib.util.find_spec("redunet._build_info") is None:
        pytest.skip("a source tree that was never built")
    info = importlib.import_module("redunet._build_info")
    if info.cpu_missing is None:
        assert importlib.util.find_spec("redunet._cpu") is not None
        assert info.compiler
        assert info.simd_flags["baseline"]
    else:
        assert importlib.util.find_spec("redunet._cpu") is None
        assert info.cpu_missing.strip()
        assert info.simd_flags == {}


def test_show_config_tells_why_the_engine_is_missing():
    if importlib.util.find_spec("redunet._build_info") is None:
        pytest.skip("a source tree that was never built")
    info = importlib.import_module("redunet._build_info")
    shown = run_python("import redunet; redunet.show_config()")
    assert redunet.__version__ in shown
    if info.cpu_missing is not None:
        assert info.cpu_missing in " ".join(shown.split())


def test_import_is_quick():
    """The least of several tries, in turns, as noise only adds; as many as it takes on a busy machine."""
    ours = numpys = float("inf")
    for _ in range(IMPORT_TRIES):
        ours, numpys = min(ours, import_seconds("redunet")), min(numpys, import_seconds("numpy"))
        if ours < max(IMPORT_BUDGET, (1 + OWN_SHARE) * numpys):
            return
    pytest.fail(f"importing redunet takes {ours:.3f} s, NumPy {numpys:.3f} s of them")


def test_import_loads_nothing_that_can_wait():
    loaded = set(run_python("import sys, redunet; print(*sys.modules)").split())
    assert "numpy" in loaded
    heavy = {"sklearn", "scipy", "matplotlib", "tqdm", "torch", "safetensors", "redunet.demo", "redunet.plot"}
    heavy |= {"numpy.ma", "redunet.network.storage", "redunet.classifiers"} - set(
        run_python("import sys, numpy; print(*sys.modules)").split()
    )
    assert not loaded & heavy


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux shows them")
def test_import_starts_no_thread():
    count = "len(os.listdir('/proc/self/task'))"
    before, after = run_python(f"import os, numpy; a = {count}; import redunet; print(a, {count})").split()
    assert before == after


def test_import_prints_nothing():
    assert run_python("import redunet") == ""


def test_readme_commands_are_marked_for_ci():
    """Check that CI can pick the two commands out of the README and test what it says."""
    text = checkout_file("README.md")
    for name in ("demo", "test"):
        (command,) = re.findall(rf"<!-- command: {name} -->\n```sh\n(.*?)\n```", text, flags=re.DOTALL)
        assert "\n" not in command
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install")


def test_readme_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", checkout_file("README.md"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_changelog_names_this_version():
    assert f"## [{redunet.__version__}]" in checkout_file("CHANGELOG.md")
