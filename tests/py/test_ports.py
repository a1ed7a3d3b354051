"""Ports: trial binds, reservations, and who holds one."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyhelpers import ports
from pyhelpers.addresses import Listen
from pyhelpers.errors import STATE, USAGE, Problem
from pyhelpers.ports import Registry

LOOPBACK = ipaddress.IPv4Address("127.0.0.1")


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def busy() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.mark.parametrize("text", ["0", "65536", "-1", "05432", "5432 ", "x", "", "5432.0", "٣"])
def test_98_a_port_is_a_number_from_1_to_65535(text: str) -> None:
    with pytest.raises(Problem) as caught:
        ports.parse(text)
    assert caught.value.code == USAGE


def test_a_trial_bind_says_what_the_kernel_says(busy: int) -> None:
    assert ports.taken("127.0.0.1", busy) == errno.EADDRINUSE
    assert ports.taken("0.0.0.0", busy) == errno.EADDRINUSE
    assert ports.taken("127.0.0.2", busy) == 0
    assert ports.taken("192.0.2.1", busy) == errno.EADDRNOTAVAIL


def test_the_holder_of_a_port_is_named(busy: int) -> None:
    assert f"(pid {os.getpid()})" in ports.owner(busy)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert ports.owner(free.getsockname()[1]) == ""


def test_a_busy_port_is_refused_naming_the_holder_and_a_free_one_is_not(busy: int, tmp_path: Path) -> None:
    with Registry() as registry:
        with pytest.raises(Problem) as caught:
            registry.check(Listen(LOOPBACK, busy), str(tmp_path / "dev"), "prog create e dev auto")
        assert registry.check(Listen(LOOPBACK, registry.free_port(["127.0.0.1"])), "/x", "") == []
    assert caught.value.code == STATE
    assert f"port {busy} is busy, held by " in caught.value.message
    assert caught.value.hint == "prog create e dev auto"


def test_a_port_of_another_environment_of_ours_is_a_warning(busy: int, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with Registry() as registry:
        registry.reserve([busy], str(other), str(other))
    with Registry() as registry:
        (warning,) = registry.check(Listen(LOOPBACK, busy), str(tmp_path / "dev"), "")
        assert registry.others(busy, str(other)) == []
    assert str(other) in warning


def test_reservations_live_as_long_as_their_directory_or_its_staging(tmp_path: Path) -> None:
    staging, final = tmp_path / ".new.dev.1", tmp_path / "dev"
    staging.mkdir()
    with Registry() as registry:
        registry.reserve([20001, 20002], str(final), str(staging))
    for change in (lambda: None, lambda: staging.rename(final)):
        change()
        with Registry() as registry:
            assert registry.others(20001, "") == [str(final)]
    final.rmdir()
    with Registry() as registry:
        assert registry.others(20001, "") == []


def test_an_environment_has_the_ports_that_it_reserved_last(tmp_path: Path) -> None:
    with Registry() as registry:
        registry.reserve([20001], str(tmp_path), str(tmp_path))
        registry.reserve([20002], str(tmp_path), str(tmp_path))
    with Registry() as registry:
        assert registry.others(20001, "") == []
        assert registry.others(20002, "") == [str(tmp_path)]


def test_the_registry_is_the_users_alone_and_garbage_in_it_is_skipped(
    tmp_path: Path, state_home: Path
) -> None:
    with Registry() as registry:
        registry.reserve([20001], str(tmp_path), str(tmp_path))
    path = state_home / "virtualize" / "ports"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(b"\xff\xfe\nx\ty\tz\n1\t2\n" + f"20003\t{tmp_path}\t{tmp_path}\n".encode())
    with Registry() as registry:
        assert registry.others(20003, "") == [str(tmp_path)]


def test_without_a_writable_home_ports_are_still_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    with Registry() as registry:
        registry.reserve([registry.free_port(["127.0.0.1"])], str(tmp_path), str(tmp_path))


def test_ports_chosen_at_once_by_many_are_all_different(tmp_path: Path) -> None:
    script = (
        "import sys; from pyhelpers.ports import Registry\n"
        "with Registry() as r:\n"
        "    p = r.free_port(['127.0.0.1']); r.reserve([p], sys.argv[1], sys.argv[1]); print(p)"
    )
    folders = [tmp_path / str(number) for number in range(8)]
    for folder in folders:
        folder.mkdir()
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, folder], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        for folder in folders
    ]
    chosen = {process.communicate()[0] for process in running}
    assert len(chosen) == len(folders)
