"""Jobs and parties as JSON.

Owns the shape of the answers. Does not own their content.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import sha256

from pydantic import BaseModel, JsonValue

from fedparty.flow.records import Job, JobHead, RoleRun
from fedparty.flow.states import State
from fedparty.jobs import plain


class ErrorView(BaseModel):
    """What went wrong, and what to do."""

    error: str
    hint: str
    code: str


class TaskView(BaseModel):
    """One role of one attempt of a task."""

    task: str
    attempt: int
    role: str
    party: str
    state: State
    error: str
    hint: str
    result: JsonValue
    """What the component returned."""
    started_at: datetime | None
    ended_at: datetime | None


class JobSummary(BaseModel):
    """A job, without its tasks."""

    id: str
    name: str
    initiator: str
    submitter: str
    state: State
    error: str
    hint: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class JobView(JobSummary):
    """A job with its tasks, as far as this party knows them."""

    tasks: list[TaskView]
    version: str
    """Another one whenever the state of the job, or of a task's role, is another one."""


class JobsView(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobSummary]


class PartyView(BaseModel):
    """This party."""

    id: str
    federation: str
    version: str
    protocol: str
    cores: float
    free_cores: float
    memory_bytes: int
    free_memory_bytes: int
    gpus: int
    free_gpus: int
    waiting: int
    """Tasks, of any party's jobs, that wait in this party's line."""


class PingView(BaseModel):
    """Which flow answered at the other end."""

    party: str
    version: str
    protocol: str
    elapsed_ms: float


def summary_of(job: JobHead) -> JobSummary:
    """Return a job without its tasks."""
    return JobSummary(
        id=job.id,
        name=job.name,
        initiator=job.initiator,
        submitter=job.submitter,
        state=job.state,
        error=job.error,
        hint=job.hint,
        created_at=_time(job.created_at),
        started_at=_optional_time(job.started_at),
        ended_at=_optional_time(job.ended_at),
    )


def view_of(job: Job, roles: tuple[RoleRun, ...]) -> JobView:
    """Return a job with its tasks."""
    tasks = [_task(role) for role in roles]
    return JobView(**dict(summary_of(job.head)), tasks=tasks, version=version_of(job, roles))


def version_of(job: Job, roles: tuple[RoleRun, ...]) -> str:
    """Return what differs whenever a state does."""
    states = [str(job.state), *(f"{role.run} {role.member} {role.state}" for role in roles)]
    return sha256("\n".join(states).encode()).hexdigest()[:16]


def _task(role: RoleRun) -> TaskView:
    return TaskView(
        task=role.run.task,
        attempt=role.run.attempt,
        role=role.member.role,
        party=role.member.party,
        state=role.state,
        error=role.error,
        hint=role.hint,
        result=_json(role.result),
        started_at=_optional_time(role.started_at),
        ended_at=_optional_time(role.ended_at),
    )


def _json(text: str) -> JsonValue:
    """Return a result, or where it is not JSON that everybody can read, its text: a peer may report anything."""
    try:
        value: JsonValue = plain.check(json.loads(text)) if text else None
    except (ValueError, RecursionError):
        return text
    return value


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _optional_time(seconds: float | None) -> datetime | None:
    return None if seconds is None else _time(seconds)
