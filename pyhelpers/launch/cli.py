"""The runtime's commands, and the one place where a failure becomes two lines and an exit code."""

from __future__ import annotations

import os
import stat
import sys

from launch import attach, calls, cgroup, limits, mounts, namespaces
from launch.build import Prepared, identity_of
from launch.errors import FAILED, STATE, USAGE, Failure
from launch.options import Options, parse
from launch.owner import Owner, open_directory
from launch.plan import Plan
from launch.record import TYPE_CHECKING
from launch.start import check_kernel, run

if TYPE_CHECKING:
    from typing import Callable, NoReturn


def main(arguments: list[str]) -> NoReturn:
    """Run one command; never returns."""
    _finish(lambda: _dispatch(arguments))


def _finish(work: Callable[[], int]) -> NoReturn:
    """Do the work and end this process with its exit code; a failure becomes two lines."""
    code = FAILED
    try:
        code = work()
    except Failure as failure:
        code = failure.code
        _complain(failure)
    except OSError as error:
        _complain(Failure.from_os(error, "launch"))
    except KeyboardInterrupt:
        code = 130
    except Exception as error:  # a fault of ours, still two lines
        _complain(Failure(FAILED, f"unexpected: {type(error).__name__}: {error}", "run doctor"))
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
    options = parse(rest)
    commands = {"run": run, "stop": _stop, "status": _status, "exec": _exec, "once": _once, "probe": _probe}
    if name not in commands:
        raise Failure(USAGE, f"unknown command {name!r}")
    try:
        return commands[name](options)
    except (Failure, OSError) as error:
        if name != "exec":
            raise
        failure = error if isinstance(error, Failure) else Failure.from_os(error, "exec")
        raise Failure(125, failure.message, failure.hint) from None  # what ran nothing cannot give its code


def _open(options: Options) -> tuple[int, int, Owner]:
    """The environment's directory, its run/, and whose they are."""
    home = open_directory(options.directory)
    owner = Owner(home, options.directory)
    return home, open_directory("run", home), owner


def _stop(options: Options) -> int:
    home, run, owner = _open(options)
    if not owner.privileged:
        return _stop_as_owner(home, run, options)
    # What run/ says is the owner's word: only the owner's processes may end by it.
    pid = os.fork()
    if not pid:
        owner.become(hidden=True)
        _finish(lambda: _stop_as_owner(home, run, options))
    _, status = os.waitpid(pid, 0)
    cgroup.remove_group(cgroup.find(), owner.uid)
    return os.waitstatus_to_exitcode(status)


def _stop_as_owner(home: int, run: int, options: Options) -> int:
    patience = options.timeout
    if patience is None:
        try:
            patience = int(Plan.read(home, "config/plan").one("stop")[1]) / 1000
        except Failure:
            patience = 10.0
    print(f"stopped={attach.stop(run, patience)}")
    return 0


def _status(options: Options) -> int:
    _, run, owner = _open(options)
    owner.become(hidden=True)
    print("\n".join(attach.status(run)))
    return 0


def _exec(options: Options) -> int:
    if not options.argv:
        raise Failure(USAGE, "a command to run is needed after --")
    _, run, owner = _open(options)
    if os.isatty(0):
        import pty  # noqa: F401 -- before the owner's rights, which may not reach the interpreter's files
        import termios  # noqa: F401
        import tty  # noqa: F401
    owner.become(hidden=True)
    return attach.Exec(run, list(options.argv), list(options.environment)).run()


def _once(options: Options) -> int:
    from launch.once import Once  # before the owner's rights, as in `run`

    check_kernel()
    step = open_directory(options.directory)
    home = open_directory("..", step)
    path = os.path.realpath(options.directory + "/..")
    owner = Owner(home, path)
    owner.act()
    plan = Plan.read(step, "plan")
    known, places = limits.facts(owner.privileged)
    # A template's limits are ours, not a promise to anyone: what cannot be held is let go.
    choice = limits.choose(known, limits.wanted(plan), False, list(limits.LIMITS))
    stdin = _stdin_of(step)
    with owner.resolving():
        sources = mounts.resolve(plan, path)
    busy = limits.busy_times()
    return Once(Prepared(plan, path, identity_of(home), owner, choice, places, sources, busy), stdin).run()


def _stdin_of(step: int) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        stdin = os.open("stdin", flags, dir_fd=step)
    except FileNotFoundError:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(stdin).st_mode):
        raise Failure(STATE, "stdin is not a regular file")
    return stdin


def _probe(options: Options) -> int:
    from launch.once import probe

    path = os.path.realpath(options.directory)
    why = probe(path, Owner(open_directory(path), path))
    print("overlay=yes" if not why else f"overlay=no {why}")
    return 0


def _facts() -> int:
    from launch import landlock

    known, places = limits.facts(os.geteuid() == 0)
    print(f"privileged={int(known.privileged)}\ncpus={known.cpus}\nuser_bus={int(known.user_bus)}")
    print(
        f"cgroup2={places.v2}\ncgroup2_limits={' '.join(known.v2)}\n"
        f"cgroup1_limits={' '.join(known.v1)}\nlandlock={landlock.abi()}"
    )
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
