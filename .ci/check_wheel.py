"""Check one wheel before it is published: size, contents, tags.

Usage: check_wheel.py WHEEL
"""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

MAX_BYTES = 5_000_000
NEEDED = ["__init__.py", "py.typed", "_build_info.py", "_build_info.pyi", "_cpu.pyi"]


def faults(wheel: Path) -> list[str]:
    """Return what is wrong with the wheel, in words."""
    found = []
    names = zipfile.ZipFile(wheel).namelist()
    if wheel.stat().st_size >= MAX_BYTES:
        found.append(f"it has {wheel.stat().st_size} bytes; fewer than {MAX_BYTES} are allowed")
    if not re.search(r"(many|musl)linux|macosx|win_amd64", wheel.name):
        found.append("its name carries no portable platform tag")
    found += [f"redunet/{name} is missing" for name in NEEDED if f"redunet/{name}" not in names]
    if not any(re.fullmatch(r"redunet/_cpu\..*\.(so|pyd)", name) for name in names):
        found.append("it holds no compiled engine")
    if not any(name.endswith("LICENSE") for name in names):
        found.append("it holds no licence")
    # The package and its metadata; a folder of bundled libraries would be a surprise.
    roots = {name.split("/")[0] for name in names} - {"redunet"}
    found += [f"unexpected {root}" for root in sorted(roots) if not root.endswith(".dist-info")]
    return found


def main(wheel: Path) -> int:
    """Print the verdict; return 1 if a fault was found."""
    found = faults(wheel)
    for fault in found:
        print(f"{wheel.name}: {fault}", file=sys.stderr)
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB, {len(found)} faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
