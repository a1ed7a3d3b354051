"""Fixtures of the escape tests, and their matrix at the end of the report."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import canary
import pytest
from sandbox import Sandbox, free_port, give


@pytest.fixture(scope="session")
def home() -> Iterator[pathlib.Path]:
    """A VIRT_HOME that the guest's uid can walk to; one for each test process."""
    base = pathlib.Path(tempfile.mkdtemp(prefix="virt-escape."))
    base.chmod(0o755)
    place = base / "it's a home"
    place.mkdir(mode=0o755)
    give(place)
    yield place
    for path in place.glob(".sandboxes/*/work"):
        subprocess.run(["chmod", "-R", "u+rwx", path], check=False)
    shutil.rmtree(base)


@pytest.fixture(scope="session")
def secret(home: pathlib.Path) -> pathlib.Path:
    """A file of the owner's that no manifest grants."""
    path = home / "secret"
    path.write_text("secret\n")
    give(path)
    return path


@pytest.fixture(scope="module")
def granted() -> Iterator[canary.Canary]:
    """A listener of the host that the manifest lets the guest connect to."""
    listener = canary.tcp()
    yield listener
    listener.close()


@pytest.fixture(scope="module")
def slow() -> Iterator[canary.Slow]:
    """A granted listener that never completes a connection."""
    listener = canary.Slow()
    yield listener
    listener.close()


@pytest.fixture
def denied() -> Iterator[canary.Canary]:
    """A listener of the host that nothing grants. It must hear nothing."""
    listener = canary.tcp()
    yield listener
    listener.close()


@pytest.fixture(scope="module")
def trees(home: pathlib.Path, request: pytest.FixtureRequest) -> pathlib.Path:
    """Host directories to grant: ro/ and rw/, each with the file `old`."""
    base = home / f"trees-{request.module.__name__}"
    for name in ("ro", "rw"):
        (base / name).mkdir(parents=True)
        (base / name / "old").write_text("old\n")
    (base / "ro/nested").mkdir()
    (base / "ro/late").mkdir()
    return base


@pytest.fixture(scope="module")
def sandbox(
    home: pathlib.Path,
    request: pytest.FixtureRequest,
    trees: pathlib.Path,
    granted: canary.Canary,
    slow: canary.Slow,
) -> Iterator[Sandbox]:
    """A running environment with one grant of each kind, shared by a module's tests.

    `listen` is a granted port of 127.0.0.1 that its server does not use.
    """
    give(trees)
    it = Sandbox(home, request.module.__name__.replace("test_", "").replace("_", "-"))
    try:
        it.create(
            *("--read", f"{trees / 'ro'}::/ro"),
            *("--write", f"{trees / 'rw'}::/rw"),
            *("--connect", f"127.0.0.1:{granted.port}"),
            *("--connect", f"127.0.0.1:{slow.port}"),
            *("--env", "GRANTED_VARIABLE=granted"),
        )
        it.listen = free_port()
        it.edit(lambda grants: grants["network"]["listen"].append(f"127.0.0.1:{it.listen}"))
        it.run()
        yield it
    finally:
        it.call("destroy", "--yes", it.name, check=False)


def _case(nodeid: str) -> tuple[int, str] | None:
    """The matrix' number and the sentence of a test's name, None if it has no number."""
    found = re.search(r"tests/escape/.*::test_(\d+)_(\w+)", nodeid)
    return (int(found[1]), found[2].replace("_", " ")) if found else None


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the matrix: case, what was tried, result."""
    outcomes = ("passed", "skipped", "failed", "error")  # the last that a case has counts
    rows: dict[tuple[int, str], str] = {}
    for result in outcomes:
        for report in terminalreporter.stats.get(result, []):
            case = _case(getattr(report, "nodeid", ""))
            if case:
                rows[case] = result
    if not rows:
        return
    words = {"passed": "held", "failed": "BROKEN", "error": "NOT TRIED"}
    terminalreporter.section("escape matrix")
    for (number, sentence), result in sorted(rows.items()):
        terminalreporter.write_line(f"{number:>4}  {words.get(result, result):<10} {sentence}")
