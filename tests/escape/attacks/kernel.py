"""Raw system calls for the attacks, which run as the guest. Standard library only."""

import ctypes
import errno
import json
import os
import platform
import socket
import struct
import sys
import time

X86 = platform.machine() == "x86_64"
libc = ctypes.CDLL(None, use_errno=True)

# Numbers: (x86_64, aarch64); those above 424 are the same everywhere.
NUMBERS = {
    "bind": (49, 200),
    "connect": (42, 203),
    "listen": (50, 201),
    "mount": (165, 40),
    "umount2": (166, 39),
    "mount_setattr": (442, 442),
    "open_tree": (428, 428),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "mknodat": (259, 33),
    "open_by_handle_at": (304, 265),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "clone": (56, 220),
    "clone3": (435, 435),
    "unshare": (272, 97),
    "setns": (308, 268),
    "seccomp": (317, 277),
    "prctl": (157, 167),
    "ioctl": (16, 29),
    "io_uring_setup": (425, 425),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "personality": (135, 92),
    "keyctl": (250, 219),
    "sched_setaffinity": (203, 122),
    "setxattr": (188, 5),
    "sendmmsg": (307, 269),
    "dup3": (292, 24),
}


def name_of(code):
    return errno.errorcode.get(code, str(code)) if code else "ok"


def raw(call, *arguments):
    """Make a call by name or number: "ok" or the errno's name. Addresses are ints."""
    number = NUMBERS[call][0 if X86 else 1] if isinstance(call, str) else call
    words = [ctypes.c_long(word) for word in arguments]
    words += [ctypes.c_long(0)] * (6 - len(words))
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *words)
    return "ok" if result >= 0 else name_of(ctypes.get_errno())


def outcome(act, *arguments):
    """Do something that raises OSError when refused: "ok" or the errno's name."""
    try:
        act(*arguments)
    except OSError as problem:
        return name_of(problem.errno) if problem.errno else "timeout"
    return "ok"


def sockaddr(host, port):
    """A struct sockaddr_in or sockaddr_in6, by the form of the address."""
    if ":" in host:
        packed = socket.inet_pton(socket.AF_INET6, host)
        return struct.pack("=HH", socket.AF_INET6, socket.htons(port)) + bytes(4) + packed + bytes(4)
    packed = socket.inet_pton(socket.AF_INET, host)
    return struct.pack("=HH", socket.AF_INET, socket.htons(port)) + packed + bytes(8)


def address_call(call, sock, address):
    """bind or connect with the bytes of an address, whatever they are."""
    buffer = ctypes.create_string_buffer(address, len(address))
    return raw(call, sock.fileno(), ctypes.addressof(buffer), len(address))


UNSPEC = struct.pack("=H", 0) + bytes(14)


def tcp(host="127.0.0.1"):
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(15)
    return sock


def say(word):
    """Tell the test outside how far we are; it reads line by line."""
    print(word, flush=True)


def wait_for(path, seconds=20):
    """Wait until the test outside has made a file in a granted tree."""
    until = time.monotonic() + seconds
    while not os.path.exists(path):
        if time.monotonic() > until:
            raise SystemExit("the test outside did not make " + path)
        time.sleep(0.01)


def main(module):
    """Run the function named in argv with the JSON arguments after it; print its result."""
    function = module[sys.argv[1]]
    print(json.dumps(function(*(json.loads(word) for word in sys.argv[2:]))), flush=True)
