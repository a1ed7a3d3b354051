"""The process that stays: builds the sandbox, serves the broker, keeps log and limits, ends it."""

from __future__ import annotations

import os
import time

from launch import attach, calls, cgroup, landlock, state, wire
from launch.broker import Broker, Denied
from launch.build import Prepared, Sandbox, make, place_leaf
from launch.control import Control
from launch.errors import FAILED, Failure
from launch.limits import wanted
from launch.logfile import Events, LogFile
from launch.loop import HANGUP, READ, WRITE, Loop
from launch.memory import INTERVAL, Sampler, cpu_seconds
from launch.readiness import Readiness
from launch.record import TYPE_CHECKING
from launch.signals import signals

if TYPE_CHECKING:
    from typing import NoReturn

_LAST_LINES = 12
_FLOOD_PAUSE = 0.005  # seconds
_PIPE = 65536  # bytes read of the guest's output at once


class Directories:
    """Descriptors of the environment's directories, opened before the owner's rights replace ours."""

    def __init__(self, home: int) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self.run, self.logs, self.data, self.sock = (
            os.open(name, flags, dir_fd=home) for name in ("run", "logs", "data", "sock")
        )


class Supervisor:
    """One sandbox, from its first fork to the last file of run/."""

    def __init__(self, prepared: Prepared, directories: Directories, caller: int) -> None:
        self.prepared, self.directories, self.caller = prepared, directories, caller
        self.plan = prepared.plan
        self.loop = Loop()
        self.log = LogFile(directories.logs, "service.log", int(self.plan.text("log", "8388608")))
        self.events = Events(directories.logs)
        self.status = "starting"
        self.begun = time.time()
        self.clock = time.monotonic()
        self.ready_ms = ""
        self.ending = ("", 0, "")  # reason, wait status, message
        self.sandbox: Sandbox
        self.leaf: cgroup.Leaf | None = None
        self.sampler: Sampler | None = None

    # -- life ------------------------------------------------------------------------------

    def live(self) -> NoReturn:
        """Runs in the daemon's process until the guest has ended."""
        try:
            self._detach()
            self._start()
            self.loop.run()
        except Failure as failure:
            self._fail(failure)
        except OSError as error:
            self._fail(Failure.from_os(error, "supervising the sandbox"))
        self._finish()

    def _detach(self) -> None:
        os.setsid()
        os.chdir("/")
        os.umask(0o077)
        calls.prctl(calls.PR_SET_CHILD_SUBREAPER, 1)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(self.log.fd, 2)
        self.wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signals.set_wakeup_fd(woken, warn_on_full_buffer=False)
        for number in (signals.SIGTERM, signals.SIGINT, signals.SIGCHLD):
            signals.signal(number, lambda *_: None)
        for number in (signals.SIGHUP, signals.SIGPIPE, signals.SIGQUIT):
            signals.signal(number, signals.SIG_IGN)
        d = self.directories
        # Trees that root resolved are cloned later, so nothing else has to stay open.
        calls.close_all_but(
            [
                d.run,
                d.logs,
                d.data,
                d.sock,
                self.log.fd,
                self.events.file.fd,
                self.wake,
                woken,
                self.caller,
                null,
            ]
        )

    def _start(self) -> None:
        self.leaf = place_leaf(self.prepared)
        self._write_state()
        output, log_end = os.pipe2(os.O_CLOEXEC)
        self.output = output
        os.set_blocking(output, False)
        self.sandbox = make(self.prepared, self.leaf, log_end, 0)
        os.close(log_end)
        self._note_state()
        d, box = self.directories, self.sandbox
        self.broker = Broker(self.plan, box.listener, box.root, box.killable, self._denied)
        self.control = Control(self, d.run)
        self.readiness = Readiness(
            self.plan, self.loop, d.data, d.sock, not _exists(d.run, "bootstrapped"), self._answered
        )
        if self.prepared.choice.mechanisms.get("memory") == "sampled":
            targets = [target for target, _ in self.plan.all("tmpfs")]
            self.sampler = Sampler(wanted(self.plan)["memory"], box.proc, box.root, targets)
            self.loop.after("memory", INTERVAL, self._sample)
        watch = self.loop.watch
        watch(box.listener, READ, self._notified)
        watch(box.link.fileno(), READ, self._told)
        watch(output, READ, self._drain)
        watch(self.wake, READ, self._signalled)
        if self.caller >= 0:
            watch(self.caller, HANGUP, self._caller_gone)
        wire.send(box.link, [b"start"])
        if self.plan.all("ready"):
            self.readiness.start()
        self.events.add("start", pid=os.getpid())

    def _finish(self) -> NoReturn:
        """Everything of the sandbox ends; run/ says how."""
        reason, status, message = self.ending
        box = getattr(self, "sandbox", None)
        if box:
            self._kill(box.pid1)
            self._drain()
            box.link.close()
            if self.leaf:
                if reason == "crashed" and self.leaf.values().get("oom_kills", "0") not in ("", "0"):
                    reason, message = "memory", "the kernel ended it: more memory than its limit"
                self.leaf.remove()
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        fields = [
            ("reason", reason),
            ("code", str(code)),
            ("signal", str(number)),
            ("message", message),
        ]
        attach.leave(self.directories.run, fields)
        self.events.add("end", reason=reason, code=code, signal=number, message=message)
        if self.caller >= 0 and self.status == "starting" and reason not in ("failed",):
            what = f"exit code {code}" if not number else f"signal {number}"
            lines = self.log.tail(_LAST_LINES)
            self._tell(
                Failure(
                    FAILED,
                    f"the server ended before it was ready ({message or what}); its last lines:\n{lines}",
                )
            )
        os._exit(0)

    @staticmethod
    def _kill(pid1: int) -> None:
        # pid 1's end is the end of every process in its namespace.
        try:
            os.kill(pid1, signals.SIGKILL)
            os.waitpid(pid1, 0)
        except (ProcessLookupError, ChildProcessError):
            pass

    def _fail(self, failure: Failure) -> None:
        self._tell(failure)
        self.ending = ("failed", 0, failure.message)

    def _tell(self, failure: Failure) -> None:
        """The caller of `run` learns why, once."""
        if self.caller >= 0:
            try:
                os.write(self.caller, b"failed\0" + failure.encode())
            except OSError:
                pass

    def _note_state(self) -> None:
        """A full disk, which the guest can bring about, must not keep us from our work."""
        try:
            self._write_state()
        except OSError:
            pass

    def _write_state(self) -> None:
        fields = [
            ("status", self.status),
            ("pid", str(os.getpid())),
            ("start_time", state.start_time(os.getpid())),
        ]
        fields += [("boot_id", state.boot_id()), ("since", f"{self.begun:.3f}"), ("ready_ms", self.ready_ms)]
        fields += [(f"limit.{limit}", how) for limit, how in self.prepared.choice.mechanisms.items()]
        fields += [("note", note) for note in self.prepared.choice.notes]
        box = getattr(self, "sandbox", None)
        if box:
            fields.append(("pid1", str(box.pid1)))
        fields += [("cgroup", path) for path in (self.leaf.directories() if self.leaf else [])]
        state.write(self.directories.run, "state", fields)

    # -- what the loop calls ---------------------------------------------------------------

    def _notified(self) -> None:
        fd = self.broker.serve()
        if fd >= 0:
            self.loop.watch(fd, WRITE, lambda: self._connected(fd))
            if len(self.broker.pending) == 1:
                self.loop.after("connects", 1.0, self._expire)
        elif self.broker.exhausted:
            # A flood is answered, but not at the speed that the guest would like.
            self.loop.forget(self.sandbox.listener)
            self.loop.after("flood", _FLOOD_PAUSE, self._listen_again)

    def _listen_again(self) -> None:
        self.loop.watch(self.sandbox.listener, READ, self._notified)

    def _connected(self, fd: int) -> None:
        self.loop.forget(fd)
        self.broker.finish(fd)

    def _expire(self) -> None:
        for fd in self.broker.expired():
            self._connected(fd)
        if self.broker.pending:
            self.loop.after("connects", 1.0, self._expire)

    def _denied(self, tid: int, call: str, denied: Denied) -> None:
        try:
            name = calls.proc_status(tid).get("Name", "")
        except OSError:
            name = ""
        self.events.add("denied", process=name, call=call, target=denied.about, grant=denied.grant)

    def _drain(self) -> None:
        for _ in range(16):  # then the other descriptors have their turn
            try:
                data = os.read(self.output, _PIPE)
            except BlockingIOError:
                return
            if not data:
                self.loop.forget(self.output)
                return
            self.log.write(data)

    def _signalled(self) -> None:
        for number in os.read(self.wake, 4096):
            if number in (signals.SIGTERM, signals.SIGINT):
                self.stop()

    def _told(self) -> None:
        """pid 1 reports; the end of its link is its own end."""
        try:
            message = wire.receive(self.sandbox.link)
        except OSError:
            message = None
        if message is None:
            self._over("crashed", 0, "the sandbox's pid 1 ended")
            return
        fields, _ = message
        if fields[0] == b"ended":
            self._over("stopped" if self.status == "stopping" else "crashed", int(fields[1]), "")
        elif fields[0] == b"exit":
            self.control.exited(fields[1], fields[2])

    def _over(self, reason: str, status: int, message: str) -> None:
        if not self.ending[0]:
            self.ending = (reason, status, message)
        self.loop.stop()

    def _caller_gone(self) -> None:
        """`run` was interrupted before the server answered: nothing of it stays."""
        if self.status == "starting":
            self.ending = ("stopped", 0, "interrupted while starting")
            self.loop.stop()
        self.loop.forget(self.caller)

    def _answered(self, first_ran: bool, error: str) -> None:
        if error:
            self.ending = ("failed", 0, f"the server refused its first statements: {error}")
            self._tell(Failure(FAILED, self.ending[2]))
            self.loop.stop()
            return
        if first_ran:
            self._mark_bootstrapped()
        self.status = "running"
        self.ready_ms = f"{(time.monotonic() - self.clock) * 1000:.1f}"
        self._note_state()
        self.events.add("ready", ms=float(self.ready_ms))
        if self.caller >= 0:
            self.loop.forget(self.caller)
            try:
                os.write(self.caller, b"ready\0" + self.ready_ms.encode())
            except OSError:
                pass
            os.close(self.caller)
            self.caller = -1

    def _mark_bootstrapped(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            os.close(os.open("bootstrapped", flags, 0o600, dir_fd=self.directories.run))
        except OSError:
            pass  # a full disk: the first statements can be repeated at the next start

    def _sample(self) -> None:
        assert self.sampler
        if self.sampler.over():
            limit = self.sampler.limit
            self.ending = ("memory", 0, f"ended: {self.sampler.now} bytes of memory, its limit is {limit}")
            self.loop.stop()
            return
        self.loop.after("memory", INTERVAL, self._sample)

    # -- what the control socket asks ------------------------------------------------------

    def stop(self) -> None:
        """Ask the server to end by its own signal; by force when its patience is over."""
        if self.status == "stopping":
            return
        self.status = "stopping"
        self.readiness.cancel()
        number, patience = self.plan.one("stop")
        wire.send(self.sandbox.link, [b"signal", number.encode()])
        self._note_state()
        self.loop.after(
            "stop", int(patience) / 1000, lambda: self._over("killed", 0, "it did not end in time")
        )

    def report(self) -> list[tuple[str, str]]:
        """The live values behind `status` and `inspect`."""
        fields = [("state", self.status), ("pid", str(os.getpid())), ("ready_ms", self.ready_ms)]
        fields += [(f"limit.{limit}", how) for limit, how in self.prepared.choice.mechanisms.items()]
        fields += [(f"want.{limit}", str(value)) for limit, value in wanted(self.plan).items()]
        if self.sampler:
            self.sampler.over()
            values = {
                "memory": self.sampler.now,
                "memory_peak": self.sampler.peak,
                "memory_limit": self.sampler.limit,
            }
            fields += [(key, str(value)) for key, value in values.items()]
        if self.leaf:
            fields += list(self.leaf.values().items())
        fields += [
            ("cpu_seconds", f"{cpu_seconds(self.sandbox.proc):.2f}"),
            ("landlock", str(landlock.abi())),
        ]
        fields += [("note", note) for note in self.prepared.choice.notes]
        return fields


def _exists(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
