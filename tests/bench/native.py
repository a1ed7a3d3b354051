"""The same server without a sandbox: same programs, data, configuration, uid and limits."""

from __future__ import annotations

import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "py"))
import runtime  # noqa: F401 - makes `launch` importable
from launch import calls, cgroup
from sandboxed import Sandbox
from server import Address, Fault, as_superuser, until, until_answered

_PATIENCE = 30.0  # seconds for a server to stop, as in the engine's card


class Limits:
    """What holds a native server as the sandbox of `like` is held while it runs.

    For root the same control groups; for an ordinary user the same number of processors, the
    one limit that an ordinary user can give without a sandbox.
    """

    def __init__(self, like: Sandbox, name: str) -> None:
        wanted = {
            fields[1]: int(fields[2])
            for fields in (line.split("\t") for line in (like.path / "config/plan").read_text().splitlines())
            if fields[0] == "limit"
        }
        state, record = like.state(), like.record()
        self.held = {limit: state.get(f"limit.{limit}", "none") for limit in ("memory", "cpu", "pids")}
        self.leaf: cgroup.Leaf | None = None
        self.cpus: set[int] = set()
        self.owner = int(record["uid"]), int(record["gid"])
        version = 2 if "cgroup2" in self.held.values() else 1
        by_group = [limit for limit, how in self.held.items() if how == f"cgroup{version}"]
        if os.geteuid():
            by_group, self.held = [], {**dict.fromkeys(self.held, "none"), "cpu": "affinity"}
        if self.held["cpu"] == "affinity":
            self.cpus = set(sorted(os.sched_getaffinity(0))[: max(1, wanted["cpu"] // 1000)])
        if by_group:
            place = f"bench-{name}-{os.getpid()}"
            self.leaf = cgroup.place(cgroup.find(), by_group, version, self.owner[0], place)
            self.leaf.create(self.owner)
            for limit in by_group:
                self.leaf.set(limit, wanted[limit])

    def enter(self) -> None:
        """Put this process, and what it starts, under the limits."""
        if self.leaf:
            self.leaf.join()
        if self.cpus:
            os.sched_setaffinity(0, self.cpus)

    def follow(self, like: Sandbox) -> None:
        """Use the processors that the running sandbox uses now, if it is held by affinity."""
        if self.cpus and like.state().get("limit.cpu") == "affinity":
            self.cpus = os.sched_getaffinity(int(like.state()["pid1"]))

    def remove(self) -> None:
        """Remove the control groups; no process is left in them."""
        if self.leaf:
            self.leaf.remove()
            cgroup.remove_group(cgroup.find(), self.owner[0])


class Native:
    """A copy of the template's data below `place`, served with the configuration of `like`.

    `like` must run while this is made: its limits are read from the kernel's side of it.
    """

    def __init__(self, place: pathlib.Path, like: Sandbox) -> None:
        self.place, self.like = place, like
        record = like.record()
        self.uid, self.gid = int(record["uid"]), int(record["gid"])
        self.socket = place / "sock"
        self.process: subprocess.Popen[bytes] | None = None
        self.limits = Limits(like, like.name)
        self.address = Address(free_port(), "bench", secrets.token_urlsafe(24), "bench")

    def make(self) -> None:
        """Make its directory, of the owner of `like`."""
        self.place.mkdir(mode=0o755)
        self.socket.mkdir(mode=0o700)
        # cp rather than shutil: owners, and reflinks where the file system has them.
        subprocess.run(["cp", "-a", "--", self.like.template() / "data", self.place / "data"], check=True)
        shutil.copytree(self.like.path / "config/server", self.place / "config")
        subprocess.run(["chown", "-hR", f"{self.uid}:{self.gid}", "--", self.place], check=True)

    def bootstrap(self) -> None:
        """The first run, which gives the template's role and database their names and password."""
        self.start()
        statements = (
            "ALTER ROLE virt_placeholder RENAME TO bench",
            "ALTER DATABASE virt_placeholder RENAME TO bench",
            # The alphabet of token_urlsafe has no quote.
            f"ALTER ROLE bench PASSWORD '{self.address.password}'",
        )
        until(self, lambda: as_superuser(self, *statements))
        until_answered(self)
        self.stop()

    def start(self) -> None:
        """Start the server; returns at once."""
        config = self.place / "config"
        settings = {
            "config_file": config / "postgresql.conf",
            "hba_file": config / "pg_hba.conf",
            "unix_socket_directories": self.socket,
            "port": self.address.port,
        }
        command = [str(self.like.programs() / "postgres"), "-D", str(self.place / "data")]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env={"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "TZ": "UTC"},
                cwd=self.place / "data",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # As the supervisor: an interrupt of the benchmark is not the server's.
                start_new_session=True,
                preexec_fn=self._become,
            )

    def _become(self) -> None:
        self.limits.enter()
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(self.gid, self.gid, self.gid)
            os.setresuid(self.uid, self.uid, self.uid)
        # After the change of uid, which clears it: a killed benchmark leaves no server.
        calls.prctl(calls.PR_SET_PDEATHSIG, signal.SIGQUIT)

    def check(self) -> None:
        """Raise Fault with the log's last lines if the server has ended."""
        if not self.process or self.process.poll() is not None:
            lines = (self.place / "log").read_text(errors="replace").splitlines()[-4:]
            raise Fault(f"the native server of {self.place.name} ended: {' | '.join(lines)}")

    def stop(self) -> None:
        """Stop it by the engine's own signal, and by force after 30 s."""
        if not self.process:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(_PATIENCE)
        self.process = None

    def close(self) -> None:
        """Stop it and remove its control groups."""
        self.stop()
        self.limits.remove()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
