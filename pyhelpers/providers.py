"""Where an engine's server programs come from: a directory that the user names, the host's
packages, or a wheel in the project's .venv. Facts in, one choice out."""

from __future__ import annotations

import glob
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple

from pyhelpers.card import Card
from pyhelpers.errors import HOST, Problem, plain

_GUEST = "/opt/engine"  # where programs that are not below /usr appear in the guest


class Bind(NamedTuple):
    """A host tree that the guest needs in order to run the server."""

    source: str
    target: str


class Provider(NamedTuple):
    """One set of server programs."""

    kind: str  # named, host, wheel
    directory: str  # the programs, on the host, without links
    programs: str  # the same directory as the guest sees it
    binds: tuple[Bind, ...]
    version: str

    @property
    def label(self) -> str:
        """How the record, the plan and `inspect` name it."""
        return f"{self.kind}:{self.directory}"

    @property
    def major(self) -> int:
        """The first number of the version."""
        return int(self.version.split(".")[0])


class _Candidate(NamedTuple):
    kind: str
    directory: str
    binds: tuple[Bind, ...] = ()
    programs: str = ""


def version_key(version: str) -> tuple[int, ...]:
    """A version's numbers, for comparison."""
    return tuple(int(number) for number in re.findall(r"[0-9]+", version))


def matches(version: str, wanted: str) -> bool:
    """Whether a version is the wanted one or one of its kind: 15 matches 15.4, not 150."""
    return not wanted or version == wanted or version.startswith(wanted + ".")


def _placed(kind: str, directory: str) -> _Candidate:
    """A directory of programs: as it is below /usr, else its tree is bound."""
    directory = os.path.realpath(directory)
    if directory.startswith("/usr/"):
        return _Candidate(kind, directory, (), directory)
    # `bin` belongs to a tree with lib and share beside it.
    tree = os.path.dirname(directory) if os.path.basename(directory) in ("bin", "sbin") else directory
    if tree == "/":
        tree = directory
    target = f"{_GUEST}/{os.path.basename(tree)}"
    return _Candidate(kind, directory, (Bind(tree, target),), target + directory[len(tree) :])


def _wheel(card: Mapping[str, Any]) -> _Candidate | None:
    spec = find_spec(card["package"])  # found, never imported
    if spec is None or not spec.submodule_search_locations:
        return None
    package = os.path.realpath(next(iter(spec.submodule_search_locations)))
    target = f"{_GUEST}/{card['package']}"
    binds = [Bind(package, target)]
    # Libraries beside the package are found relative to the programs, so they go along.
    for name in card.get("beside", []):
        beside = os.path.join(os.path.dirname(package), name)
        if os.path.isdir(beside):
            binds.append(Bind(beside, f"{_GUEST}/{name}"))
    return _Candidate("wheel", os.path.join(package, card["bin"]), tuple(binds), f"{target}/{card['bin']}")


def _candidates(card: Mapping[str, Any], choice: str, environ: Mapping[str, str]) -> Iterator[_Candidate]:
    if choice.startswith("/"):
        yield _placed("named", choice)
        return
    named = environ.get(card["variable"], "")
    if choice == "auto" and named:
        yield _placed("named", os.path.abspath(named))
        return
    if choice in ("auto", "host"):
        found = [path for pattern in card["host"] for path in glob.glob(pattern)]
        found.sort(key=version_key, reverse=True)
        # `sbin`s too: a server is often not on an ordinary user's PATH.
        found += [part for part in environ.get("PATH", "").split(":") if part.startswith("/")]
        found += ["/usr/sbin", "/usr/local/sbin"]
        for path in found:
            program = os.path.join(path, card["server"])
            if os.path.isfile(program):
                # A link in /usr/bin may point into a package's own tree: that is its place.
                real = os.path.realpath(program)
                same = os.path.basename(real) == card["server"]
                yield _placed("host", os.path.dirname(real) if same else path)
    if choice in ("auto", "wheel"):
        wheel = _wheel(card["wheel"]) if "wheel" in card else None
        if wheel:
            yield wheel


def read_version(card: Mapping[str, Any], directory: str) -> str:
    """What the server program in the directory says its version is; empty if it does not."""
    program = os.path.join(directory, card["server"])
    if not os.access(program, os.X_OK):
        return ""
    try:
        answer = subprocess.run(
            [program, *card["version"]["arguments"]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=10,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = re.search(card["version"]["pattern"], answer.stdout.decode("utf-8", "replace"))
    return match[1] if match else ""


def available(card: Card, environ: Mapping[str, str], choice: str = "auto") -> Iterator[Provider]:
    """The providers that answer, best first. Each costs one run of its server program."""
    seen = set()
    for kind, directory, binds, programs in _candidates(card.data["provider"], choice, environ):
        if directory in seen:
            continue
        seen.add(directory)
        version = read_version(card.data["provider"], directory)
        if version:
            yield Provider(kind, directory, programs, binds, version)


def find(card: Card, environ: Mapping[str, str], choice: str = "auto", wanted: str = "") -> Provider:
    """The first provider with the wanted version. Raises Problem naming where servers come from."""
    others = []
    for provider in available(card, environ, choice):
        if matches(provider.version, wanted):
            return provider
        others.append(f"{provider.version} in {plain(provider.directory)}")
    spec = card.data["provider"]
    what = f"{card.title} {wanted}".rstrip()
    where, hint = f"{spec['variable']}, the host's packages, the wheel in .venv", spec["install"]
    if choice.startswith("/"):
        where = f"the named directory {plain(choice)}"
    elif choice == "auto" and environ.get(spec["variable"]):
        where, hint = f"the directory that {spec['variable']} names", f"unset {spec['variable']}"
    found = f" (found: {', '.join(others)})" if others else ""
    raise Problem(HOST, f"no server programs of {what} in {where}{found}", hint)


def data_version(card: Card, version: str) -> str:
    """The part of a version that decides whether two servers can read each other's data."""
    match = re.match(card.data["provider"]["data_version"], version)
    return match[0] if match else version
