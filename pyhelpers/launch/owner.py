"""Whose the sandbox is: checks of the environment's directory, and becoming the owner when root."""

from __future__ import annotations

import os
import stat

from launch import calls
from launch.errors import DENIED, STATE, Failure


class Owner:
    """The unprivileged user whose processes and files the sandbox's are: who owns its directory.

    Called as root, this process acts as the owner from `act` on: nothing that the owner can
    plant in the directory leads root anywhere. Root is taken back (`as_root`) only to make
    namespaces and control groups, and in a base directory of root's own to resolve sources:
    the owner is then a number without a home, which could not reach them.
    """

    def __init__(self, home: int, path: str) -> None:
        if os.getuid() != os.geteuid() or os.getgid() != os.getegid():
            raise Failure(DENIED, "refusing to run setuid or setgid")
        info = os.fstat(home)
        self.privileged = os.geteuid() == 0
        self.uid, self.gid = info.st_uid, info.st_gid
        self.resolves_as_root = self.privileged and os.stat("..", dir_fd=home).st_uid == 0
        if self.privileged and (not self.uid or not self.gid):
            raise Failure(DENIED, f"{path} belongs to root, and a sandbox cannot be root's")
        if not self.privileged and self.uid != os.geteuid():
            raise Failure(STATE, f"{path} belongs to uid {self.uid}, and you are uid {os.geteuid()}", "sudo")
        mode = stat.S_IMODE(info.st_mode)
        if mode & 0o022:
            raise Failure(STATE, f"{path} can be written by others (mode {mode:o})", f"chmod 700 '{path}'")

    def act(self) -> None:
        """Act with the owner's rights on files; root can be taken back."""
        if self.privileged:
            os.setgroups([])
            os.setegid(self.gid)
            os.seteuid(self.uid)

    def as_root(self) -> AsRoot:
        """For a `with`: root's rights in it, if we were called as root."""
        return AsRoot(self, self.privileged)

    def resolving(self) -> AsRoot:
        """For a `with`: the rights that sources are resolved with."""
        return AsRoot(self, self.resolves_as_root)

    def become(self, keep: int = 0, hidden: bool = False) -> None:
        """Drop root for good; of its capabilities only the bit set `keep` stays.

        `hidden`: the owner cannot look into this process, which has root's variables.
        """
        if not self.privileged:
            return
        os.seteuid(0)
        calls.prctl(calls.PR_SET_KEEPCAPS, 1)
        os.setgroups([])
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
        calls.drop_capabilities(keep)
        try:
            calls.new_session_keyring()  # root's keys stay root's
        except OSError:
            pass  # a kernel without keyrings has no keys
        # A change of uid makes a process undumpable, and its /proc files root's. The owner
        # still cannot trace it while it holds a capability that the owner has not.
        if hidden:
            calls.prctl(calls.PR_SET_DUMPABLE, 0)
            return
        calls.forget_environment()
        calls.prctl(calls.PR_SET_DUMPABLE, 1)


class AsRoot:
    """The context of `Owner.as_root` and `Owner.resolving`."""

    def __init__(self, owner: Owner, needed: bool) -> None:
        self.owner, self.needed = owner, needed

    def __enter__(self) -> None:
        if self.needed:
            os.seteuid(0)
            os.setegid(0)

    def __exit__(self, *_: object) -> None:
        if self.needed:
            self.owner.act()


def open_directory(path: str, parent: int | None = None) -> int:
    """Open a directory that must not be a symbolic link; Failure STATE if it is or is missing."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError as error:
        raise Failure(
            STATE, f"cannot open {path}: {error.strerror} (a directory, not a link, is needed)"
        ) from None
