"""Engine cards: a folder of data for each engine. The form is templates/engine.schema.json.

Every text of a card is a Jinja2 template; `settings` are Jinja2 expressions, evaluated in
order, each seeing those before it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyhelpers import scram
from pyhelpers.errors import USAGE, Problem, shown
from pyhelpers.messages import encode
from pyhelpers.records import parse_pairs

if TYPE_CHECKING:
    from jinja2 import Environment

_ENGINES = os.path.join(os.path.dirname(os.path.dirname(__file__)), "templates", "engines")


class Card:
    """One engine's card. `facts` is engine.env, `data` engine.json."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        with open(os.path.join(folder, "engine.env"), encoding="utf-8") as file:
            self.facts = parse_pairs(file.read())
        with open(os.path.join(folder, "engine.json"), encoding="utf-8") as file:
            self.data: dict[str, Any] = json.load(file)
        self.name = self.facts["name"]
        self._jinja: Environment | None = None

    @property
    def port(self) -> int:
        """The engine's usual port."""
        return int(self.facts["port"])

    @property
    def title(self) -> str:
        """The engine's name as people write it."""
        return self.facts["title"]

    def _environment(self) -> Environment:
        if self._jinja is None:
            # Heavy to import: only where something is rendered.
            from jinja2 import Environment, FileSystemLoader, StrictUndefined

            self._jinja = Environment(
                loader=FileSystemLoader(self.folder),
                undefined=StrictUndefined,
                keep_trailing_newline=True,
                trim_blocks=True,
                lstrip_blocks=True,
                autoescape=False,  # configuration files, not HTML
            )
            self._jinja.filters.update(identifier=identifier, percent=percent, scram_sha_256=scram.verifier)
        return self._jinja

    def text(self, template: str, context: Mapping[str, Any]) -> str:
        """One of the card's texts, rendered."""
        if "{" not in template:
            return template
        return self._environment().from_string(template).render(context)

    def file(self, name: str, context: Mapping[str, Any]) -> str:
        """One of the folder's templates, rendered."""
        return self._environment().get_template(name).render(context)

    def value(self, expression: str, context: Mapping[str, Any]) -> Any:
        """The value of an expression: a number as a number."""
        return self._environment().compile_expression(expression, undefined_to_none=False)(**context)

    def texts(self, templates: Mapping[str, str], context: Mapping[str, Any]) -> dict[str, str]:
        """A mapping of texts, each rendered."""
        return {key: self.text(value, context) for key, value in templates.items()}

    def argv(self, templates: list[str], context: Mapping[str, Any]) -> list[str]:
        """A command; arguments that render to nothing are left out."""
        return [argument for argument in (self.text(item, context) for item in templates) if argument]

    def settings(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """The card's derived settings."""
        known = dict(context)
        found = {}
        for key, expression in self.data["settings"].items():
            found[key] = known[key] = self.value(expression, known)
        return found

    def message(self, parts: list[Any], context: Mapping[str, Any]) -> bytes:
        """A protocol message's bytes."""
        return encode(parts, lambda text: self.text(text, context), lambda name: self.file(name, context))


def identifier(text: str) -> str:
    """Text as part of an unquoted identifier: all but ASCII letters, digits and `_` becomes `_`."""
    return re.sub(r"[^A-Za-z0-9_]", "_", text)


def percent(text: str) -> str:
    """Text percent-encoded for any part of a URL (RFC 3986)."""
    from urllib.parse import quote

    return quote(text, safe="")


def engines() -> list[str]:
    """The engines that have a card."""
    return sorted(
        name for name in os.listdir(_ENGINES) if os.path.isfile(os.path.join(_ENGINES, name, "engine.env"))
    )


def load(engine: str) -> Card:
    """The card of an engine, by its name or an alias. Raises Problem naming all engines."""
    names = engines()
    if engine in names:
        return Card(os.path.join(_ENGINES, engine))
    for name in names:
        with open(os.path.join(_ENGINES, name, "engine.env"), encoding="utf-8") as file:
            if engine in parse_pairs(file.read()).get("aliases", "").split():
                return Card(os.path.join(_ENGINES, name))
    raise Problem(USAGE, f"unknown engine {shown(engine)}: there are {', '.join(names)}")
