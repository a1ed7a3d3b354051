"""What `doctor` concludes, from the recorded facts of hosts that are not this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyhelpers.doctor import LIMITED, MISSING, OK, Finding, decide, kernel_version
from pyhelpers.host import Facts

ACTIONS = "kill_process kill_thread trap errno user_notif trace log allow"

DEBIAN_12 = Facts(
    distribution="Debian GNU/Linux 12 (bookworm)",
    kernel="6.1.0-28-amd64",
    container="",
    root=False,
    python="3.11.2",
    interpreter="/home/u/it's/.venv/bin/python3",
    settings={
        "kernel/unprivileged_userns_clone": "1",
        "user/max_user_namespaces": "63434",
        "kernel/yama/ptrace_scope": "0",
    },
    seccomp_actions=ACTIONS,
    libseccomp=(2, 5, 4),
    user_namespaces=True,
    landlock=2,
    cgroup2=(),
    cgroup1=(),
    user_bus=True,
    reflink=False,
    overlay="yes",
    servers={"postgres": ("15.10 from host:/usr/lib/postgresql/15/bin",)},
)
UBUNTU_2404 = DEBIAN_12._replace(
    distribution="Ubuntu 24.04.1 LTS",
    kernel="6.8.0-51-generic",
    settings={
        "kernel/apparmor_restrict_unprivileged_userns": "1",
        "kernel/unprivileged_userns_clone": "1",
        "user/max_user_namespaces": "62918",
        "kernel/yama/ptrace_scope": "1",
    },
    user_namespaces=False,
    landlock=4,
    libseccomp=(2, 5, 5),
    overlay="no: this host forbids user namespaces",
)
RHEL_9 = DEBIAN_12._replace(
    distribution="Red Hat Enterprise Linux 9.5 (Plow)",
    kernel="5.14.0-503.14.1.el9_5.x86_64",
    settings={"user/max_user_namespaces": "31162", "kernel/yama/ptrace_scope": "0"},
    libseccomp=(2, 5, 2),
    landlock=0,
    reflink=True,
)
WSL_2 = DEBIAN_12._replace(
    distribution="Ubuntu 22.04.5 LTS",
    kernel="5.15.167.4-microsoft-standard-WSL2",
    container="wsl",
    settings={"user/max_user_namespaces": "31560"},
    user_bus=False,
    landlock=0,
)
IN_DOCKER = DEBIAN_12._replace(
    kernel="6.8.0-51-generic",
    container="docker",
    root=True,
    user_namespaces=False,
    user_bus=False,
    landlock=4,
)


def by_subject(facts: Facts) -> dict[str, Finding]:
    return {finding.subject: finding for finding in decide(facts)}


def states(facts: Facts, state: str) -> list[str]:
    return [finding.subject for finding in decide(facts) if finding.state == state]


def test_debian_12_runs_the_sandbox_for_an_ordinary_user() -> None:
    assert states(DEBIAN_12, MISSING) == []
    found = by_subject(DEBIAN_12)
    assert found["user namespaces"].state == OK
    assert found["limit: memory"].found == "control groups v2, a scope of your systemd"
    assert found["limit: cpu"].state == LIMITED
    assert found["landlock"].state == LIMITED  # ABI 2 knows nothing of the network


def test_ubuntu_2404_needs_one_command_which_names_our_interpreter_alone() -> None:
    assert states(UBUNTU_2404, MISSING) == ["user namespaces"]
    finding = by_subject(UBUNTU_2404)["user namespaces"]
    assert "kernel.apparmor_restrict_unprivileged_userns is 1" in finding.found
    assert "apparmor_parser -r /etc/apparmor.d/virtualize" in finding.mend
    # The part before the pipe can be run here: the profile names the path with its quote.
    words = subprocess.run(
        ["sh", "-c", finding.mend.split(" | ")[0]], capture_output=True, text=True, check=True
    ).stdout
    assert words.startswith("abi <abi/4.0>,\nprofile virtualize ")
    assert "/home/u/it's/.venv/bin/python3" in words


def test_ubuntu_2404_runs_it_as_root() -> None:
    as_root = UBUNTU_2404._replace(
        root=True, user_namespaces=True, overlay="yes", cgroup2=("memory", "cpu", "pids")
    )
    assert states(as_root, MISSING) == []
    assert by_subject(as_root)["limit: cpu"].state == OK


def test_rhel_9_runs_with_what_its_kernel_has() -> None:
    assert states(RHEL_9, MISSING) == []
    found = by_subject(RHEL_9)
    assert found["kernel"].state == OK
    assert found["notifications"].state == LIMITED
    assert found["landlock"].found == "not in this kernel"
    assert found["storage"].found == "reflinks"


def test_wsl_2_runs_without_control_groups() -> None:
    assert states(WSL_2, MISSING) == []
    assert [by_subject(WSL_2)[f"limit: {limit}"].state for limit in ("memory", "cpu", "pids")] == [
        LIMITED
    ] * 3


def test_an_unprivileged_docker_container_is_told_the_options() -> None:
    assert states(IN_DOCKER, MISSING) == ["user namespaces"]
    mend = by_subject(IN_DOCKER)["user namespaces"].mend
    assert mend.startswith("docker run --security-opt seccomp=unconfined")
    assert "systempaths=unconfined" in mend


@pytest.mark.parametrize(
    ("settings", "mend"),
    [
        ({"kernel/unprivileged_userns_clone": "0"}, "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        ({"user/max_user_namespaces": "0"}, "sudo sysctl -w user.max_user_namespaces=15000"),
        ({}, "sudo"),
    ],
)
def test_each_setting_that_forbids_user_namespaces_has_its_command(
    settings: dict[str, str], mend: str
) -> None:
    finding = by_subject(DEBIAN_12._replace(user_namespaces=False, settings=settings))["user namespaces"]
    assert (finding.state, finding.mend) == (MISSING, mend)


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        ({"kernel": "5.13.19-amd64"}, "kernel"),
        ({"kernel": "nonsense"}, "kernel"),
        ({"settings": {"kernel/yama/ptrace_scope": "3"}}, "ptrace"),
        ({"libseccomp": None}, "system-call filter"),
        ({"libseccomp": (2, 4, 4)}, "system-call filter"),
        ({"seccomp_actions": "kill_process errno allow"}, "system-call filter"),
    ],
)
def test_what_the_sandbox_cannot_do_without_is_missing(change: dict[str, object], subject: str) -> None:
    assert states(DEBIAN_12._replace(**change), MISSING) == [subject]


def test_an_engine_without_programs_says_how_to_install_them() -> None:
    finding = by_subject(DEBIAN_12._replace(servers={"postgres": ()}))["postgres"]
    assert (finding.state, finding.mend) == (LIMITED, "sudo apt-get install postgresql")


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.18.44-fc", (6, 18)), ("5.14.0-503.el9", (5, 14)), ("6.1", (6, 1)), ("", (0, 0))],
)
def test_a_kernels_release_is_read(release: str, version: tuple[int, int]) -> None:
    assert kernel_version(release) == version


def test_doctor_reports_this_host_as_json_and_leaves_nothing_behind(tmp_path: Path) -> None:
    main = Path(__file__).parents[2] / "pyhelpers" / "__main__.py"
    answer = subprocess.run(
        [sys.executable, "-I", main, "doctor", "--json"],
        capture_output=True,
        check=False,
        env={**os.environ, "VIRT_HOME": str(tmp_path)},
    )
    report = json.loads(answer.stdout)
    assert report["version"] == 1
    assert answer.returncode == (0 if report["sandbox_runs"] else 5)
    assert list(tmp_path.iterdir()) == []
