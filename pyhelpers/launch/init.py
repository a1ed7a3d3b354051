"""The processes inside: the child that leaves the host's namespaces, pid 1, and what pid 1 starts.

Every function here runs after a fork, and ends its process. All modules are imported before:
once the root is pivoted, the interpreter's files are out of reach.
"""

from __future__ import annotations

import _socket
import binascii
import errno
import fcntl
import os
import resource
import select

from launch import calls, cgroup, landlock, mounts, namespaces, wire
from launch.errors import FAILED, Failure
from launch.owner import Owner
from launch.plan import Plan
from launch.record import TYPE_CHECKING, Record
from launch.signals import signals
from launch.sockets import Socket

if TYPE_CHECKING:
    from typing import NoReturn

# linux/seccomp.h
_NEW_LISTENER, _SPEC_ALLOW, _WAIT_KILLABLE_RECV = 8, 4, 32
_UMASK = 0o077
_TIOCSCTTY = 0x540E  # asm-generic/ioctls.h


class Limits(Record):
    """What pid 1 sets on itself before anything of the guest's runs."""

    rlimits: list[tuple[int, int]]  # (RLIMIT_*, value)
    cpus: list[int]  # an affinity, or empty
    oom_score: int | None


class Build(Record):
    """All that the child needs to build the sandbox."""

    plan: Plan
    home: str
    owner: Owner
    sources: list[mounts.Source]
    layer: mounts.Layer | None  # already cloned when root resolved it
    identity: tuple[int, int]  # of the environment's directory
    limits: Limits
    leaf: cgroup.Leaf | None


def child(build: Build, link: Socket, log: int, stdin: int) -> NoReturn:
    """Runs in the first fork: joins, unshares, forks pid 1, ends."""
    guarded(link, lambda: _leave(build, link, log, stdin))


def guarded(link: Socket, body: object) -> NoReturn:
    """Run body(); whatever goes wrong is told to the supervisor, never printed as a traceback."""
    try:
        body()  # type: ignore[operator]
    except Failure as failure:
        failed = failure
    except OSError as error:
        failed = Failure.from_os(error, "building the sandbox")
    except BaseException as error:  # anything else is a fault of ours, still told in one line
        failed = Failure(FAILED, f"building the sandbox: {type(error).__name__}: {error}")
    else:
        os._exit(0)
    try:
        wire.send(link, [b"failed", failed.encode()])
    except OSError:
        pass
    os._exit(FAILED)


def expect(link: Socket, word: bytes) -> None:
    """Wait for the supervisor's next word."""
    message = wire.receive(link)
    if message is None or message[0][0] != word:
        raise Failure(FAILED, "the supervisor ended")


def _leave(build: Build, link: Socket, log: int, stdin: int) -> None:
    os.setsid()
    calls.prctl(calls.PR_SET_PDEATHSIG, signals.SIGKILL)
    signals.set_wakeup_fd(-1)
    calls.default_signals()
    os.umask(_UMASK)
    trees = [source.tree for source in build.sources if source.tree >= 0]
    trees += [fd for fd in build.layer or () if isinstance(fd, int) and fd >= 0]
    calls.close_all_but([link.fileno(), log, stdin, *trees])
    os.dup2(stdin, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if build.leaf:
        with build.owner.as_root():
            build.leaf.join()
    if build.limits.oom_score is not None:
        with build.owner.as_root(), open("/proc/self/oom_score_adj", "w", encoding="utf-8") as file:
            file.write(str(build.limits.oom_score))
    # On hosts that restrict user namespaces to the privileged, this is what sudo is for.
    build.owner.become(1 << calls.CAP_SYS_ADMIN)
    namespaces.enter()
    wire.send(link, [b"unshared"])
    expect(link, b"mapped")
    pid = os.fork()
    if pid:
        wire.send(link, [b"pid1", str(pid).encode()])
        os._exit(0)
    guarded(link, lambda: _pid1(build, link))


def _pid1(build: Build, link: Socket) -> None:
    # Sent once our parent is gone and the supervisor has adopted us: a parent-death signal
    # set before would have been the intermediate child's.
    expect(link, b"adopted")
    calls.prctl(calls.PR_SET_PDEATHSIG, signals.SIGKILL)
    calls.new_session_keyring()
    sources, layer = build.sources, build.layer
    if layer is None:
        sources = mounts.clone(sources)
        layer = mounts.clone_layer(build.plan, build.home, build.identity)
    namespaces.forbid_more()
    _socket.sethostname(build.plan.text("name") or "sandbox")
    calls.empty_bounding_set()
    mounts.build(build.plan, sources, layer)
    namespaces.loopback_up()
    if build.limits.cpus:
        os.sched_setaffinity(0, build.limits.cpus)
    for which, value in build.limits.rlimits:
        resource.setrlimit(which, (value, value))
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.chdir(build.plan.text("cwd", "/"))
    calls.drop_capabilities()
    calls.prctl(calls.PR_SET_DUMPABLE, 0)
    calls.prctl(calls.PR_SET_NO_NEW_PRIVS, 1)
    landlock.restrict_self(landlock.writable(build.plan))
    listener, killable = _install(_program(build.plan))
    wire.send(link, [b"ready", b"1" if killable else b"0"], [listener, root, proc])
    for fd in (listener, root, proc):
        os.close(fd)
    expect(link, b"start")
    Reaper(build.plan, link).serve()


def _program(plan: Plan) -> bytes:
    return binascii.a2b_base64(plan.one("seccomp")[0])


def _install(program: bytes) -> tuple[int, bool]:
    flags = _NEW_LISTENER | _SPEC_ALLOW
    try:
        return calls.seccomp_install(program, flags | _WAIT_KILLABLE_RECV), True
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return calls.seccomp_install(program, flags), False  # Linux before 5.19


class Reaper:
    """pid 1 at work: starts the server, starts what `exec` asks for, reaps everything."""

    def __init__(self, plan: Plan, link: Socket) -> None:
        self.plan = plan
        self.link = link
        self.main = 0
        self.commands: dict[int, bytes] = {}  # pid → the id that the supervisor gave it

    def serve(self) -> None:
        """Until the supervisor's end of the link closes."""
        wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signals.signal(signals.SIGCHLD, lambda *_: None)
        signals.set_wakeup_fd(woken, warn_on_full_buffer=False)
        # Default dispositions would not end pid 1 anyway; ignored, they do not wake it.
        for number in (signals.SIGTERM, signals.SIGINT, signals.SIGHUP):
            signals.signal(number, signals.SIG_IGN)
        argv = [field.encode("utf-8", "surrogateescape") for field in self.plan.one("argv")]
        environment = _environment(self.plan.pairs("env"))
        self.main = self._start(argv, environment, [0, 1, 2])
        wire.send(self.link, [b"started"])
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(self.link, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == wake:
                    try:
                        os.read(wake, 4096)
                    except BlockingIOError:
                        pass
                elif not self._command():
                    return
            self._reap()

    def _command(self) -> bool:
        message = wire.receive(self.link)
        if message is None:
            return False
        fields, fds = message
        if fields[0] == b"signal":
            self._kill(self.main, int(fields[1]))
        elif fields[0] == b"kill":
            for pid, name in self.commands.items():
                if name == fields[1]:
                    self._kill(-pid, signals.SIGKILL)
        elif fields[0] == b"exec":
            try:
                self._exec(fields, fds)
            except (OSError, ValueError, IndexError):  # no process left, or a malformed request
                wire.send(self.link, [b"exit", fields[1], str(126 << 8).encode()])
        for fd in fds:
            os.close(fd)
        return True

    def _exec(self, fields: list[bytes], fds: list[int]) -> None:
        count = int(fields[2])
        argv, extra = fields[3 : 3 + count], fields[3 + count :]
        environment = _environment({**self.plan.pairs("env"), **self.plan.pairs("exec-env")})
        environment.update(field.partition(b"=")[::2] for field in extra)
        self.commands[self._start(argv, environment, fds)] = fields[1]

    @staticmethod
    def _kill(pid: int, number: int) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass

    def _start(self, argv: list[bytes], environment: dict[bytes, bytes], stdio: list[int]) -> int:
        pid = os.fork()
        if not pid:
            _exec(argv, environment, stdio)
        return pid

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self.main:
                self.main = -1
                wire.send(self.link, [b"ended", str(status).encode()])
            elif pid in self.commands:
                self._kill(-pid, signals.SIGHUP)  # what it left in its session ends with it
                wire.send(self.link, [b"exit", self.commands.pop(pid), str(status).encode()])


def _environment(pairs: dict[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(key): os.fsencode(value) for key, value in pairs.items()}


def _exec(argv: list[bytes], environment: dict[bytes, bytes], stdio: list[int]) -> NoReturn:
    """In the forked child: default signals, its own session, three descriptors, exec."""
    status = 126
    try:
        calls.prctl(calls.PR_SET_PDEATHSIG, signals.SIGKILL)
        signals.set_wakeup_fd(-1)
        calls.default_signals()
        os.setsid()
        # Above 2 first: the three may overlap with each other's targets.
        high = [_duplicate(fd) for fd in stdio]
        for target, fd in enumerate(high):
            os.dup2(fd, target)
        calls.syscall("close_range", 3, 0xFFFFFFFF, 0)
        if os.isatty(0):
            fcntl.ioctl(0, _TIOCSCTTY, 0)
        os.umask(_UMASK)
        os.execve(_find(argv[0], environment), argv, environment)
    except FileNotFoundError:
        status = 127
        _say(argv[0] + b": not found inside the sandbox\n")
    except OSError as error:
        _say(argv[0] + b": " + (error.strerror or "").encode() + b"\n")
    except BaseException as error:
        _say(repr(error).encode() + b"\n")
    os._exit(status)


def _duplicate(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD, 10)


def _find(program: bytes, environment: dict[bytes, bytes]) -> bytes:
    if b"/" in program:
        return program
    for directory in environment.get(b"PATH", b"/usr/bin:/bin").split(b":"):
        path = directory + b"/" + program
        if os.access(path, os.X_OK):
            return path
    raise FileNotFoundError(errno.ENOENT, "not found")


def _say(text: bytes) -> None:
    try:
        os.write(2, text)
    except OSError:
        pass
