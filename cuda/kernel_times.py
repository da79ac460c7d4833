"""Sums and means of every metric of every kernel, from what `ncu --csv` printed.

python cuda/kernel_times.py FILE
"""

from __future__ import annotations

import collections
import csv
import re
import sys
from collections.abc import Iterable, Iterator

#: Columns of Nsight Compute's table, which stands below lines of other text.
KERNEL, METRIC, VALUE = "Kernel Name", "Metric Name", "Metric Value"


def short(kernel: str) -> str:
    """The name of a kernel without its arguments, result and namespaces."""
    return re.sub(r"\w+::", "", kernel.split("(")[0]).removeprefix("void ")


def summed(lines: Iterable[str]) -> Iterator[tuple[str, str, int, float]]:
    """(kernel, metric, launches, sum) of a table, sorted."""
    rows = [row for row in csv.reader(lines) if len(row) > 3]
    if not rows:
        return
    kernel, metric, value = (rows[0].index(name) for name in (KERNEL, METRIC, VALUE))
    found: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    for row in rows[1:]:
        found[short(row[kernel]), row[metric]].append(float(row[value].replace(",", "") or 0))
    for (name, what), numbers in sorted(found.items()):
        yield name, what, len(numbers), sum(numbers)


def main(path: str) -> None:
    """Print the table of a file."""
    with open(path) as file:
        for kernel, metric, launches, total in summed(file):
            print(f"{kernel:40} {metric:55} {launches:4} {total:12.4g} {total / launches:12.4g}")


if __name__ == "__main__":
    main(sys.argv[1])
