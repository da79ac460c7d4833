"""The site: its first page says what the README does, and what the gallery offers for download runs."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from redunet import experiments
from redunet.experiments import needs

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "docs" / "gallery.py").is_file():  # pragma: no cover
    pytest.skip("the sources are not here", allow_module_level=True)


def load(name):
    """A module of the site."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gallery = load("gallery")


def test_the_first_page_has_the_commands_of_the_readme():
    commands = [
        re.findall(r"^```sh\n(python3 -m venv .*)\n```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
        for page in ("README.md", "docs/index.md")
    ]
    assert commands[0] == commands[1]
    assert len(commands[0]) == 2


def test_every_page_can_be_reached():
    """From the menus of the first page, but for those that the gallery makes."""
    text = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    menus = re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    named = {line for menu in menus for line in menu.split() if not line.startswith(":")}
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} - named == {"index"}


@pytest.mark.parametrize("package", ["aeon", "sklearn", "torch"])
def test_the_gallery_leaves_out_what_cannot_run_here(package, monkeypatch):
    monkeypatch.setenv("REDUNET_MNIST", "somewhere")
    monkeypatch.setattr(needs, "is_here", lambda name: name != package)
    left_out = {
        name
        for name, about in experiments.EXPERIMENTS.items()
        if package in about.needs or (package == "torch" and about.needs_torch)
    }
    assert left_out
    assert set(gallery.chosen("")) == set(experiments.EXPERIMENTS) - left_out
    monkeypatch.delenv("REDUNET_MNIST")
    assert not any(experiments.EXPERIMENTS[name].needs_mnist for name in gallery.chosen(""))
    assert gallery.chosen("iris, series") == ["iris", "series"]  # asked for by name: an error says what is missing


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_notebooks_hold_the_code_of_the_script(name):
    script = gallery.script(name)
    compile(script, name, "exec")
    cells = [cell for cell in gallery.notebook(name)["cells"] if cell["cell_type"] == "code"]
    lines = {line for cell in cells for line in cell["source"].splitlines()}
    assert {line for line in script.splitlines() if "import" in line or " = " in line} <= lines
    for cell in cells:
        compile(cell["source"].replace("# %pip", "#"), name, "exec")


def test_a_page_and_what_it_offers(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(gallery, "FOLDER", tmp_path)
    card = gallery.page("gauss2d")
    folder = tmp_path / "gauss2d"
    text = (folder / "report.md").read_text(encoding="utf-8")
    named = re.findall(r":img-top: (\S+)", card)
    named += [f"gauss2d/{name}" for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)]
    named += [f"gauss2d/{name}" for name in re.findall(r"\{download\}`[^<]*<([^>]+)>`", text)]
    assert len(named) > 3
    assert [name for name in named if not (tmp_path / name).is_file()] == []
    assert "def gauss2d(options" in text
    run = subprocess.run(
        [sys.executable, "gauss2d.py"], cwd=folder, capture_output=True, text=True, timeout=300, encoding="utf-8"
    )
    assert run.returncode == 0, run.stderr
    assert "| eta" in run.stdout


@pytest.mark.parametrize(
    ("formula", "parts"), [(r"\tfrac12 \log x", ["1", "2"]), (r"\frac1{2m}", ["1", "2"]), (r"\dfrac{3}4", ["3", "4"])]
)
def test_digits_after_a_fraction_are_its_parts(formula, parts):
    nodes = pytest.importorskip("docutils.nodes", reason="the site's own requirements")
    html = load("mathml").converted(nodes.math("", formula), block=False)
    inside = re.search(r"<mfrac.*?</mfrac>", html, re.DOTALL)
    assert inside is not None
    assert re.findall(r"<mn>(\d+)</mn>", inside[0])[:2] == parts


def test_operators_stand_apart_from_what_they_are_applied_to():
    nodes = pytest.importorskip("docutils.nodes", reason="the site's own requirements")
    mathml = load("mathml")
    for formula, spaces in {r"a \log\det B": 3, r"\operatorname{tr} A": 1, r"\log(x)": 0, r"(\log x)": 1}.items():
        assert mathml.converted(nodes.math("", formula), block=False).count("<mspace") == spaces, formula
