"""A delegated control group for an ordinary user: a transient scope of the user's systemd."""

from __future__ import annotations

import os
import sys

from launch import cgroup

_INSIDE = "VIRT_IN_SCOPE"  # the number of the pipe on which the inner start says that it came about


def inside() -> bool:
    """Whether this process was started in such a scope."""
    return _INSIDE in os.environ


def begin(places: cgroup.Hierarchies) -> None:
    """In the scope: tell the outer process, and leave the group free for controlled children."""
    marker = int(os.environ[_INSIDE])
    os.write(marker, b"1")
    os.close(marker)
    own = f"{places.v2}/supervisor"
    os.makedirs(own, exist_ok=True)
    # A group of version 2 that has processes cannot give controllers to its children (cgroups(7)).
    cgroup.write(f"{own}/cgroup.procs", str(os.getpid()))


def enter() -> int | None:
    """Run this command again in a scope; its exit code, or None if the user's systemd gave none."""
    heard, marker = os.pipe()
    os.set_inheritable(marker, True)
    command = ["systemd-run", "--user", "--scope", "--quiet", "--collect", "-p", "Delegate=yes", "--"]
    pid = os.fork()
    if not pid:
        os.close(heard)
        try:
            environment = {**os.environ, _INSIDE: str(marker)}
            os.execvpe(command[0], [*command, sys.executable, "-I", "-S", *sys.argv], environment)
        finally:
            os._exit(127)
    os.close(marker)
    began = os.read(heard, 1)
    os.close(heard)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) if began else None
