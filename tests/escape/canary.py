"""Listeners of the host that tell whether anything reached them."""

from __future__ import annotations

import os
import pathlib
import socket
import threading
import time


class Canary:
    """Accepts every connection, or datagram, and keeps what it said."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.heard: list[bytes] = []
        self._stopped = threading.Event()
        self.socket.settimeout(0.2)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def _serve(self) -> None:
        while not self._stopped.is_set():
            try:
                if self.socket.type == socket.SOCK_DGRAM:
                    self.heard.append(self.socket.recv(100))
                    continue
                connection, _ = self.socket.accept()
            except (TimeoutError, socket.timeout):
                continue
            except OSError:
                return
            with connection:
                self.heard.append(b"")
                connection.settimeout(1)
                try:
                    self.heard[-1] = connection.recv(100)
                except OSError:
                    continue

    def silent(self) -> bool:
        """Whether nothing came; gives what is on its way time to arrive."""
        time.sleep(0.3)
        return not self.heard

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()
        self.socket.close()


def tcp(host: str = "127.0.0.1") -> Canary:
    """A TCP listener on a free port."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.bind((host, 0))
    sock.listen(128)
    return Canary(sock)


def udp() -> Canary:
    """A UDP socket of 127.0.0.1 on a free port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return Canary(sock)


def unix(path: pathlib.Path) -> Canary:
    """A unix listener that everybody may connect to."""
    sock = socket.socket(socket.AF_UNIX)
    # By way of a descriptor: the path may be longer than a socket's can be.
    directory = os.open(path.parent, os.O_PATH)
    sock.bind(f"/proc/self/fd/{directory}/{path.name}")
    os.close(directory)
    path.chmod(0o777)
    sock.listen(8)
    return Canary(sock)


def abstract(name: str) -> Canary:
    """A unix listener with an abstract name."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind("\0" + name)
    sock.listen(8)
    return Canary(sock)


class Slow:
    """A TCP listener whose queue is full: whoever connects stays in SYN_SENT."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(0)
        self.port = int(self.socket.getsockname()[1])
        self._fillers = []
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._fillers.append(filler)
        time.sleep(0.1)

    def close(self) -> None:
        for sock in (*self._fillers, self.socket):
            sock.close()
