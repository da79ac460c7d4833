"""A randomised differential test: the compiled engine against the NumPy backend in double precision.

    python -m bench.fuzz --seconds 600                      # a seed from the clock, which is printed
    python -m bench.fuzz --seed 7 --cases 1 --only linalg   # one case again

Case i of a run has the seed SEED + i; a failure prints its arguments and the command that repeats it.

Tolerances. With u the unit of the precision and s = C + log2 N + 4, the roundings of one layer's sums, the reference
is repeated on samples changed by s u: entry by entry, and channel by channel, which moves Gram matrices coherently.
What that changes, and at least what inverses of this condition and steps of this length lose, is what rounding costs
a layer of this problem. Allowed are the package's promises for one layer (1e-4 in single, 1e-10 in double precision)
or, where that is more, `ROUNDING` times this cost per layer. Where it exceeds `MEANINGLESS` no digit is left to
compare: such comparisons are counted and left out.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.fuzz import codes, matrices, networks, rates
from bench.fuzz.comparisons import counts, levels

KINDS = ("build", "linalg", "rates", "build", "merging", "regions", "local")

CASES: dict[str, tuple[Callable[..., Any], Callable[..., None]]] = {
    "build": (networks.build_case, networks.run_build),
    "rates": (rates.rates_case, rates.run_rates),
    "linalg": (matrices.linalg_case, matrices.run_linalg),
    "merging": (codes.merging_case, codes.run_merging),
    "regions": (codes.regions_case, codes.run_regions),
    "local": (codes.local_case, codes.run_local),
}


def describe(case: dict[str, Any]) -> str:
    def word(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{name}: {word(part)}" for name, part in value.items()) + "}"
        large = isinstance(value, np.ndarray) and value.size > 6
        return f"{value.dtype}{list(value.shape)}" if large else repr(value)

    return "\n".join(f"    {name} = {word(value)}" for name, value in case.items())


def run_case(kind: str, seed: int) -> str | None:
    """None, or what to print about a disagreement."""
    make, run = CASES[kind]
    case = make(np.random.default_rng(seed))
    counts[kind] += 1
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.filterwarnings("ignore", "no step raises the rate reduction")  # nothing to compare, and no finding
            run(case)
    except Exception as error:  # whatever it is, it is a finding, and the run goes on
        command = f"python -m bench.fuzz --only {kind} --seed {seed} --cases 1"
        return f"{kind} {seed}: {type(error).__name__}: {error}\n{describe(case)}\n    repeat: {command}"
    return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="end after this time (default: 60)")
    parser.add_argument("--cases", type=int, help="end after this many cases")
    parser.add_argument("--seed", type=int, help="of the first case (default: from the clock)")
    parser.add_argument("--only", choices=sorted(CASES), help="one kind of case")
    options = parser.parse_args(arguments)
    seed = time.time_ns() // 1000 if options.seed is None else options.seed
    print(f"seed {seed}, SIMD levels {', '.join(levels())}", flush=True)
    counts.clear()
    started, done, failures = time.monotonic(), 0, 0
    while time.monotonic() - started < options.seconds and (options.cases is None or done < options.cases):
        kind = options.only or KINDS[(seed + done) % len(KINDS)]
        failure = run_case(kind, seed + done)
        done += 1
        if failure:
            failures += 1
            print(failure, flush=True)
    found = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
    print(f"{done} cases, {failures} failures in {time.monotonic() - started:.0f} s: {found}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
