"""A small event loop over poll(2): descriptors and timers, one thread."""

from __future__ import annotations

import select
import time

from launch.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

READ, WRITE, HANGUP = select.POLLIN, select.POLLOUT, 0  # POLLHUP and POLLERR are always reported


class Loop:
    """Calls back when a descriptor is ready or a time has come, until `stop`."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._ready: dict[int, Callable[[], None]] = {}
        self._timers: dict[str, tuple[float, Callable[[], None]]] = {}
        self._running = True

    def watch(self, fd: int, events: int, callback: Callable[[], None]) -> None:
        """Call back whenever one of the events is there."""
        self._ready[fd] = callback
        self._poll.register(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching; harmless if it was not."""
        if self._ready.pop(fd, None):
            self._poll.unregister(fd)

    def after(self, name: str, seconds: float, callback: Callable[[], None]) -> None:
        """Call back once, after a time; a timer of the same name is replaced."""
        self._timers[name] = (time.monotonic() + seconds, callback)

    def cancel(self, name: str) -> None:
        """Forget a timer; harmless if there is none."""
        self._timers.pop(name, None)

    def stop(self) -> None:
        """Leave `run` after the present callback."""
        self._running = False

    def run(self) -> None:
        """Serve until stopped."""
        while self._running:
            wait = -1.0
            if self._timers:
                wait = max(0.0, min(due for due, _ in self._timers.values()) - time.monotonic()) * 1000
            for fd, _ in self._poll.poll(wait):
                callback = self._ready.get(fd)
                if callback and self._running:
                    callback()
            now = time.monotonic()
            for name, (due, callback) in list(self._timers.items()):
                if due <= now and self._running and self._timers.get(name, (0, None))[1] is callback:
                    del self._timers[name]
                    callback()
