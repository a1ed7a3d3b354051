"""recompile and inspect as Bash calls them: an edited manifest, a newer server, the whole truth."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import House, tree


def test_103_an_edited_manifest_is_compiled_and_the_change_shown(house: House, tmp_path: Path) -> None:
    house.compile("dev", "--port", "20993")
    password = house.pairs("env")["DB_PASSWORD"]
    (tmp_path / "in").mkdir()

    def change(document: dict[str, Any]) -> None:
        document["capabilities"]["network"] = {"listen": ["127.0.0.1:20992"], "connect": ["10.0.0.1:80"]}
        document["capabilities"]["filesystem"]["read"] = [f"{tmp_path}/in::/in"]
        document["capabilities"]["resources"] = {"memory": "512M", "cpu": 0.5, "pids": 256}
        document["environment"]["SECRET"] = "value"

    house.edit(change)
    answer = house.recompile()
    assert answer.code == 0, answer.errors
    assert answer.lines == [
        "change=widened network.listen 127.0.0.1:20992",
        "change=narrowed network.listen 127.0.0.1:20993",
        "change=widened network.connect 10.0.0.1:80",
        f"change=widened filesystem.read {tmp_path}/in::/in",
        "change=widened resources.memory 256M -> 512M",
        "change=narrowed resources.cpu 1.0 -> 0.5",
        "change=changed environment.SECRET",
    ]
    plan = house.plan()
    raw = (house.base / "dev" / "config" / "capabilities.json").read_bytes()
    assert plan.text("manifest") == hashlib.sha256(raw).hexdigest()
    assert plan.all("listen") == [["127.0.0.1", "20992"]]
    assert house.pairs("env")["DB_PORT"] == house.pairs("record")["port"] == "20992"
    assert house.pairs("env")["DB_PASSWORD"] == password
    assert (
        "shared_buffers = 128MB" in (house.base / "dev" / "config" / "server" / "postgresql.conf").read_text()
    )
    assert house.recompile().lines == []


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{}", b"{", b"[" * 100_000, b'{"a":1}{"a":1}', b"\xff", b"null"),
        b'{"version":"1.0","version":"1.0"}',
    ],
)
def test_103_an_invalid_manifest_is_refused_and_nothing_is_touched(house: House, text: bytes) -> None:
    house.compile("dev", "--port", "20991")
    path = house.base / "dev" / "config" / "capabilities.json"
    path.write_bytes(text)
    before = tree(house.base / "dev")
    answer = house.recompile()
    assert answer.code == 4
    assert answer.errors[1].startswith("  try: ${EDITOR:-vi} '/")
    assert tree(house.base / "dev") == before


def test_103_a_manifest_that_was_not_edited_can_be_left_alone(house: House) -> None:
    house.compile("dev", "--port", "20985")
    before = tree(house.base / "dev")
    assert house.recompile("dev", "--if-edited").code == 0
    assert tree(house.base / "dev") == before
    house.edit(lambda document: document["environment"].update(A="b"))
    assert house.recompile("dev", "--if-edited").lines == ["change=changed environment.A"]
    house.edit(lambda document: document.update(version=2))
    assert house.recompile("dev", "--if-edited").code == 4


def test_103_name_and_engine_cannot_be_edited(house: House) -> None:
    house.compile("dev", "--port", "20990")
    house.edit(lambda document: document.update(sandbox="other"))
    assert "is not this environment's name" in house.recompile().errors[0]
    house.edit(lambda document: document.update(sandbox="dev", engine="mysql"))
    assert "engine" in house.recompile().errors[0]


def test_104_a_fifo_a_device_or_a_link_as_manifest_is_refused_without_a_hang(
    house: House, tmp_path: Path
) -> None:
    house.compile("dev", "--port", "20989")
    path = house.base / "dev" / "config" / "capabilities.json"
    path.rename(tmp_path / "real")
    os.mkfifo(path)
    assert house.recompile().code == 4
    assert house.control("inspect", house.base / "dev").code == 0
    path.unlink()
    for target in (tmp_path / "real", "/dev/zero"):
        path.symlink_to(target)
        assert house.recompile().code == 4
        path.unlink()


def test_data_is_kept_with_a_server_that_can_read_it(house: House) -> None:
    house.compile("dev", "--port", "20988")
    template = house.pairs("record")["template"]
    house.set_version("15.9")
    assert house.recompile().code == 0
    assert house.pairs("record")["version"] == "15.9"
    assert house.plan().text("template") == template
    house.set_version("16.1")
    answer = house.recompile()
    assert answer.code == 5
    assert "PostgreSQL 15" in answer.errors[0]


def test_inspect_tells_everything_but_the_password(house: House) -> None:
    house.compile("dev", "--port", "20987")
    answer = house.control("inspect", house.base / "dev", "--json")
    report = json.loads("\n".join(answer.lines))
    password = house.pairs("env")["DB_PASSWORD"]
    assert (report["version"], report["name"], report["state"], report["port"]) == (
        1,
        "dev",
        "stopped",
        20987,
    )
    assert report["layer"]["kind"] == "overlay"
    assert report["limits"]["memory"]["wanted"] == "256M"
    assert report["manifest_edited"] is False
    table = "\n".join(house.control("inspect", house.base / "dev").lines)
    assert "127.0.0.1:20987" in table
    assert password not in table + "\n".join(answer.lines)
    assert "\x1b" not in table
    house.edit(lambda document: document["capabilities"]["network"].update(connect=["10.0.0.1:80"]))
    report = json.loads("\n".join(house.control("inspect", house.base / "dev", "--json").lines))
    assert report["manifest_edited"] is True
    granted = {item["capability"]: item["granted"] for item in report["capabilities"]}
    assert granted["network.connect"] == []  # what holds now, not what the file will say


def test_inspect_of_a_damaged_or_missing_environment(house: House) -> None:
    house.compile("dev", "--port", "20986")
    (house.base / "dev" / "config" / "plan").unlink()
    report = json.loads("\n".join(house.control("inspect", house.base / "dev", "--json").lines))
    assert report["state"] == "damaged"
    assert house.control("inspect", house.base / "absent").code == 3
