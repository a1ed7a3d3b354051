"""The file system: the guest sees what is granted, as it is granted, and nothing else."""

from __future__ import annotations

import ctypes
import os
import pathlib
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator

import canary
import pytest
from sandbox import Sandbox, give, needs_root, owner_uid


def test_01_a_file_that_is_not_granted_does_not_exist(
    sandbox: Sandbox, secret: pathlib.Path, trees: pathlib.Path
) -> None:
    home = pathlib.Path.home()
    paths = [str(secret), "/etc/shadow", str(home / ".ssh"), "/root", str(sandbox.path), "/home"]
    assert sandbox.guest("files", "outcomes", *paths) == dict.fromkeys(paths, "ENOENT")
    assert sandbox.guest("files", "read", "/ro/old")["text"] == "old\n"


def test_01_the_manifest_the_plan_and_the_password_are_not_visible(sandbox: Sandbox) -> None:
    paths = ["/config/plan", "/config/capabilities.json", "/config/pgpass", "/run", "/env"]
    assert sandbox.guest("files", "outcomes", *paths) == dict.fromkeys(paths, "ENOENT")


def test_02_a_read_only_grant_cannot_be_changed(sandbox: Sandbox, trees: pathlib.Path) -> None:
    before = (trees / "ro/old").stat()
    assert set(sandbox.guest("files", "change", "/ro").values()) == {"EROFS"}
    after = (trees / "ro/old").stat()
    assert (before.st_mtime, before.st_mode, before.st_size) == (
        after.st_mtime,
        after.st_mode,
        after.st_size,
    )


def test_02_a_writable_grant_can_be_changed_and_the_host_sees_it(
    sandbox: Sandbox, trees: pathlib.Path
) -> None:
    place = trees / "rw/changes"
    place.mkdir()
    (place / "old").write_text("old\n")
    give(place)
    assert set(sandbox.guest("files", "change", "/rw/changes").values()) == {"ok"}
    assert stat.S_IMODE((place / "moved").stat().st_mode) == 0o600
    assert (place / "moved").stat().st_size == 0
    assert (place / "new").stat().st_uid == owner_uid()


def test_02_the_servers_programs_and_the_system_are_read_only(sandbox: Sandbox) -> None:
    done = sandbox.shell("/bin/sh", "-c", "for d in / /usr /etc /config; do touch $d/x; done")
    assert done.stderr.count("Read-only file system") == 4, done.stderr


def test_03_a_read_only_mount_cannot_be_made_writable(sandbox: Sandbox) -> None:
    for target in ("/ro", "/", "/usr"):
        assert set(sandbox.guest("files", "remount", target).values()) == {"EPERM"}


@pytest.fixture
def host_mount() -> Iterator[list[pathlib.Path]]:
    """Mount points made by a test on the host; unmounted after it."""
    made: list[pathlib.Path] = []
    yield made
    for path in reversed(made):
        subprocess.run(["umount", path], check=True)


@needs_root
def test_04_a_mount_nested_in_a_read_only_grant_is_read_only(
    home: pathlib.Path, host_mount: list[pathlib.Path]
) -> None:
    tree = home / "outer"
    (tree / "nested").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tree / "nested"], check=True)
    host_mount.append(tree / "nested")
    (tree / "nested/old").write_text("old\n")
    give(tree)
    it = Sandbox(home, "nested")
    it.create("--read", f"{tree}::/outer")
    try:
        it.run()
        assert set(it.guest("files", "change", "/outer/nested").values()) == {"EROFS"}
        assert it.guest("files", "read", "/outer/nested/old")["text"] == "old\n"
    finally:
        it.destroy()


def test_05_a_link_out_of_a_writable_grant_leads_nowhere(
    sandbox: Sandbox, trees: pathlib.Path, secret: pathlib.Path
) -> None:
    place = trees / "rw/links"
    place.mkdir()
    (place / "theirs").symlink_to(secret)
    give(place)
    found = sandbox.guest("files", "links", "/rw/links", str(secret))
    assert found == {"theirs": "ENOENT", "mine": "ENOENT", "fine": "ok"}


def test_06_dot_dot_stays_in_the_root(sandbox: Sandbox) -> None:
    for start in ("/rw", "/ro/nested", "/tmp", "/proc/self"):
        found = sandbox.guest("files", "climb", start)
        assert found["root"] == found["path"] == found["chdir"] == found["descriptor"]
        assert found["cwd"] == "/"
        assert {"root", "home", "boot", "mnt", "sys", "var"}.isdisjoint(found["names"])


def test_07_a_source_swapped_for_a_link_is_refused(home: pathlib.Path, secret: pathlib.Path) -> None:
    tree, away = home / "swapped", home / "away"
    tree.mkdir()
    (tree / "old").write_text("old\n")
    give(tree)
    it = Sandbox(home, "swapped")
    it.create("--read", f"{tree}::/swapped")
    try:
        tree.rename(away)
        tree.symlink_to(secret.parent)
        done = it.call("run", it.name, check=False)
        assert done.returncode == 4 and str(tree) in done.stderr, done.stderr
        assert it.state() == {}
        tree.unlink()
        away.rename(tree)
        it.run()
        assert it.guest("files", "read", "/swapped/old")["text"] == "old\n"
    finally:
        it.destroy()


def test_08_a_mount_point_inside_another_grant_is_refused(home: pathlib.Path, trees: pathlib.Path) -> None:
    """It could be a link of the granted tree, by which something of the host is covered."""
    outside = home / "outside"
    outside.mkdir()
    (trees / "rw/point").symlink_to(outside)
    give(outside)
    it = Sandbox(home, "points")
    grants = ("--write", f"{trees / 'rw'}::/rw", "--read", f"{trees / 'ro'}::/rw/point")
    done = it.call("create", "postgres", it.name, "auto", *grants, check=False)
    assert done.returncode in (2, 4) and "overlaps" in done.stderr, done.stderr
    assert not it.path.exists() and list(outside.iterdir()) == []


def test_09_a_hard_link_does_not_cross_grants(sandbox: Sandbox, trees: pathlib.Path) -> None:
    place = trees / "rw/hard"
    place.mkdir()
    (place / "old").write_text("old\n")
    give(place)
    found = sandbox.guest("files", "hard_links", "/ro", "/rw/hard")
    assert found == {"across": "EXDEV", "within": "ok"}


def test_10_a_setuid_program_in_a_writable_grant_gains_nothing(sandbox: Sandbox, trees: pathlib.Path) -> None:
    program = trees / "rw/setuid"
    shutil.copy("/usr/bin/id", program)
    give(program)
    program.chmod(0o4755)
    done = sandbox.shell("/rw/setuid")
    assert done.returncode == 126 and "Permission denied" in done.stderr
    assert sandbox.shell("id", "-u").stdout == "1000\n"


def test_11_a_writable_grant_holds_no_programs(sandbox: Sandbox, trees: pathlib.Path) -> None:
    assert sandbox.guest("files", "execute", "/rw") == {"grant": "EACCES", "system": 0}
    assert sandbox.guest("files", "execute", "/tmp") == {"grant": "EACCES", "system": 0}


def test_12_no_device_can_be_made(sandbox: Sandbox) -> None:
    assert sandbox.guest("files", "make_device", "/rw")["mknodat"] == "EPERM"


def test_14_no_file_opens_by_its_handle(sandbox: Sandbox) -> None:
    found = sandbox.guest("files", "make_device", "/rw")
    assert (found["open_by_handle_at"], found["setxattr"]) == ("EPERM", "EPERM")


def test_13_dev_holds_what_is_listed_and_nothing_else(sandbox: Sandbox) -> None:
    devices = sandbox.guest("files", "devices")
    nodes = {name for name, kind in devices.items() if kind == "0o20"}
    assert nodes == {"null", "zero", "full", "random", "urandom", "tty"}
    assert set(devices) - nodes <= {"fd", "stdin", "stdout", "stderr", "shm"}


def test_15_the_kernels_settings_are_absent(sandbox: Sandbox) -> None:
    paths = [
        f"/proc/{name}"
        for name in ("sys", "kallsyms", "keys", "kcore", "sysrq-trigger", "modules", "net", "cgroups")
    ]
    assert sandbox.guest("files", "outcomes", *paths) == dict.fromkeys(paths, "ENOENT")
    assert sandbox.guest("files", "outcomes", "/proc/self/status") == {"/proc/self/status": "ok"}
    assert sandbox.guest("files", "outcomes", "/sys") == {"/sys": "ENOENT"}


def test_16_pid_1_cannot_be_looked_into(sandbox: Sandbox) -> None:
    names = ("root", "exe", "mem", "fd", "cwd", "environ", "maps")
    attacked = [f"/proc/1/{name}" for name in names]
    assert sandbox.guest("files", "proc", *attacked) == dict.fromkeys(attacked, "EACCES")
    own = [f"/proc/self/{name}" for name in names]
    assert sandbox.guest("files", "proc", *own) == dict.fromkeys(own, "ok")


@needs_root
def test_17_a_later_mount_of_the_host_is_invisible(
    sandbox: Sandbox, trees: pathlib.Path, host_mount: list[pathlib.Path]
) -> None:
    late = trees / "ro/late"
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", late], check=True)
    host_mount.append(late)
    (late / "secret").write_text("secret\n")
    late.chmod(0o755)
    found = sandbox.guest("files", "outcomes", "/ro/late", "/ro/late/secret")
    assert found == {"/ro/late": "EISDIR", "/ro/late/secret": "ENOENT"}


def test_18_the_list_of_mounts_names_nothing_of_the_host(sandbox: Sandbox, trees: pathlib.Path) -> None:
    mounts = sandbox.guest("files", "mounts")
    own = re.compile(
        r"/|/(usr|opt/engine|config|sock|data|tmp|proc|ro|rw|attacks|python|bin|sbin|lib\w*)(/.*)?"
        r"|/dev/(null|zero|full|random|urandom|tty|shm)"
    )
    assert [place for _, place, _, _ in mounts if not own.fullmatch(place)] == []
    assert {"/ro", "/rw"} <= {place for _, place, _, _ in mounts}
    # The options of a mount are ours to choose; they must not tell where we are on the host.
    assert [tail for _, _, _, tail in mounts if str(sandbox.home) in tail] == []
    writable = {place for _, place, options, _ in mounts if "rw" in options.split(",")}
    assert {place for place in writable if not place.startswith(("/dev/", "/proc"))} == {
        "/data",
        "/rw",
        "/sock",
        "/tmp",
    }


def test_19_a_host_socket_in_a_read_only_grant_cannot_be_reached(
    sandbox: Sandbox, trees: pathlib.Path
) -> None:
    hidden, open_ = canary.unix(trees / "ro/socket"), canary.unix(trees / "rw/socket")
    os.symlink("/ro/socket", trees / "rw/way")
    try:
        found = sandbox.guest("files", "unix_connect", "/ro/socket", "/rw/way", "/rw/socket")
        assert found == {
            "/ro/socket": "EACCES",
            "/rw/way": "EACCES",
            "/rw/socket": "ok",
            "datagram": "ESOCKTNOSUPPORT",
            "datagram pair": "ESOCKTNOSUPPORT",
            "packet": "ok",
            "packet went to the peer": True,
        }
        assert hidden.silent() and open_.heard
    finally:
        hidden.close()
        open_.close()


def test_47_shared_memory_of_the_host_is_invisible(sandbox: Sandbox) -> None:
    key = 0x56000000 | os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)
    segment = libc.shmget(key, 4096, 0o1666)  # IPC_CREAT
    assert segment >= 0
    try:
        found = sandbox.guest("process", "shared_memory", key)
    finally:
        libc.shmctl(segment, 0, None)  # IPC_RMID
    assert found == {"hosts": "ENOENT", "own": "ok", "own again": "ok"}


def test_81_paths_of_sockets_are_resolved_inside(sandbox: Sandbox, trees: pathlib.Path) -> None:
    place = trees / "rw/sockets"
    place.mkdir()
    (place / "old").write_text("old\n")
    give(place)
    found = sandbox.guest("files", "unix_paths", "/rw/sockets")
    for twin in ("bind", "connect own", "connect relative"):
        assert found.pop(twin) == "ok", twin
    assert "ok" not in found.values(), found
    assert set(found.values()) <= {
        "ENOENT",
        "ELOOP",
        "EACCES",
        "ECONNREFUSED",
        "EADDRINUSE",
        "EROFS",
        "ENOTDIR",
        "EPERM",
    }, found
    assert (place / "mine").is_socket()


def test_50_a_file_passed_to_exec_can_be_read_and_no_more(sandbox: Sandbox, home: pathlib.Path) -> None:
    """An opened file can be opened again, for writing, by way of /proc/self/fd."""
    path = home / "passed"
    path.write_text("passed\n")
    give(path)
    before = path.stat()
    with path.open() as file:
        found = sandbox.guest("files", "standard_input", stdin=file)
    assert found.pop("text") == "passed\n"
    after = path.stat()
    assert path.read_text() == "passed\n", found
    assert (after.st_mode, after.st_mtime) == (before.st_mode, before.st_mtime), found


def test_50_a_file_passed_to_exec_can_be_written_and_no_more(sandbox: Sandbox, home: pathlib.Path) -> None:
    path = home / "appended"
    path.write_text("older\n")
    give(path)
    script = "cat /proc/self/fd/1 >&2 & : >/proc/self/fd/1; echo more; sleep 0.2; kill $!"
    with path.open("a") as file:
        done = subprocess.run(
            sandbox.command("exec", sandbox.name, "--", "sh", "-c", script),
            env=sandbox.environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert "older" not in done.stderr
    assert path.read_text().startswith("older\n")


def test_50_a_directory_passed_to_exec_is_no_way_out(
    sandbox: Sandbox, home: pathlib.Path, secret: pathlib.Path
) -> None:
    fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    script = "cd /proc/self/fd/0/ && echo entered; cat /proc/self/fd/0/secret"
    try:
        done = sandbox.shell("sh", "-c", script, stdin=fd)
    finally:
        os.close(fd)
    assert done.returncode != 0 and done.stdout == "", done


def test_50_files_passed_to_exec_are_read_and_written_in_full(sandbox: Sandbox, home: pathlib.Path) -> None:
    source, copy = home / "source", home / "copy"
    source.write_bytes(os.urandom(5_000_000))
    with source.open("rb") as stdin, copy.open("wb") as stdout:
        command = sandbox.command("exec", sandbox.name, "--", "cat")
        subprocess.run(command, env=sandbox.environment, stdin=stdin, stdout=stdout, check=True, timeout=60)
    assert copy.read_bytes() == source.read_bytes()
