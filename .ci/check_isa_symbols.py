"""Check that no code built for one SIMD level can replace code built for another.

A weak symbol (an inline function, a template instance) that two object files share is merged by the
linker, which keeps either copy. A copy built with AVX-512 that lands in the baseline path kills the program
on an older processor. So in the objects of every level but the baseline, all symbols must belong to the
level's own namespace, redunet::<level>.

Usage: check_isa_symbols.py BUILD_FOLDER        (or: check_isa_symbols.py LEVEL=OBJECT ...)
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

NM = os.environ.get("NM", "nm")
# Letters of `nm` for symbols that other objects see: text, data, weak (W, V), unique (u).
SHARED = frozenset("TDBRGSWVu")
# Data that the compiler emits weak by itself: the address of the exception personality routine, no code.
COMPILERS_OWN = re.compile(r"^DW\.ref\.")


def strays(level: str, obj: Path) -> list[str]:
    """Return the shared symbols of `obj` outside of redunet::<level>, demangled, each with its letter."""
    namespace = f"7redunet{len(level)}{level}"  # as it stands in a mangled name
    listing = subprocess.run([NM, "--defined-only", str(obj)], check=True, capture_output=True, text=True).stdout
    found = []
    for line in listing.splitlines():
        *_, letter, symbol = line.split()
        if letter in SHARED and namespace not in symbol and not COMPILERS_OWN.match(symbol):
            name = subprocess.run(["c++filt", symbol], check=True, capture_output=True, text=True).stdout.strip()
            found.append(f"{letter} {name}")
    return found


def objects(build: Path) -> list[tuple[str, Path]]:
    """Return (level, object file) of every kernel object below the build folder."""
    found = []
    for obj in sorted((*build.rglob("*.o"), *build.rglob("*.obj"))):
        match = re.search(r"/redunet_kernels_(\w+)\.dir/", obj.as_posix())
        if match:
            found.append((match.group(1), obj))
    return found


def main(arguments: list[str]) -> int:
    """Print what was looked at; return 1 if a stray symbol was found, 2 if there was nothing to look at."""
    if all("=" in a for a in arguments):
        pairs = [(level, Path(obj)) for level, obj in (a.split("=", 1) for a in arguments)]
    else:
        pairs = objects(Path(arguments[0]))
    if not pairs:
        print("no kernel object was found: build first", file=sys.stderr)
        return 2
    bad = 0
    for level, obj in pairs:
        found = strays(level, obj) if level != "baseline" else []
        for symbol in found:
            print(f"{obj.name} [{level}]: {symbol}", file=sys.stderr)
        bad += len(found)
    print(f"{len(pairs)} kernel objects, {bad} symbols outside of their level's namespace")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
