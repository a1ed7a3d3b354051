"""KEY=VALUE files, and files that are replaced whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from pyhelpers.errors import FAILED, Problem, plain, shown

_LIMIT = 64 * 1024  # bytes; ours are under 4 KiB


def parse_pairs(text: str) -> dict[str, str]:
    """KEY=VALUE lines as a mapping; values as they are; lines without `=` are skipped."""
    pairs = (line.partition("=") for line in text.split("\n"))
    return {key: value for key, separator, value in pairs if separator and not key.startswith("#")}


def read_pairs(path: str) -> dict[str, str]:
    """The pairs in a regular file; empty if there is none, or it is something else."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return {}
        return parse_pairs(os.read(fd, _LIMIT).decode("utf-8", "surrogateescape"))
    finally:
        os.close(fd)


def format_pairs(pairs: Mapping[str, object]) -> bytes:
    """KEY=VALUE lines. A value that would not come back as it is raises Problem."""
    lines = []
    for key, value in pairs.items():
        text = str(value)
        if "\n" in text or "\0" in text:
            raise Problem(FAILED, f"{key}: {shown(text)} cannot be kept: it has a newline or NUL")
        lines.append(f"{key}={text}\n")
    return "".join(lines).encode("utf-8", "surrogateescape")


def write_new(path: str, content: bytes, mode: int = 0o600) -> None:
    """Create a file in a directory that nobody else sees yet."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        # The umask must not decide about bin/activate or a password.
        os.fchmod(file.fileno(), mode)


def replace(path: str, content: bytes, mode: int = 0o600) -> None:
    """Replace a file: after a crash either the old or the new one is there, whole."""
    temporary = f"{path}.new.{os.getpid()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(fd, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except OSError as error:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise Problem(FAILED, f"{plain(path)} cannot be written: {error.strerror}") from None
