"""Whether the server answers its own protocol: the dialogue that the plan gives, over its unix socket."""

from __future__ import annotations

import _socket
import binascii
import errno
import os
import stat
import time

from launch.loop import READ, Loop
from launch.plan import Plan
from launch.record import TYPE_CHECKING
from launch.sockets import Socket

if TYPE_CHECKING:
    from typing import Callable

_RETRY = 0.001  # seconds between two looks at the cheap precondition
_ATTEMPT = 5.0  # seconds for one dialogue
_MOST = 1 << 20  # bytes of one answer


class Step:
    """Send, then read until the answer ends with `until`; `reject` in it is a failure."""

    def __init__(self, send: str, until: str, reject: str) -> None:
        self.send, self.until, self.reject = (binascii.a2b_base64(field) for field in (send, until, reject))


class Readiness:
    """Runs the dialogue until it succeeds once, then calls `done(first_ran, error)`.

    The steps of `first` follow on the same connection if `wants_first`; `error` is what the
    server said if it rejected one of those, else empty.
    """

    def __init__(
        self,
        plan: Plan,
        loop: Loop,
        data: int,
        sock: int,
        wants_first: bool,
        done: Callable[[bool, str], None],
    ) -> None:
        self.loop, self.data, self.sock, self.done = loop, data, sock, done
        self.file = plan.all("ready-file")[0] if plan.all("ready-file") else None
        self.name = plan.text("ready-socket")
        self.ready = [Step(*fields) for fields in plan.all("ready")]
        self.first = [Step(*fields) for fields in plan.all("first")] if wants_first else []
        self.connection: Socket | None = None
        self.steps: list[Step] = []
        self.passed = 0
        self.answer = b""
        self.deadline = 0.0

    def start(self) -> None:
        """Look now, and again every millisecond until the server answers."""
        if not (self._precondition() and self._connect()):
            self.loop.after("ready", _RETRY, self.start)

    def cancel(self) -> None:
        """Stop asking."""
        self.loop.cancel("ready")
        self._close()

    def _precondition(self) -> bool:
        if self.file is None:
            return True
        path, line, text = self.file
        try:
            # The guest owns this file: it may be a link or a FIFO.
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.data)
        except OSError:
            return False
        try:
            lines = os.read(fd, 4096).decode("utf-8", "replace").split("\n")
        except OSError:
            return False
        finally:
            os.close(fd)
        return len(lines) >= int(line) and lines[int(line) - 1].startswith(text)

    def _connect(self) -> bool:
        try:
            target = os.open(self.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.sock)
        except OSError:
            return False
        try:
            if not stat.S_ISSOCK(os.fstat(target).st_mode):
                return False
            connection = Socket(
                _socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
            )
            try:
                connection.connect(f"/proc/self/fd/{target}")
            except OSError:
                connection.close()
                return False
        finally:
            os.close(target)
        self.connection, self.steps, self.passed = connection, [*self.ready, *self.first], 0
        self.deadline = time.monotonic() + _ATTEMPT
        self.loop.watch(connection.fileno(), READ, self._read)
        self.loop.after("ready", _ATTEMPT, self._again)
        self._say()
        return True

    def _say(self) -> None:
        assert self.connection
        self.answer = b""
        try:
            self.connection.sendall(self.steps[self.passed].send)
        except OSError:
            self._again()

    def _read(self) -> None:
        assert self.connection
        try:
            data = self.connection.recv(65536)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return
            data = b""
        self.answer += data
        step = self.steps[self.passed]
        rejected = bool(step.reject) and step.reject in self.answer
        if rejected and self.passed >= len(self.ready):
            self._finish(self.answer.replace(b"\0", b" ").decode("utf-8", "replace").strip())
        elif rejected or not data or len(self.answer) > _MOST:
            self._again()
        elif self.answer.endswith(step.until):
            self.passed += 1
            if self.passed == len(self.steps):
                self._finish("")
            else:
                self._say()

    def _again(self) -> None:
        self._close()
        self.loop.after("ready", _RETRY, self.start)

    def _finish(self, error: str) -> None:
        self.cancel()
        self.done(bool(self.first) and not error, error)

    def _close(self) -> None:
        if self.connection:
            self.loop.forget(self.connection.fileno())
            self.connection.close()
            self.connection = None
