"""The pages of the user guide: every block of code runs, and prints what the page shows after it.

Blocks of a page share their names. Numbers may differ from the page's by a few parts in a hundred: other processors,
backends and versions of other packages round and draw otherwise.
"""

from __future__ import annotations

import importlib.util
import io
import math
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
#: What each page needs as a whole; the digits are scikit-learn's.
PAGES = {
    "signals.md": "sklearn",
    "parameters.md": "sklearn",
    "sklearn.md": "sklearn",
    "hermitian.md": "numpy",
    "serving.md": "sklearn",
    "index.md": "sklearn",
}
#: A block that imports one of these is left out where there is none.
OPTIONAL = ("torch", "pandas")
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", flags=re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d*)?(?:e[-+]\d+)?")
CLOSE = 0.05


def agree(printed: str, shown: str) -> bool:
    """Whether words are the same, and numbers nearly."""
    if NUMBER.sub("#", printed).split() != NUMBER.sub("#", shown).split():
        return False
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True)
    return all(math.isclose(float(a), float(b), rel_tol=CLOSE) for a, b in pairs)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_is_what_its_code_prints(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(PAGES[page])
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    assert len(blocks) > (0 if page == "index.md" else 3)
    names: dict[str, Any] = {"__name__": "__main__"}
    for code, shown in blocks:
        if any(f"import {name}" in code and not importlib.util.find_spec(name) for name in OPTIONAL):
            continue
        out = io.StringIO()
        with redirect_stdout(out):
            exec(compile(code, page, "exec"), names)
        assert agree(out.getvalue(), shown), f"{code}prints\n{out.getvalue()}and {page} shows\n{shown}"
