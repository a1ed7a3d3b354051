"""What root does in a directory that is not root's, and the rights that a guest can make itself.

The environment's owner is not root's friend here: everything in the directory may be a trap.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping

import pytest
from sandbox import PLAIN_ROOT_UID, PROGRAM, ROOT, SUDO, Sandbox, alive, give, needs_root, until
from test_supervisor import change_plan

STRANGER = 61001  # a uid that needs no entry anywhere
PYTHON = str(ROOT / ".venv/bin/python3")
RUNTIME = [PYTHON, "-I", "-S", str(ROOT / "pyhelpers/launch/__main__.py")]
CONTROL = [PYTHON, "-I", str(ROOT / "pyhelpers/__main__.py")]


def as_user(uid: int, *command: str | os.PathLike[str]) -> list[str | os.PathLike[str]]:
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--", *command]


def landlock() -> int:
    """The kernel's Landlock ABI, 0 without."""
    answer = subprocess.run([*RUNTIME, "facts"], capture_output=True, text=True, check=True).stdout
    return int(dict(line.split("=", 1) for line in answer.splitlines())["landlock"])


needs_landlock = pytest.mark.skipif(not landlock(), reason="needs Landlock in the kernel")


class Base:
    """A VIRT_HOME, who its environments belong to, and the variables that root calls with."""

    def __init__(self, home: pathlib.Path, owner: int, **variables: str) -> None:
        self.home, self.owner = home, owner
        self.variables: dict[str, str | None] = {**dict.fromkeys(SUDO), **variables}

    def sandbox(self, name: str) -> Sandbox:
        return Sandbox(self.home, name, self.variables)


@pytest.fixture(scope="module", params=["plain root", "sudo"])
def base(home: pathlib.Path, request: pytest.FixtureRequest) -> Base:
    place = home / str(request.param)
    place.mkdir(mode=0o755)
    if request.param == "plain root":
        return Base(place, PLAIN_ROOT_UID)
    os.chown(place, STRANGER, STRANGER)
    return Base(place, STRANGER, SUDO_UID=str(STRANGER), SUDO_GID=str(STRANGER))


@pytest.fixture
def trapped(base: Base) -> Iterator[Sandbox]:
    """An environment of the base, created and not running."""
    it = base.sandbox("trapped")
    it.create()
    yield it
    if it.path.exists():
        it.destroy()


@pytest.fixture
def victim() -> Iterator[int]:
    """A process of root's that nobody may end."""
    process = subprocess.Popen(["sleep", "300"])
    yield process.pid
    process.kill()
    process.wait()


@pytest.fixture
def precious(home: pathlib.Path) -> Iterator[list[pathlib.Path]]:
    """Empty directories of root's that nobody may remove: a plain one and a control group."""
    hierarchies = map(pathlib.Path, ("/sys/fs/cgroup/pids", "/sys/fs/cgroup"))
    hierarchy = next(path for path in hierarchies if (path / "cgroup.procs").exists())
    made = [home / "virtualize-0/precious", hierarchy / f"virtualize-0-{os.getpid()}/precious"]
    for path in made:
        path.mkdir(parents=True)
    yield made
    for path in made:
        path.rmdir()
        path.parent.rmdir()


def forge(it: Sandbox, owner: int, pid: int, groups: list[str]) -> None:
    """Write the state of a supervisor that there is not, as its owner can."""
    boot_id = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    stat = pathlib.Path(f"/proc/{pid}/stat")
    started = stat.read_text().rpartition(")")[2].split()[19] if stat.exists() else "1"
    lines = ["status=running", f"pid={pid}", f"start_time={started}", f"boot_id={boot_id}", f"pid1={pid}"]
    path = it.path / "run/state"
    path.write_text("".join(f"{line}\n" for line in [*lines, *(f"cgroup={group}" for group in groups)]))
    os.chown(path, owner, owner)


@needs_root
@pytest.mark.parametrize("lives", [True, False], ids=["of a living process", "of no process"])
def test_87_a_forged_state_leads_root_nowhere(
    trapped: Sandbox, base: Base, victim: int, precious: list[pathlib.Path], lives: bool
) -> None:
    groups = [f"/sys/fs/cgroup/../../..{precious[0]}", str(precious[1])]
    for words in (["stop"], ["run"], ["restart"], ["destroy", "--yes"]):
        forge(trapped, base.owner, victim if lives else 4_194_303, groups)
        done = verb(trapped, *words, trapped.name)
        assert alive(victim) and all(path.is_dir() for path in precious), words
        assert "Traceback" not in done.stderr, done.stderr
        if done.returncode == 0 and words[0] in ("run", "restart"):
            pid = int(trapped.state()["pid"])
            trapped.call("stop", trapped.name)
            assert not alive(pid), "the twin: a true state is believed"
    if lives:
        (trapped.path / "run/state").unlink(missing_ok=True)


@needs_root
def test_87_nor_does_it_where_there_is_no_python(
    trapped: Sandbox, base: Base, victim: int, tmp_path: pathlib.Path
) -> None:
    """`stop` and `destroy` work without .venv, by the shell's own kill."""
    shutil.copytree(ROOT / "lib", tmp_path / "lib")
    program = shutil.copy(PROGRAM, tmp_path)
    trapped.run()
    pid = int(trapped.state()["pid"])
    subprocess.run([program, "stop", trapped.name], env=trapped.environment, check=True, timeout=20)
    until(lambda: not alive(pid), 1, "the twin: a true supervisor is ended")
    forge(trapped, base.owner, victim, [])
    try:
        subprocess.run([program, "stop", trapped.name], env=trapped.environment, timeout=20)
        assert alive(victim)
    finally:
        (trapped.path / "run/state").unlink(missing_ok=True)


def bounded(command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command; AssertionError if it hangs, and nothing of it goes on."""
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, error = process.communicate(timeout=20)
        except subprocess.TimeoutExpired as late:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"{command} hangs") from late
    return subprocess.CompletedProcess(command, process.returncode, out, error)


def verb(it: Sandbox, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a verb that may fall into a trap."""
    return bounded(it.command(*words), it.environment)


@pytest.fixture
def roots(home: pathlib.Path) -> Iterator[pathlib.Path]:
    """A directory of root's alone, with the file `secret`."""
    place = home / "roots"
    place.mkdir(mode=0o700)
    (place / "secret").write_text("a secret of root\n")
    (place / "secret").chmod(0o600)
    yield place
    shutil.rmtree(place)


def plant(path: pathlib.Path, kind: str, roots: pathlib.Path, owner: int) -> None:
    """Put a trap at `path`."""
    path.unlink(missing_ok=True)
    if kind == "hard link":
        os.link(roots / "secret", path)
        return
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(roots / ("secret" if kind == "link" else "new"))
    os.chown(path, owner, owner, follow_symlinks=False)


def looks(path: pathlib.Path) -> tuple[object, ...]:
    info = path.stat()
    return info.st_uid, info.st_gid, info.st_mode, info.st_size, info.st_mtime_ns, path.read_bytes()


TRAPS = ("fifo", "link", "link to nothing", "hard link")


@needs_root
@pytest.mark.parametrize(
    "place", ["run/.state.new", "run/bootstrapped", "logs/service.log", "logs/events.jsonl"]
)
def test_100_a_trap_in_the_directory_leads_root_nowhere(
    trapped: Sandbox, base: Base, roots: pathlib.Path, place: str
) -> None:
    path, before = trapped.path / place, looks(roots / "secret")
    for kind in TRAPS:
        plant(path, kind, roots, base.owner)
        done = verb(trapped, "run", trapped.name)
        assert "Traceback" not in done.stderr, done.stderr
        if place == "run/.state.new":
            assert done.returncode == 0, done.stderr
        if done.returncode == 0:
            trapped.call("stop", trapped.name)
        assert looks(roots / "secret") == before, kind
        assert not (roots / "new").exists(), kind
        path.unlink(missing_ok=True)
    trapped.run()
    trapped.call("stop", trapped.name)


@pytest.fixture
def step(base: Base) -> Iterator[pathlib.Path]:
    """A directory with the plan of one program, `cat`, as making a template leaves it."""
    staging = base.home / "staging"
    staging.mkdir(mode=0o700)
    os.chown(staging, base.owner, base.owner)
    words = ["template", staging, "--engine", "postgres", "--base", base.home / ".sandboxes"]
    words += ["--uid", str(base.owner), "--gid", str(base.owner)]
    command = [*CONTROL, *words] if base.owner == PLAIN_ROOT_UID else as_user(base.owner, *CONTROL, *words)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    change_plan(staging / "init.0/plan", "argv", "/bin/cat")
    subprocess.run(["chown", "-R", f"{base.owner}:{base.owner}", staging], check=True)
    yield staging / "init.0"
    shutil.rmtree(staging)


@needs_root
def test_100_a_step_reads_what_its_owner_can_read(
    step: pathlib.Path, base: Base, roots: pathlib.Path
) -> None:
    stdin, before = step / "stdin", looks(roots / "secret")
    once = [*RUNTIME, "once", str(step)]
    stdin.write_text("the twin\n")
    done = bounded(once, os.environ)
    assert (done.returncode, done.stderr) == (0, "the twin\n")
    for kind in TRAPS:
        plant(stdin, kind, roots, base.owner)
        done = bounded(once, os.environ)
        assert "a secret of root" not in done.stdout + done.stderr, kind
        assert done.returncode != 0 and "Traceback" not in done.stderr, (kind, done.stderr)
        assert looks(roots / "secret") == before and not (roots / "new").exists(), kind


@needs_root
@pytest.mark.parametrize("up", [2, 8])
def test_100_the_name_in_a_plan_is_no_path(trapped: Sandbox, base: Base, up: int) -> None:
    word = f"escaped-{os.getpid()}"
    change_plan(trapped.path / "config/plan", "name", "../" * up + word)
    done = verb(trapped, "run", trapped.name)
    assert done.returncode in (0, 1, 4) and "Traceback" not in done.stderr, done.stderr
    groups = [
        line[7:]
        for line in (trapped.path / "run/state").read_text().splitlines()
        if line.startswith("cgroup=")
    ]
    assert all(f"/virtualize-{base.owner}/" in group and ".." not in group for group in groups), groups
    for place, depth in (
        ("/sys/fs/cgroup", "9"),
        (trapped.home.parent.parent, "9"),
        ("/", "2"),
        ("/tmp", "2"),
    ):
        command = ["find", place, "-maxdepth", depth, "-name", f"*{word}*"]
        assert subprocess.run(command, capture_output=True, text=True).stdout == ""
    trapped.call("stop", trapped.name)
    assert not any(os.path.exists(group) for group in groups)


@needs_root
def test_100_doctor_makes_nothing_of_roots_in_a_users_directory(home: pathlib.Path) -> None:
    place = home / "doctor"
    place.mkdir()
    os.chown(place, STRANGER, STRANGER)
    it = Sandbox(place, "", dict.fromkeys(SUDO))

    def storage() -> str:
        facts = json.loads(it.call("doctor", "--json", check=False).stdout)["facts"]
        return "reflink" if facts["reflink"] else str(facts["overlay"])

    place.chmod(0o555)  # root could write here, its owner cannot
    before = place.stat().st_mtime_ns
    assert "cannot be written" in storage()
    assert place.stat().st_mtime_ns == before
    place.chmod(0o755)
    assert storage() in ("yes", "reflink")
    assert place.stat().st_mtime_ns != before and list(place.iterdir()) == []


@needs_root
def test_102_in_a_base_of_roots_sudo_gives_its_caller_nothing(home: pathlib.Path) -> None:
    place = home / "base of roots"
    (place / ".sandboxes").mkdir(parents=True)
    it = Base(place, PLAIN_ROOT_UID, SUDO_UID=str(STRANGER), SUDO_GID=str(STRANGER)).sandbox("shared")
    it.create()
    try:
        assert it.record()["uid"] == str(PLAIN_ROOT_UID)
        assert {path.lstat().st_uid for path in (it.path, *it.path.rglob("*"))} == {PLAIN_ROOT_UID}
        for path in (it.path, it.path / "config", it.path / "data", place / ".sandboxes"):
            for denied in ([], [PLAIN_ROOT_UID] if path == place / ".sandboxes" else []):
                for uid in (STRANGER, *denied):
                    touch = subprocess.run(as_user(uid, "touch", path / "x"), capture_output=True)
                    assert touch.returncode != 0, (path, uid)
        subprocess.run(as_user(PLAIN_ROOT_UID, "touch", it.path / "data/x"), check=True)
        (it.path / "data/x").unlink()
    finally:
        it.destroy()


@needs_root
def test_51_what_runs_as_the_owner_has_none_of_roots_variables(trapped: Sandbox, base: Base) -> None:
    trapped.environment["VIRT_TEST_SECRET"] = "secret"
    trapped.run()
    state = trapped.state()
    for key in ("pid", "pid1"):
        environ = pathlib.Path(f"/proc/{state[key]}/environ").read_bytes()
        # Compared first: a report must not show what is secret. All of it is wiped.
        wiped = len(environ) > 0 and not environ.strip(b"\0")
        assert wiped, key


@needs_root
def test_51_nor_has_a_verb_that_goes_on_as_the_owner(trapped: Sandbox, base: Base) -> None:
    trapped.environment["VIRT_TEST_SECRET"] = "secret"
    trapped.run()
    attack = trapped.attack("process", "wait")
    attack.expect("waiting")
    try:
        words = as_user(base.owner, "grep", "-aq", "VIRT_TEST_SECRET=", f"/proc/{attack.process.pid}/environ")
        assert subprocess.run(words, stderr=subprocess.DEVNULL).returncode != 0
    finally:
        attack.stop()


def test_60_what_no_limit_counts_cannot_be_had(sandbox: Sandbox) -> None:
    found = sandbox.guest("rights", "uncounted")
    assert found.pop("shmget 4096") == "ok"
    assert {found.pop("shmget 2 MB"), found.pop("shmget 4 GB")} == {"EINVAL"}
    assert found == dict.fromkeys(("io_setup", "inotify_init1", "semget"), "ENOSYS")


def test_10_no_file_can_be_made_that_lends_its_owners_rights(sandbox: Sandbox, trees: pathlib.Path) -> None:
    place = trees / "rw/lent"
    place.mkdir()
    (place / "old").write_text("old\n")
    give(place)
    found = sandbox.guest("rights", "set_id", "/rw/lent")
    twin = found.pop("755")
    assert twin.pop("temporary") in ("ok", "EOPNOTSUPP")
    assert twin.pop("fchmodat2") in ("ok", "ENOSYS")  # Linux 6.6, and a libseccomp that knows it
    assert set(twin.values()) == {"ok"}, twin
    for mode, calls in found.items():
        assert calls.pop("fchmodat2") in ("EPERM", "ENOSYS")
        assert set(calls.values()) == {"EPERM"}, (mode, calls)
    assert not [path for path in (place, *place.rglob("*")) if path.stat().st_mode & 0o6000]


def test_60_no_lease_holds_up_the_hosts_writers(sandbox: Sandbox) -> None:
    found = sandbox.guest("rights", "leases", "/ro/old", "/rw/old")
    assert found == {path: ["EPERM", "EPERM", "ok"] for path in ("/ro/old", "/rw/old")}


@needs_landlock
def test_02_a_fifo_of_a_read_only_grant_cannot_be_written(sandbox: Sandbox, trees: pathlib.Path) -> None:
    readers = {}
    for name in ("ro", "rw"):
        path = trees / name / "pipe"
        os.mkfifo(path)
        path.chmod(0o666)
        give(path)
        readers[name] = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        found = sandbox.guest("rights", "write_fifo", "/ro/pipe", "/rw/pipe")
        assert found == {"/ro/pipe": "EACCES", "/rw/pipe": "ok"}
        assert os.read(readers["rw"], 10) == b"x"
        with pytest.raises(BlockingIOError):
            os.read(readers["ro"], 10)
    finally:
        for fd in readers.values():
            os.close(fd)


def test_65_the_guest_cannot_change_its_standing_with_the_out_of_memory_killer(sandbox: Sandbox) -> None:
    found = sandbox.guest("rights", "out_of_memory")
    assert set(found["tries"]) <= {"EROFS", "EACCES", "EPERM"}, found
    expected = 1000 if sandbox.state()["limit.memory"] == "sampled" else found["before"]
    assert found["before"] == found["after"] == expected
