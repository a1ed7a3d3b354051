"""The failures that reach a person, and how a foreign value is shown to one."""

from __future__ import annotations

import json

FAILED = 1
USAGE = 2
MISSING = 3
STATE = 4
HOST = 5
DENIED = 6
NO_TEMPLATE = 75  # EX_TEMPFAIL of sysexits.h: make the template and come back

_SHOWN = 80  # characters of a foreign value that a message repeats


class Problem(Exception):
    """An expected failure: exit code, what is wrong with the value, and something to type."""

    def __init__(self, code: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


def shown(value: object) -> str:
    """A value from outside as one bounded, printable line of ASCII: JSON with escapes.

    Newlines, terminal sequences, right-to-left marks and look-alike letters appear as
    escapes, so a message can neither be forged nor draw on the terminal.
    """
    text = json.dumps(value, ensure_ascii=True, default=str).replace("\x7f", "\\u007f")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def plain(text: str) -> str:
    """A path or name as it is if it is harmless to print, else as `shown`."""
    return text if text.isprintable() and text.isascii() and len(text) <= 4096 else shown(text)


def malformed(at: str, value: object, expected: str) -> Problem:
    """The problem of a value in a wrong form; `at` is its place."""
    return Problem(USAGE, f"{at}: {shown(value)}: expected {expected}")


def refused(at: str, value: object, why: str) -> Problem:
    """The problem of a value that is refused whatever its form."""
    return Problem(STATE, f"{at}: {shown(value)} {why}")
