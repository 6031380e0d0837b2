"""The ledger of resources, and the line of those that wait for them."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from fedparty.errors import RpcError
from fedparty.flow.records import Job
from fedparty.flow.resources import PRIORITY_S, Amount, Rank, Resources, needs_of, rank_of
from fedparty.flow.states import State
from fedparty.jobs.machine import Machine
from fedparty.types import JobId, PartyId, TaskRun

JOB = "10000-01JD3M00000000000000000000"


def _rank(number: int, since: float = 0.0) -> Rank:
    return Rank(since or number, TaskRun(JobId(JOB), "sum", number))


def _ledger(cores: float = 2, memory_bytes: int = 100, gpus: int = 2) -> Resources:
    ledger = Resources(PartyId("9999"))
    ledger.learn(Machine(cores, memory_bytes, tuple(range(gpus))))
    return ledger


def _job(submitted_at: float, priority: int = 0, **task: Any) -> Job:
    described = {
        "name": "toy",
        "roles": {"guest": ["10000"], "host": ["10000", "9999"]},
        "tasks": {"sum": {"component": "secure_sum", **task}},
        "priority": priority,
    }
    job = JobId(f"10000-{ULID.from_timestamp(submitted_at)}")
    return Job(job, PartyId("10000"), "toy", json.dumps(described), State.WAITING, submitted_at, submitted_at + 9)


def test_taking_and_releasing_twice_is_once() -> None:
    ledger = _ledger()
    for _ in range(2):
        ledger.take(_rank(1), Amount.of(1.5, 10, 1))
        assert ledger.free == Amount.of(0.5, 90, 1)
    for _ in range(2):
        ledger.release(_rank(1).run)
        assert ledger.free == ledger.total


@pytest.mark.parametrize(
    ("needs", "told"),
    [
        (Amount.of(3), "asks for 3 cores, party 9999 has 2 cores"),
        (Amount.of(1, 3 << 30), "asks for 3 GiB of memory, party 9999 has 1 GiB of memory"),
        (Amount.of(1, 0, 3), "asks for 3 GPUs, party 9999 has 2 GPUs"),
    ],
)
def test_more_than_there_is_is_refused_with_the_numbers(needs: Amount, told: str) -> None:
    with pytest.raises(RpcError, match=told) as raised:
        _ledger(memory_bytes=1 << 30).take(_rank(1), needs)
    assert raised.value.code == "NOT_ENOUGH_RESOURCES"


def test_what_others_have_is_refused_for_now() -> None:
    ledger = _ledger()
    ledger.take(_rank(1), Amount.of(1.5))
    with pytest.raises(RpcError, match=r"has 0.5 cores free of 2 cores") as raised:
        ledger.take(_rank(2), Amount.of(1))
    assert raised.value.code == "CORES_TAKEN"


def test_nothing_is_taken_before_the_worker_has_said_what_there_is() -> None:
    ledger = Resources(PartyId("9999"), cores=4)
    ledger.check({"sum": Amount.of(99)})
    with pytest.raises(RpcError) as raised:
        ledger.take(_rank(1), Amount.of(1))
    assert raised.value.code == "WORKER_DOWN"


def test_a_limit_of_the_party_counts_instead_of_the_machine() -> None:
    ledger = Resources(PartyId("9999"), cores=1.5, memory_bytes=50)
    ledger.learn(Machine(8, 100, ()))
    assert ledger.total == Amount.of(1.5, 50, 0)


def test_what_runs_is_adopted_whatever_is_left() -> None:
    ledger = _ledger()
    ledger.adopt(_rank(1).run, Amount.of(3))
    assert ledger.free.cores == -1


def test_the_first_in_line_has_a_claim_and_the_rest_may_pass_where_it_costs_the_first_nothing() -> None:
    ledger = _ledger(cores=4)
    ledger.take(_rank(1), Amount.of(2))
    with ledger.place(_rank(2), Amount.of(3)) as first, ledger.place(_rank(3), Amount.of(1)) as second:
        assert first.waits_for == "task sum asks for 3 cores, party 9999 has 2 cores free of 4 cores"
        assert second.waits_for == f"task sum waits behind job {JOB} at party 9999"
        with pytest.raises(RpcError, match="waits behind"):
            ledger.take(_rank(4), Amount.of(0.5))
        ledger.release(_rank(1).run)
        assert first.waits_for == ""
        assert second.waits_for == ""
        ledger.take(_rank(4), Amount.of(1))
        assert first.waits_for == ""
    ledger.take(_rank(5), Amount.of(3))


def test_a_change_wakes_who_asked_for_it_before() -> None:
    ledger = _ledger()
    with ledger.place(_rank(2), Amount.of(1)) as place:
        change = place.change
        ledger.take(_rank(1), Amount.of(2))
        assert change.is_set()
        assert not place.change.is_set()


def test_a_point_of_priority_is_worth_a_time_in_line() -> None:
    run = TaskRun(JobId(JOB), "sum", 1)
    urgent, old, new = (
        rank_of(_job(at, priority), run).since for at, priority in ((1000.0, 2), (890.0, 0), (999.0, 0))
    )
    assert urgent == 1000 - 2 * PRIORITY_S
    assert urgent < old < new


def test_a_partys_roles_need_their_resources_together() -> None:
    job = _job(1000.0, cores=0.5, memory_bytes=10, gpus=1)
    assert needs_of(job, "sum", PartyId("10000")) == Amount.of(1, 20, 2)
    assert needs_of(job, "sum", PartyId("9999")) == Amount.of(0.5, 10, 1)


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.floats(0.001, 3)), max_size=50))
def test_nothing_is_lent_twice_nor_lost(steps: list[tuple[int, bool, float]]) -> None:
    ledger = _ledger()
    for number, is_take, cores in steps:
        if not is_take:
            ledger.release(_rank(number).run)
            continue
        try:
            ledger.take(_rank(number), Amount.of(cores))
        except RpcError:
            continue
        assert ledger.free.core_grains >= 0
    for number in range(1, 6):
        ledger.release(_rank(number).run)
    assert ledger.free == ledger.total


def test_a_large_task_gets_its_turn_though_small_ones_never_stop_coming() -> None:
    here, there = _ledger(cores=4), _ledger(cores=4)
    running = [1, 2, 3, 4]
    for number in running:
        here.take(_rank(number), Amount.of(1))
    with here.place(_rank(5), Amount.of(4)) as place, there.place(_rank(5), Amount.of(4)):
        for number in range(6, 10):
            assert place.waits_for
            here.release(_rank(running.pop()).run)
            with pytest.raises(RpcError, match="waits behind"):
                here.take(_rank(number), Amount.of(1))
        assert place.waits_for == ""
        here.take(_rank(5), Amount.of(4))
        there.take(_rank(5), Amount.of(4))


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.sets(st.sampled_from("abc"), min_size=1), st.integers(1, 4)),
        min_size=1,
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
def test_every_task_gets_its_turn_at_all_of_its_parties(tasks: list[tuple[float, set[str], int]], random: Any) -> None:
    """The model: parties of four cores, and tasks that need one to four of them at one to three parties at once.

    Whoever may, goes, in any order; when nobody may, something that runs ends. Then nobody is left.
    """
    parties = {name: _ledger(cores=4) for name in "abc"}
    ranks = [Rank(since, _rank(number).run) for number, (since, _, _) in enumerate(tasks)]
    stacks = [ExitStack() for _ in tasks]
    places = [
        [stacks[number].enter_context(parties[name].place(ranks[number], Amount.of(cores))) for name in sorted(names)]
        for number, (_, names, cores) in enumerate(tasks)
    ]
    waiting, running = set(range(len(tasks))), set[int]()
    while waiting or running:
        may = [number for number in sorted(waiting) if not any(place.waits_for for place in places[number])]
        assert may or running, "nothing runs, and yet it is nobody's turn"
        if may and (not running or random.random() < 0.5):
            number = random.choice(may)
            for name in tasks[number][1]:
                parties[name].take(ranks[number], Amount.of(tasks[number][2]))
            stacks[number].close()
            waiting.remove(number)
            running.add(number)
        elif running:
            number = random.choice(sorted(running))
            running.remove(number)
            for name in tasks[number][1]:
                parties[name].release(ranks[number].run)
    assert all(ledger.free == ledger.total and ledger.waiting == 0 for ledger in parties.values())
