"""Landlock as a second layer: no TCP of its own, no signals or abstract sockets outside (landlock(7))."""

from __future__ import annotations

import struct

from launch import calls

_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_UNIX, _SCOPE_SIGNAL = 1, 2


def abi() -> int:
    """The kernel's Landlock ABI; 0 without Landlock."""
    try:
        return calls.syscall("landlock_create_ruleset", None, 0, _VERSION)
    except OSError:
        return 0


def restrict_self() -> None:
    """Handle TCP without a rule and the scopes, as far as this kernel has them. Needs no_new_privs."""
    version = abi()
    if version < 4:
        return  # no network rights before ABI 4; the filter and the broker are complete without
    net = _BIND_TCP | _CONNECT_TCP
    # struct landlock_ruleset_attr: handled_access_fs, handled_access_net, scoped (ABI 6)
    attr = struct.pack("=QQ", 0, net)
    if version >= 6:
        attr += struct.pack("=Q", _SCOPE_ABSTRACT_UNIX | _SCOPE_SIGNAL)
    ruleset = calls.syscall("landlock_create_ruleset", attr, len(attr), 0)
    calls.syscall("landlock_restrict_self", ruleset, 0)
    calls.syscall("close_range", ruleset, ruleset, 0)
