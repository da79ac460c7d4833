"""Check what the package index will show of a wheel or sdist: the README renders, and every link in it is absolute.

Usage: check_index_page.py FILE...
"""

from __future__ import annotations

import email
import re
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

from readme_renderer import markdown


def metadata(file: Path) -> Message:
    """Return the metadata of a wheel or sdist."""
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as wheel:
            (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
            return email.message_from_bytes(wheel.read(name))
    with tarfile.open(file) as sdist:
        (member,) = (member for member in sdist.getmembers() if re.fullmatch(r"[^/]+/PKG-INFO", member.name))
        stream = sdist.extractfile(member)
        assert stream is not None
        return email.message_from_bytes(stream.read())


def faults(page: str) -> list[str]:
    """Return what is wrong with a page in Markdown, in words."""
    html = markdown.render(page)
    if html is None:
        return ["the index cannot render it"]
    targets = re.findall(r'(?:href|src)="([^"]*)"', html)
    found = [] if targets else ["it has no link"]
    lost = [target for target in targets if not target.startswith(("https:", "#"))]
    return found + [f"{target} leads nowhere from there" for target in lost]


def main(files: list[Path]) -> int:
    """Print the verdicts; return 1 if a fault was found."""
    worst = 0
    for file in files:
        payload = metadata(file).get_payload(decode=True)
        assert isinstance(payload, bytes)
        found = faults(payload.decode())
        for fault in found:
            print(f"{file.name}: its page: {fault}", file=sys.stderr)
        print(f"{file.name}: its page on the index has {len(found)} faults")
        worst = max(worst, len(found))
    return 1 if worst else 0


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
