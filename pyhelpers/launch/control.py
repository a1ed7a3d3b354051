"""The control socket, run/control: the supervisor's side. Messages are wire's; who speaks is checked."""

from __future__ import annotations

import _socket
import os
import struct

from launch import state, wire
from launch.loop import READ
from launch.record import TYPE_CHECKING
from launch.sockets import Socket

if TYPE_CHECKING:
    from launch.supervisor import Supervisor

_SO_PEERCRED = 17  # asm-generic/socket.h; struct ucred: pid, uid, gid


class Control:
    """Serves status, stop and exec to the owner and to root."""

    def __init__(self, supervisor: Supervisor, run: int) -> None:
        self.supervisor = supervisor
        self.loop = supervisor.loop
        self.waiting: dict[bytes, Socket] = {}  # exec id → its client
        self.count = 0
        state.remove(run, "control")
        self.listener = Socket(
            _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
        )
        # By way of the descriptor: the directory's own path may be longer than a socket's can be.
        self.listener.bind(f"/proc/self/fd/{run}/control")
        self.listener.listen(64)
        self.loop.watch(self.listener.fileno(), READ, self._accept)

    def _accept(self) -> None:
        try:
            client = self.listener.take()
        except OSError:
            return
        _, uid, _ = struct.unpack("=iII", client.getsockopt(_socket.SOL_SOCKET, _SO_PEERCRED, 12))
        if uid not in (0, self.supervisor.prepared.owner.uid):
            client.close()
            return
        client.setblocking(False)
        self.loop.watch(client.fileno(), READ, lambda: self._serve(client))

    def _serve(self, client: Socket) -> None:
        try:
            message = wire.receive(client)
        except OSError:
            message = None
        if message is None:
            self._hang_up(client)
            return
        fields, fds = message
        try:
            self._answer(client, fields, fds)
        except (OSError, ValueError, IndexError) as error:
            self._reply(client, [b"error", str(error).encode()])
        finally:
            for fd in fds:
                os.close(fd)

    def _answer(self, client: Socket, fields: list[bytes], fds: list[int]) -> None:
        if fields[0] == b"status":
            self._reply(client, [f"{key}={value}".encode() for key, value in self.supervisor.report()])
        elif fields[0] == b"stop":
            self.supervisor.stop()  # the answer is our end
        elif fields[0] == b"exec" and len(fds) == 3 and client not in self.waiting.values():
            if self.supervisor.status == "stopping":
                raise OSError(0, "the environment is stopping")
            self.count += 1
            name = str(self.count).encode()
            wire.send(self.supervisor.sandbox.link, [b"exec", name, *fields[1:]], fds)
            self.waiting[name] = client
        else:
            raise ValueError("not understood")

    def _reply(self, client: Socket, fields: list[bytes]) -> None:
        try:
            wire.send(client, fields)
        except OSError:
            pass

    def _hang_up(self, client: Socket) -> None:
        """A client that leaves takes its command with it."""
        self.loop.forget(client.fileno())
        for name, waiting in list(self.waiting.items()):
            if waiting is client:
                del self.waiting[name]
                wire.send(self.supervisor.sandbox.link, [b"kill", name])
        client.close()

    def exited(self, name: bytes, status: bytes) -> None:
        """pid 1 reports the end of a command."""
        client = self.waiting.pop(name, None)
        if client:
            self._reply(client, [b"exit", status])
