"""Landlock as a second layer (landlock(7)): writing only where it is granted, no TCP of one's own.

A read-only mount does not keep anyone from writing to a FIFO in it; this does.
"""

from __future__ import annotations

import os
import struct

from launch import calls
from launch.plan import Plan

# linux/landlock.h
_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH = 1
_WRITE_FILE = 2
_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_UNIX, _SCOPE_SIGNAL = 1, 2


def abi() -> int:
    """The kernel's Landlock ABI; 0 without Landlock."""
    try:
        return calls.syscall("landlock_create_ruleset", None, 0, _VERSION)
    except OSError:
        return 0


def writable(plan: Plan) -> list[str]:
    """The guest's directories and files that may be written."""
    binds = [target for _, target, flags in plan.all("bind") if "rw" in flags.split(",")]
    return ["/dev", plan.one("data")[0], *(target for target, _ in plan.all("tmpfs")), *binds]


def restrict_self(writable: list[str]) -> None:
    """Whatever of it this kernel has: files since ABI 1, TCP since 4, scopes since 6. Needs no_new_privs.

    Where the kernel has none of it, the mounts, the filter and the broker stand without it.
    """
    version = abi()
    if not version:
        return
    # struct landlock_ruleset_attr: handled_access_fs, handled_access_net, scoped
    attr = struct.pack("=Q", _WRITE_FILE)
    if version >= 4:
        attr += struct.pack("=Q", _BIND_TCP | _CONNECT_TCP)
    if version >= 6:
        attr += struct.pack("=Q", _SCOPE_ABSTRACT_UNIX | _SCOPE_SIGNAL)
    ruleset = calls.syscall("landlock_create_ruleset", attr, len(attr), 0)
    for path in writable:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        # struct landlock_path_beneath_attr, packed: allowed_access, parent_fd
        calls.syscall("landlock_add_rule", ruleset, _PATH_BENEATH, struct.pack("=Qi", _WRITE_FILE, fd), 0)
        os.close(fd)
    calls.syscall("landlock_restrict_self", ruleset, 0)
    os.close(ruleset)
