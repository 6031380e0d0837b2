"""The states of jobs and of role runs, and the legal transitions.

Owns the one table of transitions; `fedparty.flow.store` carries each out as one atomic statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """Where a job, or one role's part in one attempt of a task, is."""

    WAITING = "waiting"
    """Accepted, not started: for cores, for other parties, or for a task before it."""
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELED = "canceled"
    """Stopped by a person, or made pointless by another part's end."""
    TIMEOUT = "timeout"
    LOST = "lost"
    """Only of a role run: its process died without a verdict; a new attempt may help."""


FINAL = frozenset(State) - {State.WAITING, State.RUNNING}

_OPEN = frozenset({State.WAITING, State.RUNNING})

SOURCES: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        State.WAITING: frozenset(),
        State.RUNNING: frozenset({State.WAITING}),
        State.SUCCESS: frozenset({State.RUNNING}),
        State.FAILED: _OPEN,
        State.CANCELED: _OPEN,
        State.TIMEOUT: _OPEN,
        State.LOST: _OPEN,
    }
)
"""The legal transitions: target → the states it may be entered from."""
