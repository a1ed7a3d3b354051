"""From a plan to a sandbox whose guest runs: forks the child, maps its ids, takes what pid 1 hands back."""

from __future__ import annotations

import os
import time

from launch import cgroup, init, mounts, namespaces, wire
from launch.errors import FAILED, Failure
from launch.limits import Choice, busy_times, least_used, oom_score, process_limits, wanted
from launch.owner import Owner
from launch.plan import Plan
from launch.record import Record
from launch.sockets import Socket, pair

_DEADLINE = 20.0  # seconds for the whole set-up; it takes about 0.02


class Prepared(Record):
    """Everything that was checked before the first fork."""

    plan: Plan
    home: str
    identity: tuple[int, int]  # of the directory `home`: st_dev, st_ino
    owner: Owner
    choice: Choice
    places: cgroup.Hierarchies
    sources: list[mounts.Source]
    busy: dict[int, int]


class Sandbox(Record):
    """A built sandbox: the link to pid 1 and what the broker works with."""

    pid1: int
    link: Socket
    listener: int
    killable: bool
    root: int
    proc: int


def make(prepared: Prepared, leaf: cgroup.Leaf | None, log: int, stdin: int) -> Sandbox:
    """Build it, up to a guest that is about to start. Afterwards this process is the owner's, for good.

    Raises Failure with what went wrong; nothing of the sandbox is then left.
    """
    try:
        return _make(prepared, leaf, log, stdin)
    except BaseException as error:
        if leaf:
            leaf.remove()
        if isinstance(error, OSError):
            raise Failure.from_os(error, "building the sandbox") from None
        raise


def _make(prepared: Prepared, leaf: cgroup.Leaf | None, log: int, stdin: int) -> Sandbox:
    plan, owner, choice = prepared.plan, prepared.owner, prepared.choice
    if leaf:
        with owner.as_root():
            _make_leaf(prepared, leaf)
    sources, layer = prepared.sources, None
    if owner.resolves_as_root:
        with owner.as_root():
            sources = mounts.clone(sources)
            layer = mounts.clone_layer(plan, prepared.home, prepared.identity)
    cpus: list[int] = []
    if choice.mechanisms.get("cpu") == "affinity":
        allowed = sorted(os.sched_getaffinity(0))
        cpus = least_used(max(1, wanted(plan)["cpu"] // 1000), prepared.busy, busy_times(), allowed)
    build = init.Build(
        plan,
        prepared.home,
        owner,
        sources,
        layer,
        prepared.identity,
        init.Limits(process_limits(plan, choice), cpus, oom_score(choice)),
        leaf,
    )
    link, theirs = pair()
    child = os.fork()
    if not child:
        link.close()
        init.child(build, theirs, log, stdin)
    theirs.close()
    for tree in [*(source.tree for source in sources), *((layer.home, layer.base) if layer else ())]:
        if tree >= 0:
            os.close(tree)
    try:
        link.settimeout(_DEADLINE)
        owner.become()
        _expect(link, b"unshared")
        namespaces.map_ids(child, owner.uid, owner.gid)
        wire.send(link, [b"mapped"])
        pid1 = int(_expect(link, b"pid1")[0][1])
        os.waitpid(child, 0)
        wire.send(link, [b"adopted"])
        fields, (listener, root, proc) = _expect(link, b"ready")
        link.settimeout(None)
    except BaseException:
        link.close()  # whoever waits on the other end ends
        _reap()
        raise
    return Sandbox(pid1, link, listener, fields[1] == b"1", root, proc)


def _reap() -> None:
    """Wait for the children of a failed attempt: a control group is removed only when it is empty."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.005)
        except ChildProcessError:
            return


def identity_of(directory: int) -> tuple[int, int]:
    """Which file a descriptor is of: st_dev, st_ino."""
    info = os.fstat(directory)
    return info.st_dev, info.st_ino


def _expect(link: Socket, word: bytes) -> tuple[list[bytes], list[int]]:
    try:
        message = wire.receive(link)
    except TimeoutError:
        raise Failure(FAILED, "building the sandbox took too long") from None
    if message is None:
        raise Failure(FAILED, "the sandbox ended while it was being built")
    if message[0][0] == b"failed":
        raise Failure.decode(b"\0".join(message[0][1:]))
    if message[0][0] != word:
        raise Failure(FAILED, f"building the sandbox: {message[0][0].decode()} instead of {word.decode()}")
    return message


def place_leaf(prepared: Prepared) -> cgroup.Leaf | None:
    """The guest's control group, not yet made: who writes its place down first can always remove it."""
    version = 2 if prepared.choice.by_cgroup(2) else 1
    held = prepared.choice.by_cgroup(version)
    if not held:
        return None
    # Nothing of the plan: as root, a name in it must not lead anywhere.
    name = f"sandbox-{os.getpid()}-{os.urandom(4).hex()}"
    return cgroup.place(prepared.places, held, version, prepared.owner.uid, name)


def _make_leaf(prepared: Prepared, leaf: cgroup.Leaf) -> None:
    leaf.create((prepared.owner.uid, prepared.owner.gid))
    limits = wanted(prepared.plan)
    for limit in leaf.paths:
        leaf.set(limit, limits[limit])
