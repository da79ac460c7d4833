"""The command line: what it prints, and the exit code and the one line of every error."""

from __future__ import annotations

import errno
import io
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest
from interpreters import PREAMBLE

import redunet as rn
from redunet import _backends, terminal
from redunet._backends import select
from redunet._inputs import checks
from redunet.cli import main


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "redunet", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        timeout=120,
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
    defaults = {"n_layers": None, "backend": "auto", "n_threads": checks.threads(None), "progress": True}
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
@pytest.mark.parametrize("command", [["demo"], ["experiment", "gauss2d"]])
def test_bad_environment_variables(
    command: list[str],
    variable: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, "fast")
    assert main(command) == 2
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("REDUNET_BACKEND", "fast", "selected backend  none: REDUNET_BACKEND is 'fast'; expected one of 'auto'"),
        ("REDUNET_BACKEND", "", "selected backend  none: REDUNET_BACKEND is ''; expected one of 'auto'"),
        ("REDUNET_NUM_THREADS", "-3", "threads           none: REDUNET_NUM_THREADS is '-3'; expected an integer"),
        ("REDUNET_NUM_THREADS", "many", "threads           none: REDUNET_NUM_THREADS is 'many'; expected an integer"),
        ("REDUNET_MNIST", "no/folder", "MNIST             none: REDUNET_MNIST is 'no/folder', which is no folder"),
    ],
)
def test_info_and_lists_whatever_the_environment_says(
    variable: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)
    for command in ("info", "experiments"):
        assert main([command]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert (f"\n{says}" in out) == (command == "info")
        assert (f"redunet           {rn.__version__}\n" in out) == (command == "info")


def test_a_bad_simd_level() -> None:
    """It is read once, when the engine is first used: in processes of their own."""
    pytest.importorskip("redunet._cpu", reason="redunet._cpu is not built")
    environment = {"REDUNET_SIMD": "fast", "REDUNET_BACKEND": "cpu"}
    done = run("info", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nSIMD level        none: REDUNET_SIMD is 'fast'; expected one that can be used here: 'base" in done.stdout
    for command in (["demo", "--layers", "1"], ["experiment", "gauss2d", "--layers", "1"]):
        done = run(*command, **environment)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("redunet: REDUNET_SIMD is 'fast'; expected one that can be used here: 'baseline'")
        assert done.stderr.count("\n") == 1


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
    code = f"{PREAMBLE}\nfrom redunet.cli import main\nraise SystemExit(main())"
    command = [sys.executable, "-u", "-c", code, "demo", "--out", str(tmp_path), "--layers", "1000"]
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


posix = pytest.mark.skipif(sys.platform == "win32", reason="file descriptors are handed on otherwise there")


def run_into(stdout: int | IO[bytes], *arguments: str, **options: Any) -> tuple[int, str]:
    """The exit code and standard error of the command with its output going to ``stdout``."""
    options["env"] = {**options.get("env", os.environ), "PYTHONUNBUFFERED": ""}  # else Python hides short writes
    done = subprocess.run(
        [sys.executable, "-m", "redunet", *arguments], stdout=stdout, stderr=subprocess.PIPE, timeout=120, **options
    )
    return done.returncode, done.stderr.decode()


@posix
@pytest.mark.parametrize("command", ["info", "experiments", "--help", "--version", "demo --help"])
def test_a_closed_pipe_is_silent(command: str) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        code, error = run_into(write, *command.split())
    finally:
        os.close(write)
    assert error == ""
    assert code == 1


@posix
@pytest.mark.parametrize("command", ["info", "experiments", "--help", "--version"])
def test_a_full_disk_is_one_line(command: str, tmp_path: Path) -> None:
    import resource

    def short() -> None:  # a file of more than 4 bytes is what a full disk is to `write`
        resource.setrlimit(resource.RLIMIT_FSIZE, (4, 4))

    with open(tmp_path / "out", "wb") as file:
        code, error = run_into(file, command, preexec_fn=short)
    assert error == "redunet: [Errno 27] File too large\n"
    assert code == 1


@posix
def test_results_that_cannot_be_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    import resource

    def short() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4, 4))

    arguments = ["experiment", "gauss2d", "--layers", "1", "--train", "20", "--quiet", "--out", str(tmp_path)]
    environment = {**os.environ, "MPLCONFIGDIR": str(tmp_path)}
    code, error = run_into(subprocess.PIPE, *arguments, preexec_fn=short, env=environment)
    assert code == 1
    assert error.endswith("File too large\n") or "File too large: " in error
    assert "Traceback" not in error


@posix
@pytest.mark.parametrize("descriptors", [(1,), (2,), (1, 2)])
def test_without_streams(descriptors: tuple[int, ...]) -> None:
    def close() -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    assert run_into(subprocess.DEVNULL, "info", preexec_fn=close) == (0, "")
    assert run_into(subprocess.DEVNULL, "demo", "--layers", "0", preexec_fn=close)[0] == 2


class Broken(io.StringIO):
    """A stream that takes text and can't get rid of it."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        raise self.error


def test_streams_that_fail_at_the_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for error, said in (
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ""),
        (OSError(errno.ENOSPC, "No space left on device"), "redunet: [Errno 28] No space left on device\n"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", Broken(error))
            assert main(["experiments"]) == 1
        assert capsys.readouterr().err == said
        with monkeypatch.context() as patch:  # and there is nowhere to say it
            patch.setattr(sys, "stdout", Broken(error))
            patch.setattr(sys, "stderr", Broken(error))
            assert main(["experiments"]) == 1


@pytest.mark.parametrize("error", [ValueError("of a kind\nthat nobody saw"), ZeroDivisionError("x" * 10**5)])
def test_an_unforeseen_error_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("redunet.config.show_config", fail)
    assert main(["info"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"redunet: {type(error).__name__}: ")
    assert said.count("\n") == 1
    assert len(said) < 600


@pytest.mark.parametrize(
    "arguments",
    [
        "demo --layers -1",
        "demo --layers 1e9",
        "demo --threads nan",
        "demo --epsilon nan",
        "experiment",
        "experiment no-such",
        "experiment gauss2d --train 0",
        "experiment gauss2d --seeds -1",
        "experiment mnist --data no/such/folder",
        "experiment mnist --data {file}",
        "experiment gauss2d --layers 1 --train 10 --quiet --out {file}",
        "experiment gauss2d --layers 99999999999999999999 --quiet --out {folder}",
        "demo --layers 99999999999999999999 --quiet --out {folder}",
    ],
)
def test_absurd_values_are_one_line(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("REDUNET_NUM_THREADS", "1")
    monkeypatch.setenv("REDUNET_BACKEND", select()[0])  # by name: nobody is told that the engine is missing
    (tmp_path / "file").write_bytes(b"")
    given = [part.format(file=tmp_path / "file", folder=tmp_path / "folder") for part in arguments.split()]
    try:
        code = main(given)
    except SystemExit as stopped:
        code = stopped.code
    out, err = capsys.readouterr()
    assert code in (1, 2)
    assert out == ""
    assert err.startswith("redunet")
    assert err.count("\n") == 1


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp932"])
def test_reports_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["experiment", "gauss2d", "--layers", "1", "--train", "10", "--quiet", "--out", str(tmp_path)]
    env = {**os.environ, "PYTHONIOENCODING": encoding, "REDUNET_BACKEND": select()[0]}
    code, error = run_into(subprocess.PIPE, *arguments, env=env)
    assert (code, error) == (0, "")


def test_letters_that_an_encoding_lacks_are_spelled(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding, shown in (
        ("ascii", b"Delta R of 1/2 +- eps^2 x alpha, \\u4e00\n"),
        ("utf-8", "ΔR of ½ ± ε² × α, 一\n".encode()),
        ("latin-1", b"Delta R of 1/2 +- eps^2 x alpha, \\u4e00\n"),
    ):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            terminal.show("ΔR of ½ ± ε² × α, 一")
            stream.flush()
        assert stream.buffer.getvalue() == shown
    monkeypatch.setattr(sys, "stdout", None)
    terminal.show("ΔR")
