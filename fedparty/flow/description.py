"""What a job is to do: the description that a person submits and that travels to every party.

Owns the model and its rules. Does not own what a site allows, nor what a component's parameters mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError, model_validator

from fedparty.errors import JobError
from fedparty.flow import plain
from fedparty.settings import Party
from fedparty.types import ROLE, TASK_NAME, Member, PartyId

MAX_BYTES = 2**20
"""Size of a description: parameters, not data."""
MAX_TASKS = 1000
MAX_TIMEOUT_S = 30 * 24 * 3600.0

Role = Annotated[str, Field(pattern=f"^{ROLE.pattern}$")]
TaskName = Annotated[str, Field(pattern=f"^{TASK_NAME.pattern}$")]
Parameters = Annotated[dict[str, JsonValue], BeforeValidator(plain.check)]


class TaskDescription(BaseModel):
    """One task: a component that every member of the job runs in its role."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    component: Annotated[str, Field(min_length=1, max_length=100)]
    """Name in the component registry, e.g. ``secure_sum``."""
    parameters: Parameters = {}
    role_parameters: dict[Role, Parameters] = {}
    """Parameters of one role, over the common ones."""
    cores: Annotated[float, Field(gt=0, le=4096, allow_inf_nan=False)] = 1.0
    """CPU cores of each role's process."""
    after: tuple[TaskName, ...] = ()
    """Tasks that must have succeeded before."""


class JobDescription(BaseModel):
    """A job: who takes part in which role, and the tasks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200)]
    roles: Annotated[dict[Role, Annotated[tuple[Party, ...], Field(min_length=1)]], Field(min_length=1)]
    tasks: Annotated[dict[TaskName, TaskDescription], Field(min_length=1, max_length=MAX_TASKS)]
    timeout_s: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S, allow_inf_nan=False)] | None = None
    """Seconds from submission by which the job must have ended; None: the party's setting."""

    @model_validator(mode="after")
    def _check(self) -> JobDescription:
        faults = [*_role_faults(self), *_task_faults(self)]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def members(self) -> tuple[Member, ...]:
        """Every role with every party that plays it."""
        return tuple(Member(role, party) for role, parties in self.roles.items() for party in parties)

    @property
    def parties(self) -> tuple[PartyId, ...]:
        """Each party once, in the order of the roles."""
        return tuple(dict.fromkeys(member.party for member in self.members))

    def members_at(self, party: PartyId) -> tuple[Member, ...]:
        """Return the roles that `party` plays."""
        return tuple(member for member in self.members if member.party == party)

    def cores_at(self, party: PartyId, task: str) -> float:
        """Return the cores that a task takes at `party`, all its roles together."""
        return self.tasks[task].cores * len(self.members_at(party))

    def parameters_of(self, task: str, role: str) -> dict[str, Any]:
        """Return what a role's component is called with."""
        described = self.tasks[task]
        return {**described.parameters, **described.role_parameters.get(role, {})}

    def sorter(self) -> TopologicalSorter[str]:
        """Return the tasks' graph."""
        return TopologicalSorter({name: task.after for name, task in self.tasks.items()})


def parse(text: str | bytes) -> JobDescription:
    """Read a description.

    Raises
    ------
    JobError
        It is not JSON, or breaks a rule; every fault is named with its place.
    """
    if len(text) > MAX_BYTES:
        raise JobError(
            f"job description: {len(text)} bytes are more than {MAX_BYTES}",
            hint="Parameters are for settings: put data into a table.",
        )
    try:
        return JobDescription.model_validate_json(text)
    except ValidationError as exc:
        raise JobError(f"job description: {faults_of(exc)}", hint="Correct what is named and submit again.") from exc


def faults_of(exc: ValidationError) -> str:
    """Return every fault as ``place: what``, in one line."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'as a whole'}: {e['msg']}" for e in exc.errors())


def _role_faults(job: JobDescription) -> Iterator[str]:
    for role, parties in job.roles.items():
        twice = sorted({party for party in parties if parties.count(party) > 1})
        if twice:
            yield f"roles.{role}: party {', '.join(twice)} is given twice"


def _task_faults(job: JobDescription) -> Iterator[str]:
    for name, task in job.tasks.items():
        for unknown in sorted(set(task.after) - set(job.tasks)):
            yield f"tasks.{name}.after: there is no task {unknown}"
        for unknown in sorted(set(task.role_parameters) - set(job.roles)):
            yield f"tasks.{name}.role_parameters: there is no role {unknown}"
    try:
        job.sorter().prepare()
    except CycleError as exc:
        yield f"tasks: these wait for each other: {' -> '.join(exc.args[1])}"
