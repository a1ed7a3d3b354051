"""Faults and races around a running sandbox, and who it runs as."""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from sandbox import ROOT, SUDO, Sandbox, alive, free_port, needs_root, until
from test_network import reachable

# An ordinary account that every Debian has, to be the caller of sudo.
CALLER = pwd.getpwnam("daemon")


@pytest.fixture
def own(home: pathlib.Path, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """An environment for one test, created and not running."""
    it = Sandbox(home, request.node.name.replace("test_", "").replace("_", "-")[:30].strip("-"))
    it.create()
    yield it
    if it.path.exists():
        it.destroy()


def answers(it: Sandbox) -> bool:
    return "1" in it.shell("psql", "-Atc", "select 1").stdout


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "mid-request"])
def test_82_the_supervisors_death_is_the_guests(own: Sandbox, busy: bool) -> None:
    own.run()
    attack = own.attack("process", "wait")
    attack.expect("waiting")
    flood = own.attack("races", "flip_family", 9, 60) if busy else None
    running = own.processes()
    assert len(running) > 3 and reachable(own.port)
    os.kill(running[0], signal.SIGKILL)
    until(lambda: not any(map(alive, running)), 1, "the guest is dead")
    assert not reachable(own.port)
    for client in filter(None, (attack, flood)):
        assert client.process.wait(10) != 0
        client.stop()
    own.run()
    assert reachable(own.port)


def test_88_a_plan_cut_at_any_byte_is_refused(own: Sandbox) -> None:
    plan = (own.path / "config/plan").read_bytes()
    reader = """
import sys
sys.path.insert(0, sys.argv[1])
from launch.plan import Plan
plan = open(sys.argv[2], "rb").read()
Plan.parse(plan)
taken = []
for end in range(len(plan)):
    try:
        Plan.parse(plan[:end])
    except ValueError:
        continue
    taken.append(end)
flipped = []
for at in range(0, len(plan), 7):
    changed = bytearray(plan)
    changed[at] ^= 1
    try:
        Plan.parse(bytes(changed))
    except ValueError:
        continue
    flipped.append(at)
print(taken, flipped)
"""
    command = [sys.executable, "-I", "-S", "-c", reader, str(ROOT / "pyhelpers"), own.path / "config/plan"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[] []\n", "")
    assert len(plan) > 10_000


@pytest.mark.parametrize("cut", ["empty", "half", "changed", "missing"])
def test_88_run_does_not_start_from_a_damaged_plan(own: Sandbox, cut: str) -> None:
    """It is compiled again from the manifest, or refused: never used as it is."""
    path = own.path / "config/plan"
    plan = path.read_bytes()
    damaged = {"empty": b"", "half": plan[: len(plan) // 2], "changed": plan.replace(b"limit", b"lamit")}
    if cut == "missing":
        path.unlink()
    else:
        path.write_bytes(damaged[cut])
    done = own.call("run", own.name, check=False)
    if done.returncode == 0:
        assert path.read_bytes() != damaged.get(cut)
        assert reachable(own.port)
    else:
        assert done.returncode in (1, 4) and "plan" in done.stderr and "try:" in done.stderr
        assert "Traceback" not in done.stderr and own.state() == {}


def become_caller() -> tuple[str, ...]:
    """The prefix that runs a command as an ordinary user."""
    ids = (f"--reuid={CALLER.pw_uid}", f"--regid={CALLER.pw_gid}")
    return ("setpriv", *ids, "--clear-groups", "--")


def together(*calls: tuple[Sandbox, tuple[str, ...]]) -> list[tuple[int, str]]:
    """Start verbs at the same time; their exit codes and errors."""
    started = [
        subprocess.Popen(
            it.command(*words),
            env=it.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for it, words in calls
    ]
    return [(one.wait(60), one.stderr.read() if one.stderr else "") for one in started]


def test_89_of_two_runs_at_once_one_wins(own: Sandbox) -> None:
    run = (own, ("run", own.name))
    codes = sorted(together(run, run))
    assert [code for code, _ in codes] == [0, 4]
    assert "busy" in codes[1][1] or "already running" in codes[1][1]
    assert own.state()["status"] == "running" and answers(own)


def test_90_destroy_during_run_leaves_nothing(own: Sandbox) -> None:
    port = own.port
    _, (code, error) = together((own, ("run", own.name)), (own, ("destroy", "--yes", own.name)))
    assert code in (0, 4), error
    if code:
        own.destroy()
    assert not own.path.exists() and not reachable(port)


def test_90_of_two_creates_one_wins(home: pathlib.Path) -> None:
    it = Sandbox(home, "twice")
    create = (it, ("create", "postgres", "twice", "auto"))
    codes = sorted(together(create, create))
    assert [code for code, _ in codes] == [0, 4], codes
    it.run()
    assert answers(it)
    destroy = (it, ("destroy", "--yes", "twice"))
    codes = sorted(together(destroy, destroy))
    assert codes[0][0] == 0 and codes[1][0] in (3, 4), codes
    assert it.call("destroy", "--yes", "twice", check=False).returncode == 3
    assert not it.path.exists()


@needs_root
def test_20_a_file_of_a_supplementary_group_is_out_of_reach(home: pathlib.Path) -> None:
    """Called by root with a further group, through which a granted file could be read."""
    group = 4_242_424
    tree = home / "grouped"
    tree.mkdir()
    for name, mode, owner in (("theirs", 0o640, group), ("open", 0o644, group)):
        (tree / name).write_text("secret\n")
        os.chown(tree / name, 0, owner)
        (tree / name).chmod(mode)
    it = Sandbox(home, "grouped")
    it.create("--read", f"{tree}::/grouped")
    try:
        it.call("run", it.name, prefix=("setpriv", "--groups", str(group)))
        found = it.guest("files", "outcomes", "/grouped/theirs", "/grouped/open")
        assert found == {"/grouped/theirs": "EACCES", "/grouped/open": "ok"}
        # A group without a name inside shows as the overflow group; there must be none.
        assert set(it.guest("process", "setuid")["groups"]) <= {1000}
    finally:
        it.destroy()


@needs_root
def test_20_a_file_open_through_a_group_alone_stops_the_launch_without_root(
    home: pathlib.Path,
) -> None:
    """An ordinary user cannot leave their groups; so nothing granted may open through one."""
    group = 4_242_424
    base = home / "grouped-user"
    (base / "tree").mkdir(parents=True)
    shutil.copytree(ROOT / "tests/escape/attacks", base / "attacks")
    subprocess.run(["chown", "-R", f"{CALLER.pw_uid}:{CALLER.pw_gid}", base], check=True)
    theirs = base / "tree/theirs"
    theirs.write_text("secret\n")
    os.chown(theirs, 0, group)
    theirs.chmod(0o640)
    become = (*become_caller()[:-2], "--groups", str(group), "--")
    plain: dict[str, str | None] = {**dict.fromkeys(SUDO), "XDG_STATE_HOME": str(base / "state")}
    it = Sandbox(base, "grouped", plain)
    words = ("create", "postgres", it.name, str(free_port()), "--read", f"{base / 'tree'}::/tree")
    it.call(*words, prefix=become)
    try:
        done = it.call("run", it.name, check=False, prefix=become)
        assert done.returncode == 6 and str(theirs) in done.stderr, done.stderr
        theirs.chmod(0o644)
        it.call("run", it.name, prefix=become)
        read = it.call("exec", it.name, "--", "cat", "/tree/theirs", prefix=become)
        assert read.stdout == "secret\n"
    finally:
        it.call("destroy", "--yes", it.name, prefix=become)


def uids(pid: str) -> set[str]:
    with open(f"/proc/{pid}/status") as file:
        return set(next(line.split()[1:] for line in file if line.startswith("Uid:")))


@needs_root
def test_102_under_sudo_everything_is_the_callers(home: pathlib.Path) -> None:
    base = home / "under sudo"
    base.mkdir()
    os.chown(base, CALLER.pw_uid, CALLER.pw_gid)
    shutil.copytree(ROOT / "tests/escape/attacks", base / "attacks")
    sudo = {
        "SUDO_UID": str(CALLER.pw_uid),
        "SUDO_GID": str(CALLER.pw_gid),
        "SUDO_USER": CALLER.pw_name,
        "XDG_STATE_HOME": str(base / "state"),
    }
    it = Sandbox(base, "sudo", sudo)
    it.create(port=str(free_port()))
    try:
        it.run()
        state = it.state()
        for pid in (state["pid"], state["pid1"]):
            assert uids(pid) == {str(CALLER.pw_uid)}
        for path in (it.path, *it.path.rglob("*")):
            assert path.lstat().st_uid == CALLER.pw_uid, path
        found = it.guest("process", "setuid")
        assert found["ids"] == [1000] * 4 and found["setuid"] in ("EPERM", "EINVAL")
        # The caller needs no sudo from here on.
        plain: dict[str, str | None] = {**dict.fromkeys(SUDO), "XDG_STATE_HOME": str(base / "state")}
        theirs = Sandbox(base, "sudo", plain)
        become = become_caller()
        words = ("exec", "sudo", "--", "psql", "-Atc", "select 40 + 2")
        assert theirs.call(*words, prefix=become).stdout == "42\n"
        theirs.call("stop", "sudo", prefix=become)
        theirs.call("destroy", "--yes", "sudo", prefix=become)
    finally:
        if it.path.exists():
            it.destroy()
        # The owner cannot remove the group that root delegated; root's next stop or destroy would.
        for group in pathlib.Path("/sys/fs/cgroup").glob(f"**/virtualize-{CALLER.pw_uid}"):
            group.rmdir()


@needs_root
def test_102_another_user_cannot_touch_it(home: pathlib.Path) -> None:
    it = Sandbox(home, "mine")
    it.create()
    try:
        it.run()
        become = become_caller()
        for words in (("stop", "mine"), ("exec", "mine", "--", "true"), ("destroy", "--yes", "mine")):
            done = it.call(*words, check=False, prefix=become)
            assert done.returncode in (3, 4, 125), (words, done.stderr)
        assert it.state()["status"] == "running" and answers(it)
    finally:
        it.destroy()


@needs_root
def test_102_a_setuid_start_is_refused(home: pathlib.Path) -> None:
    """The runtime, started with another real than effective uid."""
    it = Sandbox(home, "setuid")
    it.create()
    try:
        command = [
            ROOT / ".venv/bin/python3",
            "-I",
            "-S",
            ROOT / "pyhelpers/launch/__main__.py",
            *("run", it.path),
        ]
        done = subprocess.run(
            ["setpriv", f"--ruid={CALLER.pw_uid}", *command], capture_output=True, text=True
        )
        assert done.returncode == 6 and "setuid" in done.stderr, done.stderr
        assert it.state() == {}
    finally:
        it.destroy()
