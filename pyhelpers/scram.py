"""SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677): a server is told one instead of a password."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64encode

_ITERATIONS = 4096  # RFC 7677, section 4: the least; the password is random, not chosen


def verifier(password: str, salt: bytes = b"", iterations: int = _ITERATIONS) -> str:
    """`SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY`, the parts in base64.

    password: printable ASCII, for which SASLprep (RFC 4013) changes nothing
    salt:     16 random bytes unless given
    """
    if not (password.isascii() and password.isprintable()):
        raise ValueError("a password that SASLprep could change")
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    encoded = [b64encode(part).decode("ascii") for part in (salt, stored_key, server_key)]
    return f"SCRAM-SHA-256${iterations}:{encoded[0]}${encoded[1]}:{encoded[2]}"
