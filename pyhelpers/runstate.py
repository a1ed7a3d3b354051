"""Whether an environment runs, from its files and /proc (docs/architecture.md); and what the
runtime says when asked."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from pyhelpers.errors import Problem
from pyhelpers.records import parse_pairs, read_pairs
from pyhelpers.strict_json import read_regular

MANIFEST = "config/capabilities.json"

_LAUNCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "launch", "__main__.py")
_PATIENCE = 10  # seconds for one answer of the runtime


class RunState(NamedTuple):
    """The state's word, the supervisor's record, and how the last run ended."""

    state: str  # running, starting, stopping, stopped, crashed, damaged
    record: dict[str, str]
    run: dict[str, str]
    exit: dict[str, str]


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _lives(run: dict[str, str]) -> bool:
    """Whether the supervisor of run/state is alive: same boot, pid and start time."""
    try:
        if run.get("boot_id") != _boot_id():
            return False
        with open(f"/proc/{int(run['pid'])}/stat", encoding="utf-8", errors="replace") as file:
            # proc(5): the name, field 2, may hold spaces and parentheses: count from its end.
            fields = file.read().rpartition(")")[2].split()
    except (OSError, KeyError, ValueError):
        return False
    return fields[0] not in "ZX" and fields[19] == run.get("start_time")


def read(directory: str) -> RunState:
    """The state of the environment in that directory."""
    record = read_pairs(os.path.join(directory, "record"))
    run = read_pairs(os.path.join(directory, "run/state"))
    ended = read_pairs(os.path.join(directory, "run/exit"))
    if _lives(run):
        state = run.get("status", "running")
    elif record.get("format") != "1" or not os.path.isfile(os.path.join(directory, "config/plan")):
        state = "damaged"
    elif run or ended.get("reason", "stopped") not in ("stopped", "killed"):
        state = "crashed"
    else:
        state = "stopped"
    return RunState(state, record, run, ended)


def manifest_edited(directory: str) -> bool:
    """Whether the manifest is another one than the plan was made from."""
    try:
        with open(os.path.join(directory, "config/plan"), "rb") as file:
            planned = [line.rstrip().split(b"\t") for line in file if line.startswith(b"manifest\t")]
        raw = read_regular(os.path.join(directory, MANIFEST))
    except (OSError, Problem):
        return True
    return planned != [[b"manifest", hashlib.sha256(raw).hexdigest().encode()]]


def ask_runtime(words: Sequence[str]) -> list[tuple[str, str]]:
    """The KEY=VALUE lines of a runtime command; none if it fails or does not answer."""
    command = [sys.executable, "-I", "-S", _LAUNCH, *words]
    try:
        answer = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    text = answer.stdout.decode("utf-8", "replace")
    return [(key, value) for line in text.splitlines() for key, value in parse_pairs(line).items()]
