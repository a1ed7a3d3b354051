"""The supervisor under attack: its time, its memory, its control socket, its files, its words."""

from __future__ import annotations

import base64
import binascii
import os
import pathlib
import pty
import select
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator

import canary
import pytest
from sandbox import Sandbox, alive, needs_root, owner_uid, pairs, until

needs_sampling = pytest.mark.skipif(
    os.geteuid() == 0, reason="needs an ordinary user: root's limits are the kernel's own"
)
ESCAPES = (b"\x1b", b"\xc2\x9b", b"\x07")  # ESC; U+009B, its twin in one character; BEL, which ends a title


@pytest.fixture
def own(home: pathlib.Path) -> Iterator[Sandbox]:
    """An environment for one test, created and not running."""
    it = Sandbox(home, "own-supervisor")
    it.create()
    yield it
    if it.path.exists():
        it.destroy()


def change_plan(path: pathlib.Path, key: str, *fields: str) -> None:
    """Replace the record `key` of a compiled plan and make its checksum again, as its owner could."""
    escaped = [
        field.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n") for field in (key, *fields)
    ]
    lines = path.read_bytes().split(b"\n")[:-2]
    at = next(i for i, line in enumerate(lines) if line.startswith(key.encode() + b"\t"))
    lines[at] = "\t".join(escaped).encode()
    body = b"\n".join(lines) + b"\n"
    path.write_bytes(body + b"end\t%08x\n" % binascii.crc32(body))


def supervisor(it: Sandbox) -> int:
    return int(it.state()["pid"])


def field_of(pid: int, name: str) -> int:
    """A number in /proc/PID/status; memory is in kB."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise AssertionError(f"{name} is not in the status of {pid}")


def cpu_time(pid: int) -> float:
    """Seconds of processor time that a process has used itself (proc(5), fields 14 and 15)."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def seconds_of(it: Sandbox, *words: str) -> float:
    """How long a verb takes that must succeed, within ten seconds."""
    begin = time.monotonic()
    subprocess.run(
        it.command(*words),
        env=it.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=10,
        check=True,
    )
    return time.monotonic() - begin


def query(it: Sandbox, sql: str) -> subprocess.CompletedProcess[str]:
    return it.shell("psql", "-qXAtc", sql)


def test_64_a_command_that_finds_no_process_left_fails_alone(home: pathlib.Path) -> None:
    it = Sandbox(home, "bombed")
    # Sampled, memory that processes share since their fork counts in each.
    it.create("--pids", "64", "--memory", "1G")
    try:
        it.run()
        before = it.state()
        attack = it.attack("supervisor", "bomb")
        attack.expect("full")
        codes = [it.shell("true").returncode for _ in range(3)]
        assert codes == [126] * 3
        assert it.call("status", it.name).returncode == 0
        attack.stop()  # its client is gone, so pid 1 ends the command and all its children
        until(lambda: it.shell("true").returncode == 0, 5, "a command runs again")
        assert query(it, "select 1").stdout == "1\n"
        assert it.state() == before
    finally:
        it.destroy()


def control(it: Sandbox) -> socket.socket:
    """A connection to the control socket, past the command line."""
    directory = os.open(it.path / "run", os.O_PATH)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.settimeout(5)
    client.connect(f"/proc/self/fd/{directory}/control")
    os.close(directory)
    return client


# A message, and how many descriptors go with it.
MALFORMED = {
    "empty": (b"", 0),
    "empty with descriptors": (b"", 3),
    "no word": (b"\0\0\0", 0),
    "unknown": (b"\xff\xfe", 3),
    "no descriptors": (b"exec\x001\0true", 0),
    "two descriptors": (b"exec\x001\0true", 2),
    "four descriptors": (b"exec\x001\0true", 4),
    "too many descriptors": (b"exec\x001\0true", 200),
    "no count": (b"exec", 3),
    "a word as count": (b"exec\0many\0true", 3),
    "a count of nothing": (b"exec\x000\0true", 3),
    "a negative count": (b"exec\0-1\0true", 3),
    "a count beyond the end": (b"exec\0999999999999\0true", 3),
    "a count of 5000 digits": (b"exec\0" + b"9" * 5000 + b"\0true", 3),
    "an empty program": (b"exec\x001\0", 3),
    "a variable without a name": (b"exec\x001\0true\0=x\0y", 3),
    "just below the bound": (b"exec\x001\0true\0" + b"x" * (160 * 1024 - 20), 3),
    "200 KB": (b"exec\x001\0" + b"x" * 200_000, 3),
}


def test_72_malformed_control_messages_are_answered_and_everybody_lives(sandbox: Sandbox) -> None:
    pid, pid1 = supervisor(sandbox), int(sandbox.state()["pid1"])
    sandbox.shell("true")
    before = len(os.listdir(f"/proc/{pid}/fd"))
    null = os.open("/dev/null", os.O_RDWR)
    for name, (message, count) in MALFORMED.items():
        with control(sandbox) as client:
            try:
                socket.send_fds(client, [message], [null] * count) if count else client.send(message)
                answer = client.recv(65536)
            except OSError as error:  # the kernel refuses what is too long, or we were hung up on
                answer = str(error).encode()
            if name != "a count beyond the end":  # which is that of all there are
                assert answer != b"exit\x000", name
        assert alive(pid) and alive(pid1), name
    with control(sandbox) as client:
        socket.send_fds(client, [b"exec\x001\0true"], [null] * 3)
        assert client.recv(100) == b"exit\x000", "the twin: a well-formed message"
    os.close(null)
    assert sandbox.shell("true").returncode == 0
    # Fewer: a client that was just leaving may have been counted.
    until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= before, 3, "no descriptor was kept")


def fill(place: pathlib.Path) -> None:
    """Take every byte and every inode of a file system."""
    with open(place / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 20))
        except OSError:
            pass
    try:
        for number in range(100_000):
            (place / f"filler.{number}").touch()
    except OSError:
        pass


def empty(place: pathlib.Path) -> None:
    for path in place.glob("filler*"):
        path.unlink()


def shout(it: Sandbox, kilobytes: int) -> None:
    """Have the server write so much to its log."""
    loop = f"for i in 1..{kilobytes} loop raise warning '%', repeat('x', 1000); end loop"
    query(it, f"do $$ begin {loop}; end $$")


@needs_root
def test_86_a_full_disk_ends_nothing_and_keeps_nobody_from_stopping(home: pathlib.Path) -> None:
    place = home / "small"
    place.mkdir()
    options = "size=256m,nr_inodes=10000,mode=755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    it = Sandbox(place, "small")
    try:
        it.create()
        change_plan(it.path / "config/plan", "log", "65536")
        it.run()
        pid = supervisor(it)
        query(it, "create table t as select generate_series(1, 1000)")
        shout(it, 50)
        fill(place)
        shout(it, 500)
        assert alive(pid) and it.shell("true").returncode == 0
        assert it.call("status", it.name).returncode == 0
        fill(place)  # the log's rotation made room
        # By the server's own signal, not by force. (A full disk ends PostgreSQL's last checkpoint.)
        assert it.call("stop", it.name).stdout == "small is stopped\n"
        assert not alive(pid) and it.state() == {}
        empty(place)
        it.run()
        assert query(it, "select count(*) from t").stdout == "1000\n"
        pid = supervisor(it)
        fill(place)
        os.kill(pid, signal.SIGTERM)  # the other way to ask
        until(lambda: not alive(pid), 10, "the supervisor ends")
        # The server's own end has made room for this; it was let come to it.
        assert pairs(it.path / "run/exit")["reason"] == "stopped"
        it.destroy()
        assert not it.path.exists()
    finally:
        empty(place)
        it.call("destroy", "--yes", it.name, check=False)
        until(lambda: subprocess.run(["umount", place]).returncode == 0, 5, "the place is unmounted")


def test_79_the_broker_does_not_wait_with_the_guest(sandbox: Sandbox) -> None:
    attack = sandbox.attack("supervisor", "stall", 4)
    try:
        attack.expect("stalling")
        for words in (("status", sandbox.name), ("exec", sandbox.name, "true")):
            took = [seconds_of(sandbox, *words) for _ in range(5)]
            assert statistics.median(took) < 1, (words, took)
    finally:
        attack.process.kill()  # and not `stop`: its output may stay open while the broker hangs


def test_79_a_stream_of_new_connects_does_not_keep_an_old_one_alive(
    sandbox: Sandbox, slow: canary.Slow
) -> None:
    found = sandbox.guest("supervisor", "stream", slow.port)
    assert found["others"] > 20, found
    assert (found["result"], 9 < found["seconds"] < 12.5) == ("ETIMEDOUT", True), found


def test_74_listeners_that_were_closed_cost_the_supervisor_nothing(sandbox: Sandbox) -> None:
    pid = supervisor(sandbox)
    sandbox.guest("supervisor", "cycles", sandbox.listen, 2000)
    before = field_of(pid, "RssAnon")
    found = sandbox.guest("supervisor", "cycles", sandbox.listen, 20_000)
    assert found.pop("ok") == 20_000 and set(found) <= {"EAGAIN"}, found
    assert field_of(pid, "RssAnon") - before < 1024  # kB


def test_74_a_flood_of_refused_binds_leaves_the_processor_to_others(
    sandbox: Sandbox, granted: canary.Canary
) -> None:
    pid = supervisor(sandbox)
    attack = sandbox.attack("supervisor", "refused_binds", 4, granted.port)
    try:
        attack.expect("flooding")
        time.sleep(3)  # what may come at once is used up
        memory, used, begin = field_of(pid, "RssAnon"), cpu_time(pid), time.monotonic()
        time.sleep(2)
        share = (cpu_time(pid) - used) / (time.monotonic() - begin)
        assert 0 < share < 0.6, share
        assert field_of(pid, "RssAnon") - memory < 1024  # kB
    finally:
        attack.stop()


def empty_groups() -> set[str]:
    """The owner's control groups for one guest that have no process."""
    found = set()
    for depth in ("", "*/"):
        for group in pathlib.Path("/sys/fs/cgroup").glob(f"{depth}virtualize-{owner_uid()}/sandbox-*"):
            try:
                if not (group / "cgroup.procs").read_text():
                    found.add(str(group))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("fault", ["filter", "file", "tree"])
def test_84_a_build_that_fails_leaves_nothing(own: Sandbox, fault: str) -> None:
    plan = own.path / "config/plan"
    whole = plan.read_bytes()
    moved = own.path / "data"
    if own.record()["layer"] == "overlay":
        moved = own.home / ".sandboxes/.templates" / own.record()["template"]
    away = moved.with_name("away")
    before = empty_groups()
    if fault == "filter":  # the last step of pid 1: the kernel refuses the program
        change_plan(plan, "seccomp", base64.b64encode(bytes(8)).decode())
    elif fault == "file":  # halfway: what is already there cannot be made
        change_plan(plan, "file", "/etc/group", "")
    else:  # the first step: the layer's tree cannot be cloned
        moved.rename(away)
    try:
        done = own.call("run", own.name, check=False)
    finally:
        if fault == "tree":
            away.rename(moved)
        plan.write_bytes(whole)
    assert done.returncode in (1, 4), (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr and own.name not in own.call("list").stdout.replace(
        f"{own.name} ", "", 1
    )
    assert own.state() == {} and not (own.path / "run/control").exists()
    until(lambda: empty_groups() <= before, 3, "no control group is left")
    own.run()
    assert own.shell("true").returncode == 0


def run_sampled(it: Sandbox) -> None:
    it.run()
    if it.state()["limit.memory"] != "sampled":
        pytest.skip("needs an ordinary user without a systemd of their own")


@needs_sampling
def test_65_memory_is_counted_when_the_first_thread_has_ended(own: Sandbox) -> None:
    run_sampled(own)
    assert own.guest("supervisor", "headless", 100, 1) == ["Z", 100]
    attack = own.attack("supervisor", "headless", 400, 30)
    until(lambda: own.state() == {}, 5, "the guest is ended")
    assert attack.process.wait(10) != 0
    assert pairs(own.path / "run/exit")["reason"] == "memory"
    own.run()
    assert own.shell("true").returncode == 0


@needs_sampling
def test_65_shared_memory_is_counted_once_and_private_memory_twice(own: Sandbox) -> None:
    run_sampled(own)
    assert own.guest("supervisor", "twice", 150, True, 2) == "alive"
    assert own.state()["status"] == "running"
    attack = own.attack("supervisor", "twice", 150, False, 30)
    until(lambda: own.state() == {}, 5, "the guest is ended")
    assert attack.process.wait(10) != 0
    assert pairs(own.path / "run/exit")["reason"] == "memory"


def on_terminal(it: Sandbox, *words: str) -> tuple[int, bytes]:
    """A verb's exit code and what it wrote to a terminal, but for our own sign of progress."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        it.command(*words), env=it.environment, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    written, end = b"", time.monotonic() + 60
    while time.monotonic() < end:
        if not select.select([master], [], [], 1)[0]:
            continue
        try:
            written += os.read(master, 65536)
        except OSError:  # EIO: the other end is closed
            break
    os.close(master)
    return process.wait(10), written.replace(b"\r\x1b[K", b"")


def test_94_a_log_cannot_steer_the_terminal_that_it_is_shown_on(sandbox: Sandbox) -> None:
    query(sandbox, "do $$ begin raise warning E'\\x1b]0;title\\x07 \\u009b31m marked'; end $$")
    log = sandbox.path / "logs/service.log"
    until(lambda: b"marked" in log.read_bytes(), 5, "the server has written its log")
    assert all(byte in log.read_bytes() for byte in ESCAPES), "the file itself keeps them"
    piped = sandbox.call("logs", sandbox.name, "--lines", "5").stdout
    assert "\x1b" in piped, "and so does what is no terminal"
    code, shown = on_terminal(sandbox, "logs", sandbox.name, "--lines", "5")
    assert code == 0 and b"marked" in shown
    assert [byte for byte in ESCAPES if byte in shown] == [], shown


def test_94_nor_can_the_last_lines_of_a_start_that_failed(own: Sandbox) -> None:
    words = r"printf '\033[31mred\007 \302\2331m\n'; exit 3"
    change_plan(own.path / "config/plan", "argv", "/bin/sh", "-c", words)
    code, shown = on_terminal(own, "run", own.name)
    assert code == 1 and b"red" in shown, shown
    assert [byte for byte in ESCAPES if byte in shown] == [], shown
    assert b"\x1b" in (own.path / "logs/service.log").read_bytes()


def test_83_a_stopped_supervisor_can_still_be_destroyed(own: Sandbox) -> None:
    own.run()
    pid = supervisor(own)
    os.kill(pid, signal.SIGSTOP)
    own.destroy()
    assert not alive(pid) and not own.path.exists()
