"""Control groups, version 2 and 1: one leaf for the guest, with limits that are read back."""

from __future__ import annotations

import os

from launch.errors import HOST, Failure
from launch.record import Record

_V2_ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
_CONTROLLERS = {"memory": "memory", "cpu": "cpu", "pids": "pids"}  # limit → controller
_PERIOD = 100_000  # microseconds, the kernel's default cpu.max period


def read(path: str) -> str:
    """A control file's text without its newline; empty if it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 65536).decode().strip()
    except OSError:
        return ""
    finally:
        os.close(fd)


def write(path: str, value: str) -> None:
    """Write a control file; the kernel checks the value."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


class Hierarchies(Record):
    """Where a leaf could be made: version 1 has a directory by limit, version 2 one."""

    v1: dict[str, str]
    v2: str
    v2_controllers: list[str]


def find(scope: bool = False) -> Hierarchies:
    """The hierarchies that we may write to, at their mounted root.

    There the rule of version 2 that a group with processes has no controlled children does not
    hold, and a group is found again by every later command. `scope`: we are alone in a group
    that the user's systemd delegated, and use that.
    """
    own = ""
    for line in read("/proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            own = line[3:]
    v1, v2, names = {}, "", []
    for line in read("/proc/self/mounts").splitlines():
        _, point, kind, options = line.split(" ", 4)[:4]
        if kind == "cgroup":
            for limit, controller in _CONTROLLERS.items():
                if controller in options.split(",") and os.access(point, os.W_OK):
                    v1[limit] = point
        elif kind == "cgroup2" and point in _V2_ROOTS:
            path = point + own if scope else point
            if os.access(path + "/cgroup.subtree_control", os.W_OK):
                v2, names = path.rstrip("/"), read(path + "/cgroup.controllers").split()
    return Hierarchies(v1, v2, names)


class Leaf:
    """The guest's control groups, by limit. Version 2: the same directory for every limit."""

    def __init__(self, paths: dict[str, str], version: int) -> None:
        self.paths = paths
        self.version = version

    def directories(self) -> list[str]:
        """Each directory once."""
        return sorted(set(self.paths.values()))

    def create(self, owner: tuple[int, int]) -> None:
        """Make the directories; Failure HOST if the host does not let us."""
        for path in self.directories():
            parent = os.path.dirname(path)
            try:
                _make(parent, owner)
                sweep_group(parent)
                if self.version == 2:
                    for directory in (os.path.dirname(parent), parent):
                        for limit in self.paths:
                            write(directory + "/cgroup.subtree_control", "+" + _CONTROLLERS[limit])
                _make(path, owner)
            except OSError as error:
                raise Failure(HOST, f"cannot make the control group {path}: {error.strerror}") from None

    def join(self) -> None:
        """Move this process, of one thread, into the leaf.

        In version 1 as a thread: of the calling thread alone the kernel moves without its global
        lock, which costs about 4 ms in each hierarchy (kernel/cgroup/cgroup.c, cgroup_procs_write_start).
        """
        for path in self.directories():
            write(path + ("/cgroup.procs" if self.version == 2 else "/tasks"), "0")

    def set(self, limit: str, value: int) -> None:
        """Set a limit (bytes, thousandths of a core, a count) and read it back; Failure HOST if not held."""
        path = self.paths[limit]
        quota = str(value * _PERIOD // 1000)
        if self.version == 2:
            wanted = {
                "memory": [("memory.max", str(value)), ("memory.swap.max", "0")],
                "cpu": [("cpu.max", f"{quota} {_PERIOD}")],
                "pids": [("pids.max", str(value))],
            }[limit]
        else:
            wanted = {
                "memory": [
                    ("memory.limit_in_bytes", str(value)),
                    ("memory.memsw.limit_in_bytes", str(value)),
                ],
                "cpu": [("cpu.cfs_period_us", str(_PERIOD)), ("cpu.cfs_quota_us", quota)],
                "pids": [("pids.max", str(value))],
            }[limit]
        for name, text in wanted:
            if name in ("memory.swap.max", "memory.memsw.limit_in_bytes") and not os.path.exists(
                f"{path}/{name}"
            ):
                continue  # a kernel that does not account for swap
            try:
                write(f"{path}/{name}", text)
            except OSError as error:
                raise Failure(HOST, f"the kernel refused {name}={text}: {error.strerror}") from None
            now = read(f"{path}/{name}")
            exact = now == text or (limit == "memory" and now.isdigit() and 0 <= value - int(now) < 4096 * 16)
            if not exact:
                raise Failure(HOST, f"{name} reads back as {now}, not {text}")

    def values(self) -> dict[str, str]:
        """The limits and their use as the kernel says them now: bytes, thousandths of a core, counts."""
        out: dict[str, str] = {}
        for limit, path in self.paths.items():
            if limit == "memory":
                names = (
                    ("memory.current", "memory.peak", "memory.max")
                    if self.version == 2
                    else ("memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.limit_in_bytes")
                )
                for key, name in zip(("memory", "memory_peak", "memory_limit"), names):
                    out[key] = read(f"{path}/{name}")
                events = read(path + ("/memory.events" if self.version == 2 else "/memory.oom_control"))
                out["oom_kills"] = dict(line.split(" ", 1) for line in events.splitlines()).get(
                    "oom_kill", "0"
                )
            elif limit == "pids":
                out["pids"], out["pids_limit"] = read(path + "/pids.current"), read(path + "/pids.max")
            else:
                quota = (
                    read(path + "/cpu.max").split(" ")[0]
                    if self.version == 2
                    else read(path + "/cpu.cfs_quota_us")
                )
                out["cpu_limit"] = str(int(quota) * 1000 // _PERIOD) if quota.isdigit() else quota
        return out

    def remove(self) -> None:
        """Remove the leaf; the kernel refuses while a process is in it."""
        for path in self.directories():
            try:
                os.rmdir(path)
            except OSError:
                pass


def place(places: Hierarchies, limits: list[str], version: int, owner: int, name: str) -> Leaf:
    """Where the leaf for `limits` will be: below a group of the owner's, who can change and remove it."""
    roots = (
        dict.fromkeys(limits, places.v2) if version == 2 else {limit: places.v1[limit] for limit in limits}
    )
    return Leaf({limit: f"{root}/virtualize-{owner}/{name}" for limit, root in roots.items()}, version)


def _make(path: str, owner: tuple[int, int]) -> None:
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return
    if os.geteuid() == 0 and owner[0]:
        os.chown(path, *owner)
        for entry in os.listdir(path):
            # Delegation: the files that move processes and set limits (cgroups(7)).
            if entry in (
                "cgroup.procs",
                "tasks",
                "cgroup.subtree_control",
                "cgroup.threads",
            ) or entry.endswith((".max", "_in_bytes", "_us")):
                os.chown(f"{path}/{entry}", *owner)


def sweep(leaves: list[str]) -> None:
    """Remove leaves that a killed supervisor left."""
    for leaf in leaves:
        if leaf.startswith("/sys/fs/cgroup/") and "/virtualize-" in leaf and os.path.normpath(leaf) == leaf:
            try:
                os.rmdir(leaf)
            except OSError:
                pass


def sweep_group(group: str) -> None:
    """Remove the leaves of supervisors that are gone; the kernel refuses one that has a process."""
    for name in os.listdir(group):
        pid = name.removeprefix("sandbox-").partition("-")[0]
        if pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            try:
                os.rmdir(f"{group}/{name}")
            except OSError:
                pass


def remove_group(places: Hierarchies, owner: int) -> None:
    """As root, remove the owner's groups; the kernel refuses while a leaf is in them."""
    for root in {*places.v1.values(), *([places.v2] if places.v2 else [])}:
        group = f"{root}/virtualize-{owner}"
        try:
            sweep_group(group)
            os.rmdir(group)
        except OSError:
            pass
