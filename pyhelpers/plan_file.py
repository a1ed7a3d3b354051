"""Writes a plan's text. The form is in docs/architecture.md; pyhelpers/launch/plan.py reads it."""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Sequence

from pyhelpers.errors import FAILED, Problem, shown

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n"})

Record = Sequence[str]


def format_plan(records: Iterable[Record]) -> bytes:
    """The plan of these records: each a key and its fields. Raises Problem for a NUL."""
    lines = ["virt-plan 1\n"]
    for record in records:
        if any("\0" in field for field in record):
            raise Problem(FAILED, f"{shown(record[0])}: a plan cannot hold NUL")
        lines.append("\t".join(field.translate(_ESCAPES) for field in record) + "\n")
    body = "".join(lines).encode("utf-8", "surrogateescape")
    return body + b"end\t%08x\n" % binascii.crc32(body)
