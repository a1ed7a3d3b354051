"""Processes, capabilities, namespaces and the kernel's surface."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import time

import pytest
from sandbox import Sandbox, alive, owner_uid

on_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="x86_64 only")
# What the toolkit itself sets for commands; the rest is the manifest's.
OWN_VARIABLES = {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "TERM", "SHELL"}


def test_43_no_process_of_the_host_can_be_named(sandbox: Sandbox) -> None:
    found = sandbox.guest("process", "kills")
    assert set(found["host pids"].values()) == {"ESRCH"}
    # kill(-1) inside ends the command itself and the server, nothing of ours.
    bystander = subprocess.Popen(["sleep", "60"])
    name = f"/proc/{bystander.pid}"
    assert sandbox.shell("ls", name).returncode != 0
    assert alive(bystander.pid)
    bystander.kill()
    bystander.wait()


def test_44_pid_1_ignores_the_guests_signals(sandbox: Sandbox) -> None:
    assert sandbox.guest("process", "kills")["pid 1"] == ["ok", "ok"]
    assert sandbox.guest("process", "status", 1)["1"]["Pid"] == "1"


def test_45_neither_pid_1_nor_a_sibling_can_be_traced(sandbox: Sandbox) -> None:
    found = sandbox.guest("process", "others")
    for name in ("pid 1", "sibling"):
        assert (found[name]["attach"], found[name]["seize"]) == ("EPERM", "EPERM")
    assert found["traceme"] == "EPERM"
    assert found["the twin"] == -signal.SIGKILL  # signals to a sibling do work


def test_46_other_processes_memory_and_descriptors_are_out_of_reach(sandbox: Sandbox) -> None:
    found = sandbox.guest("process", "others")
    for name in ("pid 1", "sibling"):
        for call in ("process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp"):
            assert found[name][call] == "EPERM", (name, call)
    # Opened for writing: /proc is read-only inside. For reading, case 16 has it.
    assert (found["pid 1"]["mem"], found["pid 1"]["limits"]) == ("EROFS", "EPERM")


def test_48_nothing_can_be_typed_into_a_terminal(sandbox: Sandbox) -> None:
    found = sandbox.guest("process", "terminal")
    for request in ("TIOCSTI", "TIOCLINUX", "TIOCSETD"):
        assert found[request] == ["ENOTTY", "ENOTTY"]
    assert found["FIONREAD"] == "ok"


def test_49_there_is_no_controlling_terminal(sandbox: Sandbox) -> None:
    assert sandbox.guest("process", "terminal")["/dev/tty"] == "ENXIO"


def test_50_a_command_has_three_descriptors(sandbox: Sandbox, home: object) -> None:
    left, right = os.pipe()
    try:
        found = sandbox.guest("process", "descriptors", pass_fds=(left, right))
    finally:
        os.close(left)
        os.close(right)
    assert sorted(found) == ["0", "1", "2"], found


def test_51_a_command_has_the_manifests_variables_only(sandbox: Sandbox) -> None:
    sandbox.environment["VIRT_TEST_SECRET"] = "secret"
    try:
        lines = sandbox.shell("env").stdout.splitlines()
    finally:
        del sandbox.environment["VIRT_TEST_SECRET"]
    found = dict(line.split("=", 1) for line in lines)
    assert found.pop("GRANTED_VARIABLE") == "granted"
    assert {name for name in found if not name.startswith("PG")} <= OWN_VARIABLES, found
    assert "PGPASSWORD" not in found
    done = sandbox.call("exec", sandbox.name, "--env", "MORE=x y", "--", "sh", "-c", 'echo "$MORE"')
    assert done.stdout == "x y\n"


def test_52_signals_are_at_their_defaults(sandbox: Sandbox) -> None:
    words = sandbox.command("exec", sandbox.name, "--", "grep", "^Sig", "/proc/self/status")
    ignoring = "trap '' INT QUIT HUP PIPE USR1; exec \"$@\""
    done = subprocess.run(
        ["bash", "-c", ignoring, "bash", *words],
        env=sandbox.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    found = dict(line.split(":\t") for line in done.stdout.splitlines())
    assert (found["SigBlk"], found["SigIgn"]) == ("0" * 16, "0" * 16), found


def test_53_no_keyring_can_be_read(sandbox: Sandbox) -> None:
    assert sandbox.guest("process", "surface")["keyctl"] == "EPERM"
    assert sandbox.guest("files", "outcomes", "/proc/keys") == {"/proc/keys": "ENOENT"}


def test_54_orphans_are_reaped(sandbox: Sandbox) -> None:
    assert sandbox.guest("process", "orphans", 300) == {"zombies": 0}


def test_55_every_process_inside_has_no_capability_and_a_filter(sandbox: Sandbox) -> None:
    found = sandbox.guest("process", "all_status")
    assert len(found) > 3  # pid 1, the server's, the attack
    for pid, status in found.items():
        for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[capabilities], 16) == 0, (pid, capabilities)
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2"), pid
        assert status["Uid"].split() == ["1000"] * 4, pid


def test_56_no_namespace_can_be_made(sandbox: Sandbox) -> None:
    found = sandbox.guest("process", "namespaces")
    for name, results in found["flags"].items():
        assert results == ["EPERM"] * 3, name
    assert found["clone3"] == "ENOSYS"
    assert found["fork"] == 7


def test_57_no_namespace_can_be_entered(sandbox: Sandbox) -> None:
    found = sandbox.guest("process", "namespaces")["setns"]
    assert found == dict.fromkeys(("net", "mnt", "user", "pid"), "EPERM")


REFUSED_FILTERS = [
    "dumpable EPERM",
    "filter EPERM",
    "new listener EPERM",
    "prctl EPERM",
    "prctl high EPERM",
    "reading ok",
    "strict EPERM",
    "tracer EPERM",
]


def test_58_the_guest_installs_no_filter_while_the_broker_lives(sandbox: Sandbox) -> None:
    found = sandbox.guest("process", "own_filter", 0.5)
    assert found["tries"] > 10 and found["results"] == REFUSED_FILTERS


def test_58_the_guest_installs_no_filter_while_the_broker_hangs(sandbox: Sandbox) -> None:
    attack = sandbox.attack("process", "own_filter", 2)
    attack.expect("trying")
    supervisor = int(sandbox.state()["pid"])
    os.kill(supervisor, signal.SIGSTOP)
    try:
        time.sleep(1)
    finally:
        os.kill(supervisor, signal.SIGCONT)
    assert attack.result()["results"] == REFUSED_FILTERS


@on_x86
@pytest.mark.parametrize("function", ["int80", "x32"])
def test_59_the_other_ways_into_the_kernel_end_the_process(sandbox: Sandbox, function: str) -> None:
    attack = sandbox.attack("process", function)
    assert attack.line() is None
    assert attack.process.wait(10) == 128 + signal.SIGSYS


def test_60_the_kernels_machinery_is_denied(sandbox: Sandbox) -> None:
    found = sandbox.guest("process", "surface")
    for call in ("io_uring_setup", "io_uring_enter", "io_uring_register"):
        assert found[call] == "ENOSYS"
    for call in ("bpf", "perf_event_open", "userfaultfd", "keyctl", "sched_setaffinity"):
        assert found[call] == "EPERM"


def test_61_an_unknown_number_is_not_implemented(sandbox: Sandbox) -> None:
    found = sandbox.guest("process", "surface")
    assert (found["9999"], found["500"], found["-1"]) == ("ENOSYS", "ENOSYS", "ENOSYS")
    assert found["getpid"] == "ok"


def test_62_the_personality_cannot_be_changed(sandbox: Sandbox) -> None:
    found = sandbox.guest("process", "surface")
    assert (found["personality"], found["personality query"]) == ("EPERM", "ok")


def test_102_nobody_inside_is_or_becomes_root(sandbox: Sandbox) -> None:
    found = sandbox.guest("process", "setuid")
    assert found["ids"] == [1000] * 4
    for call in ("setuid", "setgid", "setresuid"):
        assert found[call] in ("EPERM", "EINVAL"), call  # EINVAL: no such id in there
    assert found["setgroups"] == "EPERM"
    assert found["itself"] == "ok"


def test_102_seen_from_the_host_the_guest_is_the_environments_owner(sandbox: Sandbox) -> None:
    uid = str(owner_uid())
    assert uid != "0"
    for key in ("pid", "pid1"):
        with open(f"/proc/{sandbox.state()[key]}/status") as file:
            ids = next(line.split()[1:] for line in file if line.startswith("Uid:"))
        assert ids == [uid] * 4, key
    assert sandbox.record()["uid"] == uid
