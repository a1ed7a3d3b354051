"""The runtime's commands, and the one place where a failure becomes two lines and an exit code."""

from __future__ import annotations

import os
import sys

from launch import attach, calls, limits, mounts, namespaces
from launch.build import Prepared
from launch.errors import FAILED, USAGE, Failure
from launch.options import Options, parse
from launch.owner import Owner, open_directory
from launch.plan import Plan
from launch.record import TYPE_CHECKING
from launch.start import check_kernel, run

if TYPE_CHECKING:
    from typing import NoReturn


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
    check_kernel()
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
