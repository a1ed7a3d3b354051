"""An environment of the toolkit, driven by its command line as a user drives it."""

from __future__ import annotations

import os
import pathlib
import subprocess

from server import ROOT, Address, Fault

PROGRAM = ROOT / "wasm_style_sandbox.sh"


class Sandbox:
    """One environment below `home`, its VIRT_HOME."""

    def __init__(self, home: pathlib.Path, name: str) -> None:
        self.home, self.name = home, name
        self.path = home / ".sandboxes" / name
        self.socket = self.path / "sock"

    def create(self, *flags: str) -> None:
        """Create it on a free port; the flags are those of the verb."""
        self.call("create", "postgres", self.name, "auto", *flags)
        variables = pairs(self.path / "env")
        self.address = Address(
            int(variables["DB_PORT"]), variables["DB_USER"], variables["DB_PASSWORD"], variables["DB_NAME"]
        )

    def call(self, verb: str, *words: str) -> str:
        """Run a verb to its end; its standard output. Fault with its own words if it fails."""
        done = subprocess.run(
            [str(PROGRAM), verb, *words],
            env={**os.environ, "VIRT_HOME": str(self.home), "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            said, _, hint = done.stderr.strip().partition("\n  try: ")
            last = " | ".join(said.splitlines()[-3:])
            raise Fault(f"{verb} {self.name} ended with {done.returncode}: {last}", hint)
        return done.stdout

    def start(self) -> None:
        """The verb run: returns when the server answers."""
        self.call("run", self.name)

    def check(self) -> None:
        """The verb run has succeeded, so the supervisor must have a record."""
        if not self.state():
            raise Fault(f"{self.name} is not running any more", f"less {self.path}/logs/service.log")

    def stop(self) -> None:
        """The verb stop."""
        self.call("stop", self.name)

    def destroy(self) -> None:
        """The verb destroy; nothing if there is no such environment."""
        if self.path.exists():
            self.call("destroy", "--yes", self.name)

    def record(self) -> dict[str, str]:
        """What `create` recorded."""
        return pairs(self.path / "record")

    def state(self) -> dict[str, str]:
        """The supervisor's own record; empty when it does not run."""
        return pairs(self.path / "run/state")

    def programs(self) -> pathlib.Path:
        """The directory of the provider's programs on the host."""
        return (self.path / "bin/pgbench").resolve().parent

    def template(self) -> pathlib.Path:
        """The template that it is layered on."""
        return self.path.parent / ".templates" / self.record()["template"]


def pairs(path: pathlib.Path) -> dict[str, str]:
    """A file of KEY=VALUE lines; empty if there is none."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line)
