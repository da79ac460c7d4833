"""docs/api.md has an entry for all that is public, and for every module of an experiment: read, not imported."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE, PAGE = ROOT / "python" / "redunet", ROOT / "docs" / "api.md"
if not PAGE.is_file():  # pragma: no cover
    pytest.skip("the sources are not here", allow_module_level=True)

DIRECTIVE = re.compile(r"^\.\. auto(function|class|exception|module):: (\S+)\n(?:   :members:(.*)\n)?", re.MULTILINE)


def entries():
    """Names that the page has; "redunet.datasets.*" where it takes all that a module has."""
    for kind, name, members in DIRECTIVE.findall(PAGE.read_text(encoding="utf-8")):
        yield name
        if kind == "module":
            yield from (f"{name}.{member.strip() or '*'}" for member in members.split(","))


def public():
    """Functions and classes in the `__all__` of every room, with the room's name."""
    for path in sorted(PACKAGE.rglob("__init__.py")):
        room = ".".join(("redunet", *path.parent.relative_to(PACKAGE).parts))
        found = re.search(r"^__all__ = (\[.*?\])", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        for name in ast.literal_eval(found[1]) if found and "._" not in room else ():
            if not (name.isupper() or name.startswith("_") or any(path.parent.glob(f"{name}*"))):  # constants, modules
                yield room, name


def test_every_public_name_has_an_entry():
    """Under its room or where it is defined; those of `redunet.torch` are often namesakes of NumPy's."""
    there = set(entries())
    elsewhere = {(entry.startswith("redunet.torch."), entry.rpartition(".")[2]) for entry in there}
    names = list(public())
    assert len(names) > 80
    missing = [
        f"{room}.{name}"
        for room, name in names
        if f"{room}.*" not in there and (room.startswith("redunet.torch"), name) not in elsewhere
    ]
    assert not missing, f"docs/api.md has no entry for {missing}"


def test_every_experiment_has_an_entry():
    source = (PACKAGE / "experiments" / "__init__.py").read_text(encoding="utf-8")
    modules = {f"redunet.experiments.{name}" for name in re.findall(r'Experiment\(\s*"(\w+)"', source)}
    assert len(modules) > 10
    missing = modules - set(entries())
    assert not missing, f"docs/api.md has no entry for {missing}"
