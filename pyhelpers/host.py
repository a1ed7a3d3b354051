"""What this host is and can do: facts with their evidence. Nothing here judges them."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import shutil
import sys
import tempfile
from typing import NamedTuple

from pyhelpers import card as cards
from pyhelpers import providers
from pyhelpers.records import read_pairs
from pyhelpers.runstate import ask_runtime

_FICLONE = 0x40049409  # linux/fs.h: share a whole file's extents
_GUEST_UID = 60913  # docs/architecture.md: the owner when root works for nobody else

# The settings that decide about user namespaces and about reading a guest's memory.
SETTINGS = (
    "kernel/apparmor_restrict_unprivileged_userns",
    "kernel/unprivileged_userns_clone",
    "user/max_user_namespaces",
    "kernel/yama/ptrace_scope",
)


class Facts(NamedTuple):
    """One host, as recorded. A test makes one by hand for a host that it does not have."""

    distribution: str
    kernel: str  # release, as uname -r prints it
    container: str  # docker, podman, lxc, wsl; empty: none seen
    root: bool
    python: str
    interpreter: str
    settings: dict[str, str]  # by their path below /proc/sys; absent ones are not in it
    seccomp_actions: str  # kernel.seccomp.actions_avail
    libseccomp: tuple[int, int, int] | None
    user_namespaces: bool  # an unshare and a mount inside were tried
    landlock: int  # ABI; 0: none
    cgroup2: tuple[str, ...]  # limits that a version 2 hierarchy gives us
    cgroup1: tuple[str, ...]
    user_bus: bool
    reflink: bool | None  # None: could not be tried
    overlay: str  # yes, or why not
    servers: dict[str, tuple[str, ...]]  # by engine: "VERSION from PLACE"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _container() -> str:
    if os.path.exists("/.dockerenv"):
        return "docker"
    if os.path.exists("/run/.containerenv"):
        return "podman"
    if "microsoft" in platform.release().lower():
        return "wsl"
    return _read("/run/systemd/container")


def _libseccomp() -> tuple[int, int, int] | None:
    class Version(ctypes.Structure):
        """struct scmp_version of seccomp.h."""

        _fields_ = (("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint))

    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None
    library.seccomp_version.restype = ctypes.POINTER(Version)
    found = library.seccomp_version().contents
    return found.major, found.minor, found.micro


def _reflink(folder: str) -> bool:
    with open(os.path.join(folder, "one"), "xb") as one, open(os.path.join(folder, "two"), "xb") as two:
        one.write(b"x")
        one.flush()
        try:
            fcntl.ioctl(two, _FICLONE, one.fileno())
        except OSError:
            return False
    return True


class _AsBaseOwner:
    """For a `with`: as root, act as the user in whose directory files are made, links and all."""

    def __init__(self, base: str) -> None:
        info = os.stat(base)
        self.needed = os.geteuid() == 0 and info.st_uid != 0
        self.uid, self.gid = info.st_uid, info.st_gid

    def __enter__(self) -> None:
        if self.needed:
            os.setegid(self.gid)
            os.seteuid(self.uid)

    def __exit__(self, *_: object) -> None:
        if self.needed:
            os.seteuid(0)
            os.setegid(0)


def _storage(base: str) -> tuple[bool | None, str]:
    """Try a reflink and an overlay where the environments are kept."""
    base = os.path.abspath(base)
    while not os.path.isdir(base):
        base = os.path.dirname(base)
    as_owner = _AsBaseOwner(base)
    folder = ""
    try:
        with as_owner:
            folder = tempfile.mkdtemp(prefix=".doctor.", dir=base)
            shared = _reflink(folder)
            for name in ("lower", "upper", "work"):
                os.mkdir(os.path.join(folder, name), 0o700)
            with open(os.path.join(folder, "lower", "probe"), "xb"):
                pass
        if os.geteuid() == 0 and not as_owner.needed:
            # Nobody else can change root's own directory: these are the files just made.
            for name in ("lower/probe", "lower", "upper", "work", "."):
                os.chown(f"{folder}/{name}", _GUEST_UID, _GUEST_UID, follow_symlinks=False)
        answer = dict(ask_runtime(["probe", folder])).get("overlay", "no answer of the trial")
        return shared, answer.partition("no ")[2] or answer
    except OSError as error:
        return None, f"{base} cannot be written: {error.strerror}"
    finally:
        with as_owner:
            for name in ("work", "work/work"):
                if folder and os.path.isdir(os.path.join(folder, name)):
                    os.chmod(os.path.join(folder, name), 0o700)  # overlay leaves it unreadable
            shutil.rmtree(folder, ignore_errors=True)


def _servers() -> dict[str, tuple[str, ...]]:
    found = {}
    for engine in cards.engines():
        card = cards.load(engine)
        known = providers.available(card, os.environ)
        found[engine] = tuple(f"{provider.version} from {provider.label}" for provider in known)
    return found


def gather(base: str) -> Facts:
    """This host's facts. `base` is the directory that environments are kept in, or would be."""
    runtime = dict(ask_runtime(["facts"]))
    reflink, overlay = _storage(base)
    settings = {name: _read(f"/proc/sys/{name}") for name in SETTINGS if os.path.exists(f"/proc/sys/{name}")}
    landlock = runtime.get("landlock", "0")
    return Facts(
        distribution=read_pairs(os.path.realpath("/etc/os-release")).get("PRETTY_NAME", "unknown").strip('"'),
        kernel=platform.release(),
        container=_container(),
        root=os.geteuid() == 0,
        python=platform.python_version(),
        interpreter=sys.executable,
        settings=settings,
        seccomp_actions=_read("/proc/sys/kernel/seccomp/actions_avail"),
        libseccomp=_libseccomp(),
        user_namespaces=runtime.get("user_namespaces") == "yes",
        landlock=int(landlock) if landlock.isdigit() else 0,
        cgroup2=tuple(runtime.get("cgroup2_limits", "").split()),
        cgroup1=tuple(runtime.get("cgroup1_limits", "").split()),
        user_bus=runtime.get("user_bus") == "1",
        reflink=reflink,
        overlay=overlay,
        servers=_servers(),
    )
