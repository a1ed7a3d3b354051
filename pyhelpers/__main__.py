"""The control plane's commands, for lib/backends/sandbox.sh. See docs/architecture.md."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

# Run as a file with -I, so the package's parent is not on the path.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from pyhelpers.errors import FAILED, USAGE, Problem, plain


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Problem(USAGE, message)


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="pyhelpers", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)

    def command(name: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, allow_abbrev=False)

    compiling, templating = command("compile"), command("template")
    for sub in (compiling, templating):
        sub.add_argument("staging")
        sub.add_argument("--engine", required=True)
        sub.add_argument("--base", required=True)
        sub.add_argument("--uid", type=int, required=True)
        sub.add_argument("--gid", type=int, required=True)
        sub.add_argument("--engine-version", default="")
    compiling.add_argument("--name", required=True)
    for flag in ("--port", "--memory", "--cpus", "--pids"):
        compiling.add_argument(flag)
    for flag in ("--listen", "--connect", "--read", "--write", "--env"):
        compiling.add_argument(flag, action="append", default=[])
    compiling.add_argument("--ephemeral", action="store_true")
    recompiling = command("recompile")
    recompiling.add_argument("environment")
    recompiling.add_argument("--base", required=True)
    recompiling.add_argument("--if-edited", action="store_true")
    inspecting = command("inspect")
    inspecting.add_argument("environment")
    inspecting.add_argument("--json", action="store_true")
    command("doctor").add_argument("--json", action="store_true")
    command("port-owner").add_argument("port")
    return parser.parse_args(words)


def _run(arguments: argparse.Namespace) -> int:
    # Each command imports what it needs: none pays for another's libraries.
    if arguments.command in ("compile", "template", "recompile"):
        from pyhelpers import environment

        commands = {"compile": environment.compile_new, "template": environment.make_template}
        return commands.get(arguments.command, environment.recompile)(arguments)
    if arguments.command == "inspect":
        from pyhelpers.inspection import inspect

        return inspect(os.path.abspath(arguments.environment), as_json=arguments.json)
    if arguments.command == "doctor":
        from pyhelpers.doctor import doctor

        return doctor(as_json=arguments.json)
    from pyhelpers import ports

    print(ports.describe_owner(ports.parse(arguments.port)))
    return 0


def main(words: list[str]) -> int:
    """Run one command; a known failure becomes two lines and an exit code."""
    program = os.environ.get("VIRT_PROGRAM", "pyhelpers")
    verb = os.environ.get("VIRT_VERB", words[0] if words else "help")
    try:
        code = _run(_arguments(words))
        sys.stdout.flush()
        return code
    except Problem as problem:
        failure = problem
    except BrokenPipeError:
        # The reader left, as in `inspect dev | head -1`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        about = f"{plain(str(error.filename))}: " if error.filename else ""
        failure = Problem(FAILED, f"{about}{(error.strerror or str(error)).lower()}")
    print(f"{program}: {verb}: {failure.message}", file=sys.stderr)
    print(f"  try: {failure.hint or f'{program} help {verb}'}", file=sys.stderr)
    return failure.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
