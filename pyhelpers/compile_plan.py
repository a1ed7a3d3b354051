"""Decides what a guest gets: the records of its plan. The launcher only carries them out."""

from __future__ import annotations

import os
import signal
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

from pyhelpers.card import Card
from pyhelpers.plan_file import Record, format_plan
from pyhelpers.policy import compile_filter
from pyhelpers.providers import Provider
from pyhelpers.subject import CONFIG, DATA, SOCK, Subject

_MB = 1 << 20
_LOG_CAP = 10 * _MB  # bytes of service.log before it is rotated
_TMP_MOST = 64 * _MB  # bytes of the guest's /tmp, which counts as its memory

# Where a merged-/usr system has links, and others directories (hier(7)).
_BESIDE_USR = ("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin")

# All of /etc that a guest sees.
_ETC = {
    "/etc/passwd": "guest:x:1000:1000:guest:/tmp:/bin/sh\n",
    "/etc/group": "guest:x:1000:\n",
    "/etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n",
}


def _host_programs(provider: Provider) -> Iterator[Record]:
    yield "bind", "/usr", "/usr", "ro,exec"
    for path in _BESIDE_USR:
        if os.path.islink(path):
            yield "link", os.readlink(path), path
        elif os.path.isdir(path):
            yield "bind", path, path, "ro,exec"
    for bind in provider.binds:
        yield "bind", bind.source, bind.target, "ro,exec"


def _surroundings(provider: Provider, environment: dict[str, str]) -> Iterator[Record]:
    for path, text in _ETC.items():
        yield "file", path, text
    path = f"{provider.programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    fixed = {"PATH": path, "HOME": "/tmp", "LANG": "C.UTF-8", "TZ": "UTC"}  # the guest's own
    for key, value in {**fixed, **environment}.items():
        yield "env", key, value


def _base64(content: bytes) -> str:
    return b64encode(content).decode("ascii")


def _step(key: str, step: dict[str, Any], card: Card, context: dict[str, Any]) -> Record:
    fields = (card.message(step.get(part, []), context) for part in ("send", "until", "reject"))
    return (key, *map(_base64, fields))


def _readiness(card: Card, context: dict[str, Any]) -> Iterator[Record]:
    ready = card.data["ready"]
    if "file" in ready:
        yield "ready-file", ready["file"]["path"], str(ready["file"]["line"]), ready["file"]["text"]
    yield "ready-socket", card.text(card.facts["socket"], context)
    for step in ready["steps"]:
        yield _step("ready", step, card, context)
    for step in card.data["first"]:
        yield _step("first", step, card, context)


def _network(subject: Subject) -> Iterator[Record]:
    for listen in subject.manifest.listens:
        yield "listen", str(listen.ip), str(listen.port)
    for connect in subject.manifest.connects:
        yield "connect", str(connect.network), str(connect.port)
    for socket in subject.manifest.unix_sockets:
        yield "connect-unix", socket.path


def server_plan(subject: Subject) -> bytes:
    """The plan of an environment's server."""
    return format_plan(_server_records(subject))


def _server_records(subject: Subject) -> Iterator[Record]:
    card, manifest, provider, context = subject.card, subject.manifest, subject.provider, subject.context
    server = card.data["server"]
    yield "name", manifest.name
    yield "engine", card.name
    yield "version", provider.version
    yield "provider", provider.label
    yield "template", subject.template
    yield "layer", subject.layer
    if subject.layer == "overlay":
        yield "base", f"@/../.templates/{subject.template}/data"
    yield "manifest", manifest.digest
    yield from _host_programs(provider)
    yield "bind", "@/config/server", CONFIG, "ro,noexec"
    yield "bind", "@/sock", SOCK, "rw,noexec"
    for grant in manifest.grants:
        yield "bind", grant.source, grant.target, "rw,noexec,grant" if grant.writable else "ro,exec,grant"
    yield "data", DATA
    yield "tmpfs", "/tmp", str(min(_TMP_MOST, manifest.memory // 4))  # the guest's own
    yield "tmpfs", "/dev/shm", str(card.value(server["shared_memory"], context))
    yield from _surroundings(provider, {**card.texts(server["environment"], context), **manifest.environment})
    for key, value in card.texts(server["exec_environment"], context).items():
        yield "exec-env", key, value
    yield "cwd", DATA
    yield ("argv", *card.argv(server["argv"], context))
    yield from _network(subject)
    yield "limit", "memory", str(manifest.memory)
    yield "limit", "cpu", str(manifest.cpu)
    yield "limit", "pids", str(manifest.pids)
    yield "limit", "nofile", str(card.data["limits"]["nofile"])
    stop = server["stop"]
    yield "stop", str(signal.Signals[stop["signal"]].value), str(stop["patience_ms"])
    yield from _readiness(card, context)
    yield "seccomp", _base64(compile_filter())
    yield "log", str(_LOG_CAP)


def init_plan(
    card: Card, provider: Provider, context: dict[str, Any], template: str, step: dict[str, Any]
) -> bytes:
    """The plan of one step that makes a template: no network, limits that no such step meets."""
    return format_plan(_init_records(card, provider, context, template, step))


def _init_records(
    card: Card, provider: Provider, context: dict[str, Any], template: str, step: dict[str, Any]
) -> Iterator[Record]:
    yield "name", template
    yield "engine", card.name
    yield "version", provider.version
    yield "provider", provider.label
    yield "template", template
    yield "layer", "none"
    yield "manifest", ""
    yield from _host_programs(provider)
    yield "data", DATA
    yield "tmpfs", "/tmp", str(_TMP_MOST)  # the guest's own
    yield "tmpfs", "/dev/shm", str(256 * _MB)
    yield from _surroundings(provider, card.texts(card.data["server"]["environment"], context))
    yield "cwd", DATA
    yield ("argv", *card.argv(step["argv"], context))
    yield "limit", "memory", str(2048 * _MB)
    yield "limit", "cpu", str(1000 * (os.cpu_count() or 1))
    yield "limit", "pids", "512"
    yield "limit", "nofile", str(card.data["limits"]["nofile"])
    yield "stop", str(signal.SIGTERM.value), "5000"
    yield "seccomp", _base64(compile_filter())
    yield "log", str(_LOG_CAP)
