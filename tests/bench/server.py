"""What both contestants share: how they are reached, asked and timed, and how they fail."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import psycopg

ROOT = pathlib.Path(__file__).resolve().parents[2]
_POLL = 0.001  # seconds between two attempts to connect
_PATIENCE = 60.0  # seconds for a server to answer


class Fault(Exception):
    """The benchmark cannot go on. `hint` is something that can be typed."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclasses.dataclass(frozen=True)
class Address:
    """How a client reaches a server over TCP, with its password."""

    port: int
    user: str
    password: str
    database: str
    host: str = "127.0.0.1"


class Server(Protocol):
    """A PostgreSQL server that can be started and stopped again and again."""

    address: Address
    socket: pathlib.Path  # the directory of its unix socket

    def start(self) -> None:
        """Start it; it may return before the server answers."""

    def check(self) -> None:
        """Raise Fault if the server has ended."""

    def stop(self) -> None:
        """Stop it as its engine asks, and wait for its end."""


def until(server: Server, attempt: Callable[[], None]) -> None:
    """Try every millisecond until the server takes the connection; Fault if it ends, or after 60 s."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            attempt()
            return
        except (ConnectionRefusedError, psycopg.OperationalError):
            server.check()
            time.sleep(_POLL)
    raise Fault(f"no answer on port {server.address.port} after {_PATIENCE:g} s")


def until_answered(server: Server) -> None:
    """Return when the server has answered SELECT 1 over TCP."""

    def attempt() -> None:
        # A refused connection costs a bare socket less than it costs a driver, and most of
        # native's start is waiting for this.
        with socket.create_connection((server.address.host, server.address.port)):
            pass
        with connect(server.address) as connection:
            connection.execute("SELECT 1")

    until(server, attempt)


@contextlib.contextmanager
def connect(address: Address) -> Iterator[psycopg.Connection[Any]]:
    """A client's connection over TCP, in autocommit."""
    with psycopg.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        password=address.password,
        dbname=address.database,
        autocommit=True,
        connect_timeout=10,
    ) as connection:
        yield connection


def as_superuser(server: Server, *statements: str) -> None:
    """Run statements over the server's unix socket, where its owner needs no password."""
    with psycopg.connect(
        host=str(server.socket), port=server.address.port, user="postgres", dbname="postgres", autocommit=True
    ) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def elapsed(since: float) -> float:
    """Milliseconds since a reading of time.perf_counter()."""
    return (time.perf_counter() - since) * 1000
