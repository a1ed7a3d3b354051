"""Turns the system-call policy of `policy_tables` into classic BPF, by libseccomp."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterable, Iterator, Sequence

import pyseccomp  # type: ignore[import-untyped]
from pyseccomp import KILL_PROCESS, MASKED_EQ, NOTIFY, Arch, Arg, Attr

from pyhelpers.policy_tables import (
    ALLOW,
    ALLOWED,
    BY_ARGUMENT,
    LEGACY,
    NOTIFIED,
    RECENT,
    REFUSED,
    Switch,
    Verdict,
    refuse,
)

# One condition of a rule: (argument, mask, value).
Condition = tuple[int, int, int]

# libseccomp's answer for a name that it does not know; a name known on another
# architecture only is another negative number (seccomp-syscalls.h).
_UNKNOWN = -1

# The libseccomp API level that has notification (2.5). Set rather than probed: what the
# kernel under the compiler can do says nothing about the one under the launcher.
_API_LEVEL = 5


class UnknownCall(ValueError):
    """A system call's name that neither libseccomp nor the policy knows."""


def build(extra_syscalls: Sequence[str] = (), arch: int = Arch.NATIVE) -> bytes:
    """Return the policy as an array of `struct sock_filter` (8 bytes each, native endian).

    extra_syscalls: names allowed in addition; one that the policy decides otherwise is
                    refused with ValueError
    arch:           a `pyseccomp.Arch`; the host's own unless a test says otherwise

    Raises UnknownCall for a name that is no system call, OSError when libseccomp fails.
    """
    pyseccomp.set_api(_API_LEVEL)
    program = pyseccomp.SyscallFilter(refuse(errno.ENOSYS))
    if arch != Arch.NATIVE:
        program.add_arch(arch)
        program.remove_arch(Arch.NATIVE)
    # Foreign architectures, and on x86_64 the x32 numbers, which share its value.
    program.set_attr(Attr.ACT_BADARCH, KILL_PROCESS)
    # A binary tree by number instead of a list of all.
    program.set_attr(Attr.CTL_OPTIMIZE, 2)

    for name, verdict in _policy(extra_syscalls):
        if not _exists(name, arch):
            continue
        for action, conditions in _rules(verdict):
            arguments = (Arg(index, MASKED_EQ, mask, value) for index, mask, value in conditions)
            program.add_rule_exactly(action, name, *arguments)
    return _export(program)


def _policy(extra: Sequence[str]) -> Iterator[tuple[str, Verdict]]:
    decided = {*NOTIFIED, *REFUSED, *BY_ARGUMENT}
    if refused := decided.intersection(extra):
        raise ValueError(f"the policy decides {', '.join(sorted(refused))} already")
    for name in NOTIFIED:
        yield name, NOTIFY
    for name in REFUSED:
        yield name, refuse(errno.EPERM)
    for name in dict.fromkeys((*ALLOWED, *extra)):
        yield name, ALLOW
    yield from BY_ARGUMENT.items()


def _exists(name: str, arch: int) -> bool:
    number = pyseccomp.resolve_syscall(arch, name)
    if number >= 0:
        return True
    if name in LEGACY or (number == _UNKNOWN and name in RECENT):
        return False
    raise UnknownCall(f"no system call {name!r} on this architecture")


def _rules(
    verdict: Verdict, conditions: tuple[Condition, ...] = ()
) -> Iterator[tuple[int, tuple[Condition, ...]]]:
    """Flatten a verdict into rules of which exactly one matches any call.

    libseccomp has no "else", and what it does with rules that overlap is its own choice;
    so the else is spelled out as the complement of the cases.
    """
    if not isinstance(verdict, Switch):
        yield verdict, conditions
        return
    for value, then in verdict.cases.items():
        yield from _rules(then, (*conditions, (verdict.argument, verdict.mask, value)))
    for mask, value in complement(verdict.cases, verdict.mask):
        yield verdict.otherwise, (*conditions, (verdict.argument, mask, value))


def complement(values: Iterable[int], within: int) -> Iterator[tuple[int, int]]:
    """Yield disjoint (mask, value) pairs for every 64-bit word w with `w & within` not in values.

    A walk down the binary trie of the values, from the highest bit of `within`: where no
    value goes on, everything below is one pair.
    """
    bits = [1 << bit for bit in reversed(range(64)) if within >> bit & 1]

    def walk(depth: int, mask: int, prefix: int, below: list[int]) -> Iterator[tuple[int, int]]:
        if not below:
            yield mask, prefix
        elif depth < len(bits):
            bit = bits[depth]
            for side in (bit, 0):
                members = [value for value in below if value & bit == side]
                yield from walk(depth + 1, mask | bit, prefix | side, members)

    yield from walk(0, 0, 0, list(values))


def _export(program: pyseccomp.SyscallFilter) -> bytes:
    with tempfile.TemporaryFile() as file:
        program.export_bpf(file)
        file.seek(0)
        return file.read()
