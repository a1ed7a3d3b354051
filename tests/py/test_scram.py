"""Verifiers that a server is told instead of a password."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhelpers.scram import verifier


def test_a_known_verifier() -> None:
    # The password and salt of RFC 7677, section 3; the keys follow from RFC 5802, section 3,
    # and give that section's proof and server signature (checked below).
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    text = verifier("pencil", salt)
    prefix = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
    assert text.startswith(prefix)
    stored, server = (base64.b64decode(part) for part in text[len(prefix) :].split(":"))
    message = (
        b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    import hashlib
    import hmac

    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    signature = hmac.digest(stored, message, "sha256")
    client_key = bytes(a ^ b for a, b in zip(proof, signature))
    assert hashlib.sha256(client_key).digest() == stored
    said = base64.b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    assert hmac.digest(server, message, "sha256") == said


def test_every_verifier_has_its_own_salt() -> None:
    assert verifier("x") != verifier("x")


@given(st.text(st.characters(min_codepoint=128), min_size=1))
def test_what_saslprep_could_change_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="SASLprep"):
        verifier(password)
