"""The command `run`: everything that can be refused is refused here, before the first fork."""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import select

from launch import attach, calls, limits, mounts, scope, state
from launch.address import inet
from launch.build import Prepared, identity_of
from launch.errors import DENIED, FAILED, HOST, STALE, STATE, Failure
from launch.options import Options
from launch.owner import Owner, open_directory
from launch.plan import Plan
from launch.record import TYPE_CHECKING
from launch.signals import signals
from launch.sockets import Socket

if TYPE_CHECKING:
    from typing import Callable

_OLDEST = (5, 14)  # SECURITY.md: RLIMIT_NPROC per user namespace, SO_NETNS_COOKIE
_ANSWER_TIMEOUT = 60.0  # seconds
_END_TIMEOUT = 5.0  # seconds that a failed supervisor has to clear up


def run(options: Options) -> int:
    """Start the supervisor of an environment and return when its server answers."""
    # Imported before the owner's rights, which may not reach the interpreter's files.
    from launch.supervisor import Directories, Supervisor

    digest = _sha256()
    busy = limits.busy_times()
    check_kernel()
    home = open_directory(options.directory)
    owner = Owner(home, options.directory)
    path = os.path.realpath(options.directory)
    owner.act()
    plan = Plan.read(home, "config/plan")
    known, places = limits.facts(owner.privileged)
    if limits.needs_scope(known, limits.wanted(plan)):
        code = scope.enter()
        if code is not None:
            return code
    if known.in_scope:
        scope.begin(places)
    run_directory = open_directory("run", home)
    _lock(run_directory)
    _clear_stale(run_directory)
    _check_manifest(home, plan, digest)
    choice = limits.choose(known, limits.wanted(plan), options.strict, list(options.degraded))
    with owner.resolving():
        sources = mounts.resolve(plan, path)
    _check_groups(plan, owner)
    _try_ports(plan)
    prepared = Prepared(plan, path, identity_of(home), owner, choice, places, sources, busy)
    directories = Directories(home)
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    # Until the daemon has its own handlers, an interrupt must not reach it.
    if not os.fork():
        os.close(ours)
        Supervisor(prepared, directories, theirs).live()
    os.close(theirs)
    for note in choice.notes:
        print(f"note={note}")
    return _await(ours, options.timeout or _ANSWER_TIMEOUT)


def check_kernel() -> None:
    """The one floor: below it there is no second mode."""
    release = os.uname().release
    numbers = tuple(
        int("".join(c for c in part if c.isdigit()) or 0) for part in release.split("-")[0].split(".")[:2]
    )
    if numbers < _OLDEST or not calls.SUPPORTED:
        raise Failure(
            HOST,
            f"Linux {release} on {calls.MACHINE} cannot hold a sandbox: "
            "5.14 or later on x86_64 or aarch64 is needed",
        )


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


def _check_manifest(home: int, plan: Plan, digest: Callable[[bytes], str]) -> None:
    """The plan must be of the manifest as it is now."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with open(os.open("config/capabilities.json", flags, dir_fd=home), "rb") as file:
            found = digest(file.read(1 << 20))
    except OSError as error:
        raise Failure(STATE, f"config/capabilities.json cannot be read: {error.strerror}") from None
    if found != plan.text("manifest"):
        raise Failure(STALE, "the manifest has changed since it was compiled")


def _sha256() -> Callable[[bytes], str]:
    # hashlib loads OpenSSL, 5 ms; the interpreter's own module has one or the other name by version.
    try:
        from _sha256 import sha256  # type: ignore[import-not-found]
    except ImportError:
        try:
            from _sha2 import sha256  # type: ignore[import-not-found]
        except ImportError:
            from hashlib import sha256
    return lambda data: str(sha256(data).hexdigest())


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


def _await(pipe: int, seconds: float) -> int:
    """Wait for the supervisor's word; closing the pipe early tells it to give up."""
    signals.signal(signals.SIGTERM, lambda *_: os._exit(143))
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    if not poll.poll(seconds * 1000):
        raise Failure(
            FAILED,
            f"the server did not answer within {seconds:g} s",
            "run --timeout SECONDS, or read its log",
        )
    word, _, rest = os.read(pipe, 65536).partition(b"\0")
    if word == b"ready":
        print(f"ready_ms={rest.decode()}")
        return 0
    if word == b"failed":
        # Its end closes the pipe: whoever hears of the failure finds nothing left of it.
        if poll.poll(_END_TIMEOUT * 1000):
            os.read(pipe, 1)
        raise Failure.decode(rest)
    raise Failure(FAILED, "the supervisor ended without a word; its log may say why")
