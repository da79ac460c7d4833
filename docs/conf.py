"""The documentation site: `sphinx-build -W docs build/docs`.

Before pages are read, the gallery is made: every experiment at reduced depth, with its figures. Those on MNIST are left
out where REDUNET_MNIST doesn't name the folder of its files.
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import Any

import redunet
from redunet import experiments

project = "redunet"
author = "the redunet developers"
release = version = redunet.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"redunet {version}"
autodoc_mock_imports = [] if importlib.util.find_spec("torch") else ["torch"]  # classes are then shown without it
autodoc_typehints = "none"  # docstrings give shapes and dtypes
autodoc_member_order = "bysource"
napoleon_numpy_docstring = True
napoleon_use_rtype = False
napoleon_use_ivar = True
default_role = "code"
suppress_warnings = ["myst.xref_missing", "ref.python"]  # links to files of the repository outside of docs/

# *Emphasis* and **strong** words are kept; a bar or another star is meant as it stands.
_MARKUP = re.compile(r"(\*{1,2}[A-Za-z][^*|]*[a-z]\*{1,2})|[*|]")
GALLERY = Path(__file__).parent / "gallery"
REDUCED: dict[str, Any] = {"n_layers": 40, "n_train": 50, "n_test": 10, "plain": False, "seeds": 1, "epochs": 1}


def make_gallery(*_: Any) -> None:
    """Run the experiments and write a page for each."""
    names = []
    for name, experiment in experiments.EXPERIMENTS.items():
        if experiment.needs_mnist and not os.environ.get("REDUNET_MNIST"):
            continue
        if experiment.needs_torch and not importlib.util.find_spec("torch"):
            continue
        report = experiments.run(name, experiments.Options(**REDUCED))
        report.save(GALLERY / name)
        names.append(name)
    entries = "\n".join(f"{name}/report" for name in names)
    text = (
        "# Gallery\n\nThe lecture's experiments at reduced depth and with fewer samples, made when these pages were: "
        "`redunet experiment NAME` runs them whole ([](../experiments.md)).\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{entries}\n```\n"
    )
    (GALLERY / "index.md").write_text(text, encoding="utf-8")


def escape(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Bars and single stars in docstrings are absolute values and adjoints, not markup."""
    example, literal = False, None  # within a doctest; indentation of the line that opened a literal block
    for i, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        if literal is not None and line.strip() and indent <= literal:
            literal = None
        if not example and literal is None:
            lines[i] = "``".join(
                part if inside % 2 else _MARKUP.sub(lambda m: m[1] or "\\" + m[0], part)
                for inside, part in enumerate(line.split("``"))
            )
        if line.endswith("::"):
            literal = indent


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", make_gallery)
    app.connect("autodoc-process-docstring", escape, priority=400)  # before napoleon
