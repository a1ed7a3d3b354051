"""Which mechanism holds a limit: decided from facts, here those of other hosts."""

from __future__ import annotations

import pytest
import runtime  # noqa: F401
from hypothesis import given
from hypothesis import strategies as st
from launch import limits
from launch.errors import HOST, Failure
from launch.limits import Facts, choose

WANTED = {"memory": 256 << 20, "cpu": 1000, "pids": 256}
ALL = ["memory", "cpu", "pids"]
ROOT_V2 = Facts(True, 4, ALL, [], False, False)
ROOT_V1 = Facts(True, 2, [], ALL, False, False)
USER = Facts(False, 4, [], [], False, False)
DESKTOP_USER = Facts(False, 4, [], [], True, False)
IN_SCOPE = Facts(False, 4, ["memory", "pids"], [], True, True)  # systemd delegates no cpu by default


def test_root_uses_the_control_groups_of_the_host() -> None:
    assert set(choose(ROOT_V2, WANTED, True, []).mechanisms.values()) == {"cgroup2"}
    assert set(choose(ROOT_V1, WANTED, True, []).mechanisms.values()) == {"cgroup1"}


def test_an_ordinary_user_without_control_groups_can_run_the_default_manifest() -> None:
    choice = choose(USER, WANTED, False, [])
    assert choice.mechanisms == {"memory": "sampled", "cpu": "affinity", "pids": "rlimit"}
    assert choice.notes == []


def test_a_user_whose_systemd_answers_asks_it_for_a_scope() -> None:
    assert limits.needs_scope(DESKTOP_USER, WANTED)
    assert not limits.needs_scope(USER, WANTED)
    assert not limits.needs_scope(IN_SCOPE, WANTED)


def test_what_a_scope_does_not_delegate_is_held_by_the_next_mechanism() -> None:
    assert choose(IN_SCOPE, WANTED, False, []).mechanisms == {
        "memory": "cgroup2",
        "cpu": "affinity",
        "pids": "cgroup2",
    }


def test_71_a_fraction_of_a_core_without_control_groups_is_refused() -> None:
    with pytest.raises(Failure) as refused:
        choose(USER, {"cpu": 500}, False, [])
    assert refused.value.code == HOST
    assert "cpu=0.5" in refused.value.message and "whole cores" in refused.value.message


def test_71_a_limit_that_cannot_be_held_is_let_go_only_by_name() -> None:
    with pytest.raises(Failure):
        choose(USER, {"cpu": 1500}, False, ["memory"])
    choice = choose(USER, {"cpu": 1500}, False, ["cpu"])
    assert choice.mechanisms == {"cpu": "none"}
    assert len(choice.notes) == 1 and "cpu" in choice.notes[0]


def test_strict_limits_accept_control_groups_only() -> None:
    for limit, value in WANTED.items():
        with pytest.raises(Failure) as refused:
            choose(USER, {limit: value}, True, [])
        assert refused.value.code == HOST


@given(st.dictionaries(st.integers(0, 63), st.integers(0, 1000), min_size=1), st.integers(1, 8))
def test_an_affinity_takes_the_least_used_processors(busy: dict[int, int], count: int) -> None:
    before = dict.fromkeys(busy, 0)
    chosen = limits.least_used(count, before, busy, sorted(busy))
    assert len(chosen) == min(count, len(busy)) and set(chosen) <= set(busy)
    rest = [busy[cpu] for cpu in busy if cpu not in chosen]
    assert not rest or max(busy[cpu] for cpu in chosen) <= min(rest)
