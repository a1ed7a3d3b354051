"""JSON from a file that somebody edits by hand: bounded, and nothing in it is guessed.

Python's own parser keeps the last of two equal keys, takes NaN, and recurses once a level;
here each of these is refused, with the path of the offence.
"""

from __future__ import annotations

import json
import os
import re
import stat
from typing import Any

from pyhelpers.errors import STATE, USAGE, Problem, plain, shown

SIZE_LIMIT = 64 * 1024  # bytes; a manifest with a hundred grants is under 8 KiB
DEPTH_LIMIT = 16  # levels; the schema has four
_DIGITS_LIMIT = 18  # digits of an integer: what fits in 64 bits

# A string, or one bracket: what decides about depth, and nothing else. The closing quote is
# optional so that a text of unclosed strings costs no more than one pass.
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
# C0 and C1 controls, DEL, and halves of surrogate pairs: none has a place in a grant.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class _Object(dict):  # type: ignore[type-arg]  # parametrised dict cannot be subclassed so on 3.9
    """An object that remembers which of its keys came twice."""

    twice: tuple[str, ...] = ()


class _Refused:
    """A number that JSON or this host cannot hold, kept until its path is known."""

    def __init__(self, text: str) -> None:
        self.text = text


def read_regular(path: str) -> bytes:
    """The bytes of a regular file of at most SIZE_LIMIT bytes.

    A FIFO, device, symbolic link or directory is refused without waiting for it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise Problem(STATE, f"{plain(path)} cannot be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Problem(STATE, f"{plain(path)} is not a regular file")
        with os.fdopen(os.dup(fd), "rb") as file:
            raw = file.read(SIZE_LIMIT + 1)
    finally:
        os.close(fd)
    if len(raw) > SIZE_LIMIT:
        raise Problem(STATE, f"{plain(path)} is larger than {SIZE_LIMIT // 1024} KiB")
    return raw


def parse(raw: bytes, name: str) -> Any:
    """The JSON value in `raw`; `name` is what messages call it. Raises Problem."""
    if len(raw) > SIZE_LIMIT:
        raise Problem(USAGE, f"{name} is larger than {SIZE_LIMIT // 1024} KiB")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Problem(USAGE, f"{name}: byte {error.start} is not UTF-8") from None
    _check_depth(text, name)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_Refused,
            parse_int=_integer,
            parse_float=_float,
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Problem(USAGE, f"{name}: not JSON: {error.msg.lower()} at {where}") from None
    _check(value, "", name)
    return value


def member(path: str, key: str) -> str:
    """The JSON path of a member: `a.b`, or `a["b c"]` where a plain name is not enough."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", key):
        return f"{path}.{key}" if path else key
    return f"{path}[{shown(key)}]"


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    result = _Object(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        result.twice = tuple(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return result


def _integer(text: str) -> int | _Refused:
    return int(text) if len(text.lstrip("-")) <= _DIGITS_LIMIT else _Refused(text)


def _float(text: str) -> float | _Refused:
    value = float(text)
    return _Refused(text) if value in (float("inf"), float("-inf")) else value


def _check_depth(text: str, name: str) -> None:
    depth = 0
    for match in _STRUCTURE.finditer(text):
        first = match.group()[0]
        if first in "[{":
            depth += 1
            if depth > DEPTH_LIMIT:
                line = text.count("\n", 0, match.start()) + 1
                raise Problem(USAGE, f"{name}: nested deeper than {DEPTH_LIMIT} levels at line {line}")
        elif first in "]}":
            depth -= 1


def _check(value: Any, path: str, name: str) -> None:
    at = f"{name}: {path}" if path else name
    if isinstance(value, _Refused):
        raise Problem(USAGE, f"{at}: {shown(value.text)} is not a number that can be used")
    if isinstance(value, str):
        if _CONTROL.search(value):
            raise Problem(USAGE, f"{at}: {shown(value)} contains a control character")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]", name)
    elif isinstance(value, _Object):
        if value.twice:
            raise Problem(USAGE, f"{name}: {member(path, value.twice[0])}: the key is there twice")
        for key, item in value.items():
            if _CONTROL.search(key):
                raise Problem(USAGE, f"{name}: {member(path, key)}: a key contains a control character")
            _check(item, member(path, key), name)
