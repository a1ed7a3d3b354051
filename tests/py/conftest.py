"""What the control plane's tests share: a manifest to start from, and a base to be in."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import runtime  # noqa: F401  # makes `launch` importable
from launch.plan import Plan

from pyhelpers.manifest import Manifest, load
from pyhelpers.paths import Grounds

ROOT = Path(__file__).parents[2]

DOCUMENT: dict[str, Any] = {
    "version": "1.0",
    "sandbox": "dev",
    "engine": "postgres",
    "capabilities": {
        "network": {"listen": ["127.0.0.1:5432"], "connect": []},
        "filesystem": {"read": [], "write": []},
        "resources": {"memory": "256M", "cpu": "1.0", "pids": 256},
    },
    "environment": {},
}


@pytest.fixture
def document() -> dict[str, Any]:
    """A manifest that is in order, to be changed freely."""
    return copy.deepcopy(DOCUMENT)


@pytest.fixture
def grounds(tmp_path: Path) -> Grounds:
    """A base with an environment `dev`, and a toolkit, below the test's directory."""
    base = tmp_path / "it's a home" / ".sandboxes"
    (base / "dev").mkdir(parents=True)
    toolkit = tmp_path / "toolkit"
    toolkit.mkdir()
    return Grounds(str(base / "dev"), str(base), str(toolkit))


@pytest.fixture
def loaded(grounds: Grounds) -> Any:
    """A function: the manifest of a document or of raw bytes, checked as `dev`'s."""

    def check(source: dict[str, Any] | bytes) -> Manifest:
        raw = source if isinstance(source, bytes) else json.dumps(source).encode()
        return load(raw, "m", "dev", grounds)

    return check


class Answer(NamedTuple):
    """What a command of the control plane said."""

    code: int
    pairs: dict[str, str]
    lines: list[str]
    errors: list[str]


class House:
    """A base directory, a server program that knows its version only, and the control plane."""

    def __init__(self, folder: Path) -> None:
        self.base = folder / "it's a home" / ".sandboxes"
        self.base.mkdir(parents=True)
        self.bin = folder / "fake-15" / "bin"
        self.bin.mkdir(parents=True)
        self.set_version("15.4")
        (self.bin / "psql").write_text("#!/bin/sh\n")
        (self.bin / "psql").chmod(0o755)
        self.environ = {
            **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
            "XDG_STATE_HOME": str(folder / "state"),
            "VIRT_POSTGRES_BIN": str(self.bin),
            "VIRT_PROGRAM": "prog",
            "VIRT_VERB": "verb",
        }

    def set_version(self, version: str) -> None:
        program = self.bin / "postgres"
        program.write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version} (Fake)'\n")
        program.chmod(0o755)

    def control(self, *words: object) -> Answer:
        command = [sys.executable, "-I", str(ROOT / "pyhelpers" / "__main__.py"), *map(str, words)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.environ, check=False, timeout=60
        )
        lines = done.stdout.splitlines()
        pairs = dict(line.split("=", 1) for line in lines if "=" in line)
        return Answer(done.returncode, pairs, lines, done.stderr.splitlines())

    def compile(self, name: str = "dev", *flags: object) -> Answer:
        staging = self.base / f".new.{name}.{os.getpid()}"
        staging.mkdir(mode=0o700)
        common = ("--engine", "postgres", "--name", name, "--base", self.base, "--uid", 1234, "--gid", 1235)
        answer = self.control("compile", staging, *common, *flags)
        if answer.code == 0:
            staging.rename(self.base / name)
        else:
            assert list(staging.iterdir()) == []
            staging.rmdir()
        return answer

    def make_template(self) -> None:
        identity = self.compile().pairs["missing_template"]
        (self.base / ".templates" / identity / "data").mkdir(parents=True)
        (self.base / ".templates" / identity / "layer").write_text("overlay\n")

    def recompile(self, name: str = "dev", *flags: str) -> Answer:
        return self.control("recompile", self.base / name, "--base", self.base, *flags)

    def plan(self, name: str = "dev") -> Plan:
        return Plan.parse((self.base / name / "config" / "plan").read_bytes())

    def pairs(self, file: str, name: str = "dev") -> dict[str, str]:
        return dict(line.split("=", 1) for line in (self.base / name / file).read_text().splitlines())

    def edit(self, change: Callable[[dict[str, Any]], object], name: str = "dev") -> None:
        path = self.base / name / "config" / "capabilities.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))


@pytest.fixture
def bare(tmp_path: Path) -> House:
    """A house without a template."""
    return House(tmp_path)


@pytest.fixture
def house(bare: House) -> House:
    """A house where environments can be made."""
    bare.make_template()
    return bare


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
