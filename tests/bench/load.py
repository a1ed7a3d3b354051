"""pgbench over TCP with a password: select-only, TPC-B, and a connection for each transaction."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess

from lab import Lab, Pair, flipped, say
from report import Bound, Row
from server import Fault, Server, as_superuser, until_answered

_SCALE = 10  # of pgbench: 100,000 accounts each
_BUSY = (Bound("ratio", 0.95, at_least=True),)
_CONNECT = (Bound("ratio", 0.90, at_least=True),)


@dataclasses.dataclass(frozen=True)
class Work:
    """One kind of load: pgbench's flags and what is expected of it."""

    what: str
    clients: int
    flags: tuple[str, ...]
    bounds: tuple[Bound, ...] = ()


WORK = [
    Work("select-only, 1 client", 1, ("-S",)),
    Work("select-only, 2 clients", 2, ("-S",), _BUSY),
    Work("select-only, 8 clients", 8, ("-S",)),
    Work("TPC-B, 1 client", 1, ()),
    Work("TPC-B, 2 clients", 2, (), _BUSY),
    Work("TPC-B, 8 clients", 8, ()),
    Work("connection per transaction, 2 clients", 2, ("-S", "-C"), _CONNECT),
]


def measure(lab: Lab) -> list[Row]:
    """Rounds of every load on every pair; both servers run, one at a time works."""
    return [row for pair in lab.pairs() for row in _measure_pair(lab, pair)]


def _measure_pair(lab: Lab, pair: Pair) -> list[Row]:
    rounds, seconds = (3, 1) if lab.quick else (7, 2)
    servers: dict[str, Server] = {"sandbox": pair.sandbox, "native": pair.native}
    rates: dict[tuple[str, str], list[float]] = {}
    try:
        pair.sandbox.start()
        pair.native.limits.follow(pair.sandbox)
        pair.native.start()
        for side, server in servers.items():
            say(f"pgbench, {pair.label}: initialising {side}")
            until_answered(server)
            _pgbench(pair, server, "-i", "-q", "-s", str(_SCALE))
        for count in range(rounds):
            say(f"pgbench, {pair.label}: round {count + 1} of {rounds}")
            for work in WORK:
                for side, server in flipped(list(servers.items()), count):
                    # The same number of full pages goes to both logs.
                    as_superuser(server, "CHECKPOINT")
                    rates.setdefault((side, work.what), []).append(_rate(pair, server, work, seconds))
    finally:
        for server in servers.values():
            server.stop()
    return [
        Row(
            f"pgbench, {pair.label}",
            work.what,
            "tps",
            rates["sandbox", work.what],
            rates["native", work.what],
            work.bounds,
        )
        for work in WORK
    ]


def _rate(pair: Pair, server: Server, work: Work, seconds: int) -> float:
    """Transactions a second; with -C the connections' time is in it, else it is not."""
    threads = min(work.clients, os.cpu_count() or 1)
    words = ("-n", "-T", str(seconds), "-c", str(work.clients), "-j", str(threads), *work.flags)
    answer = _pgbench(pair, server, *words)
    # Before version 14 two lines: with and without the time of connecting.
    found = re.findall(r"^tps = ([0-9.]+)", answer, re.MULTILINE)
    if not found:
        raise Fault(f"pgbench printed no rate: {answer.strip()!r}")
    return float(found[0 if "-C" in work.flags else -1])


def _pgbench(pair: Pair, server: Server, *words: str) -> str:
    """Run the provider's pgbench on a server; its standard output."""
    address = server.address
    command = [str(pair.sandbox.programs() / "pgbench"), *words]
    command += ["-h", address.host, "-p", str(address.port), "-U", address.user, address.database]
    done = subprocess.run(
        command,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "PGPASSWORD": address.password},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise Fault(f"pgbench ended with {done.returncode}: {' | '.join(lines[-3:])}")
    return done.stdout
