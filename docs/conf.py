"""The documentation site: `sphinx-build -W docs build/docs`.

Before pages are read, the gallery is made (`gallery.py`), and saved runs of the benchmarks are drawn (`saved_runs.py`).
Nothing on a page comes from elsewhere: formulas are MathML (`mathml.py`), and fonts the reader's own.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import redunet

sys.path.insert(0, str(Path(__file__).parent))
addresses = dict(line.split(", ", 1) for line in importlib.metadata.metadata("redunet").get_all("Project-URL") or [])

project = "redunet"
author = "the redunet developers"
copyright = f"{author}. Licence: BSD 3-Clause"
release = version = redunet.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "gallery",
    "mathml",
    "saved_runs",
]
html_math_renderer = "mathml"
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"redunet {version}"
html_static_path, html_css_files = ["_static"], ["site.css"]
html_theme_options = {
    "source_repository": addresses["Repository"],
    "source_branch": "main",
    "source_directory": "docs/",
}
copybutton_prompt_text, copybutton_prompt_is_regexp = r">>> |\.\.\. |\$ ", True
autodoc_mock_imports = [] if importlib.util.find_spec("torch") else ["torch"]  # classes are then shown without it
autodoc_typehints = "none"  # docstrings give shapes and dtypes
autodoc_member_order = "bysource"
napoleon_numpy_docstring = True
napoleon_use_rtype = False
napoleon_use_ivar = True
default_role = "code"
suppress_warnings = ["ref.python"]

# *Emphasis* and **strong** words are kept; a bar or another star is meant as it stands.
_MARKUP = re.compile(r"(\*{1,2}[A-Za-z][^*|]*[a-z]\*{1,2})|[*|]")


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
    app.connect("autodoc-process-docstring", escape, priority=400)  # before napoleon
