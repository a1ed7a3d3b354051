"""The network's grants: literal addresses, checked; nothing here resolves a name."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import NamedTuple, Union

from pyhelpers.errors import STATE, USAGE, Problem, shown

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

_FORM = re.compile(r"(?:\[(?P<six>[^\[\]]*)\]|(?P<four>[^\[\]:]*)):(?P<port>[^:]*)")
_PORT = re.compile(r"[1-9][0-9]{0,4}")


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
        raise Problem(USAGE, f"{at}: port {shown(text)}: expected a number from 1 to 65535")
    return int(text)


def _split(text: str, at: str, form: str) -> tuple[str, bool, str]:
    match = _FORM.fullmatch(text)
    if not match:
        raise Problem(USAGE, f"{at}: {shown(text)}: expected {form}")
    six = match["six"]
    return (six if six is not None else match["four"]), six is not None, match["port"]


def _refuse_mapped(ip: Address, text: str, at: str) -> None:
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            raise Problem(USAGE, f"{at}: {shown(text)}: expected the IPv4 form, {ip.ipv4_mapped}")
        if getattr(ip, "scope_id", None):
            raise Problem(USAGE, f"{at}: {shown(text)}: expected an address without a zone")


def parse_listens(entries: Sequence[str], at: str) -> list[Listen]:
    """The addresses to listen on. Raises Problem with the index of the offence."""
    found: list[Listen] = []
    for index, text in enumerate(entries):
        here = f"{at}[{index}]"
        literal, bracketed, digits = _split(text, here, "IP:PORT or [IPv6]:PORT, such as 127.0.0.1:5432")
        try:
            ip = ipaddress.ip_address(literal)
        except ValueError:
            raise Problem(USAGE, f"{here}: {shown(literal)} is not a literal address: expected one such as 127.0.0.1 or [::1]") from None
        if bracketed != (ip.version == 6):
            raise Problem(USAGE, f"{here}: {shown(text)}: expected IP:PORT or [IPv6]:PORT")
        _refuse_mapped(ip, text, here)
        if ip.is_multicast or ip == ipaddress.IPv4Address("255.255.255.255"):
            raise Problem(USAGE, f"{here}: {shown(text)}: no connection can be made to a multicast or broadcast address")
        entry = Listen(ip, parse_port(digits, here))
        for other in found:
            if (other.ip.version, other.port) == (ip.version, entry.port):
                raise Problem(STATE, f"{here}: {entry} has the family and port of {other}: expected one listener of each")
        found.append(entry)
    return found


def parse_connects(entries: Sequence[str], at: str) -> list[Connect]:
    """The TCP part of the list; `unix:` entries are `paths.parse_unix_sockets`'s."""
    found: list[Connect] = []
    for index, text in enumerate(entries):
        if text.startswith("unix:"):
            continue
        here = f"{at}[{index}]"
        literal, bracketed, digits = _split(text, here, "IP:PORT, CIDR:PORT or unix:PATH")
        try:
            network = ipaddress.ip_network(literal, strict=False)
            exact = ipaddress.ip_interface(literal).ip == network.network_address
        except ValueError:
            raise Problem(USAGE, f"{here}: {shown(literal)} is not a literal address or block: expected one such as 10.0.0.5 or 10.1.0.0/16") from None
        if "/" in literal and not literal.rpartition("/")[2].isdigit():
            raise Problem(USAGE, f"{here}: {shown(text)}: expected the block as ADDRESS/BITS")
        if bracketed != (network.version == 6):
            raise Problem(USAGE, f"{here}: {shown(text)}: expected IP:PORT, CIDR:PORT or [IPv6]:PORT")
        if not exact:
            raise Problem(USAGE, f"{here}: {shown(text)} has bits below its mask: expected {network}")
        _refuse_mapped(network.network_address, text, here)
        entry = Connect(network, parse_port(digits, here))
        for other in found:
            if other.port == entry.port and other.network.overlaps(network):
                raise Problem(STATE, f"{here}: {shown(text)} overlaps with {other.network} on port {entry.port}: expected each address in one grant")
        found.append(entry)
    return found
