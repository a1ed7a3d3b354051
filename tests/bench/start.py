"""From the command to the first answered query, and a stop of an idle server."""

from __future__ import annotations

import os
import time

from lab import Lab, flipped, say
from report import Bound, Row
from server import Server, elapsed, until_answered

_IDLE = 0.3  # seconds between the answer and the stop
_START = (Bound("ratio", 2.0), Bound("value", 150))


def measure(lab: Lab) -> list[Row]:
    """Rounds of native starts, later runs and first runs, in alternating order."""
    pairs = lab.pairs()
    rounds = 4 if lab.quick else 20
    starts: dict[str, list[float]] = {}
    stops: dict[str, list[float]] = {}
    shell: list[float] = []
    for count in range(rounds):
        say(f"start: round {count + 1} of {rounds}")
        fresh = lab.sandbox("fresh")
        servers: list[tuple[str, Server]] = [("first", fresh)]
        for pair in pairs:
            servers += [(f"sandbox {pair.label}", pair.sandbox), (f"native {pair.label}", pair.native)]
        for name, server in flipped(servers, count):
            # What a create or a shutdown left to write is not this start's.
            os.sync()
            begin = time.perf_counter()
            server.start()
            returned = elapsed(begin)
            until_answered(server)
            starts.setdefault(name, []).append(elapsed(begin))
            if name == f"sandbox {pairs[-1].label}":
                shell.append(returned - float(pairs[-1].sandbox.state()["ready_ms"]))
            time.sleep(_IDLE)
            begin = time.perf_counter()
            server.stop()
            stops.setdefault(name, []).append(elapsed(begin))
        fresh.destroy()
    part = "run to the first SELECT 1"
    native = f"native {pairs[-1].label}"
    later = f"sandbox {pairs[-1].label}"
    rows = [
        Row(
            part,
            f"later run, {pair.label}",
            "ms",
            starts[f"sandbox {pair.label}"],
            starts[f"native {pair.label}"],
            _START,
        )
        for pair in pairs
    ]
    cost = [first - again for first, again in zip(starts["first"], starts[later])]
    return [
        *rows,
        Row(part, f"first run, {pairs[-1].label}", "ms", starts["first"], starts[native], _START),
        Row(part, "first run minus later run", "ms", cost, [], (Bound("value", 25),)),
        Row(part, "of run: Bash and Python before the supervisor", "ms", shell),
        Row(part, "stop of an idle server", "ms", stops[later], stops[native], (Bound("value", 300),)),
    ]
