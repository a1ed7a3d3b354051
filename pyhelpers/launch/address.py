"""Socket addresses and what the manifest grants of them: pure functions, no system calls but inet_pton."""

from __future__ import annotations

import _socket
import errno
import struct

from launch.record import Record

AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6 = 0, 1, 2, 10  # linux/socket.h
_MAPPED = b"\0" * 10 + b"\xff\xff"  # RFC 4291, 2.5.5.2


class Inet(Record):
    """An IPv4 or IPv6 address with a port; `ip` is the packed address, 4 or 16 bytes."""

    family: int
    ip: bytes
    port: int

    def __str__(self) -> str:
        text = _socket.inet_ntop(self.family, self.ip)
        return f"[{text}]:{self.port}" if self.family == AF_INET6 else f"{text}:{self.port}"

    def sockaddr(self) -> tuple[str, int]:
        """The form that Python's sockets take."""
        return _socket.inet_ntop(self.family, self.ip), self.port


def inet(ip: str, port: int) -> Inet:
    """An address from its text; raises OSError if it is none."""
    family = AF_INET6 if ":" in ip else AF_INET
    return Inet(family, _socket.inet_pton(family, ip), port)


def unmapped(address: Inet) -> Inet:
    """::ffff:a.b.c.d as the IPv4 address that it is."""
    if address.family == AF_INET6 and address.ip.startswith(_MAPPED):
        return Inet(AF_INET, address.ip[12:], address.port)
    return address


def parse_inet(raw: bytes) -> Inet:
    """A struct sockaddr_in or sockaddr_in6; raises OSError EINVAL if it is too short for its family."""
    family = struct.unpack_from("=H", raw)[0] if len(raw) >= 2 else AF_UNSPEC
    if family == AF_INET and len(raw) >= 16:
        return Inet(AF_INET, raw[4:8], struct.unpack_from("!H", raw, 2)[0])
    if family == AF_INET6 and len(raw) >= 24:
        return Inet(AF_INET6, raw[8:24], struct.unpack_from("!H", raw, 2)[0])
    raise OSError(errno.EINVAL, "malformed address")


class Network(Record):
    """A block of addresses and one port that the guest may connect to."""

    family: int
    base: int
    shift: int
    port: int

    def holds(self, address: Inet) -> bool:
        """Whether the address is in the block, on the port."""
        return (
            address.family == self.family
            and address.port == self.port
            and int.from_bytes(address.ip, "big") >> self.shift == self.base
        )


def network(cidr: str, port: int) -> Network:
    """A grant from `IP` or `IP/PREFIX` and a port."""
    ip, _, prefix = cidr.partition("/")
    family, packed, _ = inet(ip, port)
    bits = len(packed) * 8
    shift = bits - (int(prefix) if prefix else bits)
    return Network(family, int.from_bytes(packed, "big") >> shift, shift, port)


def listen_grant(grants: list[Inet], asked: Inet) -> Inet | None:
    """The grant that a bind to `asked` is served by: the exact address, else the family's with that port.

    Whatever the guest asked for, the socket is bound to the grant's address.
    """
    if asked in grants:
        return asked
    for grant in grants:
        if grant.family == asked.family and grant.port == asked.port:
            return grant
    return None


def connect_granted(grants: list[Network], asked: Inet) -> bool:
    """Whether one of the grants holds the address; `asked` has been through `unmapped`."""
    return any(grant.holds(asked) for grant in grants)


def unix_path(raw: bytes) -> bytes | None:
    """The path in a struct sockaddr_un; None for an unnamed or abstract address."""
    path = raw[2:]
    if not path or path[0] == 0:
        return None
    return path.split(b"\0", 1)[0]
