"""`inspect`: one environment as it is now, live values read back from the kernel."""

from __future__ import annotations

import json
import os
from typing import Any

from pyhelpers import runstate
from pyhelpers.errors import MISSING, Problem, plain, shown
from pyhelpers.table import print_fields, print_table, size

# What holds each kind of grant, and what happens to everything that is not granted.
_ENFORCED = {
    "network.listen": (
        "any other address and port stays inside",
        "empty network namespace; the broker binds the manifest's address",
    ),
    "network.connect": (
        "everything else: network unreachable",
        "empty network namespace; the broker connects",
    ),
    "filesystem.read": ("everything else does not exist inside", "mount namespace; read-only mounts"),
    "filesystem.write": ("everything else is read-only or absent", "mount namespace; noexec, nosuid, nodev"),
}


def inspect(directory: str, *, as_json: bool) -> int:
    """Print the report, as a table or as JSON (`version` 1). Never prints the password."""
    found = report(directory)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print_report(found)
    return 0


def report(directory: str) -> dict[str, Any]:
    """Everything that is known about the environment. Raises Problem if there is none."""
    known = runstate.read(directory)
    record = known.record
    if not os.path.isdir(directory):
        raise Problem(MISSING, f"no environment in {plain(directory)}")
    live: dict[str, str] = {}
    notes: list[str] = []
    if known.run and known.state in ("running", "starting", "stopping"):
        for key, value in runstate.ask_runtime(["status", directory]):
            if key == "note":
                notes.append(value)
            else:
                live[key] = value
    manifest = _manifest(directory)
    changed = bool(manifest) and runstate.manifest_edited(directory)
    if changed:
        notes.append("the manifest was edited: the next restart applies it")
    return {
        "version": 1,
        "name": record.get("name", os.path.basename(directory)),
        "engine": record.get("engine", ""),
        "state": known.state,
        "address": record.get("address", ""),
        "port": _number(record.get("port", "")),
        "pid": _number(known.run.get("pid", "")) if live else None,
        "since": _decimal(known.run.get("since", "")) if live else None,
        "ready_ms": _decimal(live.get("ready_ms", "")),
        "created": _number(record.get("created", "")),
        "owner_uid": _number(record.get("uid", "")),
        "directory": directory,
        "manifest": os.path.join(directory, runstate.MANIFEST),
        "manifest_edited": changed,
        "provider": record.get("provider", ""),
        "engine_version": record.get("version", ""),
        "template": record.get("template", ""),
        "layer": {"kind": record.get("layer", ""), "bytes": _tree_bytes(os.path.join(directory, "data"))},
        "durability": "ephemeral" if record.get("ephemeral") == "yes" else "durable",
        "capabilities": _capabilities(manifest),
        "limits": _limits(manifest, live),
        "confinement": _confinement(known.run.get("pid1", "") if live else ""),
        "notes": notes,
        "events": _events(os.path.join(directory, "logs/events.jsonl")),
        "last_exit": known.exit or None,
    }


def _number(text: str) -> int | None:
    return int(text) if text.lstrip("-").isdigit() else None


def _decimal(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _manifest(directory: str) -> dict[str, Any]:
    """The compiled manifest: what holds now, which is not what the edited file will say."""
    try:
        with open(os.path.join(directory, "config/compiled.json"), encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _tree_bytes(top: str) -> int | None:
    """Bytes on disk of a tree (du(1)); None if some of it cannot be read."""
    total = 0
    try:
        for folder, _, files in os.walk(top, onerror=_raise):
            for name in (".", *files):
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    except OSError:
        return None
    return total


def _raise(error: OSError) -> None:
    raise error


def _capabilities(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    granted = manifest.get("capabilities", {})
    found = []
    for kind, (denied, enforced) in _ENFORCED.items():
        group, _, entry = kind.partition(".")
        entries = granted.get(group, {}).get(entry, [])
        found.append({"capability": kind, "granted": entries, "denied": denied, "enforced_by": enforced})
    return found


def _limits(manifest: dict[str, Any], live: dict[str, str]) -> dict[str, dict[str, Any]]:
    wanted = manifest.get("capabilities", {}).get("resources", {})
    read_back = {
        "memory": {"limit": "memory_limit", "used": "memory", "peak": "memory_peak", "kills": "oom_kills"},
        "cpu": {"limit": "cpu_limit", "used_seconds": "cpu_seconds"},
        "pids": {"limit": "pids_limit", "used": "pids"},
    }
    found: dict[str, dict[str, Any]] = {}
    for limit, keys in read_back.items():
        values = {name: _decimal(live[key]) for name, key in keys.items() if key in live}
        whole = {
            name: int(value) for name, value in values.items() if value is not None and value.is_integer()
        }
        found[limit] = {
            "wanted": wanted.get(limit),
            "mechanism": live.get(f"limit.{limit}"),
            **values,
            **whole,
        }
    return found


def _confinement(pid1: str) -> dict[str, str] | None:
    """What the kernel says of the guest's first process (proc(5)); None if it cannot be read."""
    if not pid1.isdigit():
        return None
    try:
        with open(f"/proc/{pid1}/status", encoding="utf-8", errors="replace") as file:
            status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    except OSError:
        return None
    sets = [status.get(key, "").strip("0") for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")]
    return {
        "uid": status.get("Uid", "").split("\t")[0],
        "seccomp": {"0": "none", "1": "strict", "2": "filter"}.get(status.get("Seccomp", ""), "unknown"),
        "no_new_privs": "yes" if status.get("NoNewPrivs") == "1" else "no",
        "capabilities": "some" if any(sets) else "none",
    }


def _events(path: str) -> dict[str, Any]:
    """How many events of each kind the log holds."""
    counts: dict[str, int] = {}
    try:
        with open(path, "rb") as file:
            for line in file:
                try:
                    kind = json.loads(line)["event"]
                except (ValueError, KeyError, TypeError):
                    kind = "unreadable"
                counts[str(kind)] = counts.get(str(kind), 0) + 1
    except OSError:
        pass
    return {"count": sum(counts.values()), "by_kind": counts}


def _print_report(found: dict[str, Any]) -> None:
    layer = found["layer"]
    print_fields(
        [
            ("name", found["name"]),
            ("state", _state_words(found)),
            ("server", f"{found['engine']} {found['engine_version']}, {found['durability']}"),
            ("address", _address_words(found)),
            ("provider", found["provider"]),
            ("template", found["template"]),
            ("layer", f"{layer['kind']}, {size(layer['bytes'])}"),
            ("directory", found["directory"]),
            ("manifest", found["manifest"] + (" (edited since)" if found["manifest_edited"] else "")),
            ("owner", f"uid {found['owner_uid']}"),
            ("events", _event_words(found["events"])),
            ("last exit", _exit_words(found["last_exit"])),
        ]
    )
    print()
    rows = [
        (
            item["capability"],
            "\n".join(map(plain, item["granted"])) or "nothing",
            item["denied"],
            item["enforced_by"],
        )
        for item in found["capabilities"]
    ]
    print_table(("CAPABILITY", "GRANTED", "OTHERWISE", "ENFORCED BY"), rows)
    print()
    limits = [
        (name, str(item["wanted"]), item["mechanism"] or "when it runs", _live_words(name, item))
        for name, item in found["limits"].items()
    ]
    print_table(("LIMIT", "WANTED", "HELD BY", "NOW"), limits)
    if found["confinement"]:
        said = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in found["confinement"].items())
        print(f"\nthe kernel says of the guest: {said}")
    for note in found["notes"]:
        print(f"note: {note if note.isprintable() else shown(note)}")


def _state_words(found: dict[str, Any]) -> str:
    words = [found["state"]]
    if found["pid"]:
        words.append(f"pid {found['pid']}")
    if found["ready_ms"]:
        words.append(f"ready after {found['ready_ms']:g} ms")
    return ", ".join(words)


def _address_words(found: dict[str, Any]) -> str:
    address = found["address"]
    if address.startswith("/"):
        return f"{plain(address)} (unix socket only)"
    return f"[{address}]:{found['port']}" if ":" in address else f"{address}:{found['port']}"


def _event_words(events: dict[str, Any]) -> str:
    kinds = ", ".join(f"{plain(kind)} {count}" for kind, count in events["by_kind"].items())
    return f"{events['count']} ({kinds})" if kinds else "none"


def _exit_words(ended: dict[str, str] | None) -> str:
    if not ended:
        return "none"
    words = [ended.get("reason", "unknown")]
    words += [f"{key} {ended[key]}" for key in ("code", "signal") if ended.get(key, "0") != "0"]
    if ended.get("message"):
        words.append(plain(ended["message"]))
    return ", ".join(words)


def _live_words(limit: str, item: dict[str, Any]) -> str:
    if not item["mechanism"]:
        return ""
    words = []
    if limit == "memory":
        words = [
            f"{name} {size(item[name])}" for name in ("limit", "used", "peak") if item.get(name) is not None
        ]
        words += [f"killed for memory: {item['kills']}"] if item.get("kills") else []
    elif limit == "cpu":
        words = [f"limit {item['limit'] / 1000:g}"] if item.get("limit") is not None else []
        words += [f"used {item['used_seconds']:g} s"] if item.get("used_seconds") is not None else []
    else:
        words = [f"{name} {item[name]}" for name in ("limit", "used") if item.get(name) is not None]
    return ", ".join(words)
