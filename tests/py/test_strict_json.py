"""JSON that somebody edits by hand: everything odd is refused, with its place."""

from __future__ import annotations

import json
import os
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyhelpers.errors import USAGE, Problem
from pyhelpers.strict_json import DEPTH_LIMIT, SIZE_LIMIT, parse, read_regular


def refusal(raw: bytes) -> str:
    with pytest.raises(Problem) as caught:
        parse(raw, "m")
    assert caught.value.code == USAGE
    return caught.value.message


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"a": 1, "a": 2}', "m: a: the key is there twice"),
        (b'{"a": [{"b": 1, "b": 1}]}', "m: a[0].b: the key is there twice"),
        (b"{} {}", "m: not JSON: extra data at line 1, column 4"),
        (b'{"a": 1,}', "not JSON"),
        (b"", "not JSON"),
        (b'"', "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a": "\xff"}', "m: byte 7 is not UTF-8"),
    ],
)
def test_95_duplicate_keys_and_trailing_data_are_refused(raw: bytes, words: str) -> None:
    assert words in refusal(raw)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "9" * 5000])
def test_96_numbers_that_are_none_are_refused_with_their_path(number: str) -> None:
    message = refusal(b'{"a": [0, %s]}' % number.encode())
    assert message.startswith("m: a[1]: ")
    assert len(message) < 200


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_97_a_depth_of_100000_is_a_bounded_error(opening: bytes) -> None:
    before = time.monotonic()
    assert "larger than 64 KiB" in refusal(opening * 100_000)
    assert f"nested deeper than {DEPTH_LIMIT} levels at line 1" in refusal(opening * 10_000)
    assert time.monotonic() - before < 1


def test_97_a_manifest_of_100_mb_is_refused_without_being_read(tmp_path) -> None:
    path = tmp_path / "m"
    with path.open("wb") as file:
        file.truncate(100 << 20)
    with pytest.raises(Problem, match="larger than 64 KiB"):
        read_regular(str(path))


def test_97_brackets_in_strings_are_no_depth() -> None:
    text = "[" * 1000
    assert parse(json.dumps([text, '\\"' + text]).encode(), "m") == [text, '\\"' + text]


def test_97_text_of_unclosed_strings_costs_one_pass() -> None:
    before = time.monotonic()
    refusal(b'"\\' * (SIZE_LIMIT // 2))
    refusal(b'\\"' * (SIZE_LIMIT // 2))
    assert time.monotonic() - before < 1


@pytest.mark.parametrize(
    "text", ["a\nb", "a\x1b[31mb", "a\x00", "a\x7f", "a\x9bb", "\ud800"], ids=lambda text: ascii(text)
)
def test_94_control_characters_are_refused_and_shown_escaped(text: str) -> None:
    message = refusal(json.dumps({"a": text}).encode())
    assert message.startswith("m: a: ")
    assert message.isprintable() and message.isascii()
    assert refusal(json.dumps({text: 1}).encode()).isprintable()


def test_104_a_fifo_a_device_and_a_link_are_refused_without_waiting(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's name is 107 bytes at most
    fifo, link, real, bound = tmp_path / "fifo", tmp_path / "link", tmp_path / "real", tmp_path / "sock"
    os.mkfifo(fifo)
    real.write_text("{}")
    link.symlink_to(real)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(bound.name)
        before = time.monotonic()
        for path in (fifo, link, bound, tmp_path, "/dev/zero", "/dev/tty", tmp_path / "absent"):
            with pytest.raises(Problem):
                read_regular(str(path))
        assert time.monotonic() - before < 1
    assert read_regular(str(real)) == b"{}"


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.text(st.characters(categories=["L", "P"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(VALUES)
def test_what_is_in_order_is_read_as_python_reads_it(value: object) -> None:
    assert parse(json.dumps(value).encode(), "m") == value


@given(st.binary(max_size=200) | st.text('{}[]":,\\ae1-.NI\n', max_size=200).map(str.encode))
def test_any_bytes_give_a_value_or_one_line(raw: bytes) -> None:
    try:
        parse(raw, "m")
    except Problem as problem:
        assert problem.message.isprintable()
        assert len(problem.message) < 300
