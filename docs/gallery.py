"""The gallery: every experiment at reduced depth, a page with its report, its code, and the same to be downloaded.

Experiments on MNIST are left out where REDUNET_MNIST doesn't name the folder of its files, those that train where
PyTorch is not installed. `sphinx-build -D gallery=gauss2d,iris` makes a page of these only.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
from pathlib import Path
from typing import Any

from redunet import experiments
from redunet.experiments import needs

FOLDER = Path(__file__).parent / "gallery"
REDUCED: dict[str, Any] = {"n_layers": 40, "n_train": 50, "n_test": 10, "plain": False, "seeds": 1, "epochs": 1}
INDEX = """# Gallery

The lecture's experiments, and those of later papers, at reduced depth and with fewer samples, made when these pages
were: `redunet experiment NAME` runs them whole ([](../experiments.md)). Every page has the code, as a script and as a
notebook.

"""
CARD = """:::{{grid-item-card}} {name}
:link: {name}/report
:link-type: doc
{image}
{what}
:::
"""
CODE = """
## The code

The experiment as published is `redunet experiment {name}`{data}. What made this page:

```python
{script}```

{{download}}`{name}.py <{name}.py>` · {{download}}`{name}.ipynb <{name}.ipynb>`

:::{{dropdown}} redunet.experiments.{module}
```python
{source}```
:::
"""


def chosen(names: str) -> list[str]:
    """Those of these names, separated by commas; of all, where there are none, what can be run here."""
    if names:
        wanted = [name.strip() for name in names.split(",")]
        if unknown := [name for name in wanted if name not in experiments.EXPERIMENTS]:
            raise ValueError(f"gallery names {unknown}; expected some of {', '.join(experiments.EXPERIMENTS)}")
        return wanted
    return [
        name
        for name, experiment in experiments.EXPERIMENTS.items()
        if (os.environ.get("REDUNET_MNIST") or not experiment.needs_mnist)
        and all(map(needs.is_here, (*experiment.needs, *["torch"] * experiment.needs_torch)))
    ]


def script(name: str) -> str:
    """A program that makes what the page shows."""
    experiment = experiments.EXPERIMENTS[name]
    options = ", ".join(f"{key}={value!r}" for key, value in REDUCED.items())
    data = "\n# REDUNET_MNIST names the folder of MNIST's four IDX files." if experiment.needs_mnist else ""
    return f'''"""{experiment.what[0].upper()}{experiment.what[1:]}; here at reduced depth."""

from redunet import experiments
{data}
# experiments.Options() alone is the experiment as published.
options = experiments.Options({options})
report = experiments.run("{name}", options)
print(report.markdown())
report.save("{name}")  # a folder: report.md, results.json and figures
'''


def notebook(name: str) -> dict[str, Any]:
    """The same as a notebook, which shows the figures."""
    experiment = experiments.EXPERIMENTS[name]
    imports, rest = script(name).split('"""\n\n', 1)[1].split("\n\n", 1)
    run = rest.lstrip().split("print(", 1)[0]
    show = (
        "from IPython.display import Markdown, display\n\n"
        "display(Markdown(report.markdown()))\nfor figure in report.figures.values():\n    display(figure)"
    )
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "metadata": {}, "source": f"# {name}\n\n{experiment.what}"},
        *(
            {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": [], "source": code.strip()}
            for code in (f"# %pip install 'redunet[all]'\n{imports}", run, show)
        ),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def page(name: str) -> str:
    """Run an experiment and write its page; what the index says of it."""
    experiment = experiments.EXPERIMENTS[name]
    report = experiments.run(name, experiments.Options(**REDUCED))
    where = report.save(FOLDER / name)
    source = Path(str(inspect.getsourcefile(experiment.load()))).read_text(encoding="utf-8")
    (where / f"{name}.py").write_text(script(name), encoding="utf-8")
    (where / f"{name}.ipynb").write_text(json.dumps(notebook(name), indent=1) + "\n", encoding="utf-8")
    data = " `--data folder/with/mnist`" if experiment.needs_mnist else ""
    code = CODE.format(name=name, data=data, script=script(name), module=experiment.module, source=source)
    with open(where / "report.md", "a", encoding="utf-8") as file:
        file.write(code)
    image = next((f":img-top: {name}/{figure}.png\n" for figure in report.figures), "")
    return CARD.format(name=name, image=image, what=experiment.what)


def make(app: Any) -> None:
    """All pages, and the index with a thumbnail of each."""
    names = chosen(app.config.gallery)
    shutil.rmtree(FOLDER, ignore_errors=True)  # pages of another choice would be in no menu
    cards = "\n".join(page(name) for name in names)
    entries = "\n".join(f"{name}/report" for name in names)
    text = f"{INDEX}::::{{grid}} 1 2 3 3\n:gutter: 3\n:class-container: gallery\n\n{cards}::::\n\n"
    text += f"```{{toctree}}\n:hidden:\n:maxdepth: 1\n\n{entries}\n```\n"
    (FOLDER / "index.md").write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_config_value("gallery", "", "env")
    app.connect("builder-inited", make)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
