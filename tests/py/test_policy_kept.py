"""The program is compiled once and kept; what is kept is used only if it is whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pyhelpers import policy, policy_compiler


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    return tmp_path


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every call of the compiler."""
    calls: list[object] = []
    real = policy_compiler.build

    def build(*arguments: object) -> bytes:
        calls.append(arguments)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(policy_compiler, "build", build)
    return calls


def test_a_program_is_compiled_once(prefix: Path, built: list[object]) -> None:
    first = policy.compile_filter()
    assert policy.compile_filter() == first == policy_compiler.build()
    assert len(built) == 2  # the one above, and the comparison's
    assert [path.suffix for path in prefix.iterdir()] == [".bpf"]


def test_other_calls_are_another_program(prefix: Path, built: list[object]) -> None:
    assert policy.compile_filter() != policy.compile_filter(["memfd_create"])
    assert len(built) == len(list(prefix.iterdir())) == 2


@pytest.mark.parametrize("damage", ["empty", "cut", "changed"])
def test_a_damaged_program_is_compiled_again(prefix: Path, built: list[object], damage: str) -> None:
    program = policy.compile_filter()
    (kept,) = prefix.iterdir()
    content = kept.read_bytes()
    changed = bytearray(content)
    changed[1000] ^= 1
    kept.write_bytes({"empty": b"", "cut": content[:-8], "changed": bytes(changed)}[damage])
    assert policy.compile_filter() == program
    assert len(built) == 2 and kept.read_bytes() == content


def test_nothing_is_kept_in_an_interpreter_that_is_not_ours(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    assert policy.compile_filter()
    assert list(prefix.iterdir()) == []


def test_a_kept_program_needs_no_libseccomp() -> None:
    policy.compile_filter()
    script = (
        "import sys; from pyhelpers import policy; policy.compile_filter(); print('pyseccomp' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(policy.__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
