"""The table of transitions."""

from __future__ import annotations

from fedparty.flow.states import FINAL, SOURCES, State


def test_every_state_has_its_line() -> None:
    assert set(SOURCES) == set(State)


def test_what_is_final_is_never_left() -> None:
    assert not any(SOURCES[state] & FINAL for state in State)
    assert {State.WAITING, State.RUNNING} == set(State) - FINAL


def test_every_state_leads_to_an_end() -> None:
    for state in set(State) - FINAL:
        assert any(state in SOURCES[end] for end in FINAL)


def test_success_is_only_of_what_ran() -> None:
    assert SOURCES[State.SUCCESS] == {State.RUNNING}
