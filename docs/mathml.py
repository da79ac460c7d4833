"""Formulas as MathML, which browsers show by themselves: pages need no script, and nothing from elsewhere."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

#: TeX reads two digits after a fraction as its parts, docutils as one number.
DIGITS = re.compile(r"(\\[td]?frac)\s*(\d)\s*(\d)")
#: It sets operators apart from what stands beside them, docutils doesn't.
BEFORE = re.compile(r"(?<=[\w}])\s*(?=\\(?:log|det)\b)")
AFTER = re.compile(r"(\\(?:operatorname\{\w+\}|log|det))\s*(?=[A-Za-z]|\\(?!left|bigl|Bigl)[A-Za-z])")


def converted(node: nodes.Element, *, block: bool) -> str:
    """A formula's MathML."""
    text = DIGITS.sub(r"\1{\2}{\3}", node.astext())
    text = AFTER.sub(r"\1\\,", BEFORE.sub(r"\\,", text))
    return str(tex2mathml(text, as_block=block))


def inline(translator: Any, node: nodes.math) -> None:
    """A formula in a line."""
    translator.body.append(converted(node, block=False))
    raise nodes.SkipNode


def block(translator: Any, node: nodes.math_block) -> None:
    """A formula of its own lines."""
    translator.body.append(converted(node, block=True))
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
