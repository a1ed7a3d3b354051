"""The kernel's side of the broker: takes notifications of the filter, answers them, hands over sockets.

seccomp_unotify(2); structures from linux/seccomp.h. The guest's memory is copied once (I3) and
the one function that answers cannot say CONTINUE (I2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from launch import calls
from launch.record import Record
from launch.sockets import Socket

# ioctls of the listener and the flag of struct seccomp_notif_addfd
_RECV, _SEND, _ID_VALID, _ADDFD = 0xC0502100, 0xC0182101, 0x40082102, 0x40182103
_ADDFD_SETFD = 1
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")  # id, pid, flags, seccomp_data: nr, arch, ip, args
_LONGEST_ADDRESS = 128  # sizeof(struct sockaddr_storage)
_CALLS = {
    "x86_64": {49: "bind", 42: "connect", 50: "listen"},
    "aarch64": {200: "bind", 203: "connect", 201: "listen"},
}.get(calls.MACHINE, {})


class Request(Record):
    """One notification. `pointer` and `length` are the address's; for listen, `pointer` is the backlog."""

    id: int
    tid: int
    call: str
    fd: int
    pointer: int
    length: int


def int32(value: int) -> int:
    """The low 32 bits of an argument, as the kernel's int."""
    return ((value & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000


class Listener:
    """The filter's listener. A caller that is gone meanwhile (ENOENT) is not an error."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._buffer = bytearray(_NOTIFICATION.size)

    def receive(self) -> Request | None:
        """The next notification; None if its caller was killed or interrupted."""
        self._buffer[:] = bytes(_NOTIFICATION.size)  # the kernel refuses a buffer that is not zero
        try:
            fcntl.ioctl(self.fd, _RECV, self._buffer)
        except OSError as error:
            if error.errno in (errno.EINTR, errno.ENOENT):
                return None
            raise
        ident, tid, _, number, _, _, *arguments = _NOTIFICATION.unpack_from(self._buffer)
        call = _CALLS.get(number, "")
        return Request(ident, tid, call, int32(arguments[0]), arguments[1], int32(arguments[2]))

    def answer(self, request: Request, code: int) -> None:
        """The one place that answers: 0 or an errno. The response's flags are 0: never CONTINUE (I2)."""
        flags = 0
        assert flags == 0 and 0 <= code < 4096
        try:
            # struct seccomp_notif_resp: id, val, error (a negative errno), flags
            fcntl.ioctl(self.fd, _SEND, struct.pack("=QqiI", request.id, 0, -code, flags))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def check(self, request: Request) -> None:
        """Raises ENOENT unless the caller still waits for this answer: what was read was its own."""
        fcntl.ioctl(self.fd, _ID_VALID, struct.pack("=Q", request.id))

    def hand_over(self, request: Request, sock: Socket, flags: tuple[int, int]) -> None:
        """Put `sock` in the place of the guest's descriptor, with the old one's flags."""
        status, descriptor = flags
        fcntl.fcntl(sock.fileno(), fcntl.F_SETFL, status)
        newfd_flags = os.O_CLOEXEC if descriptor & os.O_CLOEXEC else 0
        # struct seccomp_notif_addfd: id, flags, srcfd, newfd, newfd_flags
        addfd = struct.pack("=QIIII", request.id, _ADDFD_SETFD, sock.fileno(), request.fd, newfd_flags)
        fcntl.ioctl(self.fd, _ADDFD, addfd)


def flags_of(request: Request, sock: Socket) -> tuple[int, int]:
    """The file status flags, and the descriptor's (proc_pid_fdinfo(5), octal)."""
    with open(f"/proc/{request.tid}/fdinfo/{request.fd}", encoding="utf-8") as file:
        descriptor = next(int(line.split()[1], 8) for line in file if line.startswith("flags:"))
    return fcntl.fcntl(sock.fileno(), fcntl.F_GETFL), descriptor


def duplicate(request: Request) -> int:
    """One duplicate of the guest's descriptor, on which everything is checked and done (I3)."""
    pidfd = calls.pidfd_of_thread(request.tid)
    try:
        return calls.pidfd_getfd(pidfd, request.fd)
    finally:
        os.close(pidfd)


def address_of(request: Request) -> bytes:
    """The address argument, copied once; the same errors as the kernel's own copy."""
    if not 0 <= request.length <= _LONGEST_ADDRESS:
        raise OSError(errno.EINVAL, "address length")
    if not request.length:
        return b""
    if not request.pointer:
        raise OSError(errno.EFAULT, "address")
    return calls.read_memory(request.tid, request.pointer, request.length)
