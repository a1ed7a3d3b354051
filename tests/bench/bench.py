"""Native server against sandbox, in one interleaved run: a table, and a JSON file.

Rounds alternate the two sides, their order flipped every round; medians, the ratio of the
medians and the spread over the rounds are printed. A figure that is missed says MISS and
fails nothing: absolute times are the machine's.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import platform
import signal
import sys
from typing import Any

import load
import report
import start
import verbs
import weight
from lab import Lab, laboratory, say
from server import ROOT, Fault

PARTS = {
    "start": start.measure,
    "pgbench": load.measure,
    "memory": weight.memory,
    "disk": weight.disk,
    "verbs": verbs.measure,
}


def main() -> int:
    """Measure what was asked for; 0, or 1 with two lines on standard error."""
    options = _options()
    # So that `finally` runs: nothing is left when a benchmark is interrupted.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    rows: list[report.Row] = []
    load_before = os.getloadavg()[0]
    try:
        with laboratory(options.quick) as lab:
            for name in options.only:
                rows += PARTS[name](lab)
            host = _host(lab, load_before)
    except Fault as fault:
        print(f"bench: {fault}", file=sys.stderr)
        print(f"  try: {fault.hint or './wasm_style_sandbox.sh doctor'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    report.write(options.json, host, rows)
    print(", ".join(f"{key} {value}" for key, value in host.items()), end="\n\n")
    print(report.table(rows))
    say(f"written to {options.json}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: a first look")
    parser.add_argument("--only", type=_parts, default=list(PARTS), metavar="PART,…", help=", ".join(PARTS))
    parser.add_argument(
        "--json", type=pathlib.Path, default=ROOT / "build/bench.json", metavar="FILE", help="%(default)s"
    )
    return parser.parse_args()


def _parts(text: str) -> list[str]:
    wanted = text.split(",")
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"not a part: {unknown[0]!r}: choose from {', '.join(PARTS)}")
    return wanted


def _host(lab: Lab, load_before: float) -> dict[str, Any]:
    """What the figures depend on. `native_*`: what holds the native side's limits."""
    pair = lab.pair("default")
    record = pair.sandbox.record()
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load_before": load_before,
        "root": os.geteuid() == 0,
        "python": platform.python_version(),
        "engine": f"postgres {record['version']}",
        "provider": record["provider"].split(":")[0],
        "layer": record["layer"],
        **{f"native_{limit}": how for limit, how in pair.native.limits.held.items()},
        "quick": lab.quick,
    }


if __name__ == "__main__":
    sys.exit(main())
