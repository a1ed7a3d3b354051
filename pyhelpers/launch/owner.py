"""Whose the sandbox is: checks of the environment's directory, and becoming the owner when root."""

from __future__ import annotations

import os
import stat

from launch import calls
from launch.errors import DENIED, STATE, Failure


class Owner:
    """The unprivileged user whose processes and files the sandbox's are.

    `resolves_as_root` is true for root without sudo: the owner is then a number without a
    home, which could not reach root's own directories, so root opens the sources first.
    """

    def __init__(self, uid: int | None, gid: int | None) -> None:
        self.privileged = os.geteuid() == 0
        if not self.privileged and uid not in (None, os.geteuid()):
            raise Failure(STATE, f"this environment belongs to uid {uid}, you are uid {os.geteuid()}", "sudo")
        if self.privileged and not uid:
            raise Failure(DENIED, "the owner of a sandbox cannot be root")
        self.uid = os.geteuid() if uid is None else uid
        self.gid = os.getegid() if gid is None else gid
        self.resolves_as_root = self.privileged and os.environ.get("SUDO_UID", "") != str(self.uid)
        if os.getuid() != os.geteuid() or os.getgid() != os.getegid():
            raise Failure(DENIED, "refusing to run setuid or setgid")

    def check_directory(self, fd: int, path: str) -> None:
        """Refuse a directory that another user owns or may write to."""
        info = os.fstat(fd)
        if info.st_uid not in (self.uid, 0 if self.privileged else self.uid):
            raise Failure(STATE, f"{path} belongs to uid {info.st_uid}, not to uid {self.uid}")
        if stat.S_IMODE(info.st_mode) & 0o022:
            raise Failure(
                STATE,
                f"{path} can be written by others (mode {stat.S_IMODE(info.st_mode):o})",
                f"chmod 700 '{path}'",
            )

    def become(self, keep: int = 0) -> None:
        """Drop root for good; of its capabilities only the bit set `keep` stays."""
        if not self.privileged:
            return
        calls.prctl(calls.PR_SET_KEEPCAPS, 1)
        os.setgroups([])
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
        calls.drop_capabilities(keep)
        # A change of uid makes a process undumpable, and its /proc files root's. The owner
        # still cannot trace it while it holds a capability that the owner has not.
        calls.prctl(calls.PR_SET_DUMPABLE, 1)


def open_directory(path: str, parent: int | None = None) -> int:
    """Open a directory that must not be a symbolic link; Failure STATE if it is or is missing."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError as error:
        raise Failure(
            STATE, f"cannot open {path}: {error.strerror} (a directory, not a link, is needed)"
        ) from None
