"""Engine cards: their form, and what is derived from limits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pyhelpers import card as cards
from pyhelpers.errors import USAGE, Problem
from pyhelpers.manifest import memory_bytes
from pyhelpers.messages import encode

ROOT = Path(__file__).parents[2]
CARDS = {name: cards.load(name) for name in cards.engines()}


@pytest.mark.parametrize("name", CARDS)
def test_every_card_has_the_form_that_is_published(name: str) -> None:
    schema = json.loads((ROOT / "templates" / "engine.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(CARDS[name].data)
    assert CARDS[name].name == name
    assert {"name", "title", "aliases", "port", "scheme", "socket"} <= CARDS[name].facts.keys()


def test_aliases_find_their_engine_and_an_unknown_one_lists_all() -> None:
    for name, card in CARDS.items():
        for alias in card.facts["aliases"].split():
            assert cards.load(alias).name == name
    with pytest.raises(Problem) as caught:
        cards.load("nonsense")
    assert caught.value.code == USAGE
    assert all(name in caught.value.message for name in CARDS)


@given(st.integers(64, 1 << 20), st.integers(48, 1 << 22), st.integers(10, 4096_000))
def test_the_servers_own_limits_fit_into_the_sandboxes(megabytes: int, pids: int, cpu: int) -> None:
    values = CARDS["postgres"].settings({"memory": megabytes << 20, "pids": pids, "cpu": cpu})
    assert 8 <= values["connections"] <= 100
    assert values["shared_buffers_mb"] * 4 <= max(megabytes, 64)
    # Background processes, parallel workers, pid 1 and a few for exec beside the connections.
    assert values["connections"] + values["parallel"] + 24 <= max(pids, 48)


def test_the_minimum_of_a_card_can_run() -> None:
    for card in CARDS.values():
        least = card.data["limits"]["minimum"]
        values = card.settings({"memory": memory_bytes(least["memory"]), "pids": least["pids"], "cpu": 10})
        assert values


def test_a_message_is_put_together_from_its_parts() -> None:
    parts = [
        "a{x}",
        {"hex": "00ff"},
        {"file": "f"},
        {"length": "u32be_with_itself", "of": ["bc", {"hex": "00"}]},
    ]
    found = encode(parts, lambda text: text.replace("{x}", "1"), lambda name: f"<{name}>\n")
    assert found == b"a1\x00\xff<f>" + b"\x00\x00\x00\x07bc\x00"


@given(st.text())
def test_identifiers_and_percent_encoding_are_plain(text: str) -> None:
    assert all(letter.isascii() and (letter.isalnum() or letter == "_") for letter in cards.identifier(text))
    clean = text.encode("utf-8", "replace").decode()
    assert all(
        letter.isascii() and (letter.isalnum() or letter in "_.-~%") for letter in cards.percent(clean)
    )
