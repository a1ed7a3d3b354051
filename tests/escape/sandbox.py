"""Starts real environments through the command line, and attacks inside them."""

from __future__ import annotations

import json
import os
import pathlib
import queue
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "wasm_style_sandbox.sh"
ATTACKS = pathlib.Path(__file__).resolve().parent / "attacks"
ENGINE = "postgres"
# The uid that the guest has when the toolkit is called by root without sudo
# (docs/architecture.md, "Who runs as whom").
PLAIN_ROOT_UID = 60913
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount or to change ids")
SUDO = ("SUDO_UID", "SUDO_GID", "SUDO_USER", "SUDO_COMMAND")


def owner_uid() -> int:
    """The uid that an environment made by us belongs to."""
    if os.geteuid():
        return os.geteuid()
    return int(os.environ.get("SUDO_UID", PLAIN_ROOT_UID))


def give(path: pathlib.Path) -> None:
    """Give a file or a tree to the environment's owner."""
    if os.geteuid() == 0:
        subprocess.run(["chown", "-hR", str(owner_uid()), path], check=True)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def until(true: Callable[[], Any], seconds: float, what: str) -> None:
    """Wait until true() is; AssertionError with `what` after that many seconds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"after {seconds} s: {what}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether that process exists and is no zombie."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, children.read_text().split())
        except OSError:
            continue
    return found


def _sockets(pid: int) -> set[str]:
    """The inodes of a process's sockets; empty if it is gone or may not be looked at."""
    found = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            link = os.readlink(f"/proc/{pid}/fd/{name}")
            if link.startswith("socket:["):
                found.add(link[8:-1])
    except OSError:
        pass
    return found


class Attack:
    """An attack under way inside: its lines as they come, then its result."""

    def __init__(self, command: list[str], environment: Mapping[str, str], **options: Any) -> None:
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **{"stdin": subprocess.DEVNULL, **options},
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self, timeout: float = 30) -> str | None:
        """The next line, None at the end."""
        return self._lines.get(timeout=timeout)

    def expect(self, word: str) -> None:
        """The next line must be this word."""
        line = self.line()
        assert line == word, f"{line!r} instead of {word!r}: {self.error()}"

    def error(self) -> str:
        """What it wrote to standard error; ends it if it is still running."""
        self.process.kill()
        return self.process.communicate()[1]

    def result(self, timeout: float = 60) -> Any:
        """The last line, parsed; AssertionError if the attack broke instead of being refused."""
        last = None
        while (line := self.line(timeout)) is not None:
            last = line
        code = self.process.wait(10)
        assert self.process.stderr
        assert code == 0 and last, f"the attack ended with {code}: {self.process.stderr.read()}"
        return json.loads(last)

    def stop(self) -> None:
        """End it from outside."""
        self.process.kill()
        self.process.communicate()


class Sandbox:
    """One environment. `home` is its VIRT_HOME, walkable by every uid."""

    def __init__(self, home: pathlib.Path, name: str, extra: Mapping[str, str | None] | None = None) -> None:
        self.home, self.name = home, name
        self.path = home / ".sandboxes" / name
        self.listen = 0  # a granted port that the server does not use, if there is one
        self.environment = {**os.environ, "VIRT_HOME": str(home), "NO_COLOR": "1"}
        for key, value in (extra or {}).items():
            if value is None:
                self.environment.pop(key, None)
            else:
                self.environment[key] = value

    def command(self, *words: str) -> list[str]:
        return [str(PROGRAM), *words]

    def call(
        self, *words: str, check: bool = True, prefix: tuple[str, ...] = (), **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end; with `check`, AssertionError unless it exits 0."""
        done = subprocess.run(
            [*prefix, *self.command(*words)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            **{"stdin": subprocess.DEVNULL, **options},
        )
        if check:
            assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def create(self, *flags: str, port: str = "auto") -> None:
        """Create it, with the attacks readable as /attacks."""
        attacks = self.home / "attacks"
        if not attacks.exists():
            staged = self.home / f"attacks.{os.getpid()}"
            shutil.copytree(ATTACKS, staged, ignore=shutil.ignore_patterns("__pycache__"))
            for path in (staged, *staged.iterdir()):
                path.chmod(0o755)
            staged.rename(attacks)
        grants = ["--read", f"{attacks}::/attacks"]
        if not os.path.exists("/usr/bin/python3"):
            grants += ["--read", f"{os.path.realpath(sys.base_prefix)}::/python"]
        self.call("create", ENGINE, self.name, port, *grants, *flags)

    def run(self, *flags: str) -> None:
        self.call("run", self.name, *flags)

    def destroy(self) -> None:
        self.call("destroy", "--yes", self.name)

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the manifest as its owner would, with an editor."""
        path = self.path / "config/capabilities.json"
        manifest = json.loads(path.read_text())
        change(manifest["capabilities"])
        path.write_text(json.dumps(manifest, indent=2))

    def record(self) -> dict[str, str]:
        return pairs(self.path / "record")

    def state(self) -> dict[str, str]:
        """The supervisor's own record of itself; empty when it does not run."""
        try:
            return pairs(self.path / "run/state")
        except FileNotFoundError:
            return {}

    def processes(self) -> list[int]:
        """The supervisor, pid 1 and everything below, as the host numbers them."""
        state = self.state()
        found = [int(state["pid1"])]
        for pid in found:  # grows while it is walked
            found += _children(pid)
        return [int(state["pid"]), *found]

    def listeners(self) -> set[tuple[str, int]]:
        """What its processes listen on in the host's namespace: (IPv4 address, port)."""
        held = set().union(*map(_sockets, self.processes()))
        found = set()
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in held:  # TCP_LISTEN; the inode
                address, port = fields[1].split(":")
                packed = int(address, 16).to_bytes(4, sys.byteorder)
                found.add((socket.inet_ntoa(packed), int(port, 16)))
        return found

    @property
    def port(self) -> int:
        return int(self.record()["port"])

    def attack(self, module: str, function: str, *arguments: Any, **options: Any) -> Attack:
        """Start an attack inside and leave it running."""
        python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else "/python/bin/python3"
        words = [python, "-B", "-S", f"/attacks/{module}.py", function]
        words += [json.dumps(argument) for argument in arguments]
        return Attack(self.command("exec", self.name, "--", *words), self.environment, **options)

    def guest(self, module: str, function: str, *arguments: Any, **options: Any) -> Any:
        """Run an attack inside; its result."""
        return self.attack(module, function, *arguments, **options).result()

    def shell(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program inside, whatever its exit code."""
        return self.call("exec", self.name, "--", *words, check=False, **options)


def pairs(path: pathlib.Path) -> dict[str, str]:
    """A file of KEY=VALUE lines."""
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
