"""The failures that reach a person: what is wrong, what to type next, and an exit code."""

from __future__ import annotations

import os

FAILED = 1
USAGE = 2
STATE = 4
HOST = 5
DENIED = 6
STALE = 75  # EX_TEMPFAIL of sysexits.h: compile the plan again and come back


class Failure(Exception):
    """An expected failure. `code` is the exit code, `hint` something that can be typed."""

    def __init__(self, code: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint

    def encode(self) -> bytes:
        """The three parts, NUL-separated, for a pipe between our own processes."""
        parts = (str(self.code), self.message, self.hint)
        return b"\0".join(part.replace("\0", "\\0").encode("utf-8", "replace") for part in parts)

    @classmethod
    def decode(cls, raw: bytes) -> Failure:
        """The inverse of `encode`."""
        code, message, hint = (part.decode() for part in raw.split(b"\0", 2))
        return cls(int(code), message, hint)

    @classmethod
    def from_os(cls, error: OSError, doing: str) -> Failure:
        """A system call's failure in one sentence."""
        about = f" ({error.filename})" if error.filename else ""
        return cls(FAILED, f"{doing}: {error.strerror or os.strerror(error.errno or 0)}{about}")
