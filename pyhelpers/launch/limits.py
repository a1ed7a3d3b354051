"""Which mechanism holds each limit on this host: the choice is a pure function of facts."""

from __future__ import annotations

import os
import resource

from launch import cgroup, scope
from launch.errors import HOST, Failure
from launch.plan import Plan
from launch.record import Record

LIMITS = ("memory", "cpu", "pids")
_KERNEL = ("cgroup2", "cgroup1")
_OOM_SCORE = 1000  # the guest goes first when the host runs out of memory (proc(5))


class Facts(Record):
    """What the choice depends on; read by `facts`, or given by a test."""

    privileged: bool
    cpus: int  # that this process may use
    v2: list[str]  # limits that a version 2 hierarchy offers to us
    v1: list[str]
    user_bus: bool  # a user's systemd answers: a delegated scope can be had
    in_scope: bool


def facts(privileged: bool) -> tuple[Facts, cgroup.Hierarchies]:
    """This host's facts, and where the control groups are."""
    in_scope = scope.inside()
    places = cgroup.find(in_scope)
    usable = privileged or in_scope
    bus = os.path.exists(f"/run/user/{os.getuid()}/bus") and any(
        os.access(f"{directory}/systemd-run", os.X_OK) for directory in ("/usr/bin", "/bin")
    )
    unified = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    return (
        Facts(
            privileged,
            len(os.sched_getaffinity(0)),
            [limit for limit in LIMITS if limit in places.v2_controllers] if usable else [],
            sorted(places.v1) if usable else [],
            bus and unified and not privileged,
            in_scope,
        ),
        places,
    )


class Choice(Record):
    """By limit the mechanism: cgroup2, cgroup1, rlimit, affinity, sampled or none."""

    mechanisms: dict[str, str]
    notes: list[str]

    def by_cgroup(self, version: int) -> list[str]:
        """The limits that this version of control groups holds."""
        return [limit for limit, how in self.mechanisms.items() if how == f"cgroup{version}"]


def choose(known: Facts, wanted: dict[str, int], strict: bool, degraded: list[str]) -> Choice:
    """The strongest mechanism for each wanted limit (bytes, thousandths of a core, count).

    Raises Failure HOST for a limit that nothing here can hold, unless `degraded` names it;
    with `strict`, for one that no control group holds.
    """
    mechanisms, notes = {}, []
    for limit, value in wanted.items():
        if limit in known.v2:
            how, why = "cgroup2", ""
        elif limit in known.v1:
            how, why = "cgroup1", ""
        else:
            how, why = _without_cgroup(known, limit, value)
        if how not in _KERNEL and strict:
            how, why = (
                "none",
                "--strict-limits accepts control groups only, and this host gives you none for it",
            )
        if how == "none":
            if limit not in degraded:
                raise Failure(
                    HOST,
                    f"no mechanism here can hold {limit}={_show(limit, value)}: {why}",
                    f"sudo, or a limit that can be held, or run --allow-degraded {limit}",
                )
            notes.append(f"{limit} is not limited: {why}")
        mechanisms[limit] = how
    return Choice(mechanisms, notes)


def _without_cgroup(known: Facts, limit: str, value: int) -> tuple[str, str]:
    if limit == "pids":
        return "rlimit", ""
    if limit == "memory":
        return "sampled", ""
    if value % 1000:
        return "none", "without control groups only whole cores can be given"
    return "affinity", ""


def _show(limit: str, value: int) -> str:
    return f"{value / 1000:g}" if limit == "cpu" else str(value)


def needs_scope(known: Facts, wanted: dict[str, int]) -> bool:
    """Whether asking the user's systemd for a delegated scope would hold more."""
    return known.user_bus and not known.in_scope and not set(wanted) <= {*known.v2, *known.v1}


def wanted(plan: Plan) -> dict[str, int]:
    """The manifest's limits, from the plan."""
    found = {limit: plan.number("limit", limit) for limit in LIMITS}
    return {limit: value for limit, value in found.items() if value is not None}


def process_limits(plan: Plan, choice: Choice) -> list[tuple[int, int]]:
    """The resource limits that pid 1 sets on itself (getrlimit(2))."""
    limits = wanted(plan)
    out = [(resource.RLIMIT_CORE, 0)]
    nofile = plan.number("limit", "nofile")
    if nofile:
        out.append((resource.RLIMIT_NOFILE, min(nofile, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    if choice.mechanisms.get("pids") == "rlimit":
        out.append((resource.RLIMIT_NPROC, limits["pids"]))
    if choice.mechanisms.get("memory") == "sampled":
        # Bounds what one process can take between two samples. Twice the limit, since it counts
        # what is reserved and never touched, as the stacks of threads are.
        out.append((resource.RLIMIT_DATA, 2 * limits["memory"]))
    return out


def oom_score(choice: Choice) -> int | None:
    """The guest's oom_score_adj when the kernel does not bound its memory."""
    return _OOM_SCORE if choice.mechanisms.get("memory") == "sampled" else None


def busy_times() -> dict[int, int]:
    """Each processor's busy time since boot, in clock ticks (proc(5), /proc/stat)."""
    times = {}
    for line in cgroup.read("/proc/stat").splitlines():
        if line.startswith("cpu") and line[3].isdigit():
            name, *fields = line.split()
            ticks = [int(field) for field in fields[:8]]
            times[int(name[3:])] = sum(ticks) - ticks[3] - ticks[4]
    return times


def least_used(count: int, before: dict[int, int], after: dict[int, int], allowed: list[int]) -> list[int]:
    """The `count` processors that worked least between two readings; ties broken by chance."""
    order = sorted(allowed, key=lambda cpu: (after.get(cpu, 0) - before.get(cpu, 0), os.urandom(2)))
    return sorted(order[:count])
