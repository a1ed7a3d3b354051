"""What an environment costs beside its server: memory of the supervisor, bytes on the disk."""

from __future__ import annotations

import collections
import os
import pathlib
import re
import subprocess

from lab import Lab, say
from report import Bound, Row

# smaps: address, permissions, offset, device, inode, file (proc(5)).
_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ ([0-9a-f]+) \S+ \d+\s*(.*)$")


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
        Row(part, "the same, with no other Python on the host", "bytes", [alone], [], bound),
    ]


def _pss(pid: int) -> float:
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return float(re.findall(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)[0]) * 1024


def _alone(pids: list[int]) -> float:
    """The PSS if only these processes ran Python: this program does too, and takes a share of its file.

    The interpreter's unmodified pages count once, as many as the process has that uses most.
    """
    interpreter = os.path.realpath(f"/proc/{pids[0]}/exe")
    total, pages = 0.0, collections.Counter[str]()
    for pid in pids:
        total += _pss(pid)
        offset = ""
        for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
            mapping = _MAPPING.match(line)
            if mapping:
                offset = mapping[1] if mapping[2] == interpreter else ""
                continue
            name, value = line.split()[:2]
            if offset and name == "Pss:":
                total -= int(value) * 1024
            elif offset and name == "Rss:":
                resident = int(value)
            elif offset and name == "Anonymous:":
                total += int(value) * 1024
                pages[offset] = max(pages[offset], resident - int(value))
    return total + sum(pages.values()) * 1024


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
