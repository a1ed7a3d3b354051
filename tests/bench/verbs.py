"""How long the verbs take that a person waits for."""

from __future__ import annotations

import pathlib
import subprocess
import time

from lab import Lab, say
from report import Bound, Row
from sandboxed import Sandbox
from server import elapsed

_LISTED = 200


def measure(lab: Lab) -> list[Row]:
    """Each verb several times; `exec` and what reads, on a running environment."""
    part = "verbs"
    rounds = 4 if lab.quick else 10
    sandbox = lab.default()
    say("verbs: create and destroy")
    creates, destroys = [], []
    for _ in range(rounds):
        begin = time.perf_counter()
        made = lab.sandbox("made")
        creates.append(elapsed(begin))
        begin = time.perf_counter()
        made.destroy()
        destroys.append(elapsed(begin))
    rows = [
        Row(part, "create, warm template", "ms", creates, [], (Bound("value", 400),)),
        Row(part, "destroy", "ms", destroys),
    ]
    say(f"verbs: list with {_LISTED} environments")
    many = _many(lab, sandbox)
    for words in (["list"], ["list", "--json"]):
        times = _timed(rounds, many, words)
        what = f"{' '.join(words)} with {_LISTED} environments"
        rows.append(Row(part, what, "ms", times, [], (Bound("value", 200),)))
    say("verbs: exec, status, inspect, doctor")
    sandbox.start()
    try:
        for what, words in (
            ("exec of true", ["exec", sandbox.name, "--", "true"]),
            ("status", ["status", sandbox.name]),
            ("inspect", ["inspect", sandbox.name]),
            ("doctor", ["doctor"]),
        ):
            rows.append(Row(part, what, "ms", _timed(rounds, sandbox, words)))
    finally:
        sandbox.stop()
    return rows


def _timed(rounds: int, sandbox: Sandbox, words: list[str]) -> list[float]:
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        sandbox.call(*words)
        times.append(elapsed(begin))
    return times


def _many(lab: Lab, like: Sandbox) -> Sandbox:
    """A VIRT_HOME of its own with copies of a stopped environment, of which `list` needs no more."""
    home = lab.home / "many"
    base = home / ".sandboxes"
    base.mkdir(parents=True, mode=0o755)
    for number in range(_LISTED):
        _copy(like.path, base / f"dev{number}")
    return Sandbox(home, "dev0")


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copy what makes an environment, without its data, under another name."""
    target.mkdir(mode=0o700)
    kept = [source / name for name in (".virt-owned", "record", "env", "config", "run")]
    subprocess.run(["cp", "-a", "--", *kept, target], check=True)
    record = target / "record"
    text = record.read_text().replace(f"\nname={source.name}\n", f"\nname={target.name}\n")
    record.write_text(text)
    subprocess.run(["chown", "--reference", source, "--", target], check=True)
