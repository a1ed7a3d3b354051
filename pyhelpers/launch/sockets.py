"""Sockets without the `socket` module, whose imports (selectors, enum) cost 8 ms of every start."""

from __future__ import annotations

import _socket


class Socket(_socket.socket):
    """A socket that closes at the end of a `with`."""

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self) -> Socket:
        """accept(2): the next connection, close-on-exec."""
        fd, _ = self._accept()  # type: ignore[attr-defined]
        return Socket(fileno=fd)


def pair() -> tuple[Socket, Socket]:
    """Two connected sockets that keep message borders."""
    first, second = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0)
    return Socket(fileno=first.detach()), Socket(fileno=second.detach())
