"""Attacks on processes, descriptors, capabilities, namespaces and the filter itself."""

import ctypes
import mmap
import os
import resource
import signal
import socket
import subprocess
import threading
import time

from kernel import main, outcome, raw

CLONE_NEW = {
    "NEWNS": 0x00020000,
    "NEWCGROUP": 0x02000000,
    "NEWUTS": 0x04000000,
    "NEWIPC": 0x08000000,
    "NEWUSER": 0x10000000,
    "NEWPID": 0x20000000,
    "NEWNET": 0x40000000,
}


def _status(pid):
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file)


def status(*pids):
    return {str(pid): _status(pid) for pid in pids}


def all_status():
    """Of every process inside, pid 1 included."""
    return {pid: _status(pid) for pid in os.listdir("/proc") if pid.isdigit()}


def others():
    """Attack pid 1 and a sibling: trace, read, write, take descriptors."""
    sibling = subprocess.Popen(["/bin/sleep", "30"])
    memory = ctypes.create_string_buffer(16)
    vector = (ctypes.c_uint64 * 2)(ctypes.addressof(memory), 16)
    at = ctypes.addressof(vector)
    found = {}
    for name, pid in (("pid 1", 1), ("sibling", sibling.pid)):
        found[name] = {
            "attach": raw("ptrace", 16, pid, 0, 0),
            "seize": raw("ptrace", 0x4206, pid, 0, 0),
            "process_vm_readv": raw("process_vm_readv", pid, at, 1, at, 1, 0),
            "process_vm_writev": raw("process_vm_writev", pid, at, 1, at, 1, 0),
            "pidfd_getfd": raw("pidfd_getfd", 0, 0, 0),
            "kcmp": raw("kcmp", pid, os.getpid(), 0, 0, 0),
        }
    found["traceme"] = raw("ptrace", 0, 0, 0, 0)
    found["pid 1"]["mem"] = outcome(lambda: os.close(os.open("/proc/1/mem", os.O_RDWR)))
    found["pid 1"]["limits"] = outcome(resource.prlimit, 1, resource.RLIMIT_NOFILE, (3, 3))
    sibling.kill()
    found["the twin"] = sibling.wait()
    return found


def descriptors():
    """Our descriptors and what they are; the listing's own is left out."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink("/proc/self/fd/" + name)
        except OSError:
            continue
    return found


def kills():
    """Signals to everything, and to numbers that are processes of the host."""
    found = {"host pids": {}}
    inside = {int(name) for name in os.listdir("/proc") if name.isdigit()}
    highest = max(inside)
    for pid in (highest + 1000, 99999, 4194303):
        found["host pids"][str(pid)] = outcome(os.kill, pid, 0)
    found["pid 1"] = [outcome(os.kill, 1, number) for number in (signal.SIGTERM, signal.SIGKILL)]
    found["parent"] = os.getppid()
    return found


def namespaces():
    flags = {}
    for name, flag in CLONE_NEW.items():
        flags[name] = [
            raw("unshare", flag),
            raw("clone", flag | signal.SIGCHLD, 0, 0, 0, 0),
            raw("clone", flag | signal.SIGCHLD | 1 << 40, 0, 0, 0, 0),
        ]
    arguments = (ctypes.c_uint64 * 11)(0x10000000)
    found = {"flags": flags, "clone3": raw("clone3", ctypes.addressof(arguments), 88)}
    found["setns"] = {}
    for name in ("net", "mnt", "user", "pid"):
        fd = os.open("/proc/self/ns/" + name, os.O_RDONLY)
        found["setns"][name] = raw("setns", fd, 0)
        os.close(fd)
    pid = os.fork()
    if not pid:
        os._exit(7)
    found["fork"] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return found


def own_filter(seconds):
    """Install a filter of our own with a listener, again and again for a while."""
    allow = (ctypes.c_uint16 * 4)(6, 0, 0, 0x7FFF)
    program = (ctypes.c_uint64 * 2)(1, ctypes.addressof(allow))
    at = ctypes.addressof(program)
    results, tries, until = set(), 0, time.monotonic() + seconds
    print("trying", flush=True)
    while time.monotonic() < until:
        tries += 1
        results |= {
            "new listener " + raw("seccomp", 1, 8, at),
            "filter " + raw("seccomp", 1, 0, at),
            "strict " + raw("seccomp", 0, 0, 0),
            "prctl " + raw("prctl", 22, 2, at, 0, 0),
            "prctl high " + raw("prctl", 22 | 1 << 32, 2, at, 0, 0),
            "dumpable " + raw("prctl", 4, 1, 0, 0, 0),
            "tracer " + raw("prctl", 0x59616D61, 1, 0, 0, 0),
            "reading " + raw("prctl", 21, 0, 0, 0, 0),
        }
    return {"tries": tries, "results": sorted(results)}


def surface():
    """Calls that are no business of a database."""
    room = ctypes.create_string_buffer(256)
    at = ctypes.addressof(room)
    return {
        "io_uring_setup": raw("io_uring_setup", 8, at),
        "io_uring_enter": raw(426, 0, 1, 0, 0, 0, 0),
        "io_uring_register": raw(427, 0, 0, 0, 0),
        "bpf": raw("bpf", 0, at, 128),
        "perf_event_open": raw("perf_event_open", at, 0, -1, -1, 0),
        "userfaultfd": raw("userfaultfd", 0),
        "keyctl": raw("keyctl", 0, -3, 0),
        "personality": raw("personality", 0x0400000),
        "personality query": raw("personality", 0xFFFFFFFF),
        "sched_setaffinity": raw("sched_setaffinity", 0, 128, at),
        "9999": raw(9999),
        "500": raw(500),
        "-1": raw(-1),
        "getpid": raw(39 if os.uname().machine == "x86_64" else 172),
    }


def terminal():
    """Typing into a terminal."""
    room = ctypes.create_string_buffer(b"x")
    at = ctypes.addressof(room)
    found = {}
    for name, request in (("TIOCSTI", 0x5412), ("TIOCLINUX", 0x541C), ("TIOCSETD", 0x5423)):
        found[name] = [raw("ioctl", 0, request, at), raw("ioctl", 0, request | 1 << 32, at)]
    found["/dev/tty"] = outcome(lambda: os.close(os.open("/dev/tty", os.O_RDWR)))
    left, right = socket.socketpair()
    right.send(b"x")
    found["FIONREAD"] = raw("ioctl", left.fileno(), 0x541B, at)
    return found


def int80():
    """getpid by the 32-bit way in; only ends by a signal, or prints that it did not."""
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex("b814000000cd80c3"))
    return ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()


def x32():
    return raw(0x40000000 | 39)


def setuid():
    """Become root, by each call that could."""
    return {
        "setuid": outcome(os.setuid, 0),
        "setgid": outcome(os.setgid, 0),
        "setresuid": outcome(os.setresuid, 0, 0, 0),
        "setgroups": outcome(os.setgroups, [0]),
        "ids": [os.getuid(), os.geteuid(), os.getgid(), os.getegid()],
        "itself": outcome(os.setuid, os.getuid()),
        "groups": os.getgroups(),
    }


def shared_memory(key):
    """A System V segment that the host has made; then one of our own with that key."""
    call = 29 if os.uname().machine == "x86_64" else 194  # shmget
    return {
        "hosts": raw(call, key, 4096, 0),
        "own": raw(call, key, 4096, 0o1600),
        "own again": raw(call, key, 4096, 0),
    }


def orphans(count):
    """Leave children behind; pid 1 must reap them."""
    for _ in range(count):
        pid = os.fork()
        if not pid:
            if os.fork() == 0:
                time.sleep(0.01)
            os._exit(0)
        os.waitpid(pid, 0)
    time.sleep(1)
    mine = [pid for pid in os.listdir("/proc") if pid.isdigit()]
    zombies = 0
    for pid in mine:
        try:
            zombies += _status(pid)["State"].startswith("Z")
        except OSError:
            continue
    return {"zombies": zombies}


def wait():
    """Live until we are killed, saying so."""
    print("waiting", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(globals())
