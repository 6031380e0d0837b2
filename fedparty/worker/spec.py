"""What a task's process is told, and what it leaves behind.

Owns the words between service, fork server and task, and the layout of a task's folder. Does not own what they do.

    <jobs>/<job>/<task>/<attempt>/<role>-<party>/     the working directory, 0700
        log.jsonl      what the component logs       metrics.jsonl    its figures
        output.log     what it and its libraries print
        result.json    the outcome; there is none when the process died without a verdict
        outputs/       the files that it keeps for its party's people
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedparty.types import JobId, Member, TaskRun

LOG = "log.jsonl"
METRICS = "metrics.jsonl"
OUTPUT = "output.log"
OUTPUTS = "outputs"
RESULT = "result.json"

MAX_RESULT_BYTES = 8 * 2**20
"""As much is read of a verdict, which a task's own code may have written."""
DISK_FULL = 28
"""Exit code of a task that could not even write its verdict."""

RUNNING = "running"
SUCCESS = "success"
FAILED = "failed"
CANCELED = "canceled"
TIMEOUT = "timeout"
LOST = "lost"
"""The process died without a verdict, or for want of a service: a new attempt may help."""


@dataclass(frozen=True)
class TaskSpec:
    """One role of a task attempt.

    Parameters
    ----------
    run, member, members, component, parameters
        As in `LaunchRequest`; `parameters` is a JSON object.
    token
        The task token: the only credential that a task's process has.
    deadline
        When its waits end, on the machine's monotonic clock, seconds; a little before it would be killed, so that it
        can say what it waited for.
    cores
        Its share of the machine.
    folder
        Its working directory, absolute.
    egress, mailbox
        gRPC targets, valid in any working directory.
    log_level, log_limit_bytes
        Of its log; where that, what it prints and its figures end, each.
    tables
        What it may read: a JSON list of `fedparty.storage.source.Source`.
    tables_folder
        Where their files lie, absolute.
    memory_bytes
        What each of its processes may allocate; 0: no limit.
    gpus
        How many GPUs it asks for.
    code
        Folder of the job's own code, absolute; empty: the component is an installed one.
    isolation
        What must hold that code; see `fedparty.worker.isolation`.
    leaving
        What it may send, JSON of `fedparty.crypto.leaving.Leaving`; empty: anything.
    cpus, devices
        The CPUs that it is held to, none: all; the GPUs that it sees. The launcher chooses them.
    """

    run: TaskRun
    member: Member
    members: tuple[Member, ...]
    component: str
    parameters: str
    token: str
    deadline: float
    cores: float
    folder: Path
    egress: str
    mailbox: str
    log_level: str = "INFO"
    log_limit_bytes: int = 16 << 20
    tables: str = "[]"
    tables_folder: str = ""
    memory_bytes: int = 0
    gpus: int = 0
    code: str = ""
    isolation: str = "kernel"
    leaving: str = ""
    cpus: tuple[int, ...] = ()
    devices: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """What fork server and service call it."""
        return f"{self.run} {self.member}"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self) | {
            "member": str(self.member),
            "members": [str(member) for member in self.members],
            "folder": str(self.folder),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TaskSpec:
        """Read what `to_json` returned."""
        run = values["run"]
        return cls(
            **values
            | {
                "run": TaskRun(JobId(run["job"]), run["task"], run["attempt"]),
                "member": Member.parse(values["member"]),
                "members": tuple(Member.parse(member) for member in values["members"]),
                "folder": Path(values["folder"]),
                "cpus": tuple(values["cpus"]),
                "devices": tuple(values["devices"]),
            }
        )

    def __repr__(self) -> str:
        return f"TaskSpec({self.key})"


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Parameters
    ----------
    state
        ``success``, ``failed``, ``canceled``, ``timeout`` or ``lost``.
    error, hint
        Unless it is success: what and where; what to do.
    result
        On success: what the component returned, JSON.
    """

    state: str
    error: str = ""
    hint: str = ""
    result: str = ""

    def write(self, folder: Path) -> None:
        """Put it into a task's folder, at once or not at all."""
        partial = folder / f"{RESULT}.partial"
        partial.write_text(json.dumps(asdict(self)))
        partial.replace(folder / RESULT)

    @classmethod
    def read(cls, folder: Path) -> Outcome | None:
        """Return what the task wrote, or None where it died before or wrote something else."""
        try:
            descriptor = os.open(folder / RESULT, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                return cls(**json.loads(file.read(MAX_RESULT_BYTES)))
        except (OSError, ValueError, TypeError, RecursionError):
            return None


def folder_of(jobs: Path, run: TaskRun, member: Member) -> Path:
    """Return the folder of one role of a task attempt."""
    return jobs / run.job / run.task / str(run.attempt) / f"{member.role}-{member.party}"
