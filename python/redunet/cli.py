"""The command ``redunet``: a demonstration, the lecture's experiments, the configuration.

``demo`` builds and compares two networks, ``experiment`` repeats one of the lecture's, ``experiments`` lists them, and
``info`` prints the configuration.

Exit codes: 0, done; 1, a build that failed; 2, wrong arguments, or an optional package or backend that is missing;
130, interrupted. Errors are one line on standard error; a reader that closes the pipe ends the command without one.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

from redunet import __version__
from redunet._backends import NAMES, select
from redunet._inputs import checks
from redunet.terminal import discard, show, tell

DONE, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
#: Characters of an error that nobody foresaw: some print the arrays that they are about.
LONGEST = 500


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of the process.

    Returns
    -------
    int
        The exit code.

    Examples
    --------
    >>> from redunet.cli import main
    >>> main(["info"])  # doctest: +ELLIPSIS
    redunet           ...
    0
    """
    try:
        try:
            parser = _parser()
            options = parser.parse_args(arguments)
            return DONE if options.command is None and _help(parser) else _run(options)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where what can't be written is said in a line
    except KeyboardInterrupt:
        tell("\nredunet: interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output, `head` perhaps, has seen enough
        discard(sys.stdout)
        return FAILED
    except OSError as error:
        discard(sys.stdout)
        return _fail(error, FAILED)
    except Exception as error:
        return _fail(f"{type(error).__name__}: {error}"[:LONGEST], FAILED)


def _help(parser: argparse.ArgumentParser) -> bool:
    parser.print_help(sys.stdout)
    return True


def _run(options: argparse.Namespace) -> int:
    if options.command == "info":
        from redunet.config import show_config

        show_config()
        return DONE
    if options.command == "experiments":
        from redunet.experiments import EXPERIMENTS

        for name, experiment in EXPERIMENTS.items():
            print(f"{name:10} {experiment.what}{' (needs MNIST: --data)' if experiment.needs_mnist else ''}")
        return DONE
    try:
        backend, module = select(options.backend)
        n_threads = checks.threads(options.threads)
        if backend == "cpu":
            cast(Any, module).simd_level()
    except (RuntimeError, ValueError) as error:  # a backend that can't run here, or a bad environment variable
        return _fail(error, UNUSABLE)
    if options.command == "experiment":
        return _experiment(options, n_threads)
    try:
        from redunet import demo

        demo.main(
            Path(options.out),
            n_layers=options.layers,
            backend=options.backend,
            n_threads=n_threads,
            progress=not options.quiet,
        )
    except ImportError as error:  # an optional package that is missing: the message names the extra
        return _fail(error, UNUSABLE)
    except (OSError, MemoryError) as error:
        return _fail(error, FAILED)
    return DONE


def _experiment(options: argparse.Namespace, n_threads: int) -> int:
    from redunet import experiments, use_backend

    chosen = experiments.Options(
        data=None if options.data is None else Path(options.data),
        n_layers=options.layers,
        n_train=options.train,
        n_test=options.test,
        epochs=options.epochs,
        seeds=options.seeds,
        bsds=None if options.bsds is None else Path(options.bsds),
        full=options.full,
        plain=not options.skip_plain,
        progress=not options.quiet,
    )
    try:
        os.environ["REDUNET_NUM_THREADS"] = str(n_threads)  # of every call in this process
        with use_backend(options.backend):  # "auto" may be another for another group
            report = experiments.run(options.name, chosen)
        folder = report.save(Path(options.out) / options.name)
    except (ImportError, experiments.DataMissing, FileNotFoundError) as error:
        return _fail(error, UNUSABLE)
    except (OSError, MemoryError) as error:
        return _fail(error, FAILED)
    show(report.markdown())
    show(f"written to {folder}")
    return DONE


def _fail(error: Exception | str, code: int) -> int:
    tell("redunet: " + " ".join(str(error).split()))
    return code


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments, and keeps quiet about no output that fails."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if message and file is not None:
            file.write(message)

    def error(self, message: str) -> NoReturn:
        tell(f"{self.prog}: {message}; see {self.prog} --help")
        self.exit(UNUSABLE)


def _at_least_one(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer >= 1")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="redunet",
        description="White-box deep networks built by maximising coding-rate reduction.",
    )
    parser.add_argument("--version", action="version", version=f"redunet {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", title="commands")

    demo = commands.add_parser(
        "demo",
        help="recognise digits wherever they stand: a translation-equivariant network beside a plain one",
        description="Build two ReduNets from scikit-learn's 8x8 digits: a plain one that sees vectors, and a "
        "translation-equivariant one that sees images, with and without looking for the best translation. All are "
        "tested on new digits, and on all 64 cyclic translations of each. Prints a table and writes redunet-demo.png. "
        "Needs scikit-learn and matplotlib.",
    )
    demo.add_argument(
        "--out", metavar="DIR", default=".", help="folder of the picture, made if missing (default: here)"
    )
    demo.add_argument("--layers", metavar="N", type=_at_least_one, help="layers of each network (default: 30)")
    demo.add_argument("--backend", choices=NAMES, default="auto", help="what computes (default: auto, the fastest)")
    demo.add_argument("--threads", metavar="N", type=_at_least_one, help="default: the cores this process may use")
    demo.add_argument("--quiet", action="store_true", help="no progress bars")

    from redunet.experiments import EXPERIMENTS

    commands.add_parser("experiments", help="list the lecture's experiments", description="List the experiments.")
    one = commands.add_parser(
        "experiment",
        help="repeat one of the lecture's experiments",
        description="Repeat an experiment at full depth and write results.json, report.md and, with matplotlib, its "
        "figures. Says at once what it lacks: a package, or MNIST's four IDX files.",
    )
    one.add_argument("name", choices=EXPERIMENTS, metavar="NAME", help="one of those that `redunet experiments` lists")
    one.add_argument(
        "--data", metavar="DIR", help="folder of MNIST's files, or others of a kind (default: $REDUNET_MNIST)"
    )
    one.add_argument(
        "--out", metavar="DIR", default="experiments", help="a folder NAME is made here (default: %(default)s)"
    )
    one.add_argument(
        "--layers", metavar="N", type=_at_least_one, help="layers with the published step (default: as published)"
    )
    one.add_argument("--train", metavar="N", type=_at_least_one, help="training samples of a class, at most")
    one.add_argument("--epochs", metavar="N", type=_at_least_one, help="passes over the samples of what is trained")
    one.add_argument("--test", metavar="N", type=_at_least_one, help="test samples of a class, at most")
    one.add_argument(
        "--seeds", metavar="N", type=_at_least_one, default=1, help="choices of samples and kernels (default: 1)"
    )
    one.add_argument("--bsds", metavar="DIR", help="folder of BSDS500, for segmentation: its benchmark too")
    one.add_argument("--full", action="store_true", help="train what the authors trained, and as long: hours")
    one.add_argument("--skip-plain", action="store_true", help="no plain networks beside the equivariant ones")
    one.add_argument("--backend", choices=NAMES, default="auto", help="what computes (default: auto, the fastest)")
    one.add_argument("--threads", metavar="N", type=_at_least_one, help="default: the cores this process may use")
    one.add_argument("--quiet", action="store_true", help="no progress bars")

    commands.add_parser(
        "info",
        help="print version, backends, SIMD level and threads",
        description="Print version, backends with the reason why one can't be used, SIMD level, threads and libraries.",
    )
    return parser
