"""The manifest: read strictly, checked against the published schema, turned into grants.

`load` is the only way in; what it returns has been through the schema and through every
check that a schema cannot express (`addresses`, `paths`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from pyhelpers import strict_json
from pyhelpers.addresses import Connect, Listen, UnixSocket, parse_connects, parse_listens
from pyhelpers.errors import USAGE, Problem, malformed, refused, shown
from pyhelpers.paths import Grant, Grounds, parse_grants, parse_unix_sockets, within
from pyhelpers.strict_json import member

SCHEMA = os.path.join(os.path.dirname(os.path.dirname(__file__)), "templates", "manifest.schema.json")

_LINE = 72  # characters of a list that stays on one line
_UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}  # powers of two

# What glibc drops for setuid programs (sysdeps/generic/unsecvars.h), and what the sandbox
# itself sets.
_UNSAFE = frozenset(
    (
        *("GCONV_PATH", "GETCONF_DIR", "GLIBC_TUNABLES", "HOSTALIASES", "LOCALDOMAIN", "LOCPATH"),
        *("MALLOC_TRACE", "NIS_PATH", "NLSPATH", "RESOLV_HOST_CONF", "RES_OPTIONS", "TMPDIR", "TZDIR"),
        *("PATH", "HOME"),
    )
)


class Manifest(NamedTuple):
    """One environment's grants, checked. `raw` is the file's bytes, `document` its JSON."""

    raw: bytes
    document: dict[str, Any]
    name: str
    engine: str
    provider: str
    engine_version: str
    ephemeral: bool
    listens: list[Listen]
    connects: list[Connect]
    unix_sockets: list[UnixSocket]
    grants: list[Grant]
    memory: int  # bytes
    cpu: int  # thousandths of a processor
    pids: int
    environment: dict[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 of the file's bytes, hexadecimal: what a plan names its manifest by."""
        return hashlib.sha256(self.raw).hexdigest()


def render(document: Mapping[str, Any]) -> bytes:
    """The manifest's bytes as we write them: a key a line, a short list on one line."""
    return (_render(document, "") + "\n").encode("utf-8", "surrogatepass")


def _render(value: Any, margin: str) -> str:
    line = json.dumps(value, ensure_ascii=False)
    if not value or (not isinstance(value, dict) and len(line) <= _LINE):
        return line
    inner = margin + "  "
    if isinstance(value, dict):
        members = [
            f"{json.dumps(key, ensure_ascii=False)}: {_render(item, inner)}" for key, item in value.items()
        ]
        return "{\n" + ",\n".join(inner + text for text in members) + f"\n{margin}}}"
    return "[\n" + ",\n".join(inner + json.dumps(item, ensure_ascii=False) for item in value) + f"\n{margin}]"


def memory_bytes(text: str) -> int:
    """`256M` as bytes; the text has been through the schema's pattern."""
    return int(text[:-1]) << _UNITS[text[-1]]


def load(raw: bytes, source: str, name: str, grounds: Grounds) -> Manifest:
    """Check a manifest's bytes and return its grants.

    source:  what messages call the file
    name:    the environment's name, which the manifest must repeat
    grounds: the host directories that no grant may reach

    Raises Problem with the JSON path of the offence, its value and what was expected: USAGE
    for a wrong form, STATE for what is refused whatever its form.
    """
    document = strict_json.parse(raw, source)
    _check_schema(document, source)
    if document["sandbox"] != name:
        raise refused(
            f"{source}: sandbox", document["sandbox"], f"is not this environment's name, {shown(name)}"
        )
    network = document["capabilities"]["network"]
    files = document["capabilities"]["filesystem"]
    resources = document["capabilities"]["resources"]
    listens = parse_listens(network["listen"], f"{source}: capabilities.network.listen")
    connects = parse_connects(network["connect"], f"{source}: capabilities.network.connect")
    sockets = parse_unix_sockets(network["connect"], f"{source}: capabilities.network.connect", grounds)
    grants = parse_grants(files["read"], files["write"], f"{source}: capabilities.filesystem", grounds)
    for socket in sockets:
        for grant in grants:
            if within(socket.path, grant.target):
                at = f"{source}: capabilities.network.connect"
                raise refused(at, socket.path, f"is inside {shown(grant.entry)}, which is granted too")
    return Manifest(
        raw=raw,
        document=document,
        name=name,
        engine=document["engine"],
        provider=document.get("provider", "auto"),
        engine_version=document.get("engine_version", ""),
        ephemeral=document.get("durability", "durable") == "ephemeral",
        listens=listens,
        connects=connects,
        unix_sockets=sockets,
        grants=grants,
        memory=memory_bytes(resources["memory"]),
        cpu=_millicores(resources["cpu"], f"{source}: capabilities.resources.cpu"),
        pids=int(resources["pids"]),
        environment=_environment(document.get("environment", {}), f"{source}: environment"),
    )


def _millicores(value: str | float, at: str) -> int:
    cores = float(value)
    if not 0.01 <= cores <= 4096:
        raise malformed(at, value, "a number of processors from 0.01 to 4096")
    return round(cores * 1000)


def _environment(variables: Mapping[str, str], at: str) -> dict[str, str]:
    for key in variables:
        if key.startswith("LD_") or key in _UNSAFE:
            raise refused(
                at, key, "cannot be granted: the loader, the C library or the sandbox itself obeys it"
            )
    return dict(variables)


def _check_schema(document: Any, source: str) -> None:
    # Heavy to import: only where a manifest is read.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

    with open(SCHEMA, encoding="utf-8") as file:
        validator = Draft202012Validator(json.load(file))

    def place(error: ValidationError) -> tuple[int, str]:
        # Deepest first within the first branch: the innermost offence says most.
        return (-len(error.absolute_path), str(list(error.absolute_path)))

    errors = sorted(validator.iter_errors(document), key=place)
    if errors:
        raise Problem(USAGE, f"{source}: {_explain(errors[0])}")


def _explain(error: Any) -> str:
    path = ""
    for step in error.absolute_path:
        path = f"{path}[{step}]" if isinstance(step, int) else member(path, step)
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        unknown = next(key for key in error.instance if key not in known)
        return f"{member(path, unknown)}: unknown key{_nearest(unknown, known)}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"{member(path, missing)}: missing"
    if "propertyNames" in error.absolute_schema_path:
        return f"{member(path, error.instance)}: expected {error.schema['title']}"
    expected = error.schema.get("title", error.message)
    if error.validator in ("maxItems", "maxProperties"):
        return f"{path}: {len(error.instance)} entries: expected at most {error.validator_value}"
    return f"{path + ': ' if path else ''}{shown(error.instance)}: expected {expected}"


def _nearest(key: str, known: Mapping[str, Any]) -> str:
    import difflib

    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; expected one of {', '.join(known)}"
