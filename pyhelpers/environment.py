"""Fills an environment's directory, and brings a compiled one up to date with its manifest."""

from __future__ import annotations

import argparse
import glob
import json
import os
import secrets
import shlex
import time
from collections.abc import Mapping
from typing import Any

from pyhelpers import card as cards
from pyhelpers import manifest as manifests
from pyhelpers import ports, providers, strict_json
from pyhelpers.changes import changes
from pyhelpers.compile_plan import server_plan
from pyhelpers.errors import HOST, MISSING, NO_TEMPLATE, STATE, USAGE, Problem, plain, shown
from pyhelpers.manifest import Manifest
from pyhelpers.paths import Grounds
from pyhelpers.records import format_pairs, read_pairs, replace, write_new
from pyhelpers.runstate import MANIFEST, manifest_edited
from pyhelpers.subject import Subject, check_environment, check_minimum, environment_context, server_port
from pyhelpers.templates import fill_template, template_id, template_layer

_TOOLKIT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_FLAGS = "the flags"  # what messages call a manifest that was made from them
_COMPILED = "config/compiled.json"  # the manifest that the plan was made from

DEFAULTS = {"memory": "256M", "cpu": "1.0", "pids": 256}


def _grounds(base: str, name: str) -> Grounds:
    return Grounds(os.path.join(base, name), base, _TOOLKIT)


def _listen_entries(arguments: argparse.Namespace, port: int) -> list[str]:
    """The listeners asked for; one without a port gets the environment's."""
    entries = []
    for entry in arguments.listen or ["127.0.0.1"]:
        bare = entry.endswith("]") or ":" not in entry
        entries.append(f"{entry}:{port}" if bare else entry)
    return entries


def _document(arguments: argparse.Namespace, engine: str, port: int) -> dict[str, Any]:
    """The manifest that the flags say, everything in it explicit."""
    document: dict[str, Any] = {"version": "1.0", "sandbox": arguments.name, "engine": engine}
    if arguments.engine_version:
        document["engine_version"] = arguments.engine_version
    if arguments.ephemeral:
        document["durability"] = "ephemeral"
    document["capabilities"] = {
        "network": {"listen": _listen_entries(arguments, port), "connect": arguments.connect},
        "filesystem": {"read": arguments.read, "write": arguments.write},
        "resources": {
            "memory": arguments.memory or DEFAULTS["memory"],
            "cpu": arguments.cpus or DEFAULTS["cpu"],
            "pids": _pids(arguments.pids) if arguments.pids else DEFAULTS["pids"],
        },
    }
    document["environment"] = dict(_variable(item) for item in arguments.env)
    return document


def _pids(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Problem(USAGE, f"--pids: {shown(text)}: expected a whole number, such as 256")
    return int(text)


def _variable(item: str) -> tuple[str, str]:
    key, separator, value = item.partition("=")
    if not separator:
        raise Problem(USAGE, f"--env: {shown(item)}: expected NAME=VALUE")
    return key, value


def _load_checked(raw: bytes, source: str, name: str, grounds: Grounds, card: cards.Card) -> Manifest:
    manifest = manifests.load(raw, source, name, grounds)
    if manifest.engine != card.name:
        raise Problem(STATE, f"{source}: engine: {shown(manifest.engine)}: this environment's is {card.name}")
    check_minimum(card, manifest, source)
    check_environment(card, manifest, source)
    return manifest


def compile_new(arguments: argparse.Namespace) -> int:
    """`compile`: fill the staging directory; NO_TEMPLATE, nothing written, if there is no template."""
    base, staging = os.path.abspath(arguments.base), os.path.abspath(arguments.staging)
    directory = os.path.join(base, arguments.name)
    card = cards.load(arguments.engine)
    automatic = arguments.port == "auto"
    port = card.port if automatic or arguments.port is None else ports.parse(arguments.port)
    # Checked before the template is made and a port taken: bad input costs nothing.
    manifest = _from_flags(arguments, card, port, base)
    provider = providers.find(card, os.environ, manifest.provider, manifest.engine_version)
    template = template_id(card, provider)
    layer = template_layer(base, template)
    if not layer:
        print(f"missing_template={template}")
        return NO_TEMPLATE
    with ports.Registry() as registry:
        if automatic:
            port = registry.free_port([str(entry.ip) for entry in manifest.listens])
            manifest = _from_flags(arguments, card, port, base)
        elif arguments.port is not None and all(entry.port != port for entry in manifest.listens):
            raise Problem(USAGE, f"port {port} is in none of the --listen addresses")
        program = os.environ.get("VIRT_PROGRAM", "wasm_style_sandbox.sh")
        otherwise = f"{program} create {card.name} {arguments.name} auto"
        warnings = [
            text for entry in manifest.listens for text in registry.check(entry, directory, otherwise)
        ]
        registry.reserve([entry.port for entry in manifest.listens], directory, staging)
    context = environment_context(card, manifest, provider, directory, secrets.token_urlsafe(24))
    subject = Subject(card, manifest, provider, directory, template, layer, context)
    _fill(staging, subject, arguments.uid, arguments.gid)
    print(f"template={template}")
    print(f"port={server_port(card, manifest)}")
    print(f"address={context['address']}")
    for warning in warnings:
        print(f"warning={warning}")
    return 0


def _from_flags(arguments: argparse.Namespace, card: cards.Card, port: int, base: str) -> Manifest:
    raw = manifests.render(_document(arguments, card.name, port))
    return _load_checked(raw, _FLAGS, arguments.name, _grounds(base, arguments.name), card)


def make_template(arguments: argparse.Namespace) -> int:
    """`template`: fill the staging directory with the steps that make a template."""
    card = cards.load(arguments.engine)
    provider = providers.find(card, os.environ, "auto", arguments.engine_version or "")
    template, steps = fill_template(os.path.abspath(arguments.staging), card, provider)
    print(f"template={template}")
    print(f"steps={steps}")
    return 0


def _fill(staging: str, subject: Subject, uid: int, gid: int) -> None:
    manifest = subject.manifest
    for name in ("bin", "config", "config/server", "data", "work", "sock", "logs", "run"):
        os.mkdir(os.path.join(staging, name), 0o700)
    if subject.layer == "overlay":
        _copy_first(staging, subject)
    for name, content in _rendered(subject).items():
        write_new(os.path.join(staging, name), content)
    write_new(os.path.join(staging, MANIFEST), manifest.raw)
    write_new(os.path.join(staging, _COMPILED), manifest.raw)
    write_new(os.path.join(staging, "config/plan"), server_plan(subject))
    record = _record(subject, {"created": str(int(time.time())), "uid": str(uid), "gid": str(gid)})
    write_new(os.path.join(staging, "record"), format_pairs(record))
    activation = os.path.join(_TOOLKIT, "templates", "activate")
    for name in os.listdir(activation):
        with open(os.path.join(activation, name), "rb") as source:
            write_new(os.path.join(staging, "bin", name), source.read())
    os.symlink("bin/activate", os.path.join(staging, "activate"))
    link_clients(staging, subject)
    if not os.path.lexists(os.path.join(staging, ".virt-owned")):
        write_new(os.path.join(staging, ".virt-owned"), b"")


def _copy_first(staging: str, subject: Subject) -> None:
    """Copy what a first start would make the overlay copy up, file by file, each with an fsync."""
    template = os.path.join(os.path.dirname(subject.directory), ".templates", subject.template, "data")
    for pattern in subject.card.data.get("copied", []):
        for source in glob.glob(os.path.join(glob.escape(template), pattern)):
            target = os.path.join(staging, "data", os.path.relpath(source, template))
            os.makedirs(os.path.dirname(target), exist_ok=True)  # 0700: the umask is create's
            with open(source, "rb") as file:
                write_new(target, file.read())


def link_clients(directory: str, subject: Subject) -> None:
    """Put links to the provider's client programs into bin/, and take away those that lead nowhere."""
    folder = os.path.join(directory, "bin")
    for program in subject.card.data["provider"]["clients"]:
        link = os.path.join(folder, program)
        if os.path.islink(link):
            os.unlink(link)
        target = os.path.join(subject.provider.directory, program)
        if os.access(target, os.X_OK):
            os.symlink(target, link)


def _record(subject: Subject, kept: Mapping[str, str]) -> dict[str, str]:
    """The record. `kept` is what a compilation does not decide: created, uid, gid."""
    return {
        "format": "1",
        "backend": "sandbox",
        "engine": subject.card.name,
        "name": subject.manifest.name,
        "port": str(server_port(subject.card, subject.manifest)),
        "address": subject.context["address"],
        "created": kept["created"],
        "uid": kept["uid"],
        "gid": kept["gid"],
        "template": subject.template,
        "layer": subject.layer,
        "provider": subject.provider.label,
        "version": subject.provider.version,
        "ephemeral": "yes" if subject.manifest.ephemeral else "no",
    }


def _rendered(subject: Subject) -> dict[str, bytes]:
    """The files made from templates, by their path; only config/server enters the guest."""
    card, context = subject.card, subject.context
    files = {
        f"config/server/{name}": card.file(source, context) for name, source in card.data["config"].items()
    }
    files.update({f"config/{name}": text for name, text in card.texts(card.data["private"], context).items()})
    encoded = {name: text.encode() for name, text in files.items()}
    encoded["env"] = format_pairs(_variables(subject))
    return encoded


def _variables(subject: Subject) -> dict[str, str]:
    """The variables of activation (DESIGN: Variables)."""
    context = subject.context
    return {
        "DB_ENGINE": subject.card.name,
        "DB_HOST": context["address"],
        "DB_PORT": str(context["port"]),
        "DB_NAME": context["database"],
        "DB_USER": context["user"],
        "DB_PASSWORD": context["password"],
        "DB_DATA_DIR": f"{subject.directory}/data",
        "DATABASE_URL": subject.card.text(subject.card.data["url"], context),
        **subject.card.texts(subject.card.data["variables"], context),
        "SANDBOX_ACTIVE": subject.manifest.name,
        "SANDBOX_PATH": subject.directory,
        "SANDBOX_SERVICE": subject.card.name,
        "SANDBOX_CAPS": summary(subject.manifest),
    }


def summary(manifest: Manifest) -> str:
    """The grants in one line."""
    capabilities = manifest.document["capabilities"]
    granted = {**capabilities["network"], **capabilities["filesystem"]}
    parts = [f"{kind} {','.join(entries) or 'none'}" for kind, entries in granted.items()]
    parts += [f"{kind} {value}" for kind, value in capabilities["resources"].items()]
    return "; ".join(parts)


def recompile(arguments: argparse.Namespace) -> int:
    """`recompile`: check the edited manifest, then write plan, configuration, variables and record anew.

    Prints what changed. On any problem nothing is written: the plan in use stays.
    """
    directory = os.path.abspath(arguments.environment)
    base, name = os.path.abspath(arguments.base), os.path.basename(directory)
    record = read_pairs(os.path.join(directory, "record"))
    if not record:
        raise Problem(MISSING, f"{plain(directory)} is no environment: it has no record")
    if arguments.if_edited and not manifest_edited(directory):
        return 0
    card = cards.load(record["engine"])
    source = os.path.join(directory, MANIFEST)
    try:
        manifest = _load_checked(
            strict_json.read_regular(source), plain(source), name, _grounds(base, name), card
        )
    except Problem as problem:
        # In a file, a wrong form is no wrong usage of the command.
        problem.code, problem.hint = STATE, f"${{EDITOR:-vi}} {shlex.quote(source)}"
        raise
    provider = _same_data_provider(card, manifest, record)
    password = read_pairs(os.path.join(directory, "env")).get("DB_PASSWORD", "")
    if not password:
        raise Problem(STATE, f"{name} is damaged: {plain(directory)}/env has no DB_PASSWORD")
    context = environment_context(card, manifest, provider, directory, password)
    subject = Subject(card, manifest, provider, directory, record["template"], record["layer"], context)
    plan = server_plan(subject)
    with ports.Registry() as registry:
        registry.reserve([entry.port for entry in manifest.listens], directory, directory)
    for path, content in {**_rendered(subject), "record": format_pairs(_record(subject, record))}.items():
        replace(os.path.join(directory, path), content)
    link_clients(directory, subject)
    report = changes(_compiled(directory), manifest.document)
    replace(os.path.join(directory, _COMPILED), manifest.raw)
    # Last: until the plan names the new manifest, the next run comes here again.
    replace(os.path.join(directory, "config/plan"), plan)
    for line in report:
        print(f"change={line}")
    return 0


def _compiled(directory: str) -> dict[str, Any]:
    """The manifest that the plan in use was made from; empty if it is not there."""
    try:
        with open(os.path.join(directory, _COMPILED), encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _same_data_provider(
    card: cards.Card, manifest: Manifest, record: Mapping[str, str]
) -> providers.Provider:
    """The programs to run existing data with: the recorded ones, else any that can read it."""
    made_by = providers.data_version(card, record["version"])
    wanted = manifest.engine_version or made_by
    found = None
    for provider in providers.available(card, os.environ, manifest.provider):
        fits = providers.data_version(card, provider.version) == made_by
        if fits and providers.matches(provider.version, wanted):
            if provider.label == record["provider"]:
                return provider
            found = found or provider
    if found is None:
        what = (
            f"{card.title} {wanted}"
            if wanted == made_by
            else f"{card.title} {wanted} that reads data of {made_by}"
        )
        raise Problem(
            HOST, f"no server programs of {what} are left on this host", card.data["provider"]["install"]
        )
    return found
