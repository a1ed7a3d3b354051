"""Bytes of a protocol from an engine's card.

A message is a list of parts, put one after the other:

- a text: a template, as UTF-8
- `{"hex": "00ff"}`: those bytes
- `{"file": NAME}`: a template of the engine's folder, rendered
- `{"length": FORM, "of": MESSAGE}`: the inner message, preceded by its length
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

# How protocols write a length; a form is a function of the inner message's size.
_LENGTHS: dict[str, Callable[[int], bytes]] = {
    "u32be_with_itself": lambda size: struct.pack(">I", size + 4),
}


def encode(message: Sequence[Any], text: Callable[[str], str], file: Callable[[str], str]) -> bytes:
    """The bytes of a message; `text` and `file` render a template and a template file."""
    parts = []
    for part in message:
        if isinstance(part, str):
            parts.append(text(part).encode())
        elif "hex" in part:
            parts.append(bytes.fromhex(part["hex"]))
        elif "file" in part:
            parts.append(file(part["file"]).rstrip("\n").encode())
        else:
            inner = encode(part["of"], text, file)
            parts.append(_LENGTHS[part["length"]](len(inner)) + inner)
    return b"".join(parts)
