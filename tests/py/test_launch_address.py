"""The broker's decisions as pure functions."""

from __future__ import annotations

import errno
import ipaddress
import struct

import pytest
import runtime  # noqa: F401
from hypothesis import given
from hypothesis import strategies as st
from launch import address
from launch.address import AF_INET, AF_INET6, AF_UNIX, inet

V4 = inet("127.0.0.1", 5432)
V6 = inet("::1", 5432)


def sockaddr_in(ip: str, port: int) -> bytes:
    return struct.pack("=H", AF_INET) + struct.pack("!H", port) + ipaddress.ip_address(ip).packed + bytes(8)


def sockaddr_in6(ip: str, port: int) -> bytes:
    return (
        struct.pack("=H", AF_INET6)
        + struct.pack("!H", port)
        + bytes(4)
        + ipaddress.ip_address(ip).packed
        + bytes(4)
    )


def test_both_families_are_parsed() -> None:
    assert str(address.parse_inet(sockaddr_in("10.1.2.3", 80))) == "10.1.2.3:80"
    assert str(address.parse_inet(sockaddr_in6("fd00::1", 5432))) == "[fd00::1]:5432"


@given(st.binary(max_size=140))
def test_any_bytes_give_an_address_or_einval(raw: bytes) -> None:
    try:
        parsed = address.parse_inet(raw)
    except OSError as error:
        assert error.errno == errno.EINVAL
    else:
        assert parsed.family in (AF_INET, AF_INET6)
        assert len(parsed.ip) == (4 if parsed.family == AF_INET else 16)
        assert 0 <= parsed.port <= 65535


def test_33_a_mapped_address_is_the_ipv4_address_that_it_is() -> None:
    assert str(address.unmapped(inet("::ffff:10.0.0.1", 1))) == "10.0.0.1:1"
    assert str(address.unmapped(V6)) == "[::1]:5432"
    assert str(address.unmapped(V4)) == "127.0.0.1:5432"


@given(
    st.ip_addresses(v=4),
    st.integers(0, 32),
    st.integers(1, 65535),
    st.ip_addresses(v=4),
    st.integers(1, 65535),
)
def test_34_a_connect_grant_holds_exactly_its_block_and_port(base, prefix, port, asked, asked_port) -> None:
    grant = address.network(f"{base}/{prefix}", port)
    block = ipaddress.ip_network(f"{base}/{prefix}", strict=False)
    assert grant.holds(inet(str(asked), asked_port)) == (asked in block and asked_port == port)
    assert grant.holds(inet(str(base), port))


@given(st.ip_addresses(v=6), st.integers(0, 128), st.ip_addresses(v=6))
def test_a_connect_grant_of_ipv6_holds_exactly_its_block(base, prefix, asked) -> None:
    grant = address.network(f"{base}/{prefix}", 1)
    block = ipaddress.ip_network(f"{base}/{prefix}", strict=False)
    assert grant.holds(inet(str(asked), 1)) == (asked in block)
    assert not grant.holds(inet("127.0.0.1", 1))


def test_without_a_prefix_a_grant_is_one_address() -> None:
    assert address.connect_granted([address.network("10.0.0.1", 80)], inet("10.0.0.1", 80))
    assert not address.connect_granted([address.network("10.0.0.1", 80)], inet("10.0.0.2", 80))
    assert not address.connect_granted([], inet("10.0.0.1", 80))


def test_32_a_bind_is_served_by_the_exact_grant_else_by_the_family_and_port() -> None:
    other = inet("127.0.0.2", 9000)
    grants = [V4, V6, other]
    assert str(address.listen_grant(grants, inet("0.0.0.0", 5432))) == "127.0.0.1:5432"
    assert str(address.listen_grant(grants, inet("::", 5432))) == "[::1]:5432"
    assert str(address.listen_grant(grants, inet("127.0.0.2", 9000))) == "127.0.0.2:9000"
    assert address.listen_grant(grants, inet("127.0.0.1", 5433)) is None
    assert address.listen_grant([V4], inet("::", 5432)) is None
    assert address.listen_grant([], V4) is None


@pytest.mark.parametrize(
    ("raw", "path"),
    [(b"/sock/x\0junk", b"/sock/x"), (b"\0abstract", None), (b"", None), (b"relative", b"relative")],
)
def test_unix_addresses_are_paths_only_when_they_name_one(raw: bytes, path: bytes | None) -> None:
    assert address.unix_path(struct.pack("=H", AF_UNIX) + raw) == path
