"""The runtime's commands, and the one place where a failure becomes two lines and an exit code."""

from __future__ import annotations

import _signal
import _socket
import errno
import fcntl
import os
import select
import sys
from typing import NamedTuple, NoReturn

from launch import attach, calls, limits, mounts, namespaces, state
from launch.address import inet
from launch.build import Prepared
from launch.errors import DENIED, FAILED, HOST, STALE, STATE, USAGE, Failure
from launch.owner import Owner, open_directory
from launch.plan import Plan
from launch.sockets import Socket

_OLDEST = (5, 14)  # SECURITY.md: RLIMIT_NPROC per user namespace, SO_NETNS_COOKIE
_LISTEN_TIMEOUT = 60.0  # seconds


class Options(NamedTuple):
    """The command line of every command; what a command does not use is refused."""

    directory: str
    uid: int | None = None
    gid: int | None = None
    timeout: float | None = None
    degraded: tuple[str, ...] = ()
    strict: bool = False
    environment: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()


def main(arguments: list[str]) -> NoReturn:
    """Run one command; never returns."""
    code = FAILED
    try:
        code = _dispatch(arguments)
    except Failure as failure:
        code = failure.code
        _complain(failure)
    except OSError as error:
        _complain(Failure.from_os(error, arguments[0] if arguments else "launch"))
    except KeyboardInterrupt:
        code = 130
    try:
        sys.stdout.flush()
    except OSError:
        pass
    os._exit(code)


def _complain(failure: Failure) -> None:
    program, verb = os.environ.get("VIRT_PROGRAM", "launch"), os.environ.get("VIRT_VERB", "")
    prefix = f"{program}: {verb}: " if verb else f"{program}: "
    hint = f"\n  try: {failure.hint}" if failure.hint else ""
    sys.stderr.write(f"{prefix}{failure.message}{hint}\n")
    sys.stderr.flush()


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        raise Failure(USAGE, "a command is needed: run, stop, status, exec, once, probe or facts")
    name, rest = arguments[0], arguments[1:]
    if name == "facts":
        return _facts()
    options = _parse(rest)
    commands = {"run": _run, "stop": _stop, "status": _status, "exec": _exec, "once": _once, "probe": _probe}
    if name not in commands:
        raise Failure(USAGE, f"unknown command {name!r}")
    try:
        return commands[name](options)
    except (Failure, OSError) as error:
        if name != "exec":
            raise
        failure = error if isinstance(error, Failure) else Failure.from_os(error, "exec")
        raise Failure(125, failure.message, failure.hint) from None  # what ran nothing cannot give its code


def _parse(rest: list[str]) -> Options:
    options = Options("")
    words = iter(rest)
    for word in words:
        if word == "--":
            options = options._replace(argv=tuple(words))
        elif word == "--strict-limits":
            options = options._replace(strict=True)
        elif word.startswith("--"):
            value = next(words, None)
            if value is None:
                raise Failure(USAGE, f"{word} needs a value")
            try:
                options = _option(options, word, value)
            except ValueError:
                raise Failure(USAGE, f"{word} {value!r} is not a number") from None
        elif options.directory:
            raise Failure(USAGE, f"unexpected argument {word!r}")
        else:
            options = options._replace(directory=word.rstrip("/"))
    if not options.directory:
        raise Failure(USAGE, "a directory is needed")
    return options


def _option(options: Options, word: str, value: str) -> Options:
    if word == "--uid":
        return options._replace(uid=int(value))
    if word == "--gid":
        return options._replace(gid=int(value))
    if word == "--timeout":
        return options._replace(timeout=float(value))
    if word == "--allow-degraded":
        if value not in limits.LIMITS:
            raise Failure(USAGE, f"--allow-degraded {value!r}: not a limit", f"--allow-degraded {' | '.join(limits.LIMITS)}")
        return options._replace(degraded=(*options.degraded, value))
    if word == "--env":
        return options._replace(environment=(*options.environment, value))
    raise Failure(USAGE, f"unknown option {word}")


# -- run -----------------------------------------------------------------------------------


def _run(options: Options) -> int:
    busy = limits.busy_times()
    _check_kernel()
    owner = Owner(options.uid, options.gid)
    home = open_directory(options.directory)
    owner.check_directory(home, options.directory)
    run = open_directory("run", home)
    _lock(run)
    _clear_stale(run)
    plan = Plan.read(home, "config/plan")
    _check_manifest(home, plan)
    known, places = limits.facts(owner.privileged)
    choice = limits.choose(known, limits.wanted(plan), options.strict, list(options.degraded))
    if limits.needs_scope(known, choice):
        _enter_scope()
    path = os.path.realpath(options.directory)
    sources = mounts.resolve(plan, path)
    _check_groups(plan, owner)
    _try_ports(plan)
    from launch.supervisor import Directories, Supervisor

    prepared = Prepared(plan, path, owner, choice, places, sources, busy)
    directories = Directories(home)
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    # Until the daemon has its own handlers, an interrupt must not reach it.
    if not os.fork():
        os.close(ours)
        Supervisor(prepared, directories, theirs).live()
    os.close(theirs)
    for note in choice.notes:
        print(f"note={note}")
    return _await(ours, options.timeout or _LISTEN_TIMEOUT)


def _check_kernel() -> None:
    release = os.uname().release
    numbers = tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in release.split("-")[0].split(".")[:2])
    if numbers < _OLDEST or not calls.SUPPORTED:
        raise Failure(HOST, f"Linux {release} on {calls.MACHINE} cannot hold a sandbox: 5.14 or later on x86_64 or aarch64 is needed")


def _lock(run: int) -> None:
    """Held by the supervisor for its life, through the descriptor that it inherits."""
    try:
        fcntl.flock(run, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        word = dict(state.read(run, "state")).get("status", "starting")
        raise Failure(STATE, f"it is already {word}") from None


def _clear_stale(run: int) -> None:
    """We hold the lock, so a state that is still there is of a supervisor that was killed."""
    attach.bury(run, state.read(run, "state"))
    state.remove(run, "exit")


def _check_manifest(home: int, plan: Plan) -> None:
    """The plan must be of the manifest as it is now."""
    try:
        fd = os.open("config/capabilities.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=home)
        with open(fd, "rb") as file:
            digest = _sha256(file.read(1 << 20))
    except OSError as error:
        raise Failure(STATE, f"config/capabilities.json cannot be read: {error.strerror}") from None
    if digest != plan.text("manifest"):
        raise Failure(STALE, "the manifest has changed since it was compiled")


def _sha256(data: bytes) -> str:
    # hashlib loads OpenSSL, 5 ms; the interpreter's own module is one or the other by version.
    try:
        from _sha256 import sha256  # type: ignore[import-not-found]
    except ImportError:
        try:
            from _sha2 import sha256  # type: ignore[import-not-found]
        except ImportError:
            from hashlib import sha256
    return str(sha256(data).hexdigest())


def _check_groups(plan: Plan, owner: Owner) -> None:
    """A rootless sandbox keeps the caller's supplementary groups: nothing granted may open through one."""
    if owner.privileged:
        return
    extra = set(os.getgroups()) - {owner.gid}
    grants = [source for source, _, flags in plan.all("bind") if "grant" in flags.split(",")]
    if not extra or not grants:
        return
    from launch.groups import opened_by

    for grant in grants:
        found = opened_by(grant, owner.uid, extra)
        if found:
            raise Failure(
                DENIED,
                f"the grant {grant} would open {found} through a group of yours that the sandbox cannot drop",
                f"sudo, or chmod g-rwx {found!r}",
            )


def _try_ports(plan: Plan) -> None:
    """A busy port is an early, clear error; the guest's own bind comes later."""
    for ip, port in plan.all("listen"):
        wanted = inet(ip, int(port))
        with Socket(wanted.family, _socket.SOCK_STREAM) as trial:
            if ":" in ip:
                trial.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
            trial.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            try:
                trial.bind(wanted.sockaddr())
                trial.listen(1)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    print(f"busy_port={port}")
                raise Failure(STATE, f"cannot listen on {wanted}: {error.strerror}") from None


def _enter_scope() -> None:
    """Start again in a scope of the user's systemd, whose control groups are ours."""
    environment = {**os.environ, "VIRT_IN_SCOPE": "1"}
    command = ["systemd-run", "--user", "--scope", "--quiet", "--collect", "-p", "Delegate=yes", "--", sys.executable, "-I", "-S"]
    os.execvpe(command[0], [*command, *sys.argv], environment)


def _await(pipe: int, seconds: float) -> int:
    """Wait for the supervisor's word; closing the pipe early tells it to give up."""
    _signal.signal(_signal.SIGTERM, lambda *_: os._exit(143))
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    if not poll.poll(seconds * 1000):
        raise Failure(FAILED, f"the server did not answer within {seconds:g} s", "run --timeout SECONDS, or read its log")
    word, _, rest = os.read(pipe, 65536).partition(b"\0")
    if word == b"ready":
        print(f"ready_ms={rest.decode()}")
        return 0
    if word == b"failed":
        raise Failure.decode(rest)
    raise Failure(FAILED, "the supervisor ended without a word; its log may say why")


# -- the others ----------------------------------------------------------------------------


def _open_run(options: Options) -> int:
    return open_directory("run", open_directory(options.directory))


def _stop(options: Options) -> int:
    home = open_directory(options.directory)
    run = open_directory("run", home)
    patience = options.timeout
    if patience is None:
        try:
            patience = int(Plan.read(home, "config/plan").one("stop")[1]) / 1000
        except Failure:
            patience = 10.0
    print(f"stopped={attach.stop(run, patience)}")
    return 0


def _status(options: Options) -> int:
    print("\n".join(attach.status(_open_run(options))))
    return 0


def _exec(options: Options) -> int:
    if not options.argv:
        raise Failure(USAGE, "a command to run is needed after --")
    return attach.Exec(_open_run(options), list(options.argv), list(options.environment)).run()


def _once(options: Options) -> int:
    _check_kernel()
    owner = Owner(options.uid, options.gid)
    step = open_directory(options.directory)
    home = os.path.realpath(options.directory + "/..")
    owner.check_directory(open_directory(home), home)
    plan = Plan.read(step, "plan")
    known, places = limits.facts(owner.privileged)
    # A template's limits are ours, not a promise to anyone: what cannot be held is let go.
    choice = limits.choose(known, limits.wanted(plan), False, list(limits.LIMITS))
    try:
        stdin = os.open("stdin", os.O_RDONLY | os.O_CLOEXEC, dir_fd=step)
    except FileNotFoundError:
        stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    sources = mounts.resolve(plan, home)
    from launch.once import Once

    return Once(Prepared(plan, home, owner, choice, places, sources, limits.busy_times()), stdin).run()


def _probe(options: Options) -> int:
    from launch.once import probe

    why = probe(os.path.realpath(options.directory), Owner(options.uid, options.gid))
    print("overlay=yes" if not why else f"overlay=no {why}")
    return 0


def _facts() -> int:
    from launch import landlock

    known, places = limits.facts(os.geteuid() == 0)
    print(f"privileged={int(known.privileged)}\ncpus={known.cpus}\nuser_bus={int(known.user_bus)}")
    print(f"cgroup2={places.v2}\ncgroup2_limits={' '.join(known.v2)}\ncgroup1_limits={' '.join(known.v1)}\nlandlock={landlock.abi()}")
    if not os.fork():
        _probe_namespaces()
    _, code = os.wait()
    print(f"user_namespaces={'yes' if code == 0 else 'no'}")
    return 0


def _probe_namespaces() -> NoReturn:
    """Unshare and mount: on Ubuntu 24.04 the first succeeds and the second does not."""
    try:
        namespaces.enter()
        calls.mount("none", "/", None, calls.MS_REC | calls.MS_PRIVATE)
        calls.mount("tmpfs", "/tmp", "tmpfs", 0)
    except (OSError, Failure):
        os._exit(1)
    os._exit(0)
