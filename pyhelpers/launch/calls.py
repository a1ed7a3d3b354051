"""System calls that Python has no function for, by ctypes. One function each, errors as OSError.

Numbers are from the kernel's headers (arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h); structures from include/uapi/linux.
"""

from __future__ import annotations

import ctypes
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

# Above 423 the numbers are the same on every architecture.
_OLD = {
    "x86_64": {"seccomp": 317, "keyctl": 250, "kcmp": 312, "pivot_root": 155, "rt_sigaction": 13},
    "aarch64": {"seccomp": 277, "keyctl": 219, "kcmp": 272, "pivot_root": 41, "rt_sigaction": 134},
}
MACHINE = os.uname().machine
_NUMBERS = {
    **_OLD.get(MACHINE, {}),
    "open_tree": 428,
    "move_mount": 429,
    "pidfd_open": 434,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
}
SUPPORTED = MACHINE in _OLD

# linux/sched.h
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
# linux/mount.h
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 0x4000, 0x40000
MNT_DETACH = 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = 1, 4
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE, AT_SYMLINK_NOFOLLOW = -100, 0x1000, 0x8000, 0x100
# linux/openat2.h
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_IN_ROOT = 2, 4, 16
# linux/prctl.h
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_CAPBSET_DROP = 1, 4, 8, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 36, 38, 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
CAP_SYS_ADMIN = 21
_KEYCTL_JOIN_SESSION_KEYRING = 1
_KCMP_FILES = 2
_PIDFD_THREAD = os.O_EXCL  # linux/pidfd.h, Linux 6.9


def _check(result: int, name: str, about: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}", about or None)
    return result


def syscall(
    name: str,
    *arguments: int | bytes | ctypes._SimpleCData[object] | ctypes.Array[ctypes.c_char] | None,
    about: str = "",
) -> int:
    """One system call by name; a failure names the call and what it was about."""
    # A bare int would be passed as a C int: its upper half undefined.
    wrapped = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _check(_libc.syscall(ctypes.c_long(_NUMBERS[name]), *wrapped), name, about)


def prctl(option: int, *arguments: int) -> int:
    """prctl(2) with up to four further arguments."""
    wrapped = [ctypes.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)[:4]]
    return _check(_libc.prctl(ctypes.c_int(option), *wrapped), "prctl", str(option))


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare", "")


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """mount(2)."""
    _check(
        _libc.mount(
            source.encode(),
            os.fsencode(target),
            kind.encode() if kind else None,
            ctypes.c_ulong(flags),
            options.encode(),
        ),
        "mount",
        f"{kind or 'propagation'} on {target}",
    )


def umount(target: str, flags: int = MNT_DETACH) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), "umount", target)


def pivot_root_here() -> None:
    """pivot_root(".", "."): the old root ends stacked on the new one, ready to be detached."""
    syscall("pivot_root", b".", b".")


def open_tree(path: str, directory: int = AT_FDCWD) -> int:
    """A detached private copy of the mounts at `path` and below it, as a descriptor (open_tree(2)).

    With an empty path the copy is of what the descriptor `directory` names.
    """
    flags = (
        OPEN_TREE_CLONE | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW | os.O_CLOEXEC | (0 if path else AT_EMPTY_PATH)
    )
    return syscall("open_tree", directory, os.fsencode(path), flags, about=path)


def mount_setattr(tree: int, attributes: int, path: str = "", recursive: bool = True) -> None:
    """Set mount attributes and private propagation, whole tree by default (mount_setattr(2))."""
    # struct mount_attr: attr_set, attr_clr, propagation, userns_fd
    attr = struct.pack("=QQQQ", attributes, 0, MS_PRIVATE, 0)
    flags = (0 if path else AT_EMPTY_PATH) | (AT_RECURSIVE if recursive else 0)
    syscall("mount_setattr", tree, os.fsencode(path), flags, attr, len(attr), about=path)


def move_mount(tree: int, target: str) -> None:
    """Attach a detached tree at `target` (move_mount(2))."""
    syscall("move_mount", tree, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH, about=target)


def openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    """openat2(2) with the RESOLVE_* bits."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve)
    return syscall("openat2", directory, os.fsencode(path), how, len(how), about=path)


def close_all_but(keep: list[int]) -> None:
    """Close every descriptor from 3 up that is not in `keep` (close_range(2))."""
    first = 3
    for fd in [*sorted(fd for fd in set(keep) if fd >= 3), 0xFFFFFFFF]:
        if fd > first:
            syscall("close_range", first, fd - 1 if fd != 0xFFFFFFFF else fd, 0)
        first = fd + 1


def drop_capabilities(keep: int = 0) -> None:
    """Leave the capabilities in the bit set `keep` as permitted and effective (capset(2))."""
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    low, high = keep & 0xFFFFFFFF, keep >> 32
    _check(_libc.capset(header, struct.pack("=6I", low, low, 0, high, high, 0)), "capset", "")


def empty_bounding_set() -> None:
    """Drop every capability that this kernel knows from the bounding and ambient sets."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    with open("/proc/sys/kernel/cap_last_cap", encoding="utf-8") as file:
        last = int(file.read())
    for capability in range(last + 1):
        prctl(PR_CAPBSET_DROP, capability)


def forget_environment() -> None:
    """Overwrite the variables that this program was started with, as /proc/PID/environ shows them."""
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    start, end = int(fields[47]), int(fields[48])  # env_start and env_end (proc(5), fields 50 and 51)
    ctypes.memset(start, 0, end - start)


def new_session_keyring() -> None:
    """An empty session keyring, so that the caller's keys are out of reach (keyctl(2))."""
    syscall("keyctl", _KEYCTL_JOIN_SESSION_KEYRING, None)


def default_signals() -> None:
    """Every signal to its default, 32 and 33 too, which the C library keeps for itself and refuses to set."""
    for number in range(1, 65):
        if number not in (9, 19):  # SIGKILL and SIGSTOP have no other
            # struct kernel_sigaction: handler, flags, restorer, mask; all zero is SIG_DFL
            syscall("rt_sigaction", number, bytes(32), None, 8)


def pidfd_of_thread(tid: int) -> int:
    """A pidfd whose descriptor table is that of thread `tid`.

    Before Linux 6.9 a pidfd names the whole process; a thread with a table of its own is
    then refused (EPERM), since the leader's table would be read instead.
    """
    try:
        return syscall("pidfd_open", tid, _PIDFD_THREAD)
    except OSError:
        leader = thread_group(tid)
    if leader != tid and syscall("kcmp", tid, leader, _KCMP_FILES, 0, 0) != 0:
        raise PermissionError(1, "a thread with its own descriptor table")
    return os.pidfd_open(leader)


def thread_group(tid: int) -> int:
    """The process that thread `tid` belongs to (proc(5), Tgid)."""
    return int(proc_status(tid)["Tgid"])


def proc_status(pid: int) -> dict[str, str]:
    """/proc/PID/status as a mapping."""
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """A duplicate of another process's descriptor (pidfd_getfd(2))."""
    return syscall("pidfd_getfd", pidfd, fd, 0)


def read_memory(pid: int, address: int, length: int) -> bytes:
    """At most `length` bytes of another process's memory, one copy (process_vm_readv(2))."""
    if not length:
        return b""
    buffer = ctypes.create_string_buffer(length)
    local = struct.pack("@PN", ctypes.addressof(buffer), length)
    remote = struct.pack("@PN", address, length)
    got = _check(
        _libc.process_vm_readv(
            ctypes.c_int(pid), local, ctypes.c_ulong(1), remote, ctypes.c_ulong(1), ctypes.c_ulong(0)
        ),
        "process_vm_readv",
        "",
    )
    if got != length:
        raise OSError(14, "process_vm_readv: short read")  # EFAULT, as the kernel's own copy says
    return buffer.raw


def bind(fd: int, address: bytes) -> None:
    """bind(2) with a raw sockaddr."""
    _check(_libc.bind(ctypes.c_int(fd), address, ctypes.c_uint(len(address))), "bind", "")


def connect(fd: int, address: bytes) -> None:
    """connect(2) with a raw sockaddr."""
    _check(_libc.connect(ctypes.c_int(fd), address, ctypes.c_uint(len(address))), "connect", "")


def listen(fd: int, backlog: int) -> None:
    """listen(2)."""
    _check(_libc.listen(ctypes.c_int(fd), ctypes.c_int(backlog)), "listen", "")


def seccomp_install(program: bytes, flags: int) -> int:
    """seccomp(SECCOMP_SET_MODE_FILTER) of an array of struct sock_filter; the listener's descriptor."""
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: length in instructions, then the pointer at its natural alignment.
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    return syscall("seccomp", 1, flags, header)
