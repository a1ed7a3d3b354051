"""What the control plane's tests share: a manifest to start from, and a base to be in."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from pyhelpers.manifest import Manifest, load
from pyhelpers.paths import Grounds

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
