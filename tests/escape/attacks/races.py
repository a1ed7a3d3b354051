"""Races against the broker: what was checked is changed while it is being done."""

import ctypes
import mmap
import os
import signal
import socket
import sys
import threading
import time

from kernel import UNSPEC, libc, main, outcome, raw, sockaddr, tcp

AF_UNIX, AF_INET = 1, 2


def _attempts(seconds, attempt):
    """Call attempt() until the time is over; count its results."""
    results, until = {}, time.monotonic() + seconds
    while time.monotonic() < until:
        result = attempt()
        results[result] = results.get(result, 0) + 1
    return {"tries": sum(results.values()), "results": results}


def _flip_memory(offset, values, seconds, address, attempt):
    """Attempt with an address in memory of which another process flips 16 bits all the time.

    (Another process and not a thread of ours: the interpreter runs one thread at a time.)
    """
    page = mmap.mmap(-1, 4096)
    page.write(address)
    at = ctypes.addressof(ctypes.c_char.from_buffer(page))
    word = ctypes.c_uint16.from_buffer(page, offset)
    flipper = os.fork()
    if not flipper:
        while True:
            word.value = values[0]
            word.value = values[1]
    try:
        return _attempts(seconds, lambda: attempt(at))
    finally:
        os.kill(flipper, signal.SIGKILL)
        os.waitpid(flipper, 0)


def flip_family(port, seconds):
    """connect() while the family flips between AF_UNIX and AF_INET.

    A broker that looks at the address and lets the call continue sees an AF_UNIX address
    and the kernel an AF_INET one.
    """

    def attempt(at):
        fd = libc.socket(AF_INET, socket.SOCK_STREAM, 0)
        result = raw("connect", fd, at, 16)
        os.close(fd)
        return result

    return _flip_memory(0, (AF_UNIX, AF_INET), seconds, sockaddr("127.0.0.1", port), attempt)


def flip_address(granted, denied, seconds):
    """connect() while the port flips between a granted and a denied one."""

    def attempt(at):
        with socket.socket() as sock:
            result = raw("connect", sock.fileno(), at, 16)
            if result == "ok" and sock.getpeername()[1] != granted:
                return "ESCAPED"
            return result

    ports = (socket.htons(granted), socket.htons(denied))
    return _flip_memory(2, ports, seconds, sockaddr("127.0.0.1", granted), attempt)


def flip_descriptor(listen, denied, seconds):
    """listen() and connect() on a number that a second thread makes another socket.

    One is of the guest's namespace, one of the host's (accepted from the granted
    listener). What is checked must be what is acted on.
    """
    server = tcp()
    server.bind(("127.0.0.1", listen))
    server.listen(8)
    print("listening", flush=True)
    hosts, _ = server.accept()
    number = os.dup(hosts.fileno())
    target = ctypes.create_string_buffer(sockaddr("127.0.0.1", denied), 16)
    unspec = ctypes.create_string_buffer(UNSPEC, 16)
    guests = [socket.socket()]

    stop = threading.Event()

    def flip():
        while not stop.is_set():
            libc.dup2(hosts.fileno(), number)
            libc.dup2(guests[0].fileno(), number)

    sys.setswitchinterval(0.0001)
    flipper = threading.Thread(target=flip)
    flipper.start()
    turns = [0]

    def attempt():
        turns[0] += 1
        if turns[0] % 3 == 0:
            fresh = socket.socket()
            old, guests[0] = guests[0], fresh
            old.close()
            return "listen " + raw("listen", number, 1)
        if turns[0] % 3 == 1:
            return "unspec " + raw("connect", number, ctypes.addressof(unspec), 16)
        return "connect " + raw("connect", number, ctypes.addressof(target), 16)

    found = _attempts(seconds, attempt)
    stop.set()
    flipper.join()
    # The accepted socket must still be what it was: connected to the test outside.
    found["still connected"] = outcome(hosts.getpeername)
    found["still accepting"] = hosts.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    os.close(number)
    return found


if __name__ == "__main__":
    main(globals())
