"""What the database holds, as frozen values.

Owns their shape. Does not own how they are stored (`fedparty.flow.store`) or change (`fedparty.flow.states`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from fedparty.flow.states import FINAL, State
from fedparty.jobs.description import JobDescription
from fedparty.types import JobId, Member, PartyId, TaskRun


@dataclass(frozen=True)
class Outcome:
    """How something ended: a final state, and where it is not success, why and what to do."""

    state: State
    error: str = ""
    hint: str = ""
    result: str = ""
    """JSON that a component returned."""


@dataclass(frozen=True)
class JobHead:
    """A job as it is listed: without what it is to do. Times as in `Job`."""

    id: JobId
    initiator: PartyId
    name: str
    state: State
    created_at: float
    error: str
    hint: str
    started_at: float | None
    ended_at: float | None
    submitter: str = ""


@dataclass(frozen=True)
class Job:
    """A job as one party knows it. Times are seconds since the epoch, by this party's clock."""

    id: JobId
    initiator: PartyId
    name: str
    text: str
    """The description, JSON."""
    state: State
    created_at: float
    deadline_at: float
    error: str = ""
    hint: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    submitter: str = ""
    """Who submitted it, e.g. ``alice@10000 (token)``; empty: nobody said."""
    voucher: str = ""
    """The initiator's signature on that; see `fedparty.crypto.submissions`."""
    submission: str = ""
    """``USER/KEY`` of the request that it came with, by which a repeated one is known; empty: it had no key."""
    code: str = ""
    """SHA-256 of its own code; empty: it has none."""
    is_held: bool = False
    """Whether this party's worker or mailbox may still hold something of it."""

    @cached_property
    def description(self) -> JobDescription:
        """What the job is to do; checked when it was accepted."""
        return JobDescription.model_validate_json(self.text)

    @property
    def head(self) -> JobHead:
        """The job as it is listed."""
        return JobHead(
            self.id, self.initiator, self.name, self.state, self.created_at, self.error, self.hint, self.started_at,
            self.ended_at, self.submitter,
        )  # fmt: skip

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.state in FINAL


@dataclass(frozen=True)
class RoleRun:
    """One role of one attempt of a task."""

    run: TaskRun
    member: Member
    state: State = State.WAITING
    error: str = ""
    hint: str = ""
    result: str = ""
    started_at: float | None = None
    ended_at: float | None = None

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.state in FINAL


@dataclass(frozen=True)
class Notice:
    """The news of a job's end that a party has not acknowledged yet."""

    job: JobId
    party: PartyId
    expires_at: float
