"""The network's grants: literal addresses, checked; nothing here resolves a name."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import NamedTuple, Union

from pyhelpers.errors import Problem, malformed, refused

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

_LISTEN_FORM = "IP:PORT or [IPv6]:PORT, such as 127.0.0.1:5432"
_CONNECT_FORM = "IP:PORT, CIDR:PORT (IPv6 in brackets) or unix:PATH, such as 10.1.0.0/16:443"

_FORM = re.compile(r"(?:\[(?P<six>[^\[\]]*)\]|(?P<four>[^\[\]:]*)):(?P<port>[^:]*)")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_PREFIX = re.compile(r"[^/]*(?:/[0-9]{1,3})?")  # a mask in bits; ipaddress takes a netmask too


class Listen(NamedTuple):
    """A host address where the guest may accept connections."""

    ip: Address
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if self.ip.version == 6 else f"{self.ip}:{self.port}"


class Connect(NamedTuple):
    """A block of addresses (a single one is /32 or /128) and one port."""

    network: Network
    port: int


class UnixSocket(NamedTuple):
    """A unix socket of the host that the guest may connect to."""

    path: str


def parse_port(text: str, at: str) -> int:
    """A port from its digits; Problem for 0, 65536, signs, blanks and leading zeros."""
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise malformed(at, text, "a port from 1 to 65535")
    return int(text)


def _split(text: str, at: str, form: str) -> tuple[str, int, int]:
    """The literal, its IP version as the brackets say, and the port."""
    match = _FORM.fullmatch(text)
    if not match:
        raise malformed(at, text, form)
    port = parse_port(match["port"], at)
    return (match["four"], 4, port) if match["six"] is None else (match["six"], 6, port)


def _odd_ipv6(ip: Address, text: str, at: str) -> Problem | None:
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return malformed(at, text, f"the IPv4 form, {ip.ipv4_mapped}")
        if getattr(ip, "scope_id", None):
            return malformed(at, text, "an address without a zone")
    return None


def parse_listens(entries: Sequence[str], at: str) -> list[Listen]:
    """The addresses to listen on. Raises Problem with the index of the offence."""
    found: list[Listen] = []
    for index, text in enumerate(entries):
        entry = _listen(text, f"{at}[{index}]")
        for other in found:
            if (other.ip.version, other.port) == (entry.ip.version, entry.port):
                raise refused(
                    f"{at}[{index}]", text, f"has the family and port of {other}: one of them is enough"
                )
        found.append(entry)
    return found


def _listen(text: str, at: str) -> Listen:
    literal, version, port = _split(text, at, _LISTEN_FORM)
    try:
        ip = ipaddress.ip_address(literal)
    except ValueError:
        raise malformed(at, literal, "a literal address, such as 127.0.0.1 or [::1]") from None
    if version != ip.version:
        raise malformed(at, text, _LISTEN_FORM)
    if ip.is_multicast or ip == ipaddress.IPv4Address("255.255.255.255"):
        raise malformed(at, text, "an address of one host")
    odd = _odd_ipv6(ip, text, at)
    if odd:
        raise odd
    return Listen(ip, port)


def parse_connects(entries: Sequence[str], at: str) -> list[Connect]:
    """The TCP part of the list; `unix:` entries are `paths.parse_unix_sockets`'s."""
    found: list[Connect] = []
    for index, text in enumerate(entries):
        if text.startswith("unix:"):
            continue
        entry = _connect(text, f"{at}[{index}]")
        for other in found:
            if other.port == entry.port and other.network.overlaps(entry.network):
                raise refused(
                    f"{at}[{index}]", text, f"overlaps with {other.network}, granted for that port too"
                )
        found.append(entry)
    return found


def _connect(text: str, at: str) -> Connect:
    literal, version, port = _split(text, at, _CONNECT_FORM)
    try:
        network = ipaddress.ip_network(literal, strict=False)
        address = ipaddress.ip_interface(literal).ip
    except ValueError:
        raise malformed(at, literal, "a literal address or block, such as 10.0.0.5 or 10.1.0.0/16") from None
    if version != network.version or not _PREFIX.fullmatch(literal):
        raise malformed(at, text, _CONNECT_FORM)
    if address != network.network_address:
        raise malformed(at, text, f"no bits below the mask, as {network}")
    odd = _odd_ipv6(address, text, at)
    if odd:
        raise odd
    return Connect(network, port)
