"""`python -m bench.report`: build every workload with every implementation, interleaved, and print the table.

Run it from the root of the repository with the package installed. With several numbers of threads each is a process
of its own, kept on as many cores. `--json` keeps everything that was measured, with machine, versions, settings and
commit; `--markdown` prints the table as the README shows it. NumPy is imported after the environment has been cleaned
of settings that would slow down one side.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.environment import available_cores, describe, pin_cores, restart_clean

# Load per core, before the run, above which a table is marked: a thread barrier waits for a core that
# another process holds.
_BUSY = 0.5


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--workloads", nargs="+", metavar="NAME", help="default: all of them")
    parser.add_argument("--implementations", nargs="+", metavar="NAME", help="default: all of them")
    parser.add_argument("--layers", type=int, metavar="N", help="layers per build (default: by workload)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of each implementation (default 5)")
    parser.add_argument("--limit", type=float, default=60.0, metavar="S", help="seconds of each on a workload (60)")
    parser.add_argument("--threads", type=int, nargs="+", metavar="N", help="default: one, and all cores; quick: all")
    parser.add_argument("--data", metavar="DIR", help="folder of the MNIST files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save everything measured")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--builds", action="store_true", help="also print whole builds, and what is fixed in them")
    parser.add_argument("--check", action="store_true", help="fail where the engine is slower than the NumPy backend")
    parser.add_argument("--quick", action="store_true", help="cut-down workloads: a smoke test, not a result")
    return parser


def _checked(asked: Sequence[str] | None, known: Sequence[str], what: str) -> list[str]:
    unknown = [name for name in asked or () if name not in known]
    if unknown:
        raise SystemExit(f"unknown {what}: {', '.join(unknown)}; known: {', '.join(known)}")
    return list(asked or known)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    all_cores = available_cores()
    threads = options.threads or ([all_cores] if options.quick else sorted({1, all_cores}))
    if len(threads) > 1:
        return _one_after_the_other(given, threads, options.json)
    n_threads = threads[0]
    restart_clean()
    pin_cores(n_threads)

    from bench import ceilings, implementations, tables, workloads
    from bench.floor import sgemm_rate
    from bench.measure import add_floors, behind_numpy, measure, ratios

    names = _checked(options.workloads, workloads.NAMES, "workloads")
    chosen = _checked(options.implementations, implementations.NAMES, "implementations")
    rounds = min(options.rounds, 3) if options.quick else options.rounds

    def say(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    before = describe()
    rates = ceilings.all_ceilings(n_threads)
    sgemm = rates[-1]["sgemm_gflop_s"] * 1e9
    results: list[dict[str, Any]] = []
    missing: list[str] = []
    for name in names:
        try:
            workload = workloads.load(name, data=options.data, small=options.quick)
        except workloads.WorkloadUnavailable as reason:
            missing.append(f"not run: {name}: {reason}")
            continue
        sgemm = max(sgemm, sgemm_rate(n_threads))  # the best of the whole run: what the machine can do
        results.append(
            measure(
                workload,
                chosen,
                n_threads=n_threads,
                rounds=rounds,
                n_layers=options.layers,
                limit_s=options.limit,
                say=say,
            )
        )
    say("")
    for result in results:
        add_floors(result, sgemm)
        result["ratios"] = ratios(result)

    rates[-1]["sgemm_gflop_s"] = sgemm / 1e9
    machine = {**before, "threads": n_threads, "sgemm_gflop_s": round(sgemm / 1e9, 1), "ceilings": rates}
    show = tables.as_markdown if options.markdown else tables.as_text
    lines = [_machine_line(machine, rounds, options.quick), "", show(tables.rows(results, rounds)), ""]
    lines += [show(ceilings.table(rates)), "", show(tables.efficiency(results, rates[-1])), ""]
    lines += [ceilings.verdict(r["scaling"], n_threads) for r in results[-1:] if r["scaling"]]
    if before["load_average"] and before["load_average"][0] > _BUSY * n_threads:
        lines.append(_busy(before["load_average"][0], n_threads))
    lines += [*tables.NOTES, *tables.skipped(results), *missing]
    if options.builds:
        lines += ["", show(tables.builds(results))]
    print("\n".join(lines))
    if options.json:
        saved = {
            "machine": machine,
            "rounds": rounds,
            "quick": options.quick,
            "results": results,
            "missing": missing,
        }
        options.json.write_text(json.dumps(saved, indent=1) + "\n")
    if options.check and (slower := behind_numpy(results)):
        print(f"the engine is slower than the NumPy backend on {', '.join(slower)}", file=sys.stderr)
        return 1
    return 0


def _one_after_the_other(arguments: Sequence[str], threads: Sequence[int], json_file: Path | None) -> int:
    """The command for each number of threads; the JSON is a list of what each saved. The worst exit status."""
    status, saved = 0, []
    for n in threads:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "report.json"
            command = [sys.executable, "-m", "bench.report", *arguments, "--json", str(target), "--threads", str(n)]
            status = max(status, subprocess.run(command, check=False).returncode)
            if target.exists():
                saved.append(json.loads(target.read_text()))
    if json_file:
        json_file.write_text(json.dumps(saved, indent=1) + "\n")
    return status


def _busy(load: float, n_threads: int) -> str:
    """What a busy machine does to the times."""
    if n_threads == 1:
        return f"The machine was busy (load {load}): processor times leave that out, shared caches and memory do not."
    return f"WARNING: the machine was busy (load {load}): not a result to quote."


def _machine_line(machine: dict[str, Any], rounds: int, quick: bool) -> str:
    caches = ", ".join(f"{level} {size}" for level, size in machine["caches"].items())
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    commit = machine["commit"][:10] + (" with changes" if machine["uncommitted_changes"] else "")
    return (
        f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores ({caches}), "
        f"SGEMM {machine['sgemm_gflop_s']} GFLOP/s; {versions}; commit {commit or 'unknown'}; "
        f"{machine['date']}; {rounds} rounds" + ("; CUT-DOWN WORKLOADS" if quick else "")
    )


if __name__ == "__main__":
    sys.exit(main())
