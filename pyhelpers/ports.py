"""Ports: which are taken, by whom, and which of them are reserved for environments of this user."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import secrets
import socket
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import NamedTuple

from pyhelpers.addresses import Listen, parse_port
from pyhelpers.errors import FAILED, STATE, Problem, plain

# Below the ports that Linux takes for outgoing connections (ip_local_port_range, 32768).
_AUTO = range(20000, 30000)
_TRIES = 200
_LISTEN_STATE = "0A"  # TCP_LISTEN of include/net/tcp_states.h, as /proc/net/tcp prints it


def parse(text: str) -> int:
    """A port from the command line. Raises Problem."""
    return parse_port(text, "the port")


def taken(ip: str, port: int) -> int:
    """Bind to the address for a moment: 0 if that works, else the errno."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        # As servers do: connections that a former server closed are no obstacle.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            trial.bind((ip, port))
            trial.listen(1)
        except OSError as error:
            return error.errno or errno.EINVAL
    return 0


class Holder(NamedTuple):
    """A listening socket of the host: its inode and its owner's uid."""

    inode: str
    uid: int


def _listeners(port: int) -> Iterator[Holder]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                lines = file.readlines()[1:]
        except OSError:
            continue
        for line in lines:
            # proc(5): local address, remote, state, queues, timer, retransmits, uid, timeout, inode
            fields = line.split()
            if fields[3] == _LISTEN_STATE and int(fields[1].rpartition(":")[2], 16) == port:
                yield Holder(fields[9], int(fields[7]))


def _process_with(inode: str) -> str:
    wanted = f"socket:[{inode}]"
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}") == wanted:
                    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                        return f"{plain(file.read().strip())} (pid {pid})"
        except OSError:
            continue  # another user's, or gone
    return ""


def owner(port: int) -> str:
    """Who listens on the port, as well as this user may see it; empty if nobody seems to."""
    for holder in _listeners(port):
        process = _process_with(holder.inode)
        if process:
            return process
        try:
            return f"a process of user {pwd.getpwuid(holder.uid).pw_name}"
        except KeyError:
            return f"a process of uid {holder.uid}"
    return ""


def _state_home() -> str:
    """$XDG_STATE_HOME, or .local/state in the home of this uid (XDG Base Directory)."""
    named = os.environ.get("XDG_STATE_HOME", "")
    if named.startswith("/"):
        return named
    try:
        home = pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        home = os.environ.get("HOME", "/")
    return os.path.join(home, ".local", "state")


class Entry(NamedTuple):
    """One reservation. `staging` is where the environment is while it is being made."""

    port: int
    directory: str
    staging: str


class Registry:
    """The ports of this user's environments, under a lock while the `with` block lasts.

    A user without a writable home has no registry: reservations are then not remembered.
    """

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._fd = -1

    def __enter__(self) -> Registry:
        folder = os.path.join(_state_home(), "virtualize")
        try:
            os.makedirs(folder, 0o700, exist_ok=True)
            self._fd = os.open(os.path.join(folder, "ports"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return self
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        with os.fdopen(os.dup(self._fd), "rb") as file:
            text = file.read().decode("utf-8", "surrogateescape")
        self._entries = [entry for entry in map(_entry, text.splitlines()) if entry and _alive(entry)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def others(self, port: int, directory: str) -> list[str]:
        """The directories of other environments that have the port."""
        return [
            entry.directory for entry in self._entries if entry.port == port and entry.directory != directory
        ]

    def reserve(self, ports: Sequence[int], directory: str, staging: str) -> None:
        """Make these the environment's ports."""
        self._entries = [entry for entry in self._entries if entry.directory != directory]
        self._entries += [Entry(port, directory, staging) for port in sorted(set(ports))]
        if self._fd < 0:
            return
        lines = [f"{port}\t{folder}\t{stage}\n" for port, folder, stage in self._entries]
        content = "".join(lines).encode("utf-8", "surrogateescape")
        # In place, since the lock is on this file: a crash loses reservations, not environments.
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, content, 0)

    def free_port(self, addresses: Sequence[str]) -> int:
        """A port that nobody has reserved and every address can be bound with. Raises Problem."""
        reserved = {entry.port for entry in self._entries}
        for _ in range(_TRIES):
            port = secrets.choice(_AUTO)
            if port not in reserved and not any(taken(ip, port) for ip in addresses or ("127.0.0.1",)):
                return port
        raise Problem(FAILED, f"no free port found between {_AUTO.start} and {_AUTO.stop - 1}")

    def check(self, listen: Listen, directory: str, otherwise: str) -> list[str]:
        """Warnings about an address; Problem if it cannot be had and no environment of ours is why.

        otherwise: the command that asks for a free port, for the message
        """
        ours = self.others(listen.port, directory)
        code = taken(str(listen.ip), listen.port)
        if ours:
            return [
                f"port {listen.port} is also that of {plain(ours[0])}: only one of them can run at a time"
            ]
        if code == errno.EADDRINUSE:
            who = owner(listen.port)
            held = f", held by {who}" if who else ""
            raise Problem(STATE, f"port {listen.port} is busy{held}", otherwise)
        if code == errno.EACCES:
            raise Problem(STATE, f"{listen}: ports below 1024 need privilege", otherwise)
        if code:
            # An address that this host does not have now may be there when it runs.
            return [f"{listen} cannot be bound now: {os.strerror(code).lower()}"]
        return []


def _entry(line: str) -> Entry | None:
    fields = line.split("\t")
    if len(fields) != 3 or not fields[0].isdigit():
        return None
    return Entry(int(fields[0]), fields[1], fields[2])


def _alive(entry: Entry) -> bool:
    # Staging first: it becomes the directory by one rename.
    return os.path.isdir(entry.staging) or os.path.isdir(entry.directory)


def describe_owner(port: int) -> str:
    """Who holds the port, in one line: an environment of ours, a process, or nothing if not visible."""
    with Registry() as registry:
        ours = [folder for folder in registry.others(port, "") if os.path.exists(f"{folder}/run/state")]
    if ours and any(True for _ in _listeners(port)):
        return f"the environment {plain(os.path.basename(ours[0]))} in {plain(os.path.dirname(ours[0]))}"
    return owner(port)
