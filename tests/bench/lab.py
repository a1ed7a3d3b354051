"""The place where a benchmark runs, and the pairs of contestants in it; all of it vanishes at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import TypeVar

from native import Native
from sandboxed import Sandbox

Item = TypeVar("Item")
# Both sides of a pair have the limits of its manifest.
PAIRS = {
    "wide": ("1G, all cores", ("--memory", "1G", "--cpus", str(os.cpu_count()), "--pids", "256")),
    "default": ("default manifest", ()),
}


@dataclasses.dataclass(frozen=True)
class Pair:
    """A sandbox and the native server beside it, both stopped, both initialised."""

    label: str
    sandbox: Sandbox
    native: Native


class Lab:
    """Makes contestants below `home`; `quick` asks for fewer and shorter rounds."""

    def __init__(self, home: pathlib.Path, quick: bool, stack: contextlib.ExitStack) -> None:
        self.home, self.quick, self._stack = home, quick, stack
        self._pairs: dict[str, Pair] = {}

    def sandbox(self, name: str, *flags: str) -> Sandbox:
        """A new environment, destroyed at the latest when the laboratory closes."""
        sandbox = Sandbox(self.home, name)
        self._stack.callback(sandbox.destroy)
        sandbox.create(*flags)
        return sandbox

    def pair(self, kind: str) -> Pair:
        """The pair of PAIRS, made when it is first asked for."""
        if kind not in self._pairs:
            label, flags = PAIRS[kind]
            say(f"making the pair: {label}")
            sandbox = self.sandbox(kind, *flags)
            sandbox.start()
            native = Native(self.home / f"native-{kind}", sandbox)
            self._stack.callback(native.close)
            native.make()
            sandbox.stop()
            native.bootstrap()
            self._pairs[kind] = Pair(label, sandbox, native)
        return self._pairs[kind]

    def pairs(self) -> list[Pair]:
        """Every pair."""
        return [self.pair(kind) for kind in PAIRS]

    def default(self) -> Sandbox:
        """The environment with the default manifest, stopped."""
        return self.pair("default").sandbox


@contextlib.contextmanager
def laboratory(quick: bool) -> Iterator[Lab]:
    """A Lab in a directory of its own below $TMPDIR, deleted afterwards whatever happened."""
    place = pathlib.Path(tempfile.mkdtemp(prefix="virt-bench."))
    try:
        # The guest's uid must be able to walk to its data, and sudo's user to make .sandboxes.
        place.chmod(0o755)
        if os.geteuid() == 0 and os.environ.get("SUDO_UID"):
            os.chown(place, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]))
        with contextlib.ExitStack() as stack:
            yield Lab(place, quick, stack)
    finally:
        # Overlay's work directories are unreadable, to their owner too.
        for work in place.glob(".sandboxes/*/work"):
            subprocess.run(["chmod", "-R", "u+rwx", "--", work], check=False)
        subprocess.run(["rm", "-rf", "--one-file-system", "--", place], check=False)


def flipped(items: list[Item], count: int) -> list[Item]:
    """The items in the order of this round: every second one is backwards, so drift favours nobody."""
    return items[:: -1 if count % 2 else 1]


def say(text: str) -> None:
    """Progress, on standard error."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
