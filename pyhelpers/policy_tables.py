"""The system-call policy as data; `policy_compiler` turns it into a program.

Names are the kernel's. Constants are from the kernel's uapi headers (asm-generic, which
x86_64 and aarch64 share) and carry the header's name beside them.

A call that is in none of these tables is answered ENOSYS, so that a C library falls back
to an older call as it does on an older kernel. That is also how clone3, openat2,
io_uring_*, memfd_create, pidfd_open, execveat and whatever the next kernel brings are
answered.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union

LOW_WORD = 0xFFFFFFFF
# linux/seccomp.h: SECCOMP_RET_ALLOW and SECCOMP_RET_ERRNO
ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def refuse(code: int) -> int:
    """The action that answers a call with this errno."""
    return _ERRNO | code


@dataclass(frozen=True)
class Switch:
    """Decides by some bits of one argument.

    The kernel reads flags, commands and families as 32-bit words, so bits above are
    ignored here too, unless the mask says otherwise: `TIOCSTI | 1 << 32` is TIOCSTI.

    argument:  its index, from 0
    cases:     value → action, or the next Switch
    otherwise: the action for every other value
    mask:      the bits that are looked at; each value lies within it
    """

    argument: int
    cases: Mapping[int, Verdict]
    otherwise: int
    mask: int = LOW_WORD


Verdict = Union[int, Switch]


def _allow(*values: int) -> dict[int, Verdict]:
    return {value: ALLOW for value in values}


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Stopped for the broker, which answers with a result and never lets the call continue.
NOTIFIED = ("bind", "connect", "listen")

# Refused as a kernel refuses the unprivileged. ENOSYS would do as well for safety, but
# people read "Operation not permitted" rightly.
REFUSED = _names("""
    seccomp ptrace process_vm_readv process_vm_writev process_madvise process_mrelease
    pidfd_getfd kcmp bpf perf_event_open userfaultfd
    keyctl add_key request_key
    mount umount2 pivot_root chroot unshare setns
    open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick mount_setattr
    statmount listmount
    init_module finit_module delete_module kexec_load kexec_file_load reboot
    open_by_handle_at name_to_handle_at mknod mknodat
    setxattr lsetxattr fsetxattr setxattrat
    removexattr lremovexattr fremovexattr removexattrat
    vmsplice fanotify_init fanotify_mark
    clock_settime clock_adjtime settimeofday adjtimex sethostname setdomainname
    modify_ldt iopl ioperm
    swapon swapoff acct quotactl quotactl_fd syslog lookup_dcookie vhangup
    sched_setaffinity sched_setattr sched_setscheduler sched_setparam
    migrate_pages move_pages
""")

# What database servers, their init programs and their clients,
# bash, the coreutils and Python were seen to use (strace), and the siblings of those.
ALLOWED = _names("""
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek
    close close_range dup dup2 dup3 pipe pipe2
    stat fstat lstat newfstatat statx statfs fstatfs access faccessat faccessat2
    getdents getdents64 getcwd chdir fchdir
    rmdir rename renameat renameat2 link linkat symlink symlinkat
    readlink readlinkat unlink unlinkat truncate ftruncate fallocate
    chown fchown lchown fchownat umask
    utime utimes utimensat futimesat
    getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
    fsync fdatasync syncfs sync_file_range fadvise64 readahead flock
    sendfile copy_file_range
    mmap mprotect munmap mremap brk madvise msync mincore mlock mlock2 munlock
    mlockall munlockall membarrier
    shmat shmdt shmctl
    poll ppoll select pselect6
    epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
    eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime timerfd_gettime
    accept accept4 recvfrom recvmsg recvmmsg shutdown getsockname getpeername getsockopt
    fork vfork execve exit exit_group wait4 waitid
    getpid getppid gettid getpgid getpgrp getsid setpgid setsid
    getuid geteuid getgid getegid getresuid getresgid getgroups
    setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid
    capget capset
    kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo
    rt_sigaction rt_sigprocmask rt_sigpending rt_sigsuspend rt_sigtimedwait rt_sigreturn
    sigaltstack pause alarm getitimer setitimer restart_syscall
    timer_create timer_settime timer_gettime timer_getoverrun timer_delete
    nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times
    futex get_robust_list set_robust_list set_tid_address rseq arch_prctl
    sched_yield sched_getaffinity sched_getattr sched_getparam sched_getscheduler
    sched_get_priority_max sched_get_priority_min sched_rr_get_interval
    getpriority setpriority getrlimit setrlimit getrusage
    uname sysinfo getcpu getrandom
""")

# Absent by design from some architecture: aarch64 never had the first group, only
# x86 has the second.
LEGACY = frozenset(
    _names("""
    open creat dup2 pipe stat lstat access getdents mkdir rmdir rename link symlink
    readlink unlink chmod chown lchown utime utimes futimesat poll select
    epoll_create epoll_wait eventfd signalfd fork vfork getpgrp pause alarm time mknod
    arch_prctl modify_ldt iopl ioperm
    """)
)

# Newer than libseccomp 2.5.2, the oldest that is met (RHEL 9): where it does not know
# them they fall to the default, ENOSYS.
RECENT = frozenset(
    _names("""
    process_mrelease fchmodat2 statmount listmount setxattrat removexattrat
    open_tree_attr quotactl_fd
    """)
)

_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_SOCK_STREAM, _SOCK_DGRAM, _SOCK_SEQPACKET = 1, 2, 5
_IPPROTO_TCP, _IPPROTO_UDP, _IPPROTO_IPV6 = 6, 17, 41
# linux/net.h SOCK_TYPE_MASK: the bits above are SOCK_CLOEXEC and SOCK_NONBLOCK.
_SOCK_TYPE_MASK = 0xF

_NO_FAMILY = refuse(errno.EAFNOSUPPORT)
_NO_TYPE = refuse(errno.ESOCKTNOSUPPORT)
_NO_PROTOCOL = refuse(errno.EPROTONOSUPPORT)

_INTERNET = Switch(
    1,
    {
        _SOCK_STREAM: Switch(2, _allow(0, _IPPROTO_TCP), _NO_PROTOCOL),
        _SOCK_DGRAM: Switch(2, _allow(0, _IPPROTO_UDP), _NO_PROTOCOL),
    },
    _NO_TYPE,
    _SOCK_TYPE_MASK,
)

# No AF_UNIX datagrams, not from socketpair either: sendto and sendmsg on one name any
# path, so they would reach a host's socket in a granted tree past the broker.
# (SOCK_SEQPACKET ignores the name, SOCK_STREAM refuses it: net/unix/af_unix.c.)
_UNIX = Switch(1, _allow(_SOCK_STREAM), _NO_TYPE, _SOCK_TYPE_MASK)
_UNIX_PAIR = Switch(1, _allow(_SOCK_STREAM, _SOCK_SEQPACKET), _NO_TYPE, _SOCK_TYPE_MASK)

# MSG_FASTOPEN connects without connect(2); MSG_OOB is of no use to a database and has a
# history of faults in AF_UNIX.
_MSG_OOB, _MSG_FASTOPEN = 0x1, 0x20000000


def _send(flags: int) -> Switch:
    mask = _MSG_FASTOPEN | _MSG_OOB
    return Switch(flags, _allow(0), refuse(errno.EOPNOTSUPP), mask)


# The guest may call this on sockets of the host's namespace (its listener, what it
# accepted, what the broker connected). So nothing that connects by itself
# (TCP_FASTOPEN_CONNECT), replaces the protocol (TCP_ULP), attaches programs, chooses
# devices, marks or foreign addresses (SO_BINDTODEVICE, SO_MARK, IP_FREEBIND,
# IP_TRANSPARENT), or shares the port with another process (SO_REUSEPORT).
_SOCKET_OPTIONS = _allow(
    2,  # SO_REUSEADDR
    7,  # SO_SNDBUF
    8,  # SO_RCVBUF
    9,  # SO_KEEPALIVE
    13,  # SO_LINGER
    16,  # SO_PASSCRED
    20,  # SO_RCVTIMEO
    21,  # SO_SNDTIMEO
    66,  # SO_RCVTIMEO_NEW
    67,  # SO_SNDTIMEO_NEW
)
_TCP_OPTIONS = _allow(
    1,  # TCP_NODELAY
    3,  # TCP_CORK
    4,  # TCP_KEEPIDLE
    5,  # TCP_KEEPINTVL
    6,  # TCP_KEEPCNT
    12,  # TCP_QUICKACK
    18,  # TCP_USER_TIMEOUT
)
_NO_OPTION = refuse(errno.ENOPROTOOPT)
_SET_OPTION = Switch(
    1,
    {
        1: Switch(2, _SOCKET_OPTIONS, _NO_OPTION),  # SOL_SOCKET
        _IPPROTO_TCP: Switch(2, _TCP_OPTIONS, _NO_OPTION),
        0: Switch(2, _allow(1), _NO_OPTION),  # IPPROTO_IP: IP_TOS
        _IPPROTO_IPV6: Switch(2, _allow(26, 67), _NO_OPTION),  # IPV6_V6ONLY, IPV6_TCLASS
    },
    _NO_OPTION,
)

# A terminal for exec, and what descriptors need. Not TIOCSTI, TIOCLINUX (typing into a
# terminal), not SIOC* (the host's interfaces through a host socket), no file system's.
_IOCTL = Switch(
    1,
    _allow(
        0x5401,  # TCGETS
        0x5402,  # TCSETS
        0x5403,  # TCSETSW
        0x5404,  # TCSETSF
        0x802C542A,  # TCGETS2, which glibc 2.42 uses
        0x402C542B,  # TCSETS2
        0x402C542C,  # TCSETSW2
        0x402C542D,  # TCSETSF2
        0x540E,  # TIOCSCTTY
        0x540F,  # TIOCGPGRP
        0x5410,  # TIOCSPGRP
        0x5413,  # TIOCGWINSZ
        0x5414,  # TIOCSWINSZ
        0x541B,  # FIONREAD
        0x5421,  # FIONBIO
        0x5450,  # FIONCLEX
        0x5451,  # FIOCLEX
    ),
    refuse(errno.ENOTTY),
)

_NOT_PERMITTED = refuse(errno.EPERM)
_PRCTL = Switch(
    0,
    {
        **_allow(
            1,  # PR_SET_PDEATHSIG
            2,  # PR_GET_PDEATHSIG
            3,  # PR_GET_DUMPABLE
            7,  # PR_GET_KEEPCAPS
            15,  # PR_SET_NAME
            16,  # PR_GET_NAME
            21,  # PR_GET_SECCOMP
            23,  # PR_CAPBSET_READ
            30,  # PR_GET_TIMERSLACK
            36,  # PR_SET_CHILD_SUBREAPER
            37,  # PR_GET_CHILD_SUBREAPER
            38,  # PR_SET_NO_NEW_PRIVS
            39,  # PR_GET_NO_NEW_PRIVS
            41,  # PR_SET_THP_DISABLE
            42,  # PR_GET_THP_DISABLE
            0x53564D41,  # PR_SET_VMA: names of memory areas
        ),
        4: _NOT_PERMITTED,  # PR_SET_DUMPABLE
        22: _NOT_PERMITTED,  # PR_SET_SECCOMP
        0x59616D61: _NOT_PERMITTED,  # PR_SET_PTRACER
    },
    refuse(errno.EINVAL),
)

# linux/sched.h: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
# CLONE_NEWTIME is clone3's and unshare's alone.
_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000
_NAMESPACES |= 0x10000000 | 0x20000000 | 0x40000000

# linux/fcntl.h: commands are 0-16 and 1024-1040, so these bits tell them all apart;
# whatever else they match, the kernel knows no such command. F_SETDELEG is Linux 6.19's.
_F_SETLEASE, _F_SETDELEG, _FCNTL_COMMANDS = 1024, 1040, 0x41F

# linux/stat.h: S_ISUID and S_ISGID. A file that the guest makes in a writable grant is, outside,
# its owner's: with these bits it would lend the owner's rights to every user of the host.
_SET_ID = 0o6000
# asm-generic/fcntl.h: O_CREAT and __O_TMPFILE; without them open's mode is not read.
_CREAT, _TMPFILE = 0o100, 0o20000000


def _no_set_id(mode: int) -> Switch:
    return Switch(mode, _allow(0), _NOT_PERMITTED, _SET_ID)


def _open(flags: int) -> Switch:
    made = _no_set_id(flags + 1)
    cases: dict[int, Verdict] = {0: ALLOW, _CREAT: made, _TMPFILE: made, _CREAT | _TMPFILE: made}
    return Switch(flags, cases, _NOT_PERMITTED, _CREAT | _TMPFILE)


# A segment that is touched and then detached belongs to no process, so that without a control
# group nothing would count it. PostgreSQL's interlock is 56 bytes. A size_t: all 64 bits count.
_SEGMENT_MOST = 1 << 20
_SEGMENT = Switch(1, _allow(0), refuse(errno.EINVAL), (1 << 64) - _SEGMENT_MOST)

BY_ARGUMENT: Mapping[str, Switch] = {
    "socket": Switch(0, {_AF_UNIX: _UNIX, _AF_INET: _INTERNET, _AF_INET6: _INTERNET}, _NO_FAMILY),
    "socketpair": Switch(0, {_AF_UNIX: _UNIX_PAIR}, _NO_FAMILY),
    "sendto": _send(3),
    "sendmsg": _send(2),
    "sendmmsg": _send(3),
    "setsockopt": _SET_OPTION,
    "ioctl": _IOCTL,
    "prctl": _PRCTL,
    "clone": Switch(0, _allow(0), _NOT_PERMITTED, _NAMESPACES),
    # Zero is PER_LINUX, all ones asks. Others switch off ASLR or make reads executable.
    "personality": Switch(0, _allow(0, 0xFFFFFFFF), _NOT_PERMITTED),
    # Its own limits only: pid 1 inside has the same uid and would let itself be starved.
    "prlimit64": Switch(0, _allow(0), _NOT_PERMITTED),
    # A lease on a file of a read grant would hold up the host's own writers.
    "fcntl": Switch(1, {_F_SETLEASE: _NOT_PERMITTED, _F_SETDELEG: _NOT_PERMITTED}, ALLOW, _FCNTL_COMMANDS),
    "chmod": _no_set_id(1),
    "fchmod": _no_set_id(1),
    "fchmodat": _no_set_id(2),
    "fchmodat2": _no_set_id(2),
    "mkdir": _no_set_id(1),
    "mkdirat": _no_set_id(2),
    "creat": _no_set_id(1),
    "open": _open(1),
    "openat": _open(2),
    "shmget": _SEGMENT,
}
