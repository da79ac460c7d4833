"""What long work needs is looked for before it begins, and what makes it slow is said: packages, data, the engine."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys

import pytest
from strokes import check_report, write_strokes

from redunet import _backends, cli, experiments, use_backend
from redunet.experiments import needs

NEEDS = [(name, package) for name, about in experiments.EXPERIMENTS.items() for package in about.needs]
INSTALL = {
    "aeon": "aeon: pip install aeon",
    "scipy": "SciPy: pip install scipy",
    "skimage": "scikit-image: pip install 'redunet[image]'",
    "sklearn": "scikit-learn: pip install 'redunet[sklearn]'",
    "torch": "PyTorch: pip install 'redunet[torch]'",
}


@pytest.fixture(scope="module")
def strokes(tmp_path_factory):
    return write_strokes(tmp_path_factory.mktemp("strokes"))


def forget(monkeypatch, package):
    """As where a package is not installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)


@pytest.fixture
def no_work(monkeypatch):
    """Experiments that must not begin."""
    monkeypatch.setattr(experiments.Experiment, "load", lambda self: pytest.fail("the work began"))


@pytest.mark.parametrize(("name", "package"), [*NEEDS, ("crate", "torch"), ("sparse", "torch")])
def test_a_missing_package_is_said_before_the_work(name, package, no_work, strokes, monkeypatch, tmp_path, capsys):
    forget(monkeypatch, package)
    message = f"this experiment needs {INSTALL[package]}"
    with pytest.raises(ImportError) as error:
        experiments.run(name, experiments.Options(data=strokes))
    assert str(error.value) == message
    assert cli.main(["experiment", name, "--data", str(strokes), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr() == ("", f"redunet: {message}\n")


def test_missing_data_are_said_before_the_work(no_work, monkeypatch, tmp_path):
    pytest.importorskip("scipy", reason="SciPy is not installed")
    monkeypatch.delenv("REDUNET_MNIST", raising=False)
    for name, about in experiments.EXPERIMENTS.items():
        if about.needs_mnist and all(map(needs.is_here, (*about.needs, *["torch"] * about.needs_torch))):
            with pytest.raises(experiments.DataMissing, match="this experiment needs MNIST: give --data DIR"):
                experiments.run(name)
            with pytest.raises(FileNotFoundError, match="no train-images-idx3-ubyte"):
                experiments.run(name, experiments.Options(data=tmp_path))


@pytest.mark.parametrize("name", ["gauss2d", "gauss3d", "sinusoid", "iris"])
def test_numbers_are_saved_without_matplotlib(name, strokes, monkeypatch, tmp_path, capsys):
    about = experiments.EXPERIMENTS[name]
    for package in about.needs:
        pytest.importorskip(package, reason="a package that the experiment needs is not installed")
    options = experiments.Options(n_layers=3, n_train=12, n_test=6, data=strokes)
    if needs.is_here("matplotlib"):
        drawn = experiments.run(name, options)
        assert drawn.figures
    forget(monkeypatch, "matplotlib")
    made = experiments.run(name, options)
    assert capsys.readouterr().err.count("redunet: no figures without matplotlib: pip install 'redunet[plot]'\n") == 1
    check_report(made, tmp_path)
    assert not made.figures
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.md", "results.json"]
    if "drawn" in locals():
        assert made.tables.keys() == drawn.tables.keys()
        assert made.series.keys() == drawn.series.keys()


class TestWithoutTheEngine:
    SAID = (
        "redunet: the compiled engine is missing, so that NumPy computes the same, many times more slowly: there was "
        "no compiler. Install it again with a C++20 compiler and Python's headers (Debian and Ubuntu: apt install g++ "
        "python3-dev): pip install --force-reinstall --no-deps --no-cache-dir redunet, or . in a clone\n"
    )

    @pytest.fixture(autouse=True)
    def without_engine(self, monkeypatch):
        load = _backends._load
        monkeypatch.delenv("REDUNET_BACKEND", raising=False)
        monkeypatch.setattr(
            _backends, "_load", lambda name: load(name) if name == "numpy" else (None, "there was no compiler")
        )

    def test_an_experiment_says_so_once(self, tmp_path, capsys):
        command = ["experiment", "gauss2d", "--layers", "2", "--train", "9", "--quiet", "--out", str(tmp_path)]
        assert cli.main(command) == 0
        assert capsys.readouterr().err.count(self.SAID) == 1
        assert cli.main([*command, "--backend", "numpy"]) == 0
        assert "engine" not in capsys.readouterr().err

    def test_the_demo_says_so_once(self, tmp_path, monkeypatch, capsys):
        pytest.importorskip("sklearn", reason="scikit-learn is not installed")
        pytest.importorskip("matplotlib", reason="matplotlib is not installed")
        from redunet import demo

        monkeypatch.setattr(demo, "_compare", lambda *_: (_ for _ in ()).throw(OSError("enough")))
        assert cli.main(["demo", "--out", str(tmp_path)]) == 1
        assert capsys.readouterr().err == f"{self.SAID}redunet: enough\n"
        assert cli.main(["demo", "--out", str(tmp_path), "--backend", "numpy"]) == 1
        assert capsys.readouterr().err == "redunet: enough\n"

    def test_whoever_asked_for_numpy_knows(self, monkeypatch):
        assert _backends.instead_of_engine()
        assert not _backends.instead_of_engine("numpy")
        with use_backend("numpy"):
            assert not _backends.instead_of_engine()
        monkeypatch.setenv("REDUNET_BACKEND", "numpy")
        assert not _backends.instead_of_engine()


def test_the_engine_is_not_missed_where_it_is():
    if _backends.status()["cpu"] != "available":
        pytest.skip("it is not here")
    assert not _backends.instead_of_engine()


#: Packages, of which ours for scikit-learn and PyTorch need these.
PACKAGES = re.compile(r"(?:redunet\.)?(aeon|matplotlib|scipy|skimage|sklearn|torch)\b")


@pytest.mark.parametrize("module", sorted({about.module for about in experiments.EXPERIMENTS.values()}))
def test_what_a_module_imports_is_declared(module):
    """By one of its experiments; or the import is tried, and done without."""
    declared = {"matplotlib"}
    for about in experiments.EXPERIMENTS.values():
        if about.module == module:
            declared |= {*about.needs, *["torch"] * about.needs_torch}
    tree = ast.parse(inspect.getsource(importlib.import_module(f"redunet.experiments.{module}")))
    tried = {id(node) for attempt in ast.walk(tree) if isinstance(attempt, ast.Try) for node in attempt.body}
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in tried:
            names.append(node.module or "")
        elif isinstance(node, ast.Import) and id(node) not in tried:
            names += [alias.name for alias in node.names]
    needed = {found[1] for found in map(PACKAGES.match, names) if found}
    assert needed <= declared


def test_photographs_need_more(monkeypatch, tmp_path, no_work):
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    forget(monkeypatch, "scipy")
    with pytest.raises(ImportError, match="this experiment needs SciPy: pip install scipy"):
        experiments.run("segmentation", experiments.Options(bsds=tmp_path))
