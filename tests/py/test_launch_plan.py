"""The plan's reader: refuses whole what the compiler did not write."""

from __future__ import annotations

import os

import pytest
import runtime  # noqa: F401 -- makes `launch` importable
from hypothesis import given
from hypothesis import strategies as st
from launch.errors import STALE, Failure
from launch.plan import Plan

from pyhelpers import plan_file

FIELDS = st.lists(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r")), max_size=4
)


SAMPLE = plan_file.format_plan(
    [["name", "dev"], ["env", "A", "tab\there\nand there\\"], ["env", "B", ""], ["limit", "pids", "256"]]
)


def test_a_whole_plan_is_read() -> None:
    plan = Plan.parse(SAMPLE)
    assert plan.text("name") == "dev"
    assert plan.pairs("env") == {"A": "tab\there\nand there\\", "B": ""}
    assert plan.number("limit", "pids") == 256
    assert plan.number("limit", "memory") is None


def test_88_a_plan_cut_at_any_byte_is_refused() -> None:
    for length in range(len(SAMPLE)):
        with pytest.raises((ValueError, KeyError, IndexError)):
            Plan.parse(SAMPLE[:length])


def test_88_a_plan_with_any_byte_changed_is_refused() -> None:
    for at in range(len(SAMPLE)):
        changed = SAMPLE[:at] + bytes([SAMPLE[at] ^ 1]) + SAMPLE[at + 1 :]
        with pytest.raises((ValueError, KeyError, IndexError)):
            Plan.parse(changed)


def test_88_bytes_after_the_end_are_refused() -> None:
    for extra in (b"\n", b"x", b"name\tdev\n", SAMPLE):
        with pytest.raises(ValueError):
            Plan.parse(SAMPLE + extra)


def test_88_a_plan_that_is_missing_empty_or_a_link_is_stale(tmp_path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "real").write_bytes(SAMPLE)
    (tmp_path / "link").symlink_to("real")
    directory = os.open(tmp_path, os.O_RDONLY)
    assert Plan.read(directory, "real").text("name") == "dev"
    for name in ("missing", "empty", "link"):
        with pytest.raises(Failure) as refused:
            Plan.read(directory, name)
        assert refused.value.code == STALE
    os.close(directory)


@given(st.lists(st.tuples(st.sampled_from(["env", "argv", "file"]), FIELDS), max_size=6))
def test_what_the_compiler_writes_the_runtime_reads(records: list[tuple[str, list[str]]]) -> None:
    # The compiler's own writer, against the runtime's own reader.
    raw = plan_file.format_plan([(key, *fields) for key, fields in records])
    plan = Plan.parse(raw)
    for key in ("env", "argv", "file"):
        assert plan.all(key) == [fields for k, fields in records if k == key]
