"""`doctor`: what a host can do, what it lacks, and the command that mends it."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from pyhelpers.errors import HOST, plain
from pyhelpers.host import Facts, gather
from pyhelpers.table import print_table

OK, LIMITED, MISSING = "ok", "limited", "missing"

# Linux versions: SECURITY.md, "Hosts that lack something".
_FLOOR = (5, 14)
_WAIT_KILLABLE = (5, 19)
_LANDLOCK_NET = 4  # Landlock ABI of Linux 6.7


class Finding(NamedTuple):
    """One line of the report. `missing` means that no sandbox can run here."""

    subject: str
    state: str
    found: str
    gives: str
    mend: str = ""  # a command, exact; empty where there is nothing to mend


def kernel_version(release: str) -> tuple[int, int]:
    """The two numbers that a release name begins with; (0, 0) if there are none."""
    match = re.match(r"([0-9]+)\.([0-9]+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def decide(facts: Facts) -> list[Finding]:
    """Judge the facts. Pure: the same facts give the same findings on any host."""
    return list(_findings(facts))


def _findings(facts: Facts) -> Iterator[Finding]:
    version = kernel_version(facts.kernel)
    yield Finding(
        "kernel",
        OK if version >= _FLOOR else MISSING,
        facts.kernel,
        "every mechanism of the sandbox" if version >= _FLOOR else "nothing: 5.14 or later is needed",
        "" if version >= _FLOOR else "a distribution's newer kernel, then a reboot",
    )
    yield _user_namespaces(facts)
    yield _broker(facts)
    yield _ptrace(facts)
    yield Finding(
        "notifications",
        OK if version >= _WAIT_KILLABLE else LIMITED,
        "uninterrupted" if version >= _WAIT_KILLABLE else "may be repeated by signals (Linux before 5.19)",
        "the broker's answers",
    )
    yield Finding(
        "landlock",
        OK if facts.landlock >= _LANDLOCK_NET else LIMITED,
        f"ABI {facts.landlock}" if facts.landlock else "not in this kernel",
        "a second layer below the broker"
        if facts.landlock >= _LANDLOCK_NET
        else "nothing changes: the first layer is complete",
    )
    for limit in ("memory", "cpu", "pids"):
        yield _limit(facts, limit)
    yield _storage(facts)
    yield Finding("python", OK, f"{facts.python}, {facts.interpreter}", "the control plane and the launcher")
    for engine, servers in facts.servers.items():
        from pyhelpers.card import load

        mend = "" if servers else load(engine).data["provider"]["install"]
        yield Finding(
            engine, OK if servers else LIMITED, "; ".join(servers) or "no server programs", "an engine", mend
        )


def _user_namespaces(facts: Facts) -> Finding:
    subject, gives = "user namespaces", "the sandbox without root"
    if facts.user_namespaces:
        return Finding(
            subject, OK, "created, and a mount inside worked", "the sandbox" if facts.root else gives
        )
    if facts.container in ("docker", "podman"):
        # The engine's default profile forbids unshare, and its masked /proc forbids a new one.
        lifted = ("seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined")
        command = f"{facts.container} run {' '.join(f'--security-opt {option}' for option in lifted)} …"
        return Finding(subject, MISSING, f"forbidden in this {facts.container} container", gives, command)
    setting = facts.settings.get
    if setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        profile = f"profile virtualize {facts.interpreter} flags=(unconfined) {{ userns, }}"
        command = (
            f"printf '%s\\n' 'abi <abi/4.0>,' {shlex.quote(profile)} | sudo tee /etc/apparmor.d/virtualize"
            " && sudo apparmor_parser -r /etc/apparmor.d/virtualize"
        )
        return Finding(subject, MISSING, "kernel.apparmor_restrict_unprivileged_userns is 1", gives, command)
    if setting("kernel/unprivileged_userns_clone") == "0":
        command = "sudo sysctl -w kernel.unprivileged_userns_clone=1"
        return Finding(subject, MISSING, "kernel.unprivileged_userns_clone is 0", gives, command)
    if setting("user/max_user_namespaces") == "0":
        command = "sudo sysctl -w user.max_user_namespaces=15000"
        return Finding(subject, MISSING, "user.max_user_namespaces is 0", gives, command)
    return Finding(
        subject, MISSING, "forbidden, by no setting that is known here", gives, "" if facts.root else "sudo"
    )


def _broker(facts: Facts) -> Finding:
    subject, gives = "system-call filter", "the filter, and the broker behind it"
    if facts.libseccomp is None:
        return Finding(subject, MISSING, "no libseccomp.so.2", gives, "sudo apt-get install libseccomp2")
    found = f"libseccomp {'.'.join(map(str, facts.libseccomp))}"
    if facts.libseccomp < (2, 5, 0):
        return Finding(
            subject, MISSING, f"{found}: 2.5 or later is needed", gives, "sudo apt-get install libseccomp2"
        )
    if facts.seccomp_actions and "user_notif" not in facts.seccomp_actions.split():
        return Finding(subject, MISSING, "the kernel has no seccomp notifications", gives)
    return Finding(subject, OK, found, gives)


def _ptrace(facts: Facts) -> Finding:
    scope = facts.settings.get("kernel/yama/ptrace_scope", "")
    gives = "the broker reads the addresses that the guest asks for"
    if scope == "3":
        # The value 3 lasts until the next boot (Documentation/admin-guide/LSM/Yama.rst).
        mend = (
            "sudo sed -i '/kernel.yama.ptrace_scope/d' /etc/sysctl.conf /etc/sysctl.d/*.conf && sudo reboot"
        )
        return Finding("ptrace", MISSING, "kernel.yama.ptrace_scope is 3: forbidden to all", gives, mend)
    return Finding("ptrace", OK, f"kernel.yama.ptrace_scope is {scope}" if scope else "no Yama", gives)


def _limit(facts: Facts, limit: str) -> Finding:
    gives = f"the {limit} limit"
    for version, limits in (("v2", facts.cgroup2), ("v1", facts.cgroup1)):
        if limit in limits:
            return Finding(f"limit: {limit}", OK, f"control groups {version}", gives)
    # A user's systemd hands out these two; processor time only where it was told to.
    if facts.user_bus and limit in ("memory", "pids"):
        return Finding(f"limit: {limit}", OK, "control groups v2, a scope of your systemd", gives)
    found = {
        "memory": "sampled ten times a second by the supervisor",
        "cpu": "whole processors, by affinity",
        "pids": "RLIMIT_NPROC of the user namespace",
    }[limit]
    mend = "" if facts.root else "sudo, for the kernel's own control groups"
    return Finding(f"limit: {limit}", LIMITED, found, gives, mend)


def _storage(facts: Facts) -> Finding:
    subject = "storage"
    if facts.reflink:
        return Finding(subject, OK, "reflinks", "an environment shares its template's blocks")
    if facts.overlay == "yes":
        return Finding(subject, OK, "overlay", "an environment holds only what it changed")
    why = f"copies ({plain(facts.overlay)})"
    return Finding(subject, LIMITED, why, "an environment is a whole copy of its template")


def doctor(*, as_json: bool) -> int:
    """Print the report; 0 if a sandbox can run here, else 5."""
    base = os.path.join(os.environ.get("VIRT_HOME") or os.getcwd(), ".sandboxes")
    facts = gather(base)
    findings = decide(facts)
    runs = all(finding.state != MISSING for finding in findings)
    if as_json:
        rows = [finding._asdict() for finding in findings]
        print(
            json.dumps(
                {"version": 1, "sandbox_runs": runs, "facts": facts._asdict(), "findings": rows}, indent=2
            )
        )
        return 0 if runs else HOST
    where = f", in {facts.container}" if facts.container else ""
    print(f"{plain(facts.distribution)}, Linux {plain(facts.kernel)}{where}\n")
    print_table(("WHAT", "STATE", "FOUND", "GIVES"), [finding[:4] for finding in findings])
    for finding in findings:
        if finding.mend:
            print(f"\n{finding.subject}: {finding.found}\n  try: {finding.mend}")
    print(f"\nthe sandbox {'can' if runs else 'cannot'} run here")
    return 0 if runs else HOST
