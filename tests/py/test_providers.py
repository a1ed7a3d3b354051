"""Where servers come from, with trees made for the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyhelpers import providers
from pyhelpers.errors import HOST, Problem
from pyhelpers.providers import Bind


class Card:
    title = "Fake"

    def __init__(self, **changes: Any) -> None:
        self.data = {
            "provider": {
                "variable": "VIRT_FAKE_BIN",
                "server": "faked",
                "version": {"arguments": ["--version"], "pattern": r"faked ([0-9.]+)"},
                "host": [],
                "data_version": "^[0-9]+",
                "clients": [],
                "install": "sudo apt-get install faked",
                **changes,
            }
        }


def program(folder: Path, version: str, name: str = "faked") -> Path:
    folder.mkdir(parents=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho faked {version}\n")
    path.chmod(0o755)
    return folder


def found(card: Card, environ: dict[str, str] | None = None, choice: str = "auto") -> list[tuple[str, str]]:
    known = providers.available(card, environ or {}, choice)  # type: ignore[arg-type]
    return [(provider.kind, provider.version) for provider in known]


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    site = tmp_path / "site"
    program(site / "fake_wheel" / "tree" / "bin", "18.6")
    (site / "fake_wheel" / "__init__.py").write_text("raise RuntimeError('never imported')\n")
    (site / "fake_wheel.libs").mkdir()
    monkeypatch.syspath_prepend(str(site))
    return {"package": "fake_wheel", "bin": "tree/bin", "beside": ["fake_wheel.libs", "absent.libs"]}


def test_the_order_is_named_then_host_highest_first_then_path_then_wheel(tmp_path: Path, wheel) -> None:
    for version in ("9.6", "15.4", "13.20"):
        program(tmp_path / "host" / version.split(".")[0] / "bin", version)
    named, path = program(tmp_path / "named", "12.1"), program(tmp_path / "path", "11.0")
    card = Card(host=[str(tmp_path / "host" / "*" / "bin")], wheel=wheel)
    environ = {"PATH": f"relative:{path}"}
    host = [("host", "15.4"), ("host", "13.20"), ("host", "9.6"), ("host", "11.0")]
    assert found(card, environ) == [*host, ("wheel", "18.6")]
    assert found(card, {**environ, "VIRT_FAKE_BIN": str(named)}) == [("named", "12.1")]
    assert found(card, environ, "host") == host
    assert found(card, environ, "wheel") == [("wheel", "18.6")]
    assert found(card, {"VIRT_FAKE_BIN": str(path)}, str(named)) == [("named", "12.1")]


def test_the_wheel_is_bound_with_the_libraries_beside_it(tmp_path: Path, wheel) -> None:
    (provider,) = providers.available(Card(wheel=wheel), {})  # type: ignore[arg-type]
    site = tmp_path / "site"
    assert provider.programs == "/opt/engine/fake_wheel/tree/bin"
    assert provider.binds == (
        Bind(f"{site}/fake_wheel", "/opt/engine/fake_wheel"),
        Bind(f"{site}/fake_wheel.libs", "/opt/engine/fake_wheel.libs"),
    )


def test_a_tree_outside_usr_is_bound_and_links_are_followed(tmp_path: Path) -> None:
    program(tmp_path / "fake-7" / "bin", "7.0")
    (tmp_path / "current").symlink_to("fake-7")
    provider = providers.find(Card(), {}, str(tmp_path / "current" / "bin"))  # type: ignore[arg-type]
    assert provider.directory == str(tmp_path / "fake-7" / "bin")
    assert provider.programs == "/opt/engine/fake-7/bin"
    assert provider.binds == (Bind(str(tmp_path / "fake-7"), "/opt/engine/fake-7"),)


def test_a_program_that_is_only_linked_on_path_is_found_in_its_own_tree(tmp_path: Path) -> None:
    program(tmp_path / "tree" / "bin", "3.2")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "faked").symlink_to(tmp_path / "tree" / "bin" / "faked")
    (provider,) = providers.available(Card(), {"PATH": str(tmp_path / "links")})  # type: ignore[arg-type]
    assert provider.directory == str(tmp_path / "tree" / "bin")


def test_programs_below_usr_need_no_bind() -> None:
    card = Card(
        server="env", version={"arguments": ["--version"], "pattern": r"\) ([0-9.]+)"}, host=["/usr/bin"]
    )
    provider = next(iter(providers.available(card, {})))  # type: ignore[arg-type]
    assert (provider.programs, provider.binds) == ("/usr/bin", ())


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("15.4", "15", True),
        ("15.4", "15.4", True),
        ("15.4", "", True),
        ("150.1", "15", False),
        ("15.40", "15.4", False),
    ],
)
def test_a_wanted_version_is_a_whole_prefix(version: str, wanted: str, fits: bool) -> None:
    assert providers.matches(version, wanted) is fits


def test_the_wanted_version_is_chosen_and_its_lack_names_what_there_is(tmp_path: Path) -> None:
    for version in ("13.1", "15.4"):
        program(tmp_path / version / "bin", version)
    card = Card(host=[str(tmp_path / "*" / "bin")])
    assert providers.find(card, {}, "auto", "13").version == "13.1"  # type: ignore[arg-type]
    with pytest.raises(Problem) as caught:
        providers.find(card, {}, "auto", "16")  # type: ignore[arg-type]
    assert caught.value.code == HOST
    assert "no server programs of Fake 16 in VIRT_FAKE_BIN" in caught.value.message
    assert "15.4 in" in caught.value.message
    assert caught.value.hint == "sudo apt-get install faked"


def test_a_named_directory_without_the_program_is_an_error_not_a_fallback(tmp_path: Path, wheel) -> None:
    with pytest.raises(Problem, match="the directory that VIRT_FAKE_BIN names"):
        providers.find(Card(wheel=wheel), {"VIRT_FAKE_BIN": str(tmp_path)})  # type: ignore[arg-type]


def test_a_program_that_fails_hangs_or_babbles_is_no_provider(tmp_path: Path) -> None:
    folder = program(tmp_path / "bin", "x")
    assert found(Card(), choice=str(folder)) == []
    (folder / "faked").write_text("#!/nonexistent\n")
    assert found(Card(), choice=str(folder)) == []
    (folder / "faked").chmod(0o644)
    assert found(Card(), choice=str(folder)) == []
