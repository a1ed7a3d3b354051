"""Templates: an initialised data directory for each engine and version, made in the sandbox."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from typing import Any

from pyhelpers.card import Card
from pyhelpers.compile_plan import init_plan
from pyhelpers.providers import Provider
from pyhelpers.records import format_pairs, write_new
from pyhelpers.subject import program_context


def _steps(card: Card, context: dict[str, Any]) -> list[dict[str, Any]]:
    """The init steps as they will run: arguments, and the text of stdin (empty: none)."""
    return [
        {
            "argv": card.argv(step["argv"], context),
            "stdin": card.file(step["stdin"], context) if "stdin" in step else "",
        }
        for step in card.data["init"]
    ]


def template_id(card: Card, provider: Provider) -> str:
    """ENGINE-VERSION-HASH: equal exactly when the same programs would make the same data."""
    # Where the programs appear in the guest says nothing about the data that they make.
    context = {**program_context(card, provider), "programs": ""}
    made_by = [_steps(card, context), provider.version, provider.kind, platform.machine()]
    digest = hashlib.sha256(json.dumps(made_by).encode()).hexdigest()
    return f"{card.name}-{provider.version}-{digest[:8]}"


def template_layer(base: str, template: str) -> str:
    """How environments are made from the template: overlay, reflink or copy; empty: there is none."""
    folder = os.path.join(base, ".templates", template)
    if not os.path.isdir(os.path.join(folder, "data")):
        return ""
    try:
        with open(os.path.join(folder, "layer"), encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def fill_template(staging: str, card: Card, provider: Provider) -> tuple[str, int]:
    """Write what makes a template into `staging`: its id and the number of steps."""
    context = program_context(card, provider)
    template = template_id(card, provider)
    for name in ("data", "config"):
        os.makedirs(os.path.join(staging, name), 0o700, exist_ok=True)
    steps = _steps(card, context)
    for index, step in enumerate(steps):
        folder = os.path.join(staging, f"init.{index}")
        os.mkdir(folder, 0o700)
        write_new(
            os.path.join(folder, "plan"),
            init_plan(card, provider, context, template, card.data["init"][index]),
        )
        if step["stdin"]:
            write_new(os.path.join(folder, "stdin"), step["stdin"].encode())
    info = {"engine": card.name, "version": provider.version, "provider": provider.label}
    write_new(os.path.join(staging, "info"), format_pairs(info))
    return template, len(steps)
