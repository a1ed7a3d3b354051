"""Messages between our own processes: SOCK_SEQPACKET datagrams of NUL-separated fields, with descriptors."""

from __future__ import annotations

import _socket
import os
import struct

from launch.sockets import Socket

MOST = 160 * 1024  # bytes in one message; below the default net.core.wmem_default of 212,992
_MOST_FDS = 4


def send(sock: Socket, fields: list[bytes], fds: list[int] | None = None) -> None:
    """Send one message; raises OSError EMSGSIZE if it is too long to be one."""
    message = b"\0".join(fields)
    if len(message) > MOST:
        raise OSError(90, "message too long")  # EMSGSIZE
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"={len(fds)}i", *fds))] if fds else []
    sock.sendmsg([message], ancillary, _socket.MSG_NOSIGNAL)


def receive(sock: Socket) -> tuple[list[bytes], list[int]] | None:
    """The next message and its descriptors (close-on-exec), None at the end of the stream."""
    message, ancillary, flags, _ = sock.recvmsg(
        MOST, _socket.CMSG_SPACE(_MOST_FDS * 4), _socket.MSG_CMSG_CLOEXEC
    )
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds.extend(struct.unpack(f"={len(data) // 4}i", data[: len(data) // 4 * 4]))
    if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC):
        for fd in fds:
            os.close(fd)
        raise OSError(90, "message too long")
    if not message:
        for fd in fds:
            os.close(fd)
        return None
    return message.split(b"\0"), fds
