"""run/state and run/exit: what the supervisor leaves for everyone else to read."""

from __future__ import annotations

import os


def boot_id() -> str:
    """This boot's id; a state written under another one is of a process that cannot live."""
    with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
        return file.read().strip()


def start_time(pid: int) -> str:
    """When a process started, in clock ticks since boot (proc(5), field 22); empty if it is gone.

    A zombie counts as gone: in a container whose init does not reap, it stays for ever.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The name in field 2 may hold spaces and brackets: count from its last bracket.
            fields = file.read().rpartition(")")[2].split()
            return fields[19] if fields[0] not in ("Z", "X") else ""
    except OSError:
        return ""


def write(directory: int, name: str, fields: list[tuple[str, str]]) -> None:
    """Replace a KEY=VALUE file at once; values lose their newlines."""
    text = "".join(f"{key}={value}\n" for key, value in ((k, " ".join(v.split("\n"))) for k, v in fields))
    temporary = f".{name}.new"
    remove(directory, temporary)
    fd = os.open(
        temporary,
        os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
        0o600,
        dir_fd=directory,
    )
    try:
        os.write(fd, text.encode("utf-8", "replace"))
    finally:
        os.close(fd)
    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def read(directory: int, name: str) -> list[tuple[str, str]]:
    """The fields of a KEY=VALUE file in order; empty if there is none."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return []
    try:
        text = os.read(fd, 65536).decode("utf-8", "replace")
    finally:
        os.close(fd)
    return [(key, value) for key, _, value in (line.partition("=") for line in text.splitlines()) if _]


def remove(directory: int, name: str) -> None:
    """Remove a file of run/; harmless if it is not there."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass


def living(fields: list[tuple[str, str]]) -> int:
    """A pidfd of the supervisor that a state names, or -1: never that of another process with its pid."""
    known = dict(fields)
    if known.get("boot_id") != boot_id() or not known.get("pid", "").isdigit():
        return -1
    try:
        pidfd = os.pidfd_open(int(known["pid"]))
    except OSError:
        return -1
    # Compared after the pidfd is held: from here on the pid cannot be reused.
    started = start_time(int(known["pid"]))
    if not started or started != known.get("start_time"):
        os.close(pidfd)
        return -1
    return pidfd
