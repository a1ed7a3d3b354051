"""The file system's grants: host paths resolved once, and kept away from what is ours."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from typing import NamedTuple

from pyhelpers.addresses import UnixSocket
from pyhelpers.errors import malformed, refused, shown

# The guest's own places: a grant at or below one of them would hide it.
_GUEST_OWN = (
    *("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin", "/usr", "/opt/engine"),
    *("/config", "/data", "/dev", "/etc", "/proc", "/sock", "/sys", "/tmp"),
)
# The kernel's own trees: a grant of one would undo the sandbox.
_HOST_FORBIDDEN = ("/proc", "/sys", "/dev")


_KERNEL_TYPES = (
    *("proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "securityfs", "debugfs", "tracefs"),
    *("configfs", "bpf", "efivarfs", "fusectl", "mqueue", "pstore", "binfmt_misc"),
)


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
        raise malformed(at, path, "an absolute path")
    if ".." in path.split("/"):
        raise malformed(at, path, "a path without '..'")
    return "/" + os.path.normpath(path).lstrip("/")


def _refuse_ours(source: str, at: str, grounds: Grounds) -> None:
    if source == "/":
        raise refused(at, source, "is the whole host: grant a directory or file in it")
    for tree in _HOST_FORBIDDEN:
        if within(source, tree):
            raise refused(at, source, f"is the kernel's: nothing in {tree} can be granted")
    ours = {"the environment's own directory": grounds.environment, "the environments' base": grounds.base}
    for what, path in ours.items():
        tree = os.path.realpath(path)
        if _overlap(source, tree):
            raise refused(at, source, f"reaches {what}, {shown(tree)}")


class _Mount(NamedTuple):
    """One line of /proc/self/mountinfo (proc_pid_mountinfo(5))."""

    device: str
    root: str  # which directory of the file system is mounted
    point: str
    kind: str


def _mounts() -> list[_Mount]:
    def plain(field: str) -> str:
        return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)

    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            fields = before.split()
            found.append(_Mount(fields[2], plain(fields[3]), plain(fields[4]), after.split()[0]))
    return found


def _holding(path: str, mounts: Sequence[_Mount]) -> _Mount:
    """The mount that a path is on; of several at one place, the last."""
    around = [mount for mount in mounts if within(path, mount.point)]
    return max(reversed(around), key=lambda mount: len(mount.point))


def _on_disk(path: str, mounts: Sequence[_Mount]) -> tuple[str, str]:
    """Device and path in its file system: the same however many names mounts give it."""
    mount = _holding(path, mounts)
    return mount.device, os.path.normpath(f"{mount.root}/{path[len(mount.point.rstrip('/')) :]}")


def _refuse_by_mounts(source: str, at: str, grounds: Grounds) -> None:
    """What the names do not show: a bind mount of our places, the kernel's own trees in the grant."""
    mounts = _mounts()
    device, path = _on_disk(source, mounts)
    base_device, base = _on_disk(os.path.realpath(grounds.base), mounts)
    if device == base_device and _overlap(path, base):
        raise refused(at, source, f"is another name for a place of {shown(grounds.base)}")
    for mount in [_holding(source, mounts), *(mount for mount in mounts if within(mount.point, source))]:
        if mount.kind in _KERNEL_TYPES:
            raise refused(at, source, f"holds the kernel's {mount.kind}, at {shown(mount.point)}")
    if os.path.lexists(os.path.join(source, os.path.basename(grounds.base))):
        raise refused(at, source, f"holds environments, in {shown(os.path.basename(grounds.base))}")


def parse_grants(reads: Sequence[str], writes: Sequence[str], at: str, grounds: Grounds) -> list[Grant]:
    """The granted trees, sources resolved; Problem for any that is missing, ours or overlapping."""
    found: list[Grant] = []
    entries = [(f"{at}.read[{i}]", text, False) for i, text in enumerate(reads)]
    entries += [(f"{at}.write[{i}]", text, True) for i, text in enumerate(writes)]
    for here, text, writable in entries:
        grant = _grant(text, writable, here, grounds)
        for other in found:
            if _overlap(grant.target, other.target) or _overlap(grant.source, other.source):
                raise refused(here, text, f"overlaps with {shown(other.entry)}: grant each file once")
        found.append(grant)
    return found


def _grant(text: str, writable: bool, here: str, grounds: Grounds) -> Grant:
    host, separator, guest = text.partition("::")
    host = _normal(host, here)
    target = _normal(guest, here) if separator else host
    source = os.path.realpath(host)
    _refuse_ours(source, here, grounds)
    _mode(source, here, host)
    _refuse_by_mounts(source, here, grounds)
    toolkit = os.path.realpath(grounds.toolkit)
    if writable and _overlap(source, toolkit):
        raise refused(here, source, f"reaches the toolkit's own files, {shown(toolkit)}")
    if not separator and not writable and within(source, "/usr"):
        raise refused(here, text, "is readable without a grant, as all of /usr")
    for tree in _GUEST_OWN:
        if _overlap(target, tree):
            example = f"{host}::/mnt/{os.path.basename(host)}"
            raise refused(
                here, target, f"is the sandbox's own inside: name another place, as {shown(example)}"
            )
    mode = _mode(source, here, host)
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise malformed(here, host, "a directory or a regular file")
    return Grant(source, target, writable, text)


def _mode(path: str, at: str, named: str) -> int:
    try:
        return os.stat(path).st_mode
    except OSError as error:
        raise refused(at, named, f"cannot be granted: {(error.strerror or '').lower()}") from None


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
            raise malformed(here, text, f"a path without links, as {shown('unix:' + real)}")
        _refuse_ours(path, here, grounds)
        if any(within(path, tree) for tree in _GUEST_OWN):
            raise refused(here, path, "is hidden inside by the sandbox's own files")
        if not stat.S_ISSOCK(_mode(path, here, path)):
            raise malformed(here, text, "a unix socket")
        if any(other.path == path for other in found):
            raise refused(here, path, "is granted twice")
        found.append(UnixSocket(path))
    return found
