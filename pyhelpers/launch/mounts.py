"""Builds the guest's file system: detached copies of the granted trees, a fresh root, pivot."""

from __future__ import annotations

import os
import stat

from launch import calls
from launch.errors import FAILED, STALE, STATE, Failure
from launch.plan import Plan
from launch.record import Record

_ROOT = "/tmp"  # any directory: the new root is mounted over it, in this namespace only
_STAGE = f"{_ROOT}/.stage"
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
)


class Source(Record):
    """One tree of the host that the guest will see, and which file it must still be."""

    path: str
    target: str
    attributes: int
    identity: tuple[int, int]  # st_dev, st_ino
    is_directory: bool
    tree: int = -1  # the detached copy, once made


def _attributes(flags: list[str]) -> int:
    bits = calls.MOUNT_ATTR_NOSUID | calls.MOUNT_ATTR_NODEV
    if "ro" in flags:
        bits |= calls.MOUNT_ATTR_RDONLY
    if "exec" not in flags or "rw" in flags:
        bits |= calls.MOUNT_ATTR_NOEXEC
    return bits


def expand(path: str, home: str) -> str:
    """A plan's path: `@/x` is below the environment's directory."""
    return home + path[1:] if path.startswith("@/") else path


def resolve(plan: Plan, home: str) -> list[Source]:
    """The identity of every source, without following a link anywhere in its path.

    Raises Failure: a grant's source that is gone or became a link is refused; one of ours
    (a server's programs) makes the plan stale.
    """
    wanted = [(expand(source, home), target, flags.split(",")) for source, target, flags in plan.all("bind")]
    targets = {target for _, target, _ in wanted}
    wanted += [
        (path, path, ["rw", "noexec", "grant"]) for (path,) in plan.all("connect-unix") if path not in targets
    ]
    wanted += [(f"/dev/{name}", f"/dev/{name}", ["device"]) for name in _DEVICES]
    sources = []
    for path, target, flags in wanted:
        try:
            fd = calls.openat2(
                calls.AT_FDCWD, path, os.O_PATH, calls.RESOLVE_NO_SYMLINKS | calls.RESOLVE_NO_MAGICLINKS
            )
        except OSError as error:
            if "grant" in flags:
                raise Failure(
                    STATE,
                    f"granted path {path} cannot be used: {os.strerror(error.errno or 0)}",
                    "edit the manifest: it names the path as it is on this host, without links",
                ) from None
            raise Failure(STALE, f"{path} is gone: {os.strerror(error.errno or 0)}") from None
        info = os.fstat(fd)
        os.close(fd)
        attributes = (
            calls.MOUNT_ATTR_NOSUID | calls.MOUNT_ATTR_NOEXEC if "device" in flags else _attributes(flags)
        )
        sources.append(
            Source(path, target, attributes, (info.st_dev, info.st_ino), stat.S_ISDIR(info.st_mode))
        )
    return sources


def clone(sources: list[Source]) -> list[Source]:
    """Detached, private copies with their attributes set; each must be the file that was resolved."""
    cloned = []
    for source in sources:
        tree = calls.open_tree(source.path)
        info = os.fstat(tree)
        if (info.st_dev, info.st_ino) != source.identity:
            raise Failure(STATE, f"{source.path} was replaced while the sandbox was being built")
        calls.mount_setattr(tree, source.attributes)
        cloned.append(source._replace(tree=tree))
    return cloned


class Layer(Record):
    """The data directory: detached copies of the environment's directory and of the template."""

    home: int
    base: int  # -1: data/ is a plain directory
    target: str
    upper: str = "data"


def clone_layer(plan: Plan, home: str, identity: tuple[int, int]) -> Layer:
    """The trees for `data`, as the plan's `layer` says; `home` must be the directory of that identity."""
    tree = calls.open_tree(home)
    info = os.fstat(tree)
    if (info.st_dev, info.st_ino) != identity:
        raise Failure(STATE, f"{home} was replaced while the sandbox was being built")
    calls.mount_setattr(tree, calls.MOUNT_ATTR_NOSUID | calls.MOUNT_ATTR_NODEV | calls.MOUNT_ATTR_NOEXEC)
    base = -1
    if plan.text("layer") == "overlay":
        path = os.path.realpath(expand(plan.one("base")[0], home))
        try:
            base = calls.open_tree(path)
        except OSError as error:
            raise Failure(
                STATE, f"the template of this environment is gone: {path} ({os.strerror(error.errno or 0)})"
            ) from None
        calls.mount_setattr(
            base,
            calls.MOUNT_ATTR_RDONLY
            | calls.MOUNT_ATTR_NOSUID
            | calls.MOUNT_ATTR_NODEV
            | calls.MOUNT_ATTR_NOEXEC,
        )
    return Layer(tree, base, plan.one("data")[0])


def build(plan: Plan, sources: list[Source], layer: Layer) -> None:
    """Make the guest's root and move into it. Runs in the new namespaces, with their capabilities."""
    begin()
    for target, size in plan.all("tmpfs"):
        os.makedirs(_ROOT + target, 0o755, exist_ok=True)
        if target.startswith("/dev/"):
            continue  # below the device directory, made after it
        _tmpfs(_ROOT + target, int(size), 0o1777)
    for target, name in plan.all("link"):
        os.symlink(target, _ROOT + name)
    for path, text in plan.all("file"):
        os.makedirs(os.path.dirname(_ROOT + path), 0o755, exist_ok=True)
        with open(_ROOT + path, "x", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
    for name, target in _DEVICE_LINKS:
        os.symlink(target, f"{_ROOT}/dev/{name}")
    for source in sources:
        _attach(source)
    for target, size in plan.all("tmpfs"):
        if target.startswith("/dev/"):
            _tmpfs(_ROOT + target, int(size), 0o1777)
    attach_layer(layer)
    os.makedirs(f"{_ROOT}/proc", 0o555, exist_ok=True)
    flags = calls.MS_NOSUID | calls.MS_NODEV | calls.MS_NOEXEC
    # Read-only: a guest must not raise its own standing with the host's out-of-memory killer.
    calls.mount("proc", f"{_ROOT}/proc", "proc", flags | calls.MS_RDONLY, "subset=pid")
    os.chdir(_ROOT)
    calls.pivot_root_here()
    calls.umount(".")
    os.chdir("/")
    if os.getcwd() != "/":
        raise Failure(FAILED, "the old root is still reachable after pivot_root")
    calls.mount_setattr(
        calls.AT_FDCWD,
        calls.MOUNT_ATTR_RDONLY | calls.MOUNT_ATTR_NOSUID | calls.MOUNT_ATTR_NODEV,
        "/",
        recursive=False,
    )


def begin() -> str:
    """Cut the namespace off from the host's mounts; an empty root, mounted but not entered."""
    calls.mount("none", "/", None, calls.MS_REC | calls.MS_PRIVATE)
    _tmpfs(_ROOT, 1 << 20, 0o755)
    return _ROOT


def _tmpfs(target: str, size: int, mode: int) -> None:
    # An inode costs kernel memory too: bounded with the bytes.
    calls.mount(
        "tmpfs",
        target,
        "tmpfs",
        calls.MS_NOSUID | calls.MS_NODEV | calls.MS_NOEXEC if mode & 0o1000 else calls.MS_NOSUID,
        f"size={size},nr_inodes=4096,mode={mode:o}",
    )


def _attach(source: Source) -> None:
    target = _ROOT + source.target
    if source.is_directory:
        os.makedirs(target, 0o755, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444))
    calls.move_mount(source.tree, target)
    os.close(source.tree)


def attach_layer(layer: Layer) -> None:
    """Mount the data directory below the new root."""
    target = _ROOT + layer.target
    os.makedirs(target, 0o755, exist_ok=True)
    home, base = f"{_STAGE}/home", f"{_STAGE}/base"
    os.makedirs(home)
    calls.move_mount(layer.home, home)
    os.close(layer.home)
    if layer.base < 0:
        tree = calls.open_tree(f"{home}/{layer.upper}")
        calls.move_mount(tree, target)
        os.close(tree)
    else:
        os.makedirs(base)
        calls.move_mount(layer.base, base)
        os.close(layer.base)
        flags = calls.MS_NOSUID | calls.MS_NODEV | calls.MS_NOEXEC
        calls.mount(
            "overlay",
            target,
            "overlay",
            flags,
            f"lowerdir={base},upperdir={home}/{layer.upper},workdir={home}/work,userxattr",
        )
        calls.umount(base)
        os.rmdir(base)
    calls.umount(home)
    os.rmdir(home)
    os.rmdir(_STAGE)
