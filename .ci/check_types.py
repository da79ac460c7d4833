"""Check a program's types as its author would: errors in the lines that end with "# wrong", and in no others.

Usage: check_types.py PYTHON PROGRAM CHECKER..., each CHECKER a command of mypy or pyright; PYTHON has the package.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def found(checker: str, python: str, program: Path) -> set[int]:
    """Return the lines in which a checker finds an error."""
    if Path(checker).name.startswith("mypy"):
        command = [checker, "--strict", "--config-file=", "--python-executable", python, program.name]
    else:
        command = [checker, "--pythonpath", python, program.name]
    with tempfile.TemporaryDirectory() as folder:  # as a user's, in no project, and in no hidden folder
        shutil.copy(program, folder)
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode not in (0, 1):
        sys.exit(f"{checker}: {done.stdout}{done.stderr}")
    return {int(line) for line in re.findall(rf"{re.escape(program.name)}:(\d+):.*\berror\b", done.stdout)}


def main(python: str, program: Path, checkers: list[str]) -> int:
    """Print the verdicts; return 1 if a line is taken for what it is not."""
    lines = program.read_text(encoding="utf-8").splitlines()
    wrong = {number for number, line in enumerate(lines, start=1) if line.endswith("# wrong")}
    worst = 0
    for checker in checkers:
        errors = found(checker, python, program)
        for number in sorted(errors ^ wrong):
            verdict = "it is taken for right" if number in wrong else "it is taken for wrong"
            print(f"{Path(checker).name}: {program.name}:{number}: {verdict}: {lines[number - 1]}", file=sys.stderr)
            worst = 1
        print(f"{Path(checker).name}: {len(errors & wrong)} of {len(wrong)} errors found in {program.name}")
    return worst


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1]), Path(sys.argv[2]).resolve(), sys.argv[3:]))
