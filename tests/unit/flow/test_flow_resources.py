"""The ledger of cores."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedparty.errors import RpcError
from fedparty.flow.resources import Resources
from fedparty.types import JobId, PartyId, TaskRun


def _run(attempt: int) -> TaskRun:
    return TaskRun(JobId("10000-01JD3M00000000000000000000"), "sum", attempt)


def _ledger(cores: float = 2) -> Resources:
    return Resources(PartyId("9999"), cores)


def test_taking_and_releasing_twice_is_once() -> None:
    ledger = _ledger()
    for _ in range(2):
        ledger.take(_run(1), 1.5)
        assert ledger.free_cores == 0.5
    for _ in range(2):
        ledger.release(_run(1))
        assert ledger.free_cores == 2


def test_taking_again_takes_no_more() -> None:
    ledger = _ledger()
    ledger.take(_run(1), 1)
    ledger.take(_run(2), 1)
    ledger.take(_run(1), 2)
    assert ledger.free_cores == 0


def test_more_than_there_are_is_refused_with_the_numbers() -> None:
    with pytest.raises(RpcError, match="asks for 3 cores, party 9999 has 2") as raised:
        _ledger().take(_run(1), 3)
    assert raised.value.code == "NOT_ENOUGH_CORES"


def test_what_others_have_is_refused_for_now() -> None:
    ledger = _ledger()
    ledger.take(_run(1), 1.5)
    with pytest.raises(RpcError, match=r"has 0.5 of 2 free") as raised:
        ledger.take(_run(2), 1)
    assert raised.value.code == "CORES_TAKEN"
    assert ledger.free_cores == 0.5


def test_what_runs_is_adopted_whatever_is_left() -> None:
    ledger = _ledger()
    ledger.adopt(_run(1), 3)
    assert ledger.free_cores == -1


def test_the_machines_cores_are_the_default() -> None:
    assert Resources(PartyId("1"), None).cores >= 1


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.floats(0.001, 3)), max_size=50))
def test_cores_are_never_lent_twice_nor_lost(steps: list[tuple[int, bool, float]]) -> None:
    ledger = _ledger()
    for attempt, is_take, cores in steps:
        if not is_take:
            ledger.release(_run(attempt))
            continue
        try:
            ledger.take(_run(attempt), cores)
        except RpcError:
            continue
        assert ledger.free_cores >= 0
    for attempt in range(1, 6):
        ledger.release(_run(attempt))
    assert ledger.free_cores == 2
