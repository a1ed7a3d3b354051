"""The clients of a running supervisor: status, stop, exec."""

from __future__ import annotations

import _socket
import fcntl
import os
import select
import stat
import time

from launch import calls, cgroup, state, wire
from launch.errors import FAILED, STATE, Failure
from launch.signals import signals
from launch.sockets import Socket

# asm-generic/ioctls.h and asm-generic/termbits.h; the termios module would do, at the cost of an import
_TIOCGWINSZ, _TIOCSWINSZ = 0x5413, 0x5414
_MARGIN = 3.0  # seconds beyond the server's own patience


def connect(run: int) -> Socket:
    """A connection to the supervisor of an open run/ directory; OSError if none listens."""
    client = Socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        client.connect(f"/proc/self/fd/{run}/control")
    except OSError:
        client.close()
        raise
    return client


def status(run: int) -> list[str]:
    """What the supervisor says of itself, as KEY=VALUE; from the files of run/ when it is not there."""
    fields = state.read(run, "state")
    pidfd = state.living(fields)
    if pidfd < 0:
        if fields:
            return ["state=crashed"]
        ended = dict(state.read(run, "exit"))
        return [
            "state=crashed"
            if ended.get("reason", "stopped") not in ("stopped", "killed")
            else "state=stopped"
        ]
    os.close(pidfd)
    try:
        with connect(run) as client:
            client.settimeout(2.0)
            wire.send(client, [b"status"])
            answer = wire.receive(client)
    except OSError:
        answer = None
    if answer is None:
        return [f"{'state' if key == 'status' else key}={value}" for key, value in fields]
    return [field.decode("utf-8", "replace") for field in answer[0]]


def stop(run: int, patience: float) -> str:
    """End the supervisor and its guest: `clean`, `killed`, or `already` if it was not running."""
    fields = state.read(run, "state")
    pidfd = state.living(fields)
    if pidfd < 0:
        bury(run, fields)
        return "already"
    try:
        try:
            signals.pidfd_send_signal(pidfd, signals.SIGCONT)  # a stopped supervisor cannot stop anything
        except PermissionError:  # not the owner's process: a state that somebody made up
            bury(run, fields)
            return "already"
        client = None
        try:
            client = connect(run)
            wire.send(client, [b"stop"])
        except OSError:
            signals.pidfd_send_signal(pidfd, signals.SIGTERM)
        ended = _wait(pidfd, patience + _MARGIN)
        if client:
            client.close()
        if not ended:
            signals.pidfd_send_signal(pidfd, signals.SIGKILL)
            _wait(pidfd, 5.0)
            _wait_gone(dict(fields).get("pid1", ""))
            bury(run, fields)
            return "killed"
    finally:
        os.close(pidfd)
    return "clean" if dict(state.read(run, "exit")).get("reason") == "stopped" else "killed"


def _wait(pidfd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _wait_gone(pid1: str) -> None:
    """The parent-death signal is on its way; a control group can be removed only after it arrived."""
    deadline = time.monotonic() + 2
    while pid1 and state.start_time(int(pid1)) and time.monotonic() < deadline:
        time.sleep(0.01)


def bury(run: int, fields: list[tuple[str, str]]) -> None:
    """Clear away what a supervisor that was killed could not."""
    if not fields:
        return
    _wait_gone(dict(fields).get("pid1", "") if dict(fields).get("boot_id") == state.boot_id() else "")
    cgroup.sweep([path for key, path in fields if key == "cgroup"])
    message = "the supervisor was killed"
    leave(run, [("reason", "crashed"), ("code", "0"), ("signal", "9"), ("message", message)])


def leave(run: int, fields: list[tuple[str, str]]) -> None:
    """The last files of a run: how it ended; its state and its socket go."""
    try:
        state.write(run, "exit", [*fields, ("at", f"{time.time():.3f}")])
    except OSError:
        pass  # a full disk must not keep anyone from destroying what filled it
    for name in ("control", "state"):
        try:
            state.remove(run, name)
        except OSError:
            pass  # the environment is being destroyed


def _terminal_environment() -> list[str]:
    """What full-screen programs need. Debian's `pager` is a link through /etc, which the guest has not."""
    pager = next((name for name in ("less", "more") if os.access(f"/usr/bin/{name}", os.X_OK)), "cat")
    return [f"TERM={os.environ.get('TERM', 'dumb')}", f"PAGER={pager}"]


def _harmless(fd: int) -> bool:
    """An unnamed pipe or /dev/null.

    All else is relayed: by way of /proc/self/fd a guest can open a descriptor again, and so
    write to a file of the host that was passed for reading.
    """
    info = os.fstat(fd)
    if stat.S_ISFIFO(info.st_mode):
        return os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:")
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == os.makedev(1, 3)


class Exec:
    """Runs a command inside. The guest never gets the caller's terminal or a socket of the host's."""

    def __init__(self, run: int, argv: list[str], environment: list[str]) -> None:
        self.argv, self.environment = argv, environment
        try:
            self.client = connect(run)
        except OSError:
            raise Failure(STATE, "the environment is not running") from None
        self.copies: dict[int, int] = {}  # the guest's output: read here → write there
        self.feeding = -1  # where our standard input goes, if it is relayed
        self.master = -1

    def run(self) -> int:
        """The command's exit code, or 128 + the signal that ended it."""
        if os.isatty(0) and os.isatty(1):
            return self._with_terminal()
        theirs, ours = [], []
        for fd in (0, 1, 2):
            if _harmless(fd):
                theirs.append(fd)
                continue
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            if fd == 0:
                self.feeding = write_end
                theirs.append(read_end)
                ours.append(read_end)
            else:
                self.copies[read_end] = fd
                theirs.append(write_end)
                ours.append(write_end)
        self._send(theirs)
        for fd in ours:
            os.close(fd)
        return self._relay()

    def _with_terminal(self) -> int:
        import pty
        import termios
        import tty

        self.master, slave = pty.openpty()
        saved = termios.tcgetattr(0)
        self._resize()
        signals.signal(signals.SIGWINCH, lambda *_: self._resize())
        try:
            tty.setraw(0)
            self.environment += _terminal_environment()
            self._send([slave, slave, slave])
            os.close(slave)
            self.copies, self.feeding = {self.master: 1}, self.master
            return self._relay()
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)

    def _resize(self) -> None:
        size = fcntl.ioctl(0, _TIOCGWINSZ, bytes(8))
        fcntl.ioctl(self.master, _TIOCSWINSZ, size)

    def _send(self, fds: list[int]) -> None:
        fields = [os.fsencode(field) for field in self.argv]
        extra = [os.fsencode(field) for field in self.environment]
        wire.send(self.client, [b"exec", str(len(fields)).encode(), *fields, *extra], fds)

    def _relay(self) -> int:
        feeder = self._feed() if self.feeding >= 0 else 0
        try:
            return self._wait()
        finally:
            if feeder:
                os.kill(feeder, signals.SIGKILL)
                os.waitpid(feeder, 0)

    def _feed(self) -> int:
        """Copy our standard input from a process of its own: while the guest does not read,
        what it writes must flow on, or both of us wait for ever."""
        pid = os.fork()
        if pid:
            if self.feeding != self.master:
                os.close(self.feeding)
            return pid
        calls.prctl(calls.PR_SET_PDEATHSIG, signals.SIGKILL)
        try:
            while data := os.read(0, 65536):
                while data:
                    data = data[os.write(self.feeding, data) :]
        except OSError:
            pass  # EPIPE: nobody reads; EIO: the terminal is gone; EISDIR
        os._exit(0)

    def _wait(self) -> int:
        poll = select.poll()
        poll.register(self.client, select.POLLIN)
        for source in self.copies:
            poll.register(source, select.POLLIN)
        code = -1
        while code < 0 or self.copies:
            ready = poll.poll(200 if code >= 0 else None)
            if not ready and code >= 0:
                break  # a grandchild kept the other end; the command itself has ended
            for fd, _ in ready:
                if fd == self.client.fileno():
                    code = self._ended()
                    poll.unregister(fd)
                elif not self._copy(fd):
                    poll.unregister(fd)
        return code

    def _copy(self, source: int) -> bool:
        try:
            data = os.read(source, 65536)
            rest = data
            while rest:
                rest = rest[os.write(self.copies[source], rest) :]
            if data:
                return True
        except OSError:
            pass  # EIO: the terminal's other end is closed; EPIPE: nobody reads
        del self.copies[source]
        return False

    def _ended(self) -> int:
        try:
            message = wire.receive(self.client)
        except OSError:
            message = None
        if message is None:
            raise Failure(FAILED, "the environment ended while the command was running")
        fields, _ = message
        if fields[0] != b"exit":
            raise Failure(FAILED, b" ".join(fields[1:]).decode("utf-8", "replace"))
        status_word = int(fields[1])
        return os.WEXITSTATUS(status_word) if os.WIFEXITED(status_word) else 128 + os.WTERMSIG(status_word)
