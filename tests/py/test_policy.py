"""The compiled system-call policy, run in a small classic-BPF machine, against an oracle.

The oracle below is written from SECURITY.md's table by hand and shares nothing with
`pyhelpers.policy_tables`.
"""

from __future__ import annotations

import errno
import platform
import struct
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyseccomp import Arch, resolve_syscall

from pyhelpers.policy_compiler import UnknownCall, build, complement

KILL_PROCESS, ERRNO, NOTIFY, ALLOW = 0x80000000, 0x00050000, 0x7FC00000, 0x7FFF0000
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
AUDIT_ARCH_I386, AUDIT_ARCH_ARM, X32_BIT = 0x40000003, 0x40000028, 0x40000000
ARCHES = {"x86_64": Arch.X86_64, "aarch64": Arch.AARCH64}
WORD = 0xFFFFFFFF

pytestmark = pytest.mark.skipif(
    platform.machine() not in ARCHES, reason="the policy is for x86_64 and aarch64"
)


def refused(number: int) -> int:
    return ERRNO | number


@cache
def program(machine: str) -> tuple[tuple[int, int, int, int], ...]:
    native = machine == platform.machine()
    code = build() if native else build(arch=ARCHES[machine])
    return tuple(struct.iter_unpack("=HBBI", code))


@cache
def number(machine: str, name: str) -> int:
    found = resolve_syscall(ARCHES[machine], name)
    assert found >= 0, name
    return found


def run(code: tuple[tuple[int, int, int, int], ...], data: bytes) -> tuple[int, int]:
    """Run a seccomp program on a struct seccomp_data; give its verdict and its steps.

    Only what libseccomp emits: LD W ABS, ALU AND K, JMP (JA, JEQ, JGT, JGE), RET K, and
    the scratch memory. Anything else is a failure of the test.
    """
    accumulator = at = steps = 0
    while True:
        operation, when_true, when_false, k = code[at]
        steps, at = steps + 1, at + 1
        if operation == 0x20:  # LD W ABS
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif operation == 0x54:  # ALU AND K
            accumulator &= k
        elif operation == 0x05:  # JMP JA
            at += k
        elif operation in (0x15, 0x25, 0x35):  # JMP JEQ, JGT, JGE with K
            taken = {
                0x15: accumulator == k,
                0x25: accumulator > k,
                0x35: accumulator >= k,
            }[operation]
            at += when_true if taken else when_false
        elif operation == 0x06:  # RET K
            return k, steps
        else:
            raise AssertionError(f"unexpected operation {operation:#x}")


def verdict(machine: str, nr: int, *args: int, arch: int | None = None) -> tuple[int, int]:
    words = [*args, *[0] * (6 - len(args))]
    data = struct.pack(
        "=IIQ6Q", nr & WORD, AUDIT_ARCH[machine] if arch is None else arch, 0x7F00DEADBEEF, *words
    )
    return run(program(machine), data)


def answer(machine: str, name: str, *args: int) -> int:
    return verdict(machine, number(machine, name), *args)[0]


def names(text: str) -> list[str]:
    return text.split()


# --- the oracle ------------------------------------------------------------------------

EPERM_CALLS = names("""seccomp ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp bpf
perf_event_open userfaultfd keyctl add_key request_key mount umount2 pivot_root open_tree
move_mount fsopen fsconfig fsmount fspick mount_setattr unshare setns chroot init_module
finit_module delete_module kexec_load kexec_file_load open_by_handle_at name_to_handle_at
mknodat setxattr lsetxattr fsetxattr removexattr vmsplice clock_settime clock_adjtime
settimeofday adjtimex sethostname setdomainname fanotify_init fanotify_mark
sched_setaffinity sched_setattr sched_setscheduler reboot swapon acct syslog
process_madvise""")
ENOSYS_CALLS = names("""io_uring_setup io_uring_enter io_uring_register clone3 openat2 memfd_create
memfd_secret execveat landlock_create_ruleset landlock_restrict_self pidfd_open
pidfd_send_signal mq_open msgget splice tee remap_file_pages sync
set_mempolicy mbind ioprio_set io_setup io_submit inotify_init1 semget semop""")
ALLOW_CALLS = names("""read write close mmap munmap brk futex recvfrom recvmsg accept4
getsockopt shutdown epoll_pwait execve wait4 exit_group kill getpid fsync
fdatasync fallocate sync_file_range rt_sigaction rt_sigreturn getrandom statx rseq
set_robust_list shmat unlinkat close_range setsid umask
setrlimit dup3 ppoll""")
X86_ONLY_EPERM = ["mknod", "modify_ldt", "iopl", "ioperm"]

MSG_OOB, MSG_FASTOPEN = 1, 0x20000000
NAMESPACE_BITS = 0x7E020000
OPTIONS = {
    1: {2, 7, 8, 9, 13, 16, 20, 21, 66, 67},
    6: {1, 3, 4, 5, 6, 12, 18},
    0: {1},
    41: {26, 67},
}
IOCTLS = {0x5401, 0x5402, 0x5403, 0x5404, 0x540E, 0x540F, 0x5410, 0x5413, 0x5414, 0x541B}
IOCTLS |= {0x5421, 0x5450, 0x5451, 0x802C542A, 0x402C542B, 0x402C542C, 0x402C542D}
PRCTLS = {1, 2, 3, 7, 15, 16, 21, 23, 30, 36, 37, 38, 39, 41, 42, 0x53564D41}
PRCTLS_REFUSED = {4, 22, 0x59616D61}


MODES = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "mkdir": 1, "mkdirat": 2, "creat": 1}
OPENS = {"open": 1, "openat": 2}


def expected(name: str, *wide: int) -> int:
    """What SECURITY.md says of a call whose arguments matter, given as 64-bit words."""
    a = [word & WORD for word in wide]
    if name in ("socket", "socketpair"):
        family, kind, protocol = a[0], a[1] & 0xF, a[2]
        if family not in ((1,) if name == "socketpair" else (1, 2, 10)):
            return refused(errno.EAFNOSUPPORT)
        kinds = {"socketpair": (1, 5), "socket": (1,) if family == 1 else (1, 2)}[name]
        if kind not in kinds:
            return refused(errno.ESOCKTNOSUPPORT)
        if family != 1 and protocol not in (0, 6 if kind == 1 else 17):
            return refused(errno.EPROTONOSUPPORT)
        return ALLOW
    if name in ("sendto", "sendmsg", "sendmmsg"):
        flags = a[2] if name == "sendmsg" else a[3]
        return refused(errno.EOPNOTSUPP) if flags & (MSG_OOB | MSG_FASTOPEN) else ALLOW
    if name == "setsockopt":
        return ALLOW if a[2] in OPTIONS.get(a[1], ()) else refused(errno.ENOPROTOOPT)
    if name == "ioctl":
        return ALLOW if a[1] in IOCTLS else refused(errno.ENOTTY)
    if name == "prctl":
        if a[0] in PRCTLS_REFUSED:
            return refused(errno.EPERM)
        return ALLOW if a[0] in PRCTLS else refused(errno.EINVAL)
    if name == "clone":
        return refused(errno.EPERM) if a[0] & NAMESPACE_BITS else ALLOW
    if name == "personality":
        return ALLOW if a[0] in (0, WORD) else refused(errno.EPERM)
    if name == "prlimit64":
        return ALLOW if a[0] == 0 else refused(errno.EPERM)
    if name == "fcntl":
        return refused(errno.EPERM) if a[1] & 0x41F in (0x400, 0x410) else ALLOW
    if name in MODES:
        return refused(errno.EPERM) if a[MODES[name]] & 0o6000 else ALLOW
    if name in OPENS:
        flags = a[OPENS[name]]
        creates = flags & 0o100 or flags & 0o20000000
        return refused(errno.EPERM) if creates and a[OPENS[name] + 1] & 0o6000 else ALLOW
    if name == "shmget":
        return ALLOW if wide[1] < 1 << 20 else refused(errno.EINVAL)
    raise AssertionError(name)


BY_ARGUMENT = names("""socket socketpair sendto sendmsg sendmmsg setsockopt ioctl prctl clone
personality prlimit64 fcntl fchmod fchmodat mkdirat openat shmget""")
X86_BY_ARGUMENT = names("chmod mkdir creat open")

# Values near every boundary: each listed one, its neighbours, each single bit.
INTERESTING = sorted(
    {
        (value + step) & WORD
        for value in {
            *IOCTLS,
            *PRCTLS,
            *PRCTLS_REFUSED,
            *(option for options in OPTIONS.values() for option in options),
            *(1 << bit for bit in range(32)),
            *(0, 3, 10, 17, 41, 132, 136, 262, 1024, 1033, 0x5412, 0x541C, WORD),
        }
        for step in (-1, 0, 1)
    }
)
low_words = st.one_of(st.sampled_from(INTERESTING), st.integers(0, WORD))
words = st.builds(
    lambda low, high: high << 32 | low,
    low_words,
    st.one_of(st.just(0), st.sampled_from([1, 1 << 31, WORD]), st.integers(0, WORD)),
)
machines = st.sampled_from(sorted(ARCHES))


@settings(max_examples=3000, deadline=None)
@given(machines, st.sampled_from(BY_ARGUMENT), st.tuples(*[words] * 6))
@example("x86_64", "ioctl", (0, 0x5412 | 1 << 32, 0, 0, 0, 0))
@example("x86_64", "ioctl", (0, 0x5401 | 1 << 32, 0, 0, 0, 0))
@example("x86_64", "prctl", (22 | 1 << 32, 0, 0, 0, 0, 0))
@example("x86_64", "clone", (0x10000000 | 1 << 40, 0, 0, 0, 0, 0))
def test_a_verdict_by_argument_is_the_oracles(machine: str, name: str, args: tuple[int, ...]) -> None:
    assert answer(machine, name, *args) == expected(name, *args)


@pytest.mark.parametrize("machine", sorted(ARCHES))
@pytest.mark.parametrize("name", BY_ARGUMENT)
def test_every_interesting_value_of_every_decided_argument_is_the_oracles(machine: str, name: str) -> None:
    if name in ("socket", "socketpair"):
        grid = [
            (f, k | flags, p)
            for f in range(46)
            for k in range(16)
            for flags in (0, 0o2000000, 0o4000)
            for p in (0, 1, 6, 17, 132, 136, 255, 262)
        ]
    elif name == "setsockopt":
        levels = (*range(50), 255, 256, 270, 282, 284)
        grid = [(0, level, option) for level in levels for option in range(130)]
    else:
        grid = [(value,) * 4 for value in INTERESTING]
    for args in grid:
        assert answer(machine, name, *args) == expected(name, *args), args


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(X86_BY_ARGUMENT), st.tuples(*[words] * 6))
def test_the_older_calls_of_x86_are_decided_as_their_successors(name: str, args: tuple[int, ...]) -> None:
    assert answer("x86_64", name, *args) == expected(name, *args)


@pytest.mark.parametrize("machine", sorted(ARCHES))
def test_constant_verdicts_do_not_look_at_arguments(machine: str) -> None:
    table = {name: ALLOW for name in ALLOW_CALLS}
    table |= {name: refused(errno.EPERM) for name in EPERM_CALLS}
    table |= {name: refused(errno.ENOSYS) for name in ENOSYS_CALLS}
    table |= {name: NOTIFY for name in ("bind", "connect", "listen")}
    if machine == "x86_64":
        table |= {name: refused(errno.EPERM) for name in X86_ONLY_EPERM}
    for name, action in table.items():
        for args in ((0,) * 6, (WORD,) * 6, (1 << 63 | 1,) * 6):
            assert answer(machine, name, *args) == action, name


@given(machines, st.integers(470, X32_BIT - 1), st.tuples(*[words] * 6))
def test_61_an_unknown_number_is_enosys(machine: str, nr: int, args: tuple[int, ...]) -> None:
    assert verdict(machine, nr, *args)[0] == refused(errno.ENOSYS)


def test_the_number_minus_one_is_enosys() -> None:
    for machine in ARCHES:
        assert verdict(machine, -1)[0] == refused(errno.ENOSYS)


@given(st.integers(X32_BIT, WORD - 1))
@example(X32_BIT)
@example(X32_BIT | 42)
def test_59_an_x32_number_kills_the_process(nr: int) -> None:
    assert verdict("x86_64", nr)[0] == KILL_PROCESS


@given(machines, st.integers(0, WORD), st.integers(0, WORD))
@example("x86_64", 1, AUDIT_ARCH_I386)
@example("aarch64", 4, AUDIT_ARCH_ARM)
@example("x86_64", 0, AUDIT_ARCH["aarch64"])
def test_59_a_foreign_architecture_kills_the_process(machine: str, nr: int, arch: int) -> None:
    if arch != AUDIT_ARCH[machine]:
        assert verdict(machine, nr, arch=arch)[0] == KILL_PROCESS


# --- size and cost ---------------------------------------------------------------------

# Instructions that one call may cost. Calls with a constant answer do not appear: the
# kernel caches those at installation (since 5.11) and runs nothing.
BUDGET = {
    ("sendto", (0, 0, 0, 0x4000)): 30,
    ("sendmsg", (0, 0, 0x4000)): 30,
    ("clone", (0x01200011,)): 50,
    ("fcntl", (0, 4)): 50,
    ("setsockopt", (0, 6, 1)): 260,
    ("setsockopt", (0, 1, 9)): 260,
    ("ioctl", (0, 0x541B)): 320,
}


@pytest.mark.parametrize("machine", sorted(ARCHES))
def test_hot_calls_stay_within_their_budget_of_instructions(machine: str) -> None:
    for (name, args), most in BUDGET.items():
        action, steps = verdict(machine, number(machine, name), *args)
        assert action == ALLOW
        assert steps <= most, f"{name} takes {steps} instructions"


@pytest.mark.parametrize("machine", sorted(ARCHES))
def test_the_program_is_within_the_kernels_limit(machine: str) -> None:
    # BPF_MAXINSNS, linux/bpf_common.h
    assert len(program(machine)) <= 4096


# --- the compiler ----------------------------------------------------------------------


@given(st.sets(low_words, max_size=12), low_words, words)
def test_a_complement_is_disjoint_and_matches_what_is_no_value(
    values: set[int], within: int, word: int
) -> None:
    values = {value & within for value in values}
    pairs = list(complement(values, within))
    matching = [pair for pair in pairs if word & pair[0] == pair[1]]
    assert len(matching) == (0 if word & within & WORD in values else 1)
    assert all(value & mask == value and mask & within == mask for mask, value in pairs)


def test_extra_calls_are_allowed_and_nothing_else_changes() -> None:
    machine = platform.machine()
    code = tuple(struct.iter_unpack("=HBBI", build(["memfd_create"])))
    for name in ("memfd_create", "splice"):
        data = struct.pack("=IIQ6Q", number(machine, name), AUDIT_ARCH[machine], *[0] * 7)
        want = ALLOW if name == "memfd_create" else refused(errno.ENOSYS)
        assert run(code, data)[0] == want


@pytest.mark.parametrize("name", ["ptrace", "bind", "ioctl"])
def test_an_extra_call_cannot_lift_a_decision(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        build([name])


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UnknownCall, match="frobnicate"):
        build(["frobnicate"])


def test_two_compilations_give_the_same_bytes() -> None:
    assert build() == build()
