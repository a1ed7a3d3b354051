"""Answers the guest's bind, connect and listen. SECURITY.md's invariants I1-I8 are kept here.

The guest's system call is never continued: every notification is answered with 0 or an errno,
after the broker itself has acted on a duplicate of the guest's socket or put one of the
host's namespace in its place.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import select
import stat
import struct
import time

from launch import address, calls
from launch.address import AF_INET, AF_INET6, AF_UNIX
from launch.notify import Listener, Request, address_of, duplicate, flags_of, int32
from launch.plan import Plan
from launch.record import TYPE_CHECKING, Record
from launch.signals import signals
from launch.sockets import Socket

if TYPE_CHECKING:
    from typing import Callable

# asm-generic/socket.h
_SO_COOKIE, _SO_NETNS_COOKIE = 57, 71
_SO_PROTOCOL = 38
_CONNECT_DEADLINE = 10.0  # seconds
_CALL_DEADLINE = 0.1  # seconds that acting on the guest's own socket may block
_RATE, _BURST = 4000.0, 8000.0  # notifications a second, and at once
_INSIDE_WAIT_MS = 50
_COOKIES_MOST = 1024
_PENDING_MOST = 256
_COPIED = (
    (_socket.SOL_SOCKET, _socket.SO_KEEPALIVE),
    (_socket.IPPROTO_TCP, _socket.TCP_NODELAY),
)


class Denied(Exception):
    """A request that the manifest does not grant; `about` is the address or path."""

    def __init__(self, code: int, about: str, grant: str) -> None:
        super().__init__(about)
        self.code, self.about, self.grant = code, about, grant


class Pending(Record):
    """A granted connect under way: answered only once established (I6)."""

    request: Request
    socket: Socket
    flags: tuple[int, int]
    deadline: float


class Timeout(Exception):
    """Acting on the guest's socket took too long."""


class Broker:
    """The notification loop's work; the supervisor calls `serve` when the listener is readable."""

    def __init__(
        self,
        plan: Plan,
        listener: int,
        root: int,
        killable: bool,
        on_denied: Callable[[int, str, Denied], None],
    ) -> None:
        self.listener = Listener(listener)
        self.killable = killable  # the kernel has WAIT_KILLABLE_RECV (Linux 5.19)
        self.root = root
        self.on_denied = on_denied
        self.listens = [address.inet(ip, int(port)) for ip, port in plan.all("listen")]
        self.connects = [address.network(cidr, int(port)) for cidr, port in plan.all("connect")]
        self.cookies: dict[bytes, None] = {}  # of the listeners that we bound, the oldest first
        self.exhausted = False  # the last request was over the rate
        self.pending: dict[int, Pending] = {}
        self.tokens, self.refilled = _BURST, time.monotonic()
        with Socket(_socket.AF_INET, _socket.SOCK_STREAM) as own:
            self.own_netns = own.getsockopt(_socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        writable = [target for _, target, flags in plan.all("bind") if "rw" in flags.split(",")]
        writable += [target for target, _ in plan.all("tmpfs")] + plan.all("data")[0][:1]
        writable += [path for (path,) in plan.all("connect-unix")]
        self.socket_mounts = {self._mount_id(path) for path in writable}

    # -- the loop's side -------------------------------------------------------------------

    def serve(self) -> int:
        """Take and answer one notification; the descriptor of a connect now pending, or -1."""
        request = self.listener.receive()
        if request is None:
            return -1
        try:
            pending = self._answer(request)
        except Denied as denied:
            self.on_denied(request.tid, request.call, denied)
            self.listener.answer(request, denied.code)
        except OSError as error:
            self.listener.answer(request, error.errno or errno.EPERM)
        except Exception:
            # Whatever a guest finds to make us stumble over, it gets an errno and we go on (I7).
            self.listener.answer(request, errno.EPERM)
        else:
            if pending is None:
                self.listener.answer(request, 0)
            else:
                self.pending[pending.socket.fileno()] = pending
                return pending.socket.fileno()
        return -1

    def finish(self, fd: int) -> None:
        """A pending connect became writable, failed, or ran out of time."""
        pending = self.pending.pop(fd)
        with pending.socket:
            code = pending.socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
            if not code:
                try:
                    pending.socket.getpeername()
                    self.listener.hand_over(pending.request, pending.socket, pending.flags)
                except OSError as error:
                    code = error.errno or errno.EPERM
                if code == errno.ENOTCONN:
                    code = errno.ETIMEDOUT
            self.listener.answer(pending.request, code)

    def expired(self) -> list[int]:
        """The pending connects whose deadline has passed."""
        now = time.monotonic()
        return [fd for fd, pending in self.pending.items() if pending.deadline <= now]

    # -- decisions -------------------------------------------------------------------------

    def _answer(self, request: Request) -> Pending | None:
        """Do what is asked, or raise an errno; a Pending if the answer must wait."""
        now = time.monotonic()
        self.tokens = min(_BURST, self.tokens + (now - self.refilled) * _RATE)
        self.refilled = now
        self.exhausted = self.tokens < 1
        if self.exhausted:
            raise OSError(errno.EAGAIN, "too many requests")
        self.tokens -= 1
        if not request.call:
            raise OSError(errno.ENOSYS, "not served")
        if request.fd < 0:
            raise OSError(errno.EBADF, "bad descriptor")
        copy = duplicate(request)
        try:
            if not stat.S_ISSOCK(os.fstat(copy).st_mode):
                raise OSError(errno.ENOTSOCK, "not a socket")
            sock = Socket(fileno=copy)
        except BaseException:
            os.close(copy)
            raise
        with sock:
            hosts = sock.getsockopt(_socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8) == self.own_netns
            if request.call == "listen":
                self._listen(request, sock, hosts)
                return None
            if hosts and not self.killable and self._repeated_bind(request, sock):
                return None
            if hosts:
                raise Denied(errno.EPERM, "a socket of the host's network", "")
            raw = address_of(request)
            self.listener.check(request)
            if sock.family == AF_UNIX:
                self._unix(request, sock, raw)
                return None
            if sock.family not in (AF_INET, AF_INET6):
                raise OSError(errno.EAFNOSUPPORT, "family")
            tcp = (
                sock.type == _socket.SOCK_STREAM
                and sock.getsockopt(_socket.SOL_SOCKET, _SO_PROTOCOL) == _socket.IPPROTO_TCP
            )
            if request.call == "bind":
                self._bind(request, sock, raw, tcp)
                return None
            return self._connect(request, sock, raw, tcp)

    def _listen(self, request: Request, sock: Socket, hosts: bool) -> None:
        if hosts and sock.getsockopt(_socket.SOL_SOCKET, _SO_COOKIE, 8) not in self.cookies:
            raise Denied(errno.EPERM, "listen on a socket that is not a granted listener", "")
        self.listener.check(request)
        calls.listen(sock.fileno(), int32(request.pointer))

    def _bind(self, request: Request, sock: Socket, raw: bytes, tcp: bool) -> None:
        grant = None
        if tcp and len(raw) >= 2 and struct.unpack_from("=H", raw)[0] == sock.family:
            grant = address.listen_grant(self.listens, address.parse_inet(raw))
        if grant is None:
            calls.bind(sock.fileno(), raw)  # in the guest's own, empty namespace
            return
        with self._host_socket(grant.family, sock) as mine:
            mine.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            mine.bind(grant.sockaddr())
            self.listener.hand_over(request, mine, flags_of(request, sock))
            self.cookies[mine.getsockopt(_socket.SOL_SOCKET, _SO_COOKIE, 8)] = None
            while len(self.cookies) > _COOKIES_MOST:
                del self.cookies[next(iter(self.cookies))]

    def _repeated_bind(self, request: Request, sock: Socket) -> bool:
        """A bind that a signal restarted after it was served; only kernels before 5.19 do that."""
        return (
            request.call == "bind"
            and sock.getsockopt(_socket.SOL_SOCKET, _SO_COOKIE, 8) in self.cookies
            and not sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN)
            and address.listen_grant(self.listens, address.parse_inet(address_of(request)))
            == address.inet(*sock.getsockname()[:2])
        )

    def _connect(self, request: Request, sock: Socket, raw: bytes, tcp: bool) -> Pending | None:
        asked = None
        if tcp and len(raw) >= 2 and struct.unpack_from("=H", raw)[0] in (AF_INET, AF_INET6):
            asked = address.unmapped(address.parse_inet(raw))
        if asked is None or not address.connect_granted(self.connects, asked):
            try:
                self._act(sock, lambda fd: calls.connect(fd, raw))
            except OSError as error:
                if asked is not None and error.errno in (errno.ENETUNREACH, errno.ECONNREFUSED):
                    raise Denied(error.errno, str(asked), f"network.connect {asked}") from None
                raise
            return None
        if len(self.pending) >= _PENDING_MOST:
            raise OSError(errno.EAGAIN, "too many connects at once")
        flags = flags_of(request, sock)
        mine = self._host_socket(asked.family, sock)
        mine.setblocking(False)
        code = mine.connect_ex(asked.sockaddr())
        if code not in (0, errno.EINPROGRESS):
            mine.close()
            raise OSError(code, "connect")
        return Pending(request, mine, flags, time.monotonic() + _CONNECT_DEADLINE)

    def _host_socket(self, family: int, like: Socket) -> Socket:
        """A new TCP socket of the host's namespace with the options of the guest's."""
        mine = Socket(family, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC, _socket.IPPROTO_TCP)
        if family == AF_INET6:
            # [::] would otherwise open the IPv4 port as well, which the manifest grants by itself.
            mine.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        for level, option in _COPIED:
            mine.setsockopt(level, option, like.getsockopt(level, option))
        for option in (_socket.SO_SNDBUF, _socket.SO_RCVBUF):
            size = like.getsockopt(_socket.SOL_SOCKET, option)
            if size != mine.getsockopt(_socket.SOL_SOCKET, option):
                mine.setsockopt(_socket.SOL_SOCKET, option, size // 2)  # the kernel doubles it (socket(7))
        return mine

    # -- unix sockets ----------------------------------------------------------------------

    def _unix(self, request: Request, sock: Socket, raw: bytes) -> None:
        act = calls.bind if request.call == "bind" else calls.connect
        family = struct.unpack_from("=H", raw)[0] if len(raw) >= 2 else -1
        path = address.unix_path(raw) if family == AF_UNIX else None
        if path is None:
            # Abstract names and AF_UNSPEC belong to the guest's own network namespace.
            self._act(sock, lambda fd: act(fd, raw))
            return
        place = self._absolute(request.tid, path)
        if request.call == "bind":
            self._unix_bind(request, sock, place)
        else:
            self._unix_connect(sock, place)

    def _absolute(self, tid: int, path: bytes) -> str:
        text = os.fsdecode(path)
        if text.startswith("/"):
            return text
        cwd = os.readlink(f"/proc/{tid}/cwd")
        if not cwd.startswith("/") or cwd.endswith(" (deleted)"):
            raise OSError(errno.ENOENT, "working directory")
        return f"{cwd}/{text}"

    def _resolve(self, path: str, flags: int) -> int:
        """A descriptor of a path as the guest sees it; links stay inside its root."""
        return calls.openat2(
            self.root, path, os.O_PATH | flags, calls.RESOLVE_IN_ROOT | calls.RESOLVE_NO_MAGICLINKS
        )

    def _unix_bind(self, request: Request, sock: Socket, path: str) -> None:
        directory, _, name = path.rpartition("/")
        if name in ("", ".", ".."):
            raise OSError(errno.EADDRINUSE, "address")
        parent = self._resolve(directory or "/", os.O_DIRECTORY)
        before = os.umask(int(calls.proc_status(request.tid)["Umask"], 8))
        try:
            self._act(sock, lambda fd: calls.bind(fd, _sun(f"/proc/self/fd/{parent}/{name}")))
        finally:
            os.umask(before)
            os.close(parent)

    def _unix_connect(self, sock: Socket, path: str) -> None:
        target = self._resolve(path, 0)
        try:
            if not stat.S_ISSOCK(os.fstat(target).st_mode):
                raise OSError(errno.ECONNREFUSED, "not a socket")
            if _mount_of(target) not in self.socket_mounts:
                raise Denied(errno.EACCES, path, f"network.connect unix:{path}")
            self._act(sock, lambda fd: calls.connect(fd, _sun(f"/proc/self/fd/{target}")))
        finally:
            os.close(target)

    def _mount_id(self, path: str) -> int:
        fd = self._resolve(path, 0)
        try:
            return _mount_of(fd)
        finally:
            os.close(fd)

    @staticmethod
    def _act(sock: Socket, call: Callable[[int], None]) -> None:
        """Act on the guest's own socket without ever waiting for it.

        It is made non-blocking for the call. A guest that makes it blocking again meanwhile is
        interrupted by a timer.
        """

        def late(*_: object) -> None:
            raise Timeout

        flags = fcntl.fcntl(sock.fileno(), fcntl.F_GETFL)
        before = signals.signal(signals.SIGALRM, late)
        signals.setitimer(signals.ITIMER_REAL, _CALL_DEADLINE)
        try:
            fcntl.fcntl(sock.fileno(), fcntl.F_SETFL, flags | os.O_NONBLOCK)
            call(sock.fileno())
        except Timeout:
            raise OSError(errno.ETIMEDOUT, "timed out") from None
        except OSError as error:
            if error.errno != errno.EINPROGRESS or flags & os.O_NONBLOCK:
                raise
            _finish_connect(sock)
        finally:
            signals.setitimer(signals.ITIMER_REAL, 0)
            signals.signal(signals.SIGALRM, before)
            fcntl.fcntl(sock.fileno(), fcntl.F_SETFL, flags)


def _finish_connect(sock: Socket) -> None:
    """The end of a connect on the guest's own loopback: at once, or nobody inside takes it."""
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    if not poll.poll(_INSIDE_WAIT_MS):
        raise OSError(errno.ETIMEDOUT, "timed out")
    code = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def _sun(path: str) -> bytes:
    return struct.pack("=H", AF_UNIX) + os.fsencode(path) + b"\0"


def _mount_of(fd: int) -> int:
    """The id of the mount that a descriptor is on (proc_pid_fdinfo(5))."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))
