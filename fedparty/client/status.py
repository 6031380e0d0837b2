"""Jobs and parties as a client sees them.

Owns reading the answers; keys that a newer service adds are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedparty.errors import JobError

FINAL_STATES = frozenset({"success", "failed", "canceled", "timeout"})


@dataclass(frozen=True)
class TaskStatus:
    """One role of one attempt of a task."""

    task: str
    attempt: int
    role: str
    party: str
    state: str
    error: str
    hint: str
    result: Any
    """What the component returned."""
    started_at: str | None = None
    ended_at: str | None = None


@dataclass(frozen=True)
class JobStatus:
    """A job as its party knew it when it answered."""

    id: str
    name: str
    initiator: str
    state: str
    """waiting, running, success, failed, canceled or timeout."""
    error: str
    hint: str
    created_at: str
    started_at: str | None = None
    ended_at: str | None = None
    tasks: tuple[TaskStatus, ...] = ()
    submitter: str = ""
    """Who submitted it, e.g. ``alice@10000 (token)``."""
    version: str = ""
    """Another one whenever the state of the job, or of a task's role, is another one."""

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.state in FINAL_STATES

    @property
    def verdict(self) -> str:
        """What became of it, in one line, e.g. ``job 10000-… failed: …``."""
        ended = {"canceled": "was canceled", "failed": "failed", "timeout": "ran out of time"}
        verdict = f"job {self.id} {ended.get(self.state, f'is in state {self.state}')}"
        return f"{verdict}: {self.error}" if self.error else verdict

    def require_success(self) -> JobStatus:
        """Return the job itself if it succeeded.

        Raises
        ------
        JobError
            It did not, or has not yet.
        """
        if self.state != "success":
            raise JobError(self.verdict, hint=self.hint)
        return self

    def result(self, task: str, role: str) -> Any:
        """Return what a role of the newest attempt of a task returned; None where there is no such role yet."""
        found = [each for each in self.tasks if (each.task, each.role) == (task, role)]
        return max(found, key=lambda each: each.attempt).result if found else None


@dataclass(frozen=True)
class PartyStatus:
    """What a party is and offers."""

    id: str
    federation: str
    version: str
    protocol: str
    cores: float
    free_cores: float
    memory_bytes: int = 0
    free_memory_bytes: int = 0
    gpus: int = 0
    free_gpus: int = 0
    waiting: int = 0


@dataclass(frozen=True)
class Pong:
    """Who answered at the other end."""

    party: str
    version: str
    protocol: str
    elapsed_ms: float


def job_from(answer: Mapping[str, Any]) -> JobStatus:
    """Read a job."""
    tasks = tuple(TaskStatus(**_known(TaskStatus, task)) for task in answer.get("tasks", ()))
    return JobStatus(**{**_known(JobStatus, answer), "tasks": tasks})


def party_from(answer: Mapping[str, Any]) -> PartyStatus:
    """Read a party."""
    return PartyStatus(**_known(PartyStatus, answer))


def pong_from(answer: Mapping[str, Any]) -> Pong:
    """Read the answer to a ping."""
    return Pong(**_known(Pong, answer))


def _known(kind: type, answer: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key in kind.__dataclass_fields__}  # type: ignore[attr-defined]
