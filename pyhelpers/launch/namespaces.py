"""New namespaces for a child: unshare, one mapped id, loopback, and what the namespace forbids to itself."""

from __future__ import annotations

import _socket
import fcntl
import os
import struct

from launch import calls
from launch.errors import HOST, Failure
from launch.sockets import Socket

GUEST_ID = 1000  # the one uid and gid inside
ALL = (
    calls.CLONE_NEWUSER
    | calls.CLONE_NEWNS
    | calls.CLONE_NEWPID
    | calls.CLONE_NEWNET
    | calls.CLONE_NEWIPC
    | calls.CLONE_NEWUTS
    | calls.CLONE_NEWCGROUP
)
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1  # linux/sockios.h, linux/if.h


def enter() -> None:
    """Leave every shared namespace; children are in a new pid namespace too."""
    try:
        calls.unshare(ALL)
    except OSError as error:
        raise blocked(error) from None


def blocked(error: OSError) -> Failure:
    """Which setting forbids user namespaces here, and the command that lifts it."""
    for path, bad, fix in (
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        ("/proc/sys/user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=15000"),
    ):
        try:
            with open(path, encoding="utf-8") as file:
                value = file.read().strip()
        except OSError:
            continue
        if value == bad:
            setting = path[len("/proc/sys/") :].replace("/", ".")
            return Failure(HOST, f"this host forbids user namespaces: {setting} is {value}", fix)
    return Failure(
        HOST, f"this host forbids user namespaces: {error.strerror}", "sudo, or a container that allows them"
    )


def map_ids(pid: int, uid: int, gid: int) -> None:
    """Map the one inner id of process `pid` to the owner; written from outside (user_namespaces(7))."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{GUEST_ID} {uid} 1"),
        ("gid_map", f"{GUEST_ID} {gid} 1"),
    ):
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def forbid_more() -> None:
    """No further user namespaces below this one (the filter says so too; this is the second layer)."""
    try:
        with open("/proc/sys/user/max_user_namespaces", "w", encoding="utf-8") as file:
            file.write("0")
    except OSError:
        pass  # a read-only /proc/sys, as in containers


def loopback_up() -> None:
    """Bring lo up in the new network namespace (netdevice(7))."""
    with Socket(_socket.AF_INET, _socket.SOCK_DGRAM) as probe:
        request = bytearray(struct.pack("16sh22x", b"lo", 0))
        fcntl.ioctl(probe.fileno(), _SIOCGIFFLAGS, request)
        flags = struct.unpack_from("h", request, 16)[0]
        struct.pack_into("h", request, 16, flags | _IFF_UP)
        fcntl.ioctl(probe.fileno(), _SIOCSIFFLAGS, request)
