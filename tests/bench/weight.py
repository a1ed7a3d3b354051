"""What an environment costs beside its server: memory of the supervisor, bytes on the disk."""

from __future__ import annotations

import pathlib
import re
import subprocess

from lab import Lab, say
from report import Bound, Row

_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ ([0-9a-f]+) \S+ ([0-9]+)\s*(.*)$")


def memory(lab: Lab) -> list[Row]:
    """PSS of the supervisor and the sandbox's pid 1, while the server idles."""
    say("memory")
    part = "memory of the toolkit's own processes"
    sandbox = lab.default()
    sandbox.start()
    try:
        state = sandbox.state()
        pids = [int(state["pid"]), int(state["pid1"])]
        try:
            shared, alone = sum(map(_pss, pids)), _alone(pids)
        except PermissionError:
            # pid 1 is not dumpable, so only root reads its maps.
            shared = _pss(pids[0])
            return [Row(part, "PSS of the supervisor (pid 1 only root can read)", "bytes", [shared])]
    finally:
        sandbox.stop()
    bound = (Bound("value", 12e6),)
    return [
        Row(part, "PSS of supervisor and pid 1", "bytes", [shared], [], bound),
        Row(part, "at most, if nothing else mapped its files", "bytes", [alone]),
    ]


def _pss(pid: int) -> float:
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return float(re.findall(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)[0]) * 1024


def _alone(pids: list[int]) -> float:
    """The PSS if nobody else mapped the interpreter's files: this program does, and takes a share.

    A file's mapping counts once, as much of it as the process has that uses it most.
    """
    anonymous = 0
    files: dict[tuple[str, ...], int] = {}
    for pid in pids:
        key = None
        for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
            mapping = _MAPPING.match(line)
            if mapping:
                key = mapping.groups() if mapping[2] != "0" else None
            elif line.startswith("Rss:") and key:
                files[key] = max(files.get(key, 0), int(line.split()[1]))
    for pid in pids:
        rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        anonymous += int(re.findall(r"^Pss_Anon:\s+(\d+) kB", rollup, re.MULTILINE)[0])
    return (anonymous + sum(files.values())) * 1024.0


def disk(lab: Lab) -> list[Row]:
    """Allocated bytes of an environment's directory, its template not counted."""
    say("disk")
    part = "disk of an environment"
    sandbox = lab.sandbox("disk")
    new = _allocated(sandbox.path)
    sandbox.start()
    sandbox.stop()
    used = _allocated(sandbox.path)
    layer = sandbox.record()["layer"]
    sandbox.destroy()
    # The bounds are of overlay; a copy is a whole database.
    bounds = [(Bound("value", limit),) if layer == "overlay" else () for limit in (1e6, 4e6)]
    return [
        Row(part, f"before its first run ({layer})", "bytes", [new], [], bounds[0]),
        Row(part, f"after its first run and stop ({layer})", "bytes", [used], [], bounds[1]),
    ]


def _allocated(path: pathlib.Path) -> float:
    # Overlay's inner work directory, which is empty, cannot be entered: du then ends with 1.
    done = subprocess.run(
        ["du", "-s", "--block-size=1", "--", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return float(done.stdout.split()[0])
