"""Who may import whom, in Python, C++ and CUDA: read from imports and includes; and planted violations are found.

The rules are those of docs/design.md. A room is a folder, or a module of its own, of the package or of an engine.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "cpp").is_dir():  # pragma: no cover
    pytest.skip("the sources are not here", allow_module_level=True)

# --- Python ---

BELOW = ("_backends", "transforms", "_inputs")
NUMBERS = (*BELOW, "linalg", "rates", "sparse", "frontends", "files", "progress")
FACES = (*NUMBERS, "network", "classifiers", "clustering", "segmentation")
TOP = ("experiments", "demo", "cli", "config", "__main__")  # may import anything; nothing below imports them
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "files": (),
    "terminal": (),
    "progress": (),
    "_build_info": (),
    "_backends": ("_build_info",),
    "transforms": ("_backends",),
    "_inputs": ("_backends", "transforms"),
    "linalg": BELOW,
    "rates": BELOW,
    "sparse": BELOW,
    "frontends": (*BELOW, "sparse"),
    "datasets": (*BELOW, "files"),
    "network": NUMBERS,
    "classifiers": NUMBERS,
    "clustering": NUMBERS,
    "segmentation": (*NUMBERS, "clustering"),
    "plot": FACES,
    "sklearn": FACES,
    "torch": FACES,
    "distributed": FACES,
}
#: Libraries that have a room of their own, and who else may import them inside a function.
LIBRARIES = {
    "sklearn": ("sklearn", "datasets", *TOP),
    "matplotlib": ("plot", *TOP),
    "scipy": ("frontends", *TOP),
    "skimage": ("segmentation", *TOP),
    "torch": ("torch", "distributed", "experiments"),
    "mpi4py": ("distributed",),
}


def imports(source: str) -> Iterator[tuple[str, bool]]:
    """Modules, or names in them, that source imports; and whether at once, not in a function or for type checkers."""
    tree = ast.parse(source)
    later = set()
    for node in ast.walk(tree):
        lazy = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        if lazy:
            later.update(ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node not in later) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{alias.name}", node not in later) for alias in node.names)


def room_of(module: str) -> str:
    """Of a dotted name below redunet; the package itself is "__init__"."""
    return module.split(".")[1] if "." in module else "__init__"


def python_violations(files: Mapping[str, str]) -> list[str]:
    """What breaks the rules, of files of the package by their paths in it."""
    modules = {path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in files}
    rooms = {module.split(".")[0] for module in modules} | set(MAY_IMPORT) | set(TOP)
    found = []
    for path, source in sorted(files.items()):
        room = path.removesuffix(".py").split("/")[0]
        for name, at_once in imports(source):
            library = name.split(".")[0]
            if library in LIBRARIES and (room not in LIBRARIES[library] or (at_once and room not in (library, "plot"))):
                found.append(f"{path} imports {name}")
            if library != "redunet" or room in ("__init__", *TOP):
                continue
            other = room_of(name)
            if other not in rooms:  # a name that the package's face hands out
                other = "__init__"
            if other not in (room, *MAY_IMPORT.get(room, ())):
                found.append(f"{path} imports {name}")
    return found


def python_sources() -> dict[str, str]:
    package = ROOT / "python" / "redunet"
    return {path.relative_to(package).as_posix(): path.read_text(encoding="utf-8") for path in package.rglob("*.py")}


def test_python_imports():
    assert python_violations(python_sources()) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("_backends/planted.py", "from redunet._inputs import checks"),
        ("_backends/planted.py", "def f():\n    from redunet.transforms import norms"),
        ("transforms/planted.py", "import redunet._inputs.checks"),
        ("_inputs/planted.py", "from redunet.network import build"),
        ("rates.py", "from redunet import network"),
        ("rates.py", "from redunet import build"),
        ("sparse/planted.py", "from redunet.frontends import RandomLift"),
        ("network/planted.py", "from redunet.classifiers.base import features"),
        ("classifiers/planted.py", "from redunet.network import ReduNet"),
        ("clustering/planted.py", "from redunet.network import build"),
        ("plot/planted.py", "from redunet import sklearn"),
        ("network/planted.py", "from redunet.experiments import EXPERIMENTS"),
        ("network/planted.py", "import matplotlib.pyplot"),
        ("network/planted.py", "def f():\n    import sklearn"),
        ("datasets/planted.py", "from sklearn import datasets"),
        ("frontends/planted.py", "import scipy.ndimage"),
        ("experiments/planted.py", "import torch"),
        ("network/planted.py", "def f():\n    import torch"),
        ("torch/planted.py", "from redunet.experiments import EXPERIMENTS"),
        ("plot/planted.py", "from redunet.torch import CRATE"),
        ("distributed/planted.py", "import mpi4py"),
        ("distributed/planted.py", "from redunet.torch import CRATE"),
        ("network/planted.py", "def f():\n    from mpi4py import MPI"),
        ("network/planted.py", "from redunet.distributed import single"),
    ],
)
def test_planted_python_imports_are_found(path, source):
    assert python_violations({path: source})


def test_no_module_waits_for_itself():
    """Imports that happen at once have no circle."""
    package = python_sources()
    edges = {}
    for path, source in package.items():
        name = "redunet." + path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        edges[name.removesuffix(".__init__")] = {other for other, at_once in imports(source) if at_once}
    for name, others in edges.items():  # of what is no module but a name in one, that one
        edges[name] = {other if other in edges else other.rpartition(".")[0] for other in others}
    open_, done = [], set()

    def visit(name: str) -> None:
        assert name not in open_, " -> ".join([*open_, name])
        if name in edges and name not in done:
            open_.append(name)
            for other in sorted(edges[name]):
                visit(other)
            done.add(open_.pop())

    for name in sorted(edges):
        visit(name)


# --- C++ and CUDA ---

SHARED = r"shared/.*"
BINDINGS = r"shared/(state_)?bindings\.hpp"
KERNEL_TABLE = r"kernels/(kernels|dispatch)\.hpp"
MAY_INCLUDE: dict[str, tuple[str, ...]] = {
    "cpp/shared": (SHARED,),
    "cpp/kernels": (r"kernels/.*", r"shared/index\.hpp"),
    "cpp/base": (r"base/.*", SHARED, r"kernels/kernels\.hpp"),
    "cpp/linalg": (r"(linalg|base)/.*", SHARED, r"kernels/kernels\.hpp"),
    "cpp/layer": (r"(layer|linalg|base)/.*", SHARED, r"kernels/kernels\.hpp"),
    "cpp/classifiers": (r"(classifiers|linalg|base)/.*", SHARED, r"kernels/kernels\.hpp"),
    "cpp/clustering": (r"(clustering|base)/.*", SHARED, r"kernels/kernels\.hpp"),
    "cpp/engine": (r"(engine|layer|linalg|base)/.*", SHARED, r"kernels/kernels\.hpp"),
    "cpp/segmentation": (r"(segmentation|base)/.*", SHARED, r"kernels/kernels\.hpp"),
    "cpp": (
        r"classifiers/local\.hpp",
        r"(clustering/merging|segmentation/moments)\.hpp",
        r"engine/(engine|state)\.hpp",
        r"linalg/(batch|forms)\.hpp",
        KERNEL_TABLE,
        BINDINGS,
    ),
    "cuda/platform": (r"(platform|emulation)/.*", r"shared/index\.hpp"),
    "cuda/emulation": (r"(emulation|platform)/.*",),
    "cuda/kernels": (r"kernels/.*", r"platform/gpu\.hpp", r"shared/step_rule\.hpp"),
    "cuda/arrays": (r"(arrays|platform)/.*", SHARED),
    "cuda/layer": (r"(layer|arrays|kernels|platform)/.*", SHARED),
    "cuda/engine": (r"(engine|layer|kernels|platform)/.*", SHARED),
    "cuda": (r"engine/(engine|state)\.hpp", r"layer/fourier\.hpp", r"(arrays|platform)/.*", BINDINGS),
}
#: What is compiled once per SIMD level: an inline function of it must not be merged into the rest of the program.
PER_LEVEL = re.compile(r"cpp/kernels/(?!dispatch\.).*")
PLAIN_HEADERS = {"cstddef", "cstdint", "utility", "immintrin.h", "arm_neon.h"}
KNOWS_PYBIND11 = re.compile(
    r"cpp/shared/(bindings|state_bindings|gil)\.hpp|(cpp|cuda)/module\.cpp|cuda/arrays/exchange\.[ch]pp"
)


def include_violations(files: Mapping[str, str]) -> list[str]:
    """What breaks the rules, of sources of the engines by their paths in the project."""
    found = []
    for path, source in sorted(files.items()):
        allowed = MAY_INCLUDE[path.rpartition("/")[0]]
        for name in re.findall(r'#include "([^"]+)"', source):
            if not any(re.fullmatch(rule, name) for rule in allowed):
                found.append(f"{path} includes {name}")
            if name.endswith("simd.hpp") and not PER_LEVEL.fullmatch(path):
                found.append(f"{path} includes {name}")
        for name in re.findall(r"#include <([^>]+)>", source):
            if name.startswith("pybind11/") and not KNOWS_PYBIND11.fullmatch(path):
                found.append(f"{path} includes {name}")
            if PER_LEVEL.fullmatch(path) and name not in PLAIN_HEADERS:
                found.append(f"{path} includes {name}")
    return found


def engine_sources() -> dict[str, str]:
    paths = [path for folder in ("cpp", "cuda") for path in (ROOT / folder).rglob("*.[ch]*")]
    paths = [path for path in paths if path.suffix in (".hpp", ".cpp", ".cu")]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def test_includes():
    assert include_violations(engine_sources()) == []


@pytest.mark.parametrize(
    ("path", "include"),
    [
        ("cpp/shared/planted.hpp", '"kernels/kernels.hpp"'),
        ("cpp/kernels/planted.hpp", '"base/buffer.hpp"'),
        ("cpp/kernels/planted.hpp", "<vector>"),
        ("cpp/base/planted.cpp", '"linalg/batch.hpp"'),
        ("cpp/layer/planted.cpp", '"kernels/simd.hpp"'),
        ("cpp/layer/planted.cpp", '"engine/engine.hpp"'),
        ("cpp/linalg/planted.cpp", "<pybind11/numpy.h>"),
        ("cuda/engine/planted.cu", '"base/parallel.hpp"'),
        ("cuda/layer/planted.cu", '"engine/engine.hpp"'),
        ("cuda/kernels/planted.hpp", '"platform/device.hpp"'),
        ("cuda/platform/planted.cpp", '"layer/operators.hpp"'),
    ],
)
def test_planted_includes_are_found(path, include):
    assert include_violations({path: f"#include {include}\n"})


def test_every_room_is_known():
    """A new folder or module has to say what it may import."""
    rooms = {path.removesuffix(".py").split("/")[0] for path in python_sources()}
    assert rooms - {"__init__", *TOP} <= set(MAY_IMPORT)
    assert {path.rpartition("/")[0] for path in engine_sources()} == set(MAY_INCLUDE)
