"""compile and template as Bash calls them, with a server program made for the test."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from conftest import House, tree
from launch.plan import Plan

from pyhelpers.scram import verifier


def test_without_a_template_nothing_is_written_and_its_id_is_named(bare: House) -> None:
    answer = bare.compile()
    assert (answer.code, list(answer.pairs)) == (75, ["missing_template"])
    assert answer.pairs["missing_template"].startswith("postgres-15.4-")
    assert not Path(bare.environ["XDG_STATE_HOME"]).exists()


def test_the_template_is_made_by_plans_without_a_network(bare: House, tmp_path: Path) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()
    common = ("--engine", "postgres", "--base", bare.base, "--uid", 1, "--gid", 1)
    answer = bare.control("template", staging, *common)
    assert answer.pairs == {"template": bare.compile().pairs["missing_template"], "steps": "2"}
    first, second = (Plan.parse((staging / f"init.{step}" / "plan").read_bytes()) for step in (0, 1))
    assert first.one("argv")[:3] == ["/opt/engine/fake-15/bin/initdb", "-D", "/data"]
    assert "--wal-segsize=1" in first.one("argv")
    assert "" not in first.one("argv")
    assert "CREATE ROLE" in (staging / "init.1" / "stdin").read_text()
    for plan in (first, second):
        assert plan.text("layer") == "none"
        assert not (plan.all("listen") or plan.all("connect") or plan.all("connect-unix"))


def test_a_template_belongs_to_a_version_and_a_way_of_making_it(bare: House) -> None:
    before = bare.compile().pairs["missing_template"]
    bare.set_version("15.5")
    assert bare.compile().pairs["missing_template"] != before
    bare.set_version("15.4")
    assert bare.compile().pairs["missing_template"] == before


def test_a_new_environment_is_complete_and_its_owners_alone(house: House) -> None:
    answer = house.compile("dev", "--port", "auto")
    assert answer.code == 0, answer.errors
    home = house.base / "dev"
    assert {path.name for path in home.iterdir()} == {
        *(".virt-owned", "record", "env", "bin", "activate", "config", "data", "work", "sock", "logs", "run")
    }
    for path in home.rglob("*"):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert path.is_symlink() or mode == (0o700 if path.is_dir() else 0o600), path
    assert os.readlink(home / "activate") == "bin/activate"
    assert os.readlink(home / "bin" / "psql") == str(house.bin / "psql")
    record = house.pairs("record")
    assert record["template"] == answer.pairs["template"]
    assert (record["uid"], record["gid"], record["layer"]) == ("1234", "1235", "overlay")
    assert (record["port"], record["address"]) == (answer.pairs["port"], "127.0.0.1")
    assert (record["version"], record["provider"]) == ("15.4", f"named:{house.bin}")


def test_the_manifest_says_everything_that_is_granted(house: House) -> None:
    house.compile("dev", "--port", "20999")
    document = json.loads((house.base / "dev" / "config" / "capabilities.json").read_text())
    assert document == {
        "version": "1.0",
        "sandbox": "dev",
        "engine": "postgres",
        "capabilities": {
            "network": {"listen": ["127.0.0.1:20999"], "connect": []},
            "filesystem": {"read": [], "write": []},
            "resources": {"memory": "256M", "cpu": "1.0", "pids": 256},
        },
        "environment": {},
    }


def test_the_flags_write_the_manifest(house: House, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    answer = house.compile(
        "dev",
        *("--port", "20998", "--memory", "1G", "--cpus", "2", "--pids", "100", "--ephemeral"),
        *("--listen", "127.0.0.1", "--listen", "[::1]", "--connect", "10.0.0.0/8:5432"),
        *("--read", f"{tmp_path}/in::/in", "--write", f"{tmp_path}/out::/out", "--env", "A=b=c"),
    )
    assert answer.code == 0, answer.errors
    plan = house.plan()
    assert plan.all("listen") == [["127.0.0.1", "20998"], ["::1", "20998"]]
    assert plan.all("connect") == [["10.0.0.0/8", "5432"]]
    grants = [bind for bind in plan.all("bind") if "grant" in bind[2]]
    assert grants == [
        [f"{tmp_path}/in", "/in", "ro,exec,grant"],
        [f"{tmp_path}/out", "/out", "rw,noexec,grant"],
    ]
    assert plan.pairs("env")["A"] == "b=c"
    assert {key: plan.number("limit", key) for key in ("memory", "cpu", "pids")} == {
        "memory": 1 << 30,
        "cpu": 2000,
        "pids": 100,
    }
    conf = (house.base / "dev" / "config" / "server" / "postgresql.conf").read_text()
    assert "fsync = off" in conf
    assert "listen_addresses = '127.0.0.1,::1'" in conf
    assert house.pairs("record")["ephemeral"] == "yes"


def test_the_plan_is_what_the_runtime_reads(house: House) -> None:
    house.compile("dev", "--port", "20997")
    plan = house.plan()
    raw = (house.base / "dev" / "config" / "capabilities.json").read_bytes()
    assert plan.text("manifest") == hashlib.sha256(raw).hexdigest()
    assert plan.one("argv")[0] == "/opt/engine/fake-15/bin/postgres"
    assert plan.text("base") == f"@/../.templates/{plan.text('template')}/data"
    binds = {target: (source, flags) for source, target, flags in plan.all("bind")}
    assert binds["/config"] == ("@/config/server", "ro,noexec")
    assert binds["/usr"] == ("/usr", "ro,exec")
    assert binds["/opt/engine/fake-15"] == (str(house.bin.parent), "ro,exec")
    assert plan.text("ready-socket") == ".s.PGSQL.20997"
    assert len(base64.b64decode(plan.text("seccomp"))) % 8 == 0
    startup = base64.b64decode(plan.one("ready")[0])
    assert int.from_bytes(startup[:4], "big") == len(startup)
    assert startup[4:8] == b"\0\3\0\0" and startup.endswith(b"\0\0")
    for send, _, _ in plan.all("first"):
        message = base64.b64decode(send)
        assert message[:1] == b"Q" and int.from_bytes(message[1:5], "big") == len(message) - 1
        assert message.endswith(b"\0") and message.count(b"\0") == message[1:5].count(b"\0") + 1


def test_the_guest_sees_neither_plan_nor_password(house: House) -> None:
    house.compile("dev", "--port", "20996")
    home = house.base / "dev"
    password = house.pairs("env")["DB_PASSWORD"]
    assert len(base64.urlsafe_b64decode(password + "==")) * 8 >= 128
    holders = {name for name, content in tree(home).items() if password.encode() in content}
    assert holders == {"env", "config/pgpass"}
    assert {path.name for path in (home / "config" / "server").iterdir()} == {
        "postgresql.conf",
        "pg_hba.conf",
    }


def test_the_server_is_told_a_verifier_of_the_password(house: House) -> None:
    house.compile("dev", "--port", "20995")
    message = base64.b64decode(house.plan().all("first")[1][0])
    told = message.split(b"'")[1].decode()
    salt = base64.b64decode(told.split("$")[1].split(":")[1])
    assert told == verifier(house.pairs("env")["DB_PASSWORD"], salt)


def test_two_environments_have_different_passwords(house: House) -> None:
    house.compile("one", "--port", "auto")
    house.compile("two", "--port", "auto")
    assert house.pairs("env", "one")["DB_PASSWORD"] != house.pairs("env", "two")["DB_PASSWORD"]
    assert house.pairs("env", "one")["DB_PORT"] != house.pairs("env", "two")["DB_PORT"]


@pytest.mark.parametrize(
    ("name", "user", "database"),
    [
        ("dev", "dev_user", "dev_db"),
        ("Feature-1.2", "Feature_1_2_user", "Feature_1_2_db"),
        ("pg-x", "_pg_x_user", "pg_x_db"),  # names that begin with pg_ are the server's own
    ],
)
def test_role_and_database_are_named_after_the_environment(
    house: House, name: str, user: str, database: str
) -> None:
    house.compile(name, "--port", "auto")
    env = house.pairs("env", name)
    assert (env["DB_USER"], env["DB_NAME"], env["PGUSER"]) == (user, database, user)
    url = urlsplit(env["DATABASE_URL"])
    assert (url.scheme, url.hostname, str(url.port)) == ("postgresql", "127.0.0.1", env["DB_PORT"])
    assert unquote(url.password or "") == env["DB_PASSWORD"]
    assert env["PGPASSFILE"] == f"{house.base}/{name}/config/pgpass"
    assert env["SANDBOX_ACTIVE"] == name


def test_the_variables_name_an_address_that_a_client_can_reach(house: House) -> None:
    house.compile("any", "--port", "auto", "--listen", "0.0.0.0")
    assert house.pairs("env", "any")["DB_HOST"] == "127.0.0.1"
    house.compile("six", "--port", "auto", "--listen", "[::]")
    env = house.pairs("env", "six")
    assert env["DB_HOST"] == "::1"
    assert urlsplit(env["DATABASE_URL"]).hostname == "::1"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--memory", "lots"], "capabilities.resources.memory"),
        (["--memory", "1M"], "PostgreSQL needs 64M or more"),
        (["--pids", "10"], "PostgreSQL needs 48 or more"),
        (["--pids", "-1"], "--pids"),
        (["--cpus", "0"], "capabilities.resources.cpu"),
        (["--listen", "localhost:5432"], "capabilities.network.listen[0]"),
        (["--port", "0"], "the port"),
        (["--port", "65536"], "the port"),
        (["--port", "20001", "--listen", "127.0.0.1:20002"], "in none of the --listen addresses"),
        (["--env", "A"], "--env"),
        (["--env", "A=\x1b[31m"], "environment.A"),
        (["--engine-version", "15; rm"], "engine_version"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_bad_flags_are_two_lines_and_write_nothing(house: House, flags: list[str], words: str) -> None:
    answer = house.compile("dev", *flags)
    assert answer.code == 2
    assert answer.errors[0].startswith("prog: verb: ")
    assert words in answer.errors[0]
    assert answer.errors[1:] == ["  try: prog help verb"]
    assert all(line.isprintable() for line in answer.errors)


@pytest.mark.parametrize("flags", [["--read", "/proc"], ["--write", "/"], ["--env", "LD_PRELOAD=x"]])
def test_99_101_refused_grants_exit_with_4(house: House, flags: list[str]) -> None:
    assert house.compile("dev", *flags).code == 4


def test_an_unknown_engine_lists_the_engines(house: House, tmp_path: Path) -> None:
    common = ("--name", "dev", "--base", house.base, "--uid", 1, "--gid", 1)
    answer = house.control("compile", tmp_path / "s", "--engine", "oracle\n", *common)
    assert answer.code == 2
    assert 'unknown engine "oracle\\n": there are ' in answer.errors[0]


def test_a_version_that_is_not_there_exits_with_5(house: House) -> None:
    answer = house.compile("dev", "--engine-version", "99")
    assert answer.code == 5
    assert answer.errors[1].startswith("  try: ")


def test_a_busy_port_is_refused_and_offers_auto(house: House) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        answer = house.compile("dev", "--port", port)
        assert answer.code == 4
        assert answer.errors[0].startswith(f"prog: verb: port {port} is busy, held by ")
        assert answer.errors[1] == "  try: prog create postgres dev auto"
        assert str(os.getpid()) in house.control("port-owner", port).lines[0]


def test_the_port_of_another_environment_is_a_warning(house: House) -> None:
    assert "warning" not in house.compile("one", "--port", "20994").pairs
    assert "is also that of" in house.compile("two", "--port", "20994").pairs["warning"]
