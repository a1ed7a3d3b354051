"""The command line of the runtime's commands."""

from __future__ import annotations

from launch import limits
from launch.errors import USAGE, Failure
from launch.record import Record


class Options(Record):
    """The command line of every command; what a command does not use is refused."""

    directory: str
    timeout: float | None = None
    degraded: tuple[str, ...] = ()
    strict: bool = False
    environment: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()


def parse(rest: list[str]) -> Options:
    """The options of one command; raises Failure USAGE with the offending word."""
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
    if word == "--timeout":
        return options._replace(timeout=float(value))
    if word == "--allow-degraded":
        if value not in limits.LIMITS:
            raise Failure(
                USAGE,
                f"--allow-degraded {value!r}: not a limit",
                f"--allow-degraded {' | '.join(limits.LIMITS)}",
            )
        return options._replace(degraded=(*options.degraded, value))
    if word == "--env":
        return options._replace(environment=(*options.environment, value))
    raise Failure(USAGE, f"unknown option {word}")
