"""The manifest: what is granted, and what is refused with its path, value and expectation."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyhelpers import manifest as manifests
from pyhelpers.addresses import parse_connects, parse_listens
from pyhelpers.errors import STATE, USAGE, Problem


def refusal(loaded: Any, source: dict[str, Any] | bytes) -> str:
    with pytest.raises(Problem) as caught:
        loaded(source)
    assert caught.value.code in (USAGE, STATE)
    assert caught.value.message.isprintable()
    return caught.value.message


def put(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *parents, last = path.split(".")
    place = document
    for key in parents:
        place = place[key]
    place[last] = value
    return document


def test_the_example_of_the_design_is_in_order(loaded, document) -> None:
    manifest = loaded(document)
    assert (manifest.memory, manifest.cpu, manifest.pids) == (256 << 20, 1000, 256)
    assert [str(entry) for entry in manifest.listens] == ["127.0.0.1:5432"]
    assert (manifest.connects, manifest.grants, manifest.ephemeral) == ([], [], False)


def test_what_we_render_is_what_we_read(loaded, document) -> None:
    document["environment"] = {"A": "a [ b ] \\ \" 'ñ' {x}", "B": ""}
    raw = manifests.render(document)
    assert loaded(raw).document == document
    assert b'"listen": ["127.0.0.1:5432"]' in raw


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("extra", "m: extra: unknown key"),
        ("capabilites", "m: capabilites: unknown key; did you mean capabilities?"),
        (
            "capabilities.network.listens",
            "m: capabilities.network.listens: unknown key; did you mean listen?",
        ),
        ("capabilities.resources.disk", "m: capabilities.resources.disk: unknown key; expected one of"),
    ],
)
def test_95_unknown_keys_are_refused_with_the_nearest(loaded, document, path: str, words: str) -> None:
    assert words in refusal(loaded, put(document, path, []))


def test_95_missing_keys_are_named(loaded, document) -> None:
    del document["capabilities"]["network"]["connect"]
    assert "m: capabilities.network.connect: missing" in refusal(loaded, document)
    del document["engine"]
    assert "missing" in refusal(loaded, document)


@pytest.mark.parametrize("value", [True, False, -1, 0, 2**40, 1.5, "256", None, [], {}])
def test_96_pids_takes_a_whole_number_only(loaded, document, value: object) -> None:
    message = refusal(loaded, put(document, "capabilities.resources.pids", value))
    assert message.startswith("m: capabilities.resources.pids: ")
    assert "expected a whole number" in message


@pytest.mark.parametrize(
    "value", [True, 256, "256", "0M", "-1M", "1.5G", "256m", "1e9M", "9" * 30 + "M", "", "M"]
)
def test_96_memory_takes_a_size_only(loaded, document, value: object) -> None:
    message = refusal(loaded, put(document, "capabilities.resources.memory", value))
    assert message.startswith("m: capabilities.resources.memory: ")
    assert "expected a size such as 256M" in message


@pytest.mark.parametrize("value", [True, 0, -1, 5000, "0", "0.0", "-1", "1e3", "1,5", "one", None])
def test_96_cpu_takes_a_number_of_processors_only(loaded, document, value: object) -> None:
    message = refusal(loaded, put(document, "capabilities.resources.cpu", value))
    assert message.startswith("m: capabilities.resources.cpu: ")
    assert "expected a number of processors" in message


@pytest.mark.parametrize(("value", "expected"), [(1, 1000), (0.5, 500), ("2", 2000), ("0.25", 250)])
def test_96_cpu_is_taken_as_a_text_or_a_number(loaded, document, value: object, expected: int) -> None:
    assert loaded(put(document, "capabilities.resources.cpu", value)).cpu == expected


@pytest.mark.parametrize(
    "entry",
    [
        *("127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:05432", "127.0.0.1:+1", "127.0.0.1: 1", "127.0.0.1:"),
        *(
            "localhost:5432",
            "db.example:5432",
            "5432",
            ":5432",
            "127.0.0.1",
            "::1:5432",
            "[::1]",
            "[::1]5432",
        ),
        *("[127.0.0.1]:5432", "127.1:5432", "0x7f000001:1", "2130706433:1", "127.0.0.01:1", "٣.0.0.1:1"),
        *("[fe80::1%eth0]:1", "[::ffff:127.0.0.1]:1", "224.0.0.1:1", "255.255.255.255:1", "1.2.3.4:٣", ""),
    ],
)
def test_98_a_listener_is_a_literal_address_and_a_port(loaded, document, entry: str) -> None:
    message = refusal(loaded, put(document, "capabilities.network.listen", ["127.0.0.1:1", entry]))
    assert message.startswith("m: capabilities.network.listen[1]: ")
    assert "expected " in message


@pytest.mark.parametrize("entry", ["0.0.0.0:5432", "[::]:5432", "[::1]:1", "192.168.1.5:65535"])
def test_98_literal_addresses_are_taken(loaded, document, entry: str) -> None:
    assert [str(item) for item in loaded(put(document, "capabilities.network.listen", [entry])).listens] == [
        entry
    ]


def test_98_a_number_is_no_address(loaded, document) -> None:
    message = refusal(loaded, put(document, "capabilities.network.listen", [5432]))
    assert message == "m: capabilities.network.listen[0]: 5432: expected IP:PORT or [IPv6]:PORT"


def test_two_listeners_of_one_family_and_port_are_refused(loaded, document) -> None:
    message = refusal(
        loaded, put(document, "capabilities.network.listen", ["127.0.0.1:5432", "0.0.0.0:5432"])
    )
    assert "capabilities.network.listen[1]" in message
    both = ["127.0.0.1:5432", "[::1]:5432", "127.0.0.1:5433"]
    assert len(loaded(put(document, "capabilities.network.listen", both)).listens) == 3


@pytest.mark.parametrize(
    "entry",
    [
        *("example.org:80", "10.0.0.0/8", "10.0.0.1/8:80", "10.0.0.0/33:80", "10.0.0.0/255.0.0.0:80"),
        *("fd00::/8:80", "[fd00::/8]", "10.0.0.0/8:0", "10.0.0.0/8:http", "[::ffff:1.2.3.4]:1"),
    ],
)
def test_98_a_connect_grant_is_literal(loaded, document, entry: str) -> None:
    message = refusal(loaded, put(document, "capabilities.network.connect", [entry]))
    assert message.startswith("m: capabilities.network.connect[0]: ")


def test_connect_takes_addresses_and_blocks(loaded, document) -> None:
    entries = ["10.0.0.5:5432", "10.1.0.0/16:443", "[fd00::/8]:443", "[::1]:1", "0.0.0.0/0:53"]
    found = loaded(put(document, "capabilities.network.connect", entries)).connects
    assert [(str(item.network), item.port) for item in found] == [
        *(("10.0.0.5/32", 5432), ("10.1.0.0/16", 443), ("fd00::/8", 443), ("::1/128", 1), ("0.0.0.0/0", 53))
    ]


def test_99_overlapping_connect_grants_are_refused(loaded, document) -> None:
    put(document, "capabilities.network.connect", ["10.0.0.0/8:80", "10.1.2.3:80"])
    assert "m: capabilities.network.connect[1]: " in refusal(loaded, document)
    put(document, "capabilities.network.connect", ["10.0.0.0/8:80", "10.1.2.3:81"])
    assert len(loaded(document).connects) == 2


@pytest.mark.parametrize("kind", ["read", "write"])
@pytest.mark.parametrize(
    "entry",
    ["/", "//", "/.", "/proc", "/proc/1", "/sys", "/dev", "/dev/shm::/x", "relative", "/a/../b", "./x"],
)
def test_99_places_of_the_kernel_and_relative_paths_are_refused(loaded, document, kind, entry: str) -> None:
    message = refusal(loaded, put(document, f"capabilities.filesystem.{kind}", [entry]))
    assert message.startswith(f"m: capabilities.filesystem.{kind}[0]: ")


def test_99_the_environment_and_all_that_holds_it_are_refused(loaded, document, grounds, tmp_path) -> None:
    inside = Path(grounds.environment) / "run"
    inside.mkdir()
    link = tmp_path / "link"
    link.symlink_to(grounds.environment)
    for path in (grounds.environment, grounds.base, inside, tmp_path, Path(grounds.base).parent, link):
        for kind in ("read", "write"):
            put(document, "capabilities.filesystem", {"read": [], "write": []})
            message = refusal(loaded, put(document, f"capabilities.filesystem.{kind}", [f"{path}::/x"]))
            assert "reaches the environment" in message


def test_99_a_write_grant_of_the_toolkit_is_refused_and_a_read_grant_is_not(
    loaded, document, grounds
) -> None:
    put(document, "capabilities.filesystem.write", [f"{grounds.toolkit}::/x"])
    assert "reaches the toolkit's own files" in refusal(loaded, document)
    document["capabilities"]["filesystem"] = {"read": [f"{grounds.toolkit}::/x"], "write": []}
    assert loaded(document).grants[0].target == "/x"


@pytest.mark.parametrize(
    "guest",
    [
        *(
            "/",
            "/data",
            "/data/x",
            "/config",
            "/sock",
            "/usr",
            "/usr/lib",
            "/etc",
            "/etc/passwd",
            "/proc",
            "/dev",
        ),
        *("/tmp/x", "/bin", "/lib64", "/opt", "/opt/engine/x", "/sys", "x", "/a/../data", "", "//data"),
    ],
)
def test_99_a_grant_cannot_hide_the_sandboxes_own_places(loaded, document, tmp_path, guest: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    message = refusal(loaded, put(document, "capabilities.filesystem.read", [f"{tree}::{guest}"]))
    assert message.startswith("m: capabilities.filesystem.read[0]: ")


def test_99_overlapping_grants_are_refused(loaded, document, tmp_path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    a, b, c = tmp_path / "a", tmp_path / "a" / "b", tmp_path / "c"
    for read, write in (
        ([f"{a}::/a"], [f"{a}::/w"]),  # one tree twice
        ([f"{a}::/a", f"{b}::/b"], []),  # a tree and a part of it
        ([f"{a}::/a"], [f"{c}::/a/c"]),  # one place in the other
        ([f"{a}::/a", f"{c}::/a"], []),
    ):
        document["capabilities"]["filesystem"] = {"read": read, "write": write}
        assert "overlaps with" in refusal(loaded, document)
    document["capabilities"]["filesystem"] = {"read": [f"{b}::/b"], "write": [f"{c}::/c"]}
    assert [(grant.target, grant.writable) for grant in loaded(document).grants] == [
        ("/b", False),
        ("/c", True),
    ]


def test_links_in_a_source_are_followed_when_compiled(loaded, document, tmp_path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    grant = loaded(put(document, "capabilities.filesystem.read", [f"{tmp_path}/link//::/x/"])).grants[0]
    assert (grant.source, grant.target) == (str(tmp_path / "real"), "/x")


def test_a_source_must_exist_and_be_a_tree_or_file(loaded, document, tmp_path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_text("x")
    put(document, "capabilities.filesystem.read", [f"{tmp_path}/absent::/x"])
    assert "no such file" in refusal(loaded, document)
    put(document, "capabilities.filesystem.read", [f"{tmp_path}/fifo::/x"])
    assert "expected a directory or a regular file" in refusal(loaded, document)
    assert loaded(put(document, "capabilities.filesystem.read", [f"{tmp_path}/file::/x"])).grants


def test_a_unix_grant_names_a_socket_without_links(loaded, document, monkeypatch) -> None:
    # Not below /tmp, which the guest has its own of.
    home = Path("/var/tmp") / f"virtualize-test-{os.getpid()}"
    home.mkdir()
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(home / "s"))
            (home / "l").symlink_to("s")
            entries = [f"unix:{home}/s", "10.0.0.1:1"]
            found = loaded(put(document, "capabilities.network.connect", entries))
            assert [item.path for item in found.unix_sockets] == [f"{home}/s"]
            assert len(found.connects) == 1
            for path in (f"{home}/l", f"{home}/absent", str(home), "relative", "/tmp/s"):
                put(document, "capabilities.network.connect", [f"unix:{path}"])
                assert "capabilities.network.connect[0]" in refusal(loaded, document)
    finally:
        for path in home.iterdir():
            path.unlink()
        home.rmdir()


@pytest.mark.parametrize(
    "key", ["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_", "GCONV_PATH", "GLIBC_TUNABLES", "PATH", "HOME", "TMPDIR"]
)
def test_101_variables_that_the_loader_obeys_are_refused(loaded, document, key: str) -> None:
    message = refusal(loaded, put(document, "environment", {key: "x"}))
    assert f'm: environment: "{key}" cannot be granted' in message


@pytest.mark.parametrize("key", ["", "A=B", "1A", "A B", "A-B", "Ä", "A" * 200, "A.B"])
def test_101_a_variables_name_has_letters_digits_and_underscores(loaded, document, key: str) -> None:
    message = refusal(loaded, put(document, "environment", {key: "x"}))
    assert message.startswith("m: environment")
    assert "expected a variable's name" in message


@pytest.mark.parametrize("value", ["a\0b", "a\nb", "\x1b[0m", 1, None, True, "x" * 5000])
def test_101_a_variables_value_is_one_line_of_text(loaded, document, value: object) -> None:
    assert "environment.A: " in refusal(loaded, put(document, "environment", {"A": value}))


def test_101_ordinary_variables_are_granted_as_they_are(loaded, document) -> None:
    variables = {"APP_MODE": "a=b c'd\"e$f", "_x": "", "LDAP": "ñ"}
    assert loaded(put(document, "environment", variables)).environment == variables


@pytest.mark.parametrize(
    "name", ["../x", "/abs", ".", "", "x" * 300, "a b", "-x", "a..b", "dév", "\u0430dmin"]
)
def test_93_94_a_name_is_a_plain_file_name(loaded, document, name: str) -> None:
    message = refusal(loaded, put(document, "sandbox", name))
    assert message.startswith("m: sandbox: ")
    assert message.isascii() and len(message) < 300


def test_94_right_to_left_marks_and_look_alikes_are_shown_escaped(loaded, document) -> None:
    message = refusal(loaded, put(document, "sandbox", "d\u202eev\u0430"))
    assert "\\u202e" in message and "\\u0430" in message


def test_the_name_is_the_directorys(loaded, document) -> None:
    assert "is not this environment's name" in refusal(loaded, put(document, "sandbox", "other"))


@pytest.mark.parametrize("value", [[], "x", 1, None, True])
def test_the_manifest_is_an_object(loaded, value: object) -> None:
    assert "expected a manifest" in refusal(loaded, json.dumps(value).encode())


@pytest.mark.parametrize("text", ["bin", "./bin", "~/bin", "none", ""])
def test_a_provider_is_a_word_or_an_absolute_directory(loaded, document, text: str) -> None:
    assert "m: provider: " in refusal(loaded, put(document, "provider", text))


def test_every_field_of_the_schema_is_described() -> None:
    with open(manifests.SCHEMA, encoding="utf-8") as file:
        schema = json.load(file)

    def bare(node: dict[str, Any], path: str) -> list[str]:
        found = []
        for key, child in node.get("properties", {}).items():
            here = f"{path}.{key}"
            target = child.get("items", child)
            found += [] if "description" in child else [here]
            found += bare(child, here) + bare(target, here)
        return found

    assert bare(schema, "") == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.text("0123456789.:[]/abcdef%", max_size=30))
def test_any_text_is_an_address_or_refused_in_one_line(text: str) -> None:
    for parser in (parse_listens, parse_connects):
        try:
            found = parser([text], "m")
        except Problem as problem:
            assert problem.message.isprintable()
        else:
            assert len(found) == 1
            assert 1 <= found[0].port <= 65535
