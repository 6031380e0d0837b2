"""What a job is to do: the description that a person submits and that travels to every party.

Owns the model and its rules. Does not own what a site allows, nor what a component's parameters mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError, model_validator

from fedparty.errors import JobError
from fedparty.jobs import code, plain
from fedparty.settings import Party
from fedparty.types import JOB_ID, ROLE, TASK_NAME, Member, PartyId

MAX_BYTES = 2**20
"""Size of a description: parameters, not data."""
MAX_TASKS = 1000
MAX_TIMEOUT_S = 30 * 24 * 3600.0
MAX_RETRIES = 100
MAX_PRIORITY = 100

Role = Annotated[str, Field(pattern=f"^{ROLE.pattern}$")]
TaskName = Annotated[str, Field(pattern=f"^{TASK_NAME.pattern}$")]
Parameters = Annotated[dict[str, JsonValue], BeforeValidator(plain.check)]
Fault = tuple[tuple[str | int, ...], str]
"""Where, from the top, and what."""
Seconds = Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S, allow_inf_nan=False)]


class FaultsError(ValueError):
    """Rules between several keys that a description breaks: for each, where and what."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, place))}: {what}" for place, what in faults))
        self.faults = faults


class TaskDescription(BaseModel):
    """One task: a component that every member of the job runs in its role."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    component: Annotated[str, Field(min_length=1, max_length=100)]
    """Name in the component registry, e.g. ``secure_sum``; of the job's own code, e.g. ``custom:average.Average``."""
    parameters: Parameters = {}
    role_parameters: dict[Role, Parameters] = {}
    """Parameters of one role, over the common ones."""
    party_parameters: dict[Party, Parameters] = {}
    """Parameters of one party, over those of its role."""
    cores: Annotated[float, Field(gt=0, le=4096, allow_inf_nan=False)] = 1.0
    """CPU cores of each role's process."""
    memory_bytes: Annotated[int, Field(gt=0, lt=2**50)] | None = None
    """Memory of each role's process; None: as much as the site gives a task that does not say."""
    gpus: Annotated[int, Field(ge=0, le=1024)] = 0
    """GPUs of each role's process."""
    after: tuple[TaskName, ...] = ()
    """Tasks that must have succeeded before."""
    retries: Annotated[int, Field(ge=1, le=MAX_RETRIES)] | None = None
    """How often the task is tried at most where its processes are lost, the first time included; None: the party's
    setting."""
    timeout_s: Seconds | None = None
    """Seconds that one attempt may take; None: only the job's limit counts."""


class Code(BaseModel):
    """The job's own code, which travels beside the description: an archive of `fedparty.jobs.code`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    size_bytes: Annotated[int, Field(gt=0, le=code.MAX_BYTES)]


class Resume(BaseModel):
    """Which earlier job a job goes on from: it runs `task` and all after it, and takes over what else that job did."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: Annotated[str, Field(pattern=f"^{JOB_ID.pattern}$")]
    task: TaskName


class JobDescription(BaseModel):
    """A job: who takes part in which role, and the tasks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200)]
    roles: Annotated[dict[Role, Annotated[tuple[Party, ...], Field(min_length=1)]], Field(min_length=1)]
    tasks: Annotated[dict[TaskName, TaskDescription], Field(min_length=1, max_length=MAX_TASKS)]
    timeout_s: Seconds | None = None
    """Seconds from submission by which the job must have ended; None: the party's setting."""
    priority: Annotated[int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] = 0
    """Jobs of a higher priority start first, where there are not enough resources for all."""
    code: Code | None = None
    """What components that begin with ``custom:`` come from: made of the job's folder, not written by people."""
    resume: Resume | None = None
    """The earlier job whose results it takes over; ``fedparty job rerun --from`` writes it."""

    @model_validator(mode="after")
    def _check(self) -> JobDescription:
        faults = [*_role_faults(self), *_task_faults(self), *_code_faults(self)]
        if self.resume is not None and self.resume.task not in self.tasks:
            faults.append((("resume", "task"), f"there is no task {self.resume.task}"))
        if faults:
            raise FaultsError(faults)
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

    def parameters_of(self, task: str, member: Member) -> dict[str, Any]:
        """Return what a member's component is called with."""
        described = self.tasks[task]
        of_role = described.role_parameters.get(member.role, {})
        of_party = described.party_parameters.get(member.party, {})
        return {**described.parameters, **of_role, **of_party}

    @property
    def taken_over(self) -> tuple[str, ...]:
        """The tasks whose results come from an earlier job: all but one, and those after it."""
        if self.resume is None:
            return ()
        repeated = {self.resume.task}
        for name in self.sorter().static_order():
            if repeated & set(self.tasks[name].after):
                repeated.add(name)
        return tuple(name for name in self.tasks if name not in repeated)

    def travelling(self) -> str:
        """Return the text that every party reads.

        What is left at its default is left out, so that a party of the release before this one reads it too.
        """
        return self.model_dump_json(exclude_defaults=True)

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


def _role_faults(job: JobDescription) -> Iterator[Fault]:
    for role, parties in job.roles.items():
        twice = sorted({party for party in parties if parties.count(party) > 1})
        if twice:
            yield ("roles", role), f"party {', '.join(twice)} is given twice"


def _code_faults(job: JobDescription) -> Iterator[Fault]:
    is_used = False
    for name, task in job.tasks.items():
        if not code.is_custom(task.component):
            continue
        is_used = True
        if not code.NAME.fullmatch(task.component):
            yield ("tasks", name, "component"), "the job's own code is named custom:MODULE.CLASS"
        if job.code is None:
            yield ("tasks", name, "component"), f"{task.component} is the job's own code, and the job has none: custom/"
    if job.code is not None and not is_used:
        yield ("code",), "no task uses the job's own code: name a class as component: custom:MODULE.CLASS"


def _task_faults(job: JobDescription) -> Iterator[Fault]:
    for name, task in job.tasks.items():
        for unknown in sorted(set(task.after) - set(job.tasks)):
            yield ("tasks", name, "after"), f"there is no task {unknown}"
        for unknown in sorted(set(task.role_parameters) - set(job.roles)):
            yield ("tasks", name, "role_parameters"), f"there is no role {unknown}"
        for stranger in sorted(set(task.party_parameters) - set(job.parties)):
            yield ("tasks", name, "party_parameters"), f"party {stranger} has no role"
    try:
        job.sorter().prepare()
    except CycleError as exc:
        yield ("tasks",), f"these wait for each other: {' -> '.join(exc.args[1])}"
