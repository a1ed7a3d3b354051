"""Grants of places that a mount gives a second name, or that hold the kernel's own trees (case 99)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_ASK = """
import sys
sys.path.insert(0, sys.argv[1])
from pyhelpers.errors import Problem
from pyhelpers.paths import Grounds, parse_grants
base = sys.argv[2]
try:
    parse_grants([f"{sys.argv[3]}::/mnt/x"], [], "f", Grounds(base + "/dev", base, sys.argv[1]))
except Problem as problem:
    print("refused:", problem)
else:
    print("granted")
"""


def ask(base: Path, grant: Path, *mounts: str) -> str:
    """Parse one read grant in a mount namespace of its own, after `mount` was run with each of `mounts`."""
    script = "".join(f"mount {arguments} && " for arguments in mounts) + '"$@"'
    command = [
        "unshare",
        "-r",
        "-m",
        "sh",
        "-c",
        script,
        "sh",
        sys.executable,
        "-c",
        _ASK,
        str(ROOT),
        str(base),
        str(grant),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("home/.sandboxes/dev", "alias", "other/deep", "plain"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def test_99_a_bind_mount_of_the_environments_base_is_refused(place: Path) -> None:
    base = place / "home/.sandboxes"
    for source, grant in (("home", "alias"), ("home/.sandboxes", "alias"), ("home/.sandboxes/dev", "alias")):
        found = ask(base, place / grant, f"--bind '{place / source}' '{place / grant}'")
        assert found.startswith("refused"), (source, found)
    assert ask(base, place / "alias", f"--bind '{place / 'plain'}' '{place / 'alias'}'") == "granted\n"


def test_99_a_bind_mount_of_the_whole_host_is_refused(place: Path) -> None:
    assert ask(place / "home/.sandboxes", place / "alias", f"--rbind / '{place / 'alias'}'").startswith(
        "refused"
    )


def test_99_a_tree_that_holds_the_kernels_own_is_refused(place: Path) -> None:
    base = place / "home/.sandboxes"
    mount = f"--rbind /proc '{place / 'other/deep'}'"
    assert "proc" in ask(base, place / "other", mount)
    assert "proc" in ask(base, place / "other/deep", mount)
    assert ask(base, place / "other") == "granted\n"


def test_99_a_tree_that_holds_other_environments_is_refused(place: Path) -> None:
    (place / "other/.sandboxes").mkdir()
    assert "holds environments" in ask(place / "home/.sandboxes", place / "other")
