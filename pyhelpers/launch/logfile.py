"""The server's log, capped and rotated, and the events of the sandbox as JSON lines."""

from __future__ import annotations

import errno
import os
import stat
import time

_KEPT = 2  # rotated logs beside the current one
_EVENTS_CAP = 4 << 20  # bytes
_EVENTS_RATE, _EVENTS_BURST = 20.0, 100.0  # events a second, and at once


class LogFile:
    """An append-only file that is renamed to NAME.1, NAME.2 when it reaches `cap` bytes."""

    def __init__(self, directory: int, name: str, cap: int) -> None:
        self.directory, self.name, self.cap = directory, name, cap
        self.fd = self._open()
        self.size = os.fstat(self.fd).st_size

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(self.name, flags, 0o600, dir_fd=self.directory)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file", self.name)
        return fd

    def write(self, data: bytes) -> None:
        """Append; what a full disk does not take is dropped, the guest is never blocked by it."""
        if self.size + len(data) > self.cap:
            self._rotate()
        try:
            self.size += os.write(self.fd, data)
        except OSError:
            pass

    def _rotate(self) -> None:
        for number in range(_KEPT, 0, -1):
            older = f"{self.name}.{number - 1}" if number > 1 else self.name
            try:
                os.rename(
                    older, f"{self.name}.{number}", src_dir_fd=self.directory, dst_dir_fd=self.directory
                )
            except OSError:
                pass
        try:
            fd = self._open()
        except OSError:
            os.ftruncate(self.fd, 0)  # a full disk has no room for a second file
        else:
            os.close(self.fd)
            self.fd = fd
        self.size = 0

    def tail(self, lines: int) -> str:
        """The last lines, at most 4 KiB, harmless to a terminal: the guest wrote them."""
        start = max(0, self.size - 4096)
        text = os.pread(self.fd, 4096, start).decode("utf-8", "replace")
        return "\n".join(
            "".join(c if c.isprintable() or c == "\t" else "?" for c in line)
            for line in text.splitlines()[-lines:]
        )


_ESCAPES = {'"': '\\"', "\\": "\\\\"}


def quote(text: str) -> str:
    """A JSON string (RFC 8259, 7), in ASCII: the json module is not loaded on the launch path."""
    out = []
    for char in text:
        code = ord(char)
        if char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif 0x20 <= code < 0x7F:
            out.append(char)
        elif code > 0xFFFF:
            code -= 0x10000
            out.append(f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}")
        else:
            out.append(f"\\u{code:04x}")
    return '"' + "".join(out) + '"'


class Events:
    """One JSON object a line: lifecycle and denials, rate-limited, never a payload."""

    def __init__(self, directory: int) -> None:
        self.file = LogFile(directory, "events.jsonl", _EVENTS_CAP)
        self.tokens, self.refilled, self.dropped = _EVENTS_BURST, time.monotonic(), 0

    def add(self, event: str, **fields: str | int | float) -> None:
        """Write an event with its time (UTC, RFC 3339) and fields; over the rate it is counted instead."""
        now = time.monotonic()
        self.tokens = min(_EVENTS_BURST, self.tokens + (now - self.refilled) * _EVENTS_RATE)
        self.refilled = now
        if self.tokens < 1:
            self.dropped += 1
            return
        self.tokens -= 1
        if self.dropped:
            fields["dropped_before"], self.dropped = self.dropped, 0
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        parts = [f'"time":"{stamp}"', f'"event":{quote(event)}']
        parts += [
            f"{quote(key)}:{quote(value) if isinstance(value, str) else value}"
            for key, value in fields.items()
        ]
        self.file.write(("{" + ",".join(parts) + "}\n").encode())
