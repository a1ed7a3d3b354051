"""The compiled policy, really installed in a child process: the kernel's own verdicts."""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys

import pytest

from pyhelpers.policy_compiler import build

# Reads the filter from stdin, installs it, evaluates the expression in argv[1] and prints
# it as JSON. `c(NAME, …)` makes a raw call and gives the errno's name, or "ok".
# (Python says ENOTSUP where C says EOPNOTSUPP: one number.)
PROBE = r"""
import ctypes, errno, json, mmap, os, platform, socket, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
code = sys.stdin.buffer.read()
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
x86 = platform.machine() == "x86_64"
number = {
    "ptrace": (101, 117), "seccomp": (317, 277), "prctl": (157, 167), "ioctl": (16, 29),
    "clone": (56, 220), "unshare": (272, 97), "personality": (135, 92), "clone3": (435, 435),
    "io_uring_setup": (425, 425), "sched_setaffinity": (203, 122), "prlimit64": (302, 261),
    "bpf": (321, 280), "nonsense": (9999, 9999), "fcntl": (72, 25),
}
def c(name, *arguments):
    nr = number[name][0 if x86 else 1] if isinstance(name, str) else name
    ctypes.set_errno(0)
    words = [ctypes.c_long(word) for word in arguments] + [ctypes.c_long(0)] * (6 - len(arguments))
    result = libc.syscall(ctypes.c_long(nr), *words)
    return "ok" if result >= 0 else errno.errorcode[ctypes.get_errno()]
def outcome(act, *arguments):
    try:
        act(*arguments)
    except OSError as problem:
        return errno.errorcode[problem.errno]
    return "ok"
def machine_code(code):
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return ctypes.CFUNCTYPE(ctypes.c_long)(address)()
tcp = socket.socket()
left, right = socket.socketpair()
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(len(code) // 8, code))) == 0
print(json.dumps(eval(sys.argv[1])))
"""

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64"), reason="the policy is for x86_64 and aarch64"
)
on_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="x86_64 only")


def probe(expression: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-I", "-S", "-c", PROBE, expression]
    return subprocess.run(command, input=build(), capture_output=True, timeout=60)


@pytest.mark.parametrize(
    ("expression", "want"),
    [
        ("c('ptrace', 0, 0)", "EPERM"),
        ("c('seccomp', 1, 8, 0)", "EPERM"),
        ("c('prctl', 22, 2, 0)", "EPERM"),
        ("c('prctl', 22 | 1 << 32, 2, 0)", "EPERM"),
        ("c('prctl', 4, 1)", "EPERM"),
        ("c('prctl', 0x59616D61, 1)", "EPERM"),
        ("c('prctl', 35, 1)", "EINVAL"),
        ("c('prctl', 1, 9)", "ok"),
        ("c('ioctl', 0, 0x5412, 0)", "ENOTTY"),
        ("c('ioctl', 0, 0x5412 | 1 << 32, 0)", "ENOTTY"),
        ("c('ioctl', tcp.fileno(), 0x8912, 0)", "ENOTTY"),
        ("c('ioctl', tcp.fileno(), 0x5421, id(bytes(8)) + 32)", "ok"),
        ("c('clone', 0x10000000 | 17, 0)", "EPERM"),
        ("c('unshare', 0x10000000)", "EPERM"),
        ("c('clone3', 0, 0)", "ENOSYS"),
        ("c('io_uring_setup', 1, 0)", "ENOSYS"),
        ("c('nonsense')", "ENOSYS"),
        ("c(-1)", "ENOSYS"),
        ("c('bpf', 0, 0, 0)", "EPERM"),
        ("c('personality', 0x0400000)", "EPERM"),
        ("c('personality', 0xFFFFFFFF)", "ok"),
        ("c('sched_setaffinity', 0, 8, 0)", "EPERM"),
        ("c('prlimit64', 1, 7, 0, 0)", "EPERM"),
        ("c('prlimit64', 0, 7, 0, 0)", "ok"),
        ("c('fcntl', 0, 1024, 0)", "EPERM"),
        ("c('fcntl', 0, 3)", "ok"),
        ("outcome(socket.socket, 16, 3, 0)", "EAFNOSUPPORT"),
        ("outcome(socket.socket, 1, 2, 0)", "ESOCKTNOSUPPORT"),
        ("outcome(socket.socket, 2, 3, 1)", "ESOCKTNOSUPPORT"),
        ("outcome(socket.socket, 2, 1, 262)", "EPROTONOSUPPORT"),
        ("outcome(socket.socket, 2, 1, 6)", "ok"),
        ("outcome(socket.socket, 10, 2, 17)", "ok"),
        ("outcome(socket.socketpair, 1, 2, 0)", "ESOCKTNOSUPPORT"),
        ("outcome(socket.socketpair, 1, 5, 0)", "ok"),
        ("outcome(tcp.setsockopt, 6, 30, 1)", "ENOPROTOOPT"),
        ("outcome(tcp.setsockopt, 1, 25, b'lo')", "ENOPROTOOPT"),
        ("outcome(tcp.setsockopt, 6, 1, 1)", "ok"),
        ("outcome(tcp.sendto, b'x', 0x20000000, ('127.0.0.1', 9))", "ENOTSUP"),
        ("outcome(left.sendmsg, [b'x'], [], 1)", "ENOTSUP"),
        ("outcome(left.sendmsg, [b'x'], [], 0x4000)", "ok"),
        ("outcome(os.setxattr, '/', 'user.x', b'y')", "EPERM"),
        ("subprocess.run(['/bin/sh', '-c', 'echo a | cat'], stdout=-1).stdout.decode()", "a\n"),
        ("os.waitstatus_to_exitcode(os.wait()[1]) if os.fork() else os._exit(7)", 7),
    ],
)
def test_the_kernel_answers_as_the_policy_says(expression: str, want: object) -> None:
    done = probe(expression)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == want


@on_x86
@pytest.mark.parametrize(
    "expression",
    [
        "c(0x40000000 | 39)",
        # mov eax, 20 (getpid of i386); int 0x80; ret
        "machine_code(bytes.fromhex('b814000000cd80c3'))",
    ],
)
def test_59_x32_and_int80_end_in_sigsys(expression: str) -> None:
    assert probe(expression).returncode == -signal.SIGSYS
