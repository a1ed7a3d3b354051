"""What is being compiled: one environment's manifest, card, programs and credentials together."""

from __future__ import annotations

import locale
from typing import Any, NamedTuple

from pyhelpers.addresses import Address
from pyhelpers.card import Card
from pyhelpers.errors import STATE, USAGE, Problem, shown
from pyhelpers.manifest import Manifest, memory_bytes
from pyhelpers.providers import Provider

# The guest's places: short, and the same for every engine.
DATA, CONFIG, SOCK = "/data", "/config", "/sock"


class Subject(NamedTuple):
    """Everything that templates, plan and records are made from."""

    card: Card
    manifest: Manifest
    provider: Provider
    directory: str  # the environment's final directory
    template: str
    layer: str
    context: dict[str, Any]  # what the card's templates see


def server_port(card: Card, manifest: Manifest) -> int:
    """The first listener's port; the engine's own if nothing listens (it names the socket)."""
    return manifest.listens[0].port if manifest.listens else card.port


def check_minimum(card: Card, manifest: Manifest, source: str) -> None:
    """Refuse limits that the engine cannot even start in."""
    least = card.data["limits"]["minimum"]
    at = f"{source}: capabilities.resources"
    if manifest.memory < memory_bytes(least["memory"]):
        asked = manifest.document["capabilities"]["resources"]["memory"]
        raise Problem(USAGE, f"{at}.memory: {shown(asked)}: {card.title} needs {least['memory']} or more")
    if manifest.pids < least["pids"]:
        raise Problem(USAGE, f"{at}.pids: {manifest.pids}: {card.title} needs {least['pids']} or more")


def check_environment(card: Card, manifest: Manifest, source: str) -> None:
    """Refuse variables that the sandbox gives the server itself."""
    for key in manifest.environment:
        if key in card.data["server"]["environment"] or key in ("LANG", "TZ"):
            raise Problem(STATE, f"{source}: environment.{key}: the sandbox sets this variable itself")


def _client_address(ip: Address) -> Address:
    """Where a client on this host reaches a server that listens on `ip`."""
    if ip.is_unspecified:
        return type(ip)("127.0.0.1" if ip.version == 4 else "::1")
    return ip


def utf8_locale() -> bool:
    """Whether the host's C library has C.UTF-8; the guest sees the same one."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    except locale.Error:
        return False
    locale.setlocale(locale.LC_CTYPE, before)
    return True


def program_context(card: Card, provider: Provider) -> dict[str, Any]:
    """What a card's templates know before there is an environment: enough for the init steps."""
    return {
        **card.facts,
        "engine": card.name,
        "programs": provider.programs,
        "version": provider.version,
        "major": provider.major,
        "data": DATA,
        "config": CONFIG,
        "sock": SOCK,
        "utf8_locale": utf8_locale(),
    }


def environment_context(
    card: Card, manifest: Manifest, provider: Provider, directory: str, password: str
) -> dict[str, Any]:
    """What a card's templates know about an environment."""
    context = program_context(card, provider)
    port = server_port(card, manifest)
    context.update(name=manifest.name, directory=directory, password=password, port=port)
    context.update(memory=manifest.memory, cpu=manifest.cpu, pids=manifest.pids, ephemeral=manifest.ephemeral)
    context["listens"] = [{"ip": str(entry.ip), "port": entry.port} for entry in manifest.listens]
    if manifest.listens:
        address = _client_address(manifest.listens[0].ip)
        context["address"] = str(address)
        context["address_in_url"] = f"[{address}]" if address.version == 6 else str(address)
    else:
        context["address"] = context["address_in_url"] = f"{directory}/sock"
    context.update(card.texts(card.data["credentials"], context))
    context.update(card.settings(context))
    return context
