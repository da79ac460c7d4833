"""The command line: what it prints, and the exit code and the one line of every error."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import redunet as rn
from redunet import _backends, checks
from redunet.cli import main


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "redunet", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])
    assert capsys.readouterr().out == f"redunet {rn.__version__}\n"


def test_help_names_the_commands_and_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    general = capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--help"])
    assert capsys.readouterr().out == general
    assert "demo" in general
    assert "info" in general
    assert "{demo,info}" not in general
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["demo", "--help"])
    shown = capsys.readouterr().out
    for option in ("--out DIR", "--layers N", "--backend {auto,cuda,cpu,numpy}", "--threads N", "--quiet"):
        assert option in shown


def test_info_is_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    rn.show_config()
    expected = capsys.readouterr().out
    assert main(["info"]) == 0
    assert capsys.readouterr().out == expected


def test_the_module_runs_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    done = run("info")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"redunet           {rn.__version__}\n")
    monkeypatch.setattr(sys, "argv", ["redunet", "info"])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_module("redunet", run_name="__main__")
    assert capsys.readouterr().out == done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "argument command: invalid choice: 'train'"),
        (["demo", "--layers", "0"], "argument --layers: '0' is not an integer >= 1"),
        (["demo", "--layers", "many"], "argument --layers: 'many' is not an integer >= 1"),
        (["demo", "--threads", "-1"], "argument --threads: '-1' is not an integer >= 1"),
        (["demo", "--backend", "gpu"], "argument --backend: invalid choice: 'gpu'"),
        (["demo", "extra"], "unrecognized arguments: extra"),
        (["--nothing"], "unrecognized arguments: --nothing"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main(arguments)
    assert message in capsys.readouterr().err


def test_the_demo_gets_the_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    calls = []
    monkeypatch.setattr("redunet.demo.main", lambda out, **options: calls.append((out, options)))
    arguments = ["--out", str(tmp_path), "--layers", "7", "--backend", "numpy", "--threads", "1", "--quiet"]
    assert main(["demo", *arguments]) == 0
    assert calls.pop() == (tmp_path, {"n_layers": 7, "backend": "numpy", "n_threads": 1, "progress": False})
    assert main(["demo"]) == 0
    backend, _ = _backends.select()
    defaults = {"n_layers": None, "backend": backend, "n_threads": checks.threads(None), "progress": True}
    assert calls.pop() == (Path(), defaults)


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("sklearn", "redunet: redunet.datasets.digits needs scikit-learn: pip install 'redunet[sklearn]'"),
        ("matplotlib", "redunet: redunet demo needs matplotlib: pip install 'redunet[plot]'"),
    ],
)
def test_missing_packages(
    package: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr() == ("", message + "\n")


def test_a_backend_that_cannot_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(_backends, "_load", lambda name: (None, "there was no compiler"))
    assert main(["demo", "--backend", "cpu"]) == 2
    assert capsys.readouterr() == ("", "redunet: backend 'cpu' cannot be used: there was no compiler\n")


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("REDUNET_BACKEND", "redunet: REDUNET_BACKEND is 'fast'; expected one of 'auto', 'cuda', 'cpu', 'numpy'\n"),
        ("REDUNET_NUM_THREADS", "redunet: REDUNET_NUM_THREADS is 'fast'; expected an integer >= 1\n"),
    ],
)
@pytest.mark.parametrize("command", ["demo", "info"])
def test_bad_environment_variables(
    command: str,
    variable: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, "fast")
    assert main([command]) == 2
    assert capsys.readouterr() == ("", message)


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    (tmp_path / "file").touch()
    assert main(["demo", "--out", str(tmp_path / "file")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("redunet: ")
    assert "File exists" in error
    assert error.count("\n") == 1


def test_too_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(checks, "available_memory", lambda: 1 << 20)
    assert main(["demo", "--out", str(tmp_path), "--quiet"]) == 1
    assert "GiB of memory are available\n" in capsys.readouterr().err


def test_interrupted_anywhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("redunet.config.show_config", interrupted)
    assert main(["info"]) == 130
    assert capsys.readouterr() == ("", "\nredunet: interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise there")
def test_interrupt(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    command = [sys.executable, "-u", "-m", "redunet", "demo", "--out", str(tmp_path), "--layers", "1000"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=environment
    ) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if line.startswith("plain network"):  # it takes seconds to build, and many more to test
                break
        child.send_signal(signal.SIGINT)
        _, error = child.communicate(timeout=60)
    assert child.returncode == 130
    assert error.endswith("\nredunet: interrupted\n")
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []
