"""The file system's grants: host paths resolved once, and kept away from what is ours."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from pyhelpers.addresses import UnixSocket
from pyhelpers.errors import STATE, USAGE, Problem, shown

# The guest's own places: a grant at or below one of them would hide it.
_GUEST_OWN = (
    "/bin /config /data /dev /etc /lib /lib32 /lib64 /libx32 /opt/engine /proc /sbin /sock /sys /tmp /usr"
).split()
# The kernel's own trees: a grant of one would undo the sandbox.
_HOST_FORBIDDEN = ("/proc", "/sys", "/dev")


class Grounds(NamedTuple):
    """Where grants end: the environment's directory, the base of all, the toolkit's own tree."""

    environment: str
    base: str
    toolkit: str


class Grant(NamedTuple):
    """One tree: `source` on the host without links, `target` in the guest."""

    source: str
    target: str
    writable: bool
    entry: str  # as the manifest has it


def within(path: str, parent: str) -> bool:
    """Whether path is parent or below it; both absolute and normal."""
    return path == parent or parent == "/" or path.startswith(parent + "/")


def _overlap(one: str, other: str) -> bool:
    return within(one, other) or within(other, one)


def _normal(path: str, at: str) -> str:
    if not path.startswith("/"):
        raise Problem(USAGE, f"{at}: {shown(path)}: expected an absolute path")
    if ".." in path.split("/"):
        raise Problem(USAGE, f"{at}: {shown(path)}: expected a path without '..'")
    return "/" + os.path.normpath(path).lstrip("/")


def _refuse_ours(source: str, at: str, grounds: Grounds) -> None:
    if source == "/":
        raise Problem(STATE, f'{at}: "/" is the whole host: expected a directory or file in it')
    for tree in _HOST_FORBIDDEN:
        if within(source, tree):
            raise Problem(STATE, f"{at}: {shown(source)}: nothing in {tree} can be granted")
    for what, tree in (("the environment's own directory", grounds.environment), ("the environments' base directory", grounds.base)):
        tree = os.path.realpath(tree)
        if _overlap(source, tree):
            raise Problem(STATE, f"{at}: {shown(source)} reaches {what}, {shown(tree)}: expected a path outside it")


def parse_grants(reads: Sequence[str], writes: Sequence[str], at: str, grounds: Grounds) -> list[Grant]:
    """The granted trees, sources resolved; Problem for any that is missing, ours or overlapping."""
    found: list[Grant] = []
    entries = [(f"{at}.read[{i}]", text, False) for i, text in enumerate(reads)]
    entries += [(f"{at}.write[{i}]", text, True) for i, text in enumerate(writes)]
    for here, text, writable in entries:
        grant = _grant(text, writable, here, grounds)
        for other in found:
            if _overlap(grant.target, other.target) or _overlap(grant.source, other.source):
                raise Problem(STATE, f"{here}: {shown(text)} overlaps with {shown(other.entry)}: expected each file in one grant")
        found.append(grant)
    return found


def _grant(text: str, writable: bool, here: str, grounds: Grounds) -> Grant:
    host, separator, guest = text.partition("::")
    host = _normal(host, here)
    target = _normal(guest, here) if separator else host
    source = os.path.realpath(host)
    _refuse_ours(source, here, grounds)
    if writable and _overlap(source, os.path.realpath(grounds.toolkit)):
        raise Problem(STATE, f"{here}: {shown(source)} reaches the toolkit's own files, {shown(grounds.toolkit)}: expected a path outside them")
    if not separator and within(source, "/usr") and not writable:
        raise Problem(STATE, f"{here}: {shown(text)}: /usr is readable without a grant")
    for tree in _GUEST_OWN:
        if target == "/" or within(target, tree) or within(tree, target):
            hint = f"{host}::/mnt/{os.path.basename(host)}"
            raise Problem(STATE, f"{here}: {shown(target)} is the sandbox's own place inside: expected another, such as {shown(hint)}")
    try:
        mode = os.stat(source).st_mode
    except OSError as error:
        raise Problem(STATE, f"{here}: {shown(host)}: {(error.strerror or '').lower()}: expected a path that exists") from None
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise Problem(STATE, f"{here}: {shown(host)}: expected a directory or a regular file")
    return Grant(source, target, writable, text)


def parse_unix_sockets(entries: Sequence[str], at: str, grounds: Grounds) -> list[UnixSocket]:
    """The `unix:PATH` grants. The guest sees the socket at the same path, so it holds no links."""
    found: list[UnixSocket] = []
    for index, text in enumerate(entries):
        if not text.startswith("unix:"):
            continue
        here = f"{at}[{index}]"
        path = _normal(text[len("unix:") :], here)
        real = os.path.realpath(path)
        if real != path:
            raise Problem(STATE, f"{here}: {shown(path)} goes through a link: expected {shown('unix:' + real)}")
        _refuse_ours(path, here, grounds)
        if any(within(path, tree) for tree in _GUEST_OWN):
            raise Problem(STATE, f"{here}: {shown(path)} is hidden by the sandbox's own files: expected a socket elsewhere")
        try:
            is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
        except OSError as error:
            raise Problem(STATE, f"{here}: {shown(path)}: {(error.strerror or '').lower()}: expected a socket that exists") from None
        if not is_socket:
            raise Problem(STATE, f"{here}: {shown(path)}: expected a unix socket")
        if any(other.path == path for other in found):
            raise Problem(STATE, f"{here}: {shown(path)} is granted twice")
        found.append(UnixSocket(path))
    return found
