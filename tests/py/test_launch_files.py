"""What the runtime leaves on disk: state, logs, events; and what it reads of the kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import runtime  # noqa: F401
from hypothesis import given
from hypothesis import strategies as st
from launch import attach, groups, memory, state, wire
from launch.cgroup import Leaf
from launch.errors import Failure
from launch.logfile import Events, LogFile, quote
from launch.sockets import pair


@given(st.text())
def test_quoted_text_is_json(text: str) -> None:
    clean = text.encode("utf-8", "replace").decode()
    assert json.loads(quote(clean)) == clean
    assert quote(clean).isascii() and "\n" not in quote(clean)


def test_68_a_log_is_capped_and_two_old_ones_are_kept(tmp_path) -> None:
    log = LogFile(os.open(tmp_path, os.O_RDONLY), "service.log", 1000)
    for number in range(100):
        log.write(b"%03d" % number + b"x" * 96 + b"\n")
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"service.log", "service.log.1", "service.log.2"}
    assert all(size <= 1000 for size in sizes.values())
    assert log.tail(1).startswith("099")


def test_events_are_json_lines_and_rate_limited(tmp_path) -> None:
    events = Events(os.open(tmp_path, os.O_RDONLY))
    for number in range(1000):
        events.add("denied", target='"\n\x1b[31m', number=number)
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert 100 <= len(lines) < 200
    assert all(json.loads(line)["target"] == '"\n\x1b[31m' for line in lines)
    time.sleep(0.1)
    events.add("later")
    last = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[-1])
    assert last["dropped_before"] == 1000 - len(lines)


def test_state_is_read_back_and_a_newline_cannot_add_a_field(tmp_path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    state.write(directory, "state", [("message", "one\npid=1"), ("pid", "7")])
    assert state.read(directory, "state") == [("message", "one pid=1"), ("pid", "7")]
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o600
    state.remove(directory, "state")
    state.remove(directory, "state")
    assert state.read(directory, "state") == []


def fields_of(pid: int, **changed: str) -> list[tuple[str, str]]:
    known = {"pid": str(pid), "start_time": state.start_time(pid), "boot_id": state.boot_id(), **changed}
    return list(known.items())


def test_87_a_pid_that_another_process_has_now_is_not_our_supervisor(tmp_path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        pidfd = state.living(fields_of(child.pid))
        assert pidfd >= 0
        os.close(pidfd)
        assert state.living(fields_of(child.pid, start_time="1")) == -1
        assert state.living(fields_of(child.pid, boot_id="0")) == -1
        (tmp_path / "run").mkdir()
        run = os.open(tmp_path / "run", os.O_RDONLY)
        state.write(run, "state", fields_of(child.pid, start_time="1"))
        assert attach.stop(run, 1.0) == "already"
        assert child.poll() is None
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert state.living(fields_of(child.pid, start_time="1")) == -1


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen(["true"])
    started = state.start_time(child.pid)
    deadline = time.monotonic() + 5
    while state.start_time(child.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert state.living(fields_of(child.pid, start_time=started)) == -1
    child.wait()


def test_messages_keep_their_borders_and_descriptors() -> None:
    first, second = pair()
    with first, second, open("/dev/null") as null:
        wire.send(first, [b"exec", b"", b"a b"], [null.fileno()])
        wire.send(first, [b"last"])
        message = wire.receive(second)
        assert message and message[0] == [b"exec", b"", b"a b"]
        assert os.fstat(message[1][0]).st_rdev == os.fstat(null.fileno()).st_rdev
        assert not os.get_inheritable(message[1][0])
        os.close(message[1][0])
        assert wire.receive(second) == ([b"last"], [])
        first.close()
        assert wire.receive(second) is None


@given(st.integers(0, 255), st.text(), st.text())
def test_a_failure_survives_the_pipe(code: int, message: str, hint: str) -> None:
    message, hint = (text.encode("utf-8", "replace").decode().replace("\0", "") for text in (message, hint))
    back = Failure.decode(Failure(code, message, hint).encode())
    assert (back.code, back.message, back.hint) == (code, message, hint)


def test_control_group_values_are_read_in_both_versions(tmp_path) -> None:
    for name, text in {
        "memory.current": "100",
        "memory.peak": "200",
        "memory.max": "300",
        "memory.events": "low 0\noom_kill 2",
        "pids.current": "3",
        "pids.max": "256",
        "cpu.max": "150000 100000",
    }.items():
        (tmp_path / name).write_text(text + "\n")
    values = Leaf(dict.fromkeys(("memory", "pids", "cpu"), str(tmp_path)), 2).values()
    assert values["memory"] == "100" and values["memory_limit"] == "300" and values["oom_kills"] == "2"
    assert values["cpu_limit"] == "1500" and values["pids"] == "3"


def test_memory_fields_are_bytes() -> None:
    assert memory._field(b"Name:\tx\nRssAnon:\t    12 kB\nRssShmem:\t 4 kB\n", b"RssShmem:") == 4096
    assert memory._field(b"nothing", b"RssAnon:") == 0


def test_20_a_file_open_only_through_a_group_is_found(tmp_path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    secret = tree / "deep" / "secret"
    secret.write_text("x")
    secret.chmod(0o640)
    info = secret.stat()
    stranger = info.st_uid + 1
    tree.chmod(0o755)
    (tree / "deep").chmod(0o755)
    assert groups.opened_by(str(tree), stranger, {info.st_gid}) == str(secret)
    assert groups.opened_by(str(tree), stranger, {info.st_gid + 1}) == ""
    assert groups.opened_by(str(tree), info.st_uid, {info.st_gid}) == ""
    secret.chmod(0o644)
    assert groups.opened_by(str(tree), stranger, {info.st_gid}) == ""
