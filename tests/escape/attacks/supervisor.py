"""Attacks on the supervisor's time and memory, and on the limits that it holds itself."""

import ctypes
import fcntl
import json
import mmap
import os
import signal
import socket
import threading
import time

from kernel import X86, libc, main, outcome, raw, say, sockaddr

PAGE = 4096


def bomb():
    """Take every process that there is, and each that comes free, until we are killed."""
    said = False
    while True:
        try:
            pid = os.fork()
        except OSError:
            if not said:
                say("full")
            said = True
            time.sleep(0.002)
            continue
        if not pid:
            signal.pause()


def _workers(count, work):
    """Run work(which) in processes of its own; the function that ends them all."""
    pids = []
    for which in range(count):
        pid = os.fork()
        if not pid:
            work(which)
            os._exit(0)
        pids.append(pid)

    def end():
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    return end


def stall(count):
    """Connect to a listener of our own whose queue is full, while the socket is made blocking.

    A broker that acts on the guest's socket must not wait with it.
    """
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0full")
    listener.listen(0)
    fillers = []
    while True:
        filler = socket.socket(socket.AF_UNIX)
        filler.setblocking(False)
        if outcome(filler.connect, "\0full") != "ok":
            break
        fillers.append(filler)

    shared = [socket.socket(socket.AF_UNIX) for _ in range(count)]

    def flip(which):
        fd = shared[which].fileno()
        while True:
            fcntl.fcntl(fd, fcntl.F_SETFL, os.O_RDWR)

    def connect(which):
        name = b"\x01\x00\0full"
        at = ctypes.create_string_buffer(name, len(name))
        while True:
            raw("connect", shared[which].fileno(), ctypes.addressof(at), len(name))

    _workers(count, flip)
    _workers(count, connect)
    say("stalling")
    threading.Event().wait()


def stream(slow):
    """How long a connect that nobody answers waits, while others begin all the time."""
    found = {}

    def connect(keep):
        begin = time.monotonic()
        with socket.socket() as sock:
            result = outcome(sock.connect, ("127.0.0.1", slow))
        if keep:
            found.update(result=result, seconds=time.monotonic() - begin)

    others = 0
    threading.Thread(target=connect, args=(True,), daemon=True).start()
    while not found and others < 100:
        time.sleep(0.25)
        threading.Thread(target=connect, args=(False,), daemon=True).start()
        others += 1
    return {**found, "others": others}


def cycles(port, count):
    """Bind to a granted port and close, so many times; what else was answered is counted too."""
    found = {"ok": 0}
    while found["ok"] < count:
        with socket.socket() as sock:
            result = outcome(sock.bind, ("127.0.0.1", port))
        found[result] = found.get(result, 0) + 1
        if result != "ok":
            time.sleep(0.01)
    return found


def refused_binds(count, granted):
    """Binds that are refused, as fast as they are answered: half on a socket of the host's."""

    def work(which):
        sock = socket.socket()
        if which % 2:
            sock.connect(("127.0.0.1", granted))
        else:
            sock.bind(("127.0.0.1", 0))
        address = sockaddr("127.0.0.1", 9)
        at = ctypes.create_string_buffer(address, len(address))
        while True:
            raw("bind", sock.fileno(), ctypes.addressof(at), len(address))

    _workers(count, work)
    say("flooding")
    threading.Event().wait()


def _touch(megabytes, flags):
    memory = mmap.mmap(-1, megabytes << 20, flags | mmap.MAP_ANONYMOUS)
    _touch_again(memory)
    return memory


def _touch_again(memory):
    memory[::PAGE] = b"x" * (len(memory) // PAGE)


def headless(megabytes, seconds):
    """Hold memory in a process whose first thread has ended."""

    def hold():
        time.sleep(0.2)
        memory = _touch(megabytes, mmap.MAP_PRIVATE)
        say("held")
        time.sleep(seconds)
        with open("/proc/self/stat") as file:
            state = file.read().rpartition(")")[2].split()[0]
        say(json.dumps([state, len(memory) >> 20]))
        os._exit(0)

    threading.Thread(target=hold).start()
    libc.syscall(ctypes.c_long(60 if X86 else 93), ctypes.c_long(0))  # exit: of this thread alone


def twice(megabytes, shared, seconds):
    """The same memory in two processes, or as much in each."""
    flags = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE
    memory = _touch(megabytes, flags) if shared else None

    def hold(_):
        mine = memory or _touch(megabytes, flags)
        _touch_again(mine)
        time.sleep(seconds + 10)

    end = _workers(2, hold)
    say("held")
    time.sleep(seconds)
    end()
    return "alive"


if __name__ == "__main__":
    main(globals())
