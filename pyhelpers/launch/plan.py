"""Reads a compiled plan, in docs/architecture.md's form. One that is cut or changed is refused whole."""

from __future__ import annotations

import binascii
import os

from launch.errors import STALE, Failure

_FORMAT = b"virt-plan 1\n"
_MOST = 1 << 20  # bytes; a plan with its filter is about 30 KB
_ESCAPES = {"\\": "\\", "t": "\t", "n": "\n"}


def _unescape(field: str) -> str:
    if "\\" not in field:
        return field
    out, i = [], 0
    while i < len(field):
        if field[i] == "\\":
            i += 1
            out.append(_ESCAPES[field[i]])
        else:
            out.append(field[i])
        i += 1
    return "".join(out)


class Plan:
    """The records of one plan, by their first word, in the order of the file."""

    def __init__(self, records: dict[str, list[list[str]]]) -> None:
        self._records = records

    @classmethod
    def parse(cls, raw: bytes) -> Plan:
        """Parse and check; raises ValueError for anything that the compiler did not write."""
        if len(raw) > _MOST:
            raise ValueError("larger than a plan can be")
        body, newline, end = raw.rstrip(b"\n").rpartition(b"\n")
        body += newline
        if not raw.endswith(b"\n") or not body.startswith(_FORMAT):
            raise ValueError("not a plan, or cut short")
        if end != b"end\t%08x" % binascii.crc32(body) or raw != body + end + b"\n":
            raise ValueError("cut short or changed")
        records: dict[str, list[list[str]]] = {}
        for line in body[len(_FORMAT) :].decode("utf-8", "surrogateescape").split("\n")[:-1]:
            key, *fields = line.split("\t")
            records.setdefault(key, []).append([_unescape(field) for field in fields])
        return cls(records)

    @classmethod
    def read(cls, directory: int, name: str) -> Plan:
        """Read the plan `name` below an open directory; Failure STALE if it is not whole."""
        try:
            with open(
                os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory),
                "rb",
            ) as file:
                return cls.parse(file.read(_MOST + 1))
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise Failure(STALE, f"the compiled plan {name} cannot be used: {error}") from None

    def all(self, key: str) -> list[list[str]]:
        """Every record of that key, each a list of fields."""
        return self._records.get(key, [])

    def one(self, key: str) -> list[str]:
        """The fields of the only record of that key; Failure STALE if it is missing."""
        found = self._records.get(key)
        if not found:
            raise Failure(STALE, f"the compiled plan has no '{key}' record")
        return found[0]

    def text(self, key: str, default: str = "") -> str:
        """The first field of that key, or the default."""
        found = self._records.get(key)
        return found[0][0] if found and found[0] else default

    def number(self, key: str, name: str) -> int | None:
        """The number in a record `KEY NAME NUMBER`."""
        for fields in self._records.get(key, []):
            if fields[0] == name:
                return int(fields[1])
        return None

    def pairs(self, key: str) -> dict[str, str]:
        """Records `KEY NAME VALUE` as a mapping."""
        return {fields[0]: fields[1] for fields in self._records.get(key, [])}
