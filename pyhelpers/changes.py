"""What an edited manifest widened or narrowed, compared with the one that was compiled last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pyhelpers.errors import plain
from pyhelpers.manifest import memory_bytes

_LISTS = (("network", "listen"), ("network", "connect"), ("filesystem", "read"), ("filesystem", "write"))
_MEASURES: dict[str, Callable[[Any], float]] = {"memory": memory_bytes, "cpu": float, "pids": int}
_DEFAULTS = {"durability": "durable", "provider": "auto", "engine_version": "any"}


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`widened network.connect 10.0.0.1:5432` and the like, one line a change.

    old: the manifest compiled before; an empty mapping (nothing known) gives no lines
    """
    return list(_changes(old, new)) if old else []


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    before, after = old["capabilities"], new["capabilities"]
    for group, kind in _LISTS:
        had, has = before[group][kind], after[group][kind]
        for entry in has:
            if entry not in had:
                yield f"widened {group}.{kind} {plain(entry)}"
        for entry in had:
            if entry not in has:
                yield f"narrowed {group}.{kind} {plain(entry)}"
    for kind, measure in _MEASURES.items():
        was, now = before["resources"][kind], after["resources"][kind]
        if measure(was) != measure(now):
            word = "widened" if measure(now) > measure(was) else "narrowed"
            yield f"{word} resources.{kind} {was} -> {now}"
    had, has = old.get("environment", {}), new.get("environment", {})
    for key in sorted({*had, *has}):
        if had.get(key) != has.get(key):
            # Values may be secrets: the name says enough.
            yield f"changed environment.{key}"
    for key, default in _DEFAULTS.items():
        was, now = old.get(key, default), new.get(key, default)
        if was != now:
            yield f"changed {key} {plain(was)} -> {plain(now)}"
