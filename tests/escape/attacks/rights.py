"""Attacks that would lend the owner's rights, or take what no limit counts."""

import ctypes
import fcntl
import os

from kernel import X86, main, outcome, raw

# Numbers: (x86_64, aarch64).
_NUMBERS = {
    "io_setup": (206, 0),
    "inotify_init1": (294, 26),
    "semget": (64, 190),
    "shmget": (29, 194),
    "fchmodat2": (452, 452),
    "openat": (257, 56),
}
AT_FDCWD = -100


def _call(name, *arguments):
    return raw(_NUMBERS[name][0 if X86 else 1], *arguments)


def uncounted():
    """What the kernel keeps for a process, and no limit of ours counts."""
    room = ctypes.create_string_buffer(64)
    return {
        "io_setup": _call("io_setup", 8, ctypes.addressof(room)),
        "inotify_init1": _call("inotify_init1", 0),
        "semget": _call("semget", 0, 4, 0o1600),
        "shmget 2 MB": _call("shmget", 0, 2 << 20, 0o1600),
        "shmget 4 GB": _call("shmget", 0, 1 << 32, 0o1600),
        "shmget 4096": _call("shmget", 0, 4096, 0o1600),
    }


def set_id(directory):
    """Files with the bits that lend their owner's rights, by each call that sets a mode."""
    old = directory + "/old"
    name = ctypes.create_string_buffer(old.encode())
    made = ctypes.create_string_buffer((directory + "/raw").encode())
    fd = os.open(old, os.O_RDONLY)

    def make(place, flags, mode):
        os.close(os.open(place, flags | os.O_WRONLY, mode))

    found = {}
    os.umask(0)
    for mode in (0o4755, 0o2755, 0o6755, 0o755):
        new, flags = f"{directory}/new.{mode:o}", os.O_CREAT | os.O_WRONLY | 1 << 32
        found[f"{mode:o}"] = {
            "chmod": outcome(os.chmod, old, mode),
            "fchmod": outcome(os.fchmod, fd, mode),
            "fchmodat2": _call("fchmodat2", AT_FDCWD, ctypes.addressof(name), mode, 0),
            "high bits": _call("openat", AT_FDCWD, ctypes.addressof(made), flags, mode | 1 << 40),
            "open": outcome(make, new, os.O_CREAT, mode),
            "temporary": outcome(make, directory, os.O_TMPFILE, mode),
            "mkdir": outcome(os.mkdir, new + ".d", mode),
        }
    os.close(fd)
    return found


def leases(*paths):
    """A lease on each file, which would hold up the host's writers; then what may be asked."""
    found = {}
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        found[path] = [
            outcome(fcntl.fcntl, fd, fcntl.F_SETLEASE, fcntl.F_RDLCK),
            raw(72 if X86 else 25, fd, fcntl.F_SETLEASE | 1 << 32, fcntl.F_RDLCK),
            outcome(fcntl.fcntl, fd, fcntl.F_GETLEASE),
        ]
        os.close(fd)
    return found


def write_fifo(*paths):
    """Open each for writing and write to it."""

    def write(path):
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        os.write(fd, b"x")
        os.close(fd)

    return {path: outcome(write, path) for path in paths}


def out_of_memory():
    """Our standing with the host's out-of-memory killer: before, each try to change it, after."""
    names = ["/proc/self/oom_score_adj", "/proc/self/oom_adj", "/proc/1/oom_score_adj"]

    def write(name, value):
        with open(name, "w") as file:
            file.write(value)

    def read():
        with open(names[0]) as file:
            return int(file.read())

    before = read()
    tries = [outcome(write, name, value) for name in names for value in ("-1000", "0", "999")]
    return {"before": before, "tries": tries, "after": read()}


if __name__ == "__main__":
    main(globals())
