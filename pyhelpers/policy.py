"""The system-call policy's program, as the launcher installs it.

The policy itself is data, in `policy_tables`. libseccomp turns it into classic BPF when a
plan is compiled; the runtime installs the bytes as they are and knows nothing of it.

Compiling takes 100 ms, half of it loading libseccomp, so the program is kept in the virtual
environment, beside the code that made it and trusted as that is. Its name is a digest of
what it was made from; its first bytes are a digest of the rest.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

_SOURCES = ("policy_tables.py", "policy_compiler.py")
_DIGEST = hashlib.sha256().digest_size


def compile_filter(extra_syscalls: Sequence[str] = ()) -> bytes:
    """Return the policy as an array of `struct sock_filter` (8 bytes each, native endian).

    extra_syscalls: names allowed in addition; one that the policy decides otherwise is
                    refused with ValueError

    Raises UnknownCall for a name that is no system call, OSError when libseccomp fails.
    """
    kept = _kept(extra_syscalls)
    program = _read(kept)
    if not program:
        # Loaded only here: see above.
        from pyhelpers.policy_compiler import build

        program = build(extra_syscalls)
        _write(kept, program)
    return program


def _kept(extra: Sequence[str]) -> Path:
    digest = hashlib.sha256(repr((platform.machine(), sorted(extra))).encode())
    for name in _SOURCES:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return Path(sys.prefix) / f"policy-{digest.hexdigest()[:16]}.bpf"


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError:
        return b""
    digest, program = content[:_DIGEST], content[_DIGEST:]
    return program if hashlib.sha256(program).digest() == digest else b""


def _write(path: Path, program: bytes) -> None:
    """Keep a program if we may: not in an interpreter that is not the toolkit's own."""
    if sys.prefix == sys.base_prefix or not os.access(path.parent, os.W_OK):
        return
    new = path.with_suffix(f".{os.getpid()}")
    new.write_bytes(hashlib.sha256(program).digest() + program)
    new.replace(path)
