"""Attacks on the guest's view of the file system."""

import ctypes
import os
import socket

from kernel import main, outcome, raw

MS_REMOUNT, MS_BIND = 32, 4096


def read(path):
    try:
        with open(path) as file:
            return {"text": file.read(65536)}
    except OSError as problem:
        return {"error": os.strerror(problem.errno), "errno": problem.errno}


def outcomes(*paths):
    """Opening each path for reading."""
    return {path: outcome(lambda path=path: open(path, "rb").close()) for path in paths}


def change(directory):
    """Every way to change a file or what is around it; `old` is in it."""
    old, new = directory + "/old", directory + "/new"
    return {
        "write": outcome(lambda: os.close(os.open(old, os.O_WRONLY))),
        "truncate": outcome(os.truncate, old, 0),
        "chmod": outcome(os.chmod, old, 0o600),
        "utime": outcome(os.utime, old, (1, 1)),
        "create": outcome(lambda: os.close(os.open(new, os.O_WRONLY | os.O_CREAT))),
        "mkdir": outcome(os.mkdir, directory + "/dir"),
        "symlink": outcome(os.symlink, "x", directory + "/link"),
        "link": outcome(os.link, old, directory + "/hard"),
        "rename": outcome(os.rename, old, directory + "/moved"),
    }


def remount(target):
    """Make a read-only mount writable, by each call that could."""
    name = ctypes.create_string_buffer(target.encode())
    attributes = (ctypes.c_uint64 * 4)(0, 1, 0, 0)  # clear MOUNT_ATTR_RDONLY
    at = ctypes.addressof
    return {
        "mount": raw("mount", 0, at(name), 0, MS_REMOUNT | MS_BIND, 0),
        "mount_setattr": raw("mount_setattr", -100, at(name), 0, at(attributes), 32),
        "umount2": raw("umount2", at(name), 2),
        "open_tree": raw("open_tree", -100, at(name), 1),
        "pivot_root": raw("pivot_root", at(name), at(name)),
        "chroot": raw("chroot", at(name)),
    }


def climb(start):
    """`..` as far as it goes, by path, by chdir and by descriptor."""
    up = "/.." * 30
    here = lambda path: list(os.stat(path)[1:3])  # noqa: E731
    os.chdir(start)
    for _ in range(30):
        os.chdir("..")
    fd = os.open(start, os.O_RDONLY | os.O_DIRECTORY)
    by_descriptor = os.open("../" * 30, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
    info = os.fstat(by_descriptor)
    return {
        "root": here("/"),
        "path": here(up),
        "chdir": here("."),
        "cwd": os.getcwd(),
        "descriptor": [info.st_ino, info.st_dev],
        "names": sorted(os.listdir(up)),
    }


def links(directory, secret):
    """Follow links that lead out: one that the host made, one made here."""
    os.symlink(secret, directory + "/mine")
    os.symlink("inside", directory + "/fine")
    with open(directory + "/inside", "w") as file:
        file.write("x")
    found = outcomes(directory + "/theirs", directory + "/mine", directory + "/fine")
    return {os.path.basename(path): result for path, result in found.items()}


def hard_links(source, other):
    return {
        "across": outcome(os.link, source + "/old", other + "/across"),
        "within": outcome(os.link, other + "/old", other + "/within"),
    }


def execute(directory):
    program = directory + "/program"
    with open(program, "w") as file:
        file.write("#!/bin/sh\nexit 0\n")
    os.chmod(program, 0o755)
    denied = outcome(os.execv, program, [program])
    pid = os.fork()
    if not pid:
        os.execv("/bin/sh", ["/bin/sh", program])
    return {"grant": denied, "system": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}


def devices():
    return {name: oct(os.lstat("/dev/" + name).st_mode)[:-3] for name in sorted(os.listdir("/dev"))}


def make_device(directory):
    path = ctypes.create_string_buffer((directory + "/device").encode())
    return {
        "mknodat": raw("mknodat", -100, ctypes.addressof(path), 0o20666, 0x103),
        "open_by_handle_at": raw("open_by_handle_at", 3, ctypes.addressof(path), 0),
        "setxattr": outcome(os.setxattr, directory, "user.x", b"y"),
    }


def proc(*paths):
    """Look into /proc: links are read, directories listed, files opened."""
    found = {}
    for path in paths:
        if os.path.basename(path) in ("root", "exe", "cwd"):
            found[path] = outcome(os.readlink, path)
        elif os.path.basename(path) == "fd":
            found[path] = outcome(os.listdir, path)
        else:
            found[path] = outcome(lambda path=path: os.close(os.open(path, os.O_RDONLY)))
    return found


def mounts():
    """Each mount: the root within its file system, where it is, its options, its kind."""
    found = []
    with open("/proc/self/mountinfo") as file:
        for line in file:
            before, after = line.rstrip("\n").split(" - ")
            fields = before.split(" ")
            found.append([fields[3], fields[4], fields[5], after])
    return found


def unix_connect(*paths):
    """Connect to a socket's path; what a datagram could do is tried too."""
    found = {}
    for path in paths:
        with socket.socket(socket.AF_UNIX) as sock:
            found[path] = outcome(sock.connect, path)
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    found["datagram"] = outcome(socket.socket, socket.AF_UNIX, socket.SOCK_DGRAM)
    found["datagram pair"] = outcome(socket.socketpair, socket.AF_UNIX, socket.SOCK_DGRAM)
    # A packet socket ignores the name: this goes to its peer.
    found["packet"] = outcome(left.sendto, b"x", paths[0])
    found["packet went to the peer"] = right.recv(10) == b"x"
    return found


def unix_paths(directory):
    """Socket paths that a broker could resolve wrongly."""
    found = {}

    def attempt(name, act):
        with socket.socket(socket.AF_UNIX) as sock:
            found[name] = outcome(act, sock)

    for name, path in {
        "magic link": "/proc/self/root/../../../../run/nothing",
        "magic fd": "/proc/self/fd/0",
        "pid 1": "/proc/1/root/tmp/x",
        "up": "../" * 20 + "run/nothing",
        "directory": directory,
        "not a socket": directory + "/old",
    }.items():
        attempt("connect " + name, lambda sock, path=path: sock.connect(path))
    os.symlink("/proc/self/root", directory + "/magic")
    attempt("bind link", lambda sock: sock.bind(directory + "/magic"))
    attempt("bind read-only", lambda sock: sock.bind("/ro/mine"))
    attempt("bind below a magic link", lambda sock: sock.bind("/proc/self/fd/x"))
    server = socket.socket(socket.AF_UNIX)
    found["bind"] = outcome(server.bind, directory + "/mine")
    server.listen(1)
    attempt("connect own", lambda sock: sock.connect(directory + "/mine"))
    os.chdir(directory)
    attempt("connect relative", lambda sock: sock.connect("mine"))
    gone = directory + "/gone"
    os.mkdir(gone)
    os.chdir(gone)
    os.rmdir(gone)
    attempt("connect from a deleted directory", lambda sock: sock.connect("../mine"))
    attempt("bind in a deleted directory", lambda sock: sock.bind("x"))
    return found


def standard_input():
    """Read what the caller of exec passed, then use the descriptor beyond that."""
    found = {"text": os.read(0, 100).decode()}
    return {
        **found,
        "open": outcome(lambda: os.close(os.open("/proc/self/fd/0", os.O_WRONLY | os.O_NONBLOCK))),
        "chmod": outcome(os.fchmod, 0, 0o777),
        "utime": outcome(os.utime, 0, (1, 1)),
        "truncate": outcome(os.truncate, "/proc/self/fd/0", 0),
    }


if __name__ == "__main__":
    main(globals())
