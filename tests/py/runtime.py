"""Makes the runtime importable as it imports itself, `launch`, without putting pyhelpers on the path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_HOME = Path(__file__).resolve().parents[2] / "pyhelpers" / "launch"

if "launch" not in sys.modules:
    _spec = importlib.util.spec_from_file_location(
        "launch", _HOME / "__init__.py", submodule_search_locations=[str(_HOME)]
    )
    assert _spec and _spec.loader
    _module = importlib.util.module_from_spec(_spec)
    sys.modules["launch"] = _module
    _spec.loader.exec_module(_module)
