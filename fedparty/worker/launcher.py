"""The tasks of this launcher: which exist, in which state, and what ended them.

Owns the table and its transitions (running, then one final state). Does not own processes (`forkserver`) nor gRPC
(`service`). Lives in the service's event loop; what it knows dies with it, so an unknown task is a lost one.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from fedparty.context import failure
from fedparty.errors import JobError
from fedparty.rpc.logging import log_context
from fedparty.types import JobId, Member, TaskRun
from fedparty.worker.forkserver import Event
from fedparty.worker.limits import Lender
from fedparty.worker.linux import FileChanges
from fedparty.worker.spec import (
    CANCELED,
    DISK_FULL,
    FAILED,
    LOG,
    LOST,
    METRICS,
    OUTPUT,
    RUNNING,
    SUCCESS,
    TIMEOUT,
    Outcome,
    TaskSpec,
)

logger = logging.getLogger(__name__)

_LOG_CHUNK_BYTES = 1 << 16
_FAREWELL_S = 1.0
"""What a task has, at most, between the end of its waits and its death."""


class Processes(Protocol):
    """What the launcher needs of the fork server."""

    def start(self, spec: TaskSpec) -> None:
        """Start a process."""

    def kill(self, key: str) -> None:
        """Kill a process and its descendants."""


class UnknownTaskError(JobError):
    """A task that this launcher never started, or not since it was started itself."""


@dataclass(eq=False)
class _Task:
    spec: TaskSpec
    outcome: Outcome = field(default_factory=lambda: Outcome(RUNNING))
    killed_as: Outcome | None = None
    timer: asyncio.TimerHandle | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def failure(self, what: str) -> str:
        return failure(self.spec.component, self.spec.member, JobError(what)).message


class Launcher:
    """Starts, stops and watches tasks.

    Parameters
    ----------
    processes
        Where processes come from; its events go to `on_event`.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._lender = Lender()
        self._tasks: dict[str, _Task] = {}
        self._changed = asyncio.Event()
        self.ended: Counter[str] = Counter()
        """Tasks that ended, by state."""

    @property
    def running(self) -> list[TaskSpec]:
        """The tasks that have not ended."""
        return [task.spec for task in self._tasks.values() if not task.ended.is_set()]

    def start(self, spec: TaskSpec, remaining_s: float) -> None:
        """Start a task; it is killed after `remaining_s`. One that is known already is left as it is."""
        if spec.key in self._tasks:
            return
        running = self.running
        cpus = self._lender.cpus(spec.cores, running)
        deadline = time.monotonic() + remaining_s - min(_FAREWELL_S, remaining_s / 10)
        task = self._tasks[spec.key] = _Task(replace(spec, deadline=deadline, cpus=cpus))
        try:
            task.spec = replace(task.spec, devices=self._lender.gpus(spec.gpus, running))
        except JobError as exc:
            self._end(task, Outcome(LOST, task.failure(exc.message), exc.hint))
            return
        try:
            spec.folder.mkdir(parents=True, mode=0o700)
            for name in (LOG, METRICS):
                (spec.folder / name).touch(0o600)
        except FileExistsError:
            self._end(task, Outcome(LOST, task.failure("an earlier launcher ran this attempt and died")))
            return
        except OSError as exc:
            what = task.failure(f"its folder {spec.folder} could not be made: {exc.strerror}")
            self._end(task, Outcome(LOST, what, hint="Look at the free space and the rights of that disk."))
            return
        task.timer = asyncio.get_running_loop().call_later(remaining_s, self._time_out, task, remaining_s)
        _log(spec, f"starting {spec.component}")
        self._processes.start(task.spec)
        self._announce()

    async def stop(self, run: TaskRun) -> None:
        """Kill the tasks of a run, and return when they have ended."""
        running = [task for task in self._of(run) if not task.ended.is_set()]
        for task in running:
            self._kill(task, Outcome(CANCELED, task.failure("stopped")))
        await asyncio.gather(*(task.ended.wait() for task in running))

    async def watch(self, run: TaskRun) -> AsyncIterator[tuple[Member, Outcome]]:
        """Yield the state of every role of a run, and each change, until all have ended.

        Raises
        ------
        UnknownTaskError
            There is none.
        """
        if not self._of(run):
            raise UnknownTaskError(f"{run} was not started here", hint="A new attempt of the task is needed.")
        told: dict[Member, Outcome] = {}
        while True:
            changed = self._changed
            now = {task.spec.member: task.outcome for task in self._of(run)}
            for member, outcome in now.items():
                if told.get(member) != outcome:
                    yield member, outcome
            told = now
            if all(outcome.state != RUNNING for outcome in now.values()):
                return
            await changed.wait()

    async def read_log(
        self, run: TaskRun, member: Member, offset: int, *, follow: bool, changes: FileChanges, name: str = LOG
    ) -> AsyncIterator[bytes]:
        """Yield the bytes of a task's log, or of its figures, with `follow` until it has ended.

        Raises
        ------
        UnknownTaskError
            There is no such task.
        """
        task = next((task for task in self._of(run) if task.spec.member == member), None)
        if task is None:
            raise UnknownTaskError(f"{run} {member} was not started here", hint="Look at the job's folder.")
        path = task.spec.folder / name
        with path.open("rb") as file, changes.of(path) as grown:
            file.seek(offset)
            while True:
                grown.clear()
                has_ended = task.ended.is_set()
                while chunk := file.read(_LOG_CHUNK_BYTES):
                    yield chunk
                if has_ended or not follow:
                    return
                await _first(grown, task.ended)

    def is_known(self, spec: TaskSpec) -> bool:
        """Return whether a task was started here before."""
        return spec.key in self._tasks

    def is_running(self, run: TaskRun, member: Member) -> bool:
        """Return whether a task runs here now."""
        return any(task.spec.member == member and not task.ended.is_set() for task in self._of(run))

    async def forget(self, job: JobId, jobs: Path) -> None:
        """Delete all that is known and kept of a job.

        Raises
        ------
        JobError
            A task of it is still running.
        """
        of_job = [task for task in self._tasks.values() if task.spec.run.job == job]
        if any(not task.ended.is_set() for task in of_job):
            raise JobError(f"{job} is still running here", hint="Stop it first.")
        for task in of_job:
            del self._tasks[task.spec.key]
        with suppress(FileNotFoundError):
            await asyncio.to_thread(shutil.rmtree, jobs / job)

    def on_event(self, event: Event) -> None:
        """Take note of what the fork server says."""
        task = self._tasks.get(next(event[kind] for kind in ("started", "ended", "refused") if kind in event))
        if task is None:
            return
        if "started" in event:
            _log(task.spec, f"process {event['pid']}")
        elif "ended" in event:
            self._end(task, _outcome_of(task, event["exit_code"]))
        else:
            self._end(
                task, Outcome(LOST, task.failure(event["error"]), hint="Look at the machine's memory and limits.")
            )

    def lose_all(self) -> None:
        """End every task as lost, for the fork server died and they with it."""
        for task in self._tasks.values():
            self._end(task, Outcome(LOST, task.failure("the worker's fork server died")))

    def _of(self, run: TaskRun) -> list[_Task]:
        return [task for task in self._tasks.values() if task.spec.run == run]

    def _time_out(self, task: _Task, limit_s: float) -> None:
        what = f"killed after its time limit of {limit_s:.4g} s"
        self._kill(task, Outcome(TIMEOUT, task.failure(what), hint="Give the job more time, or look at its log."))

    def _kill(self, task: _Task, outcome: Outcome) -> None:
        task.killed_as = task.killed_as or outcome
        self._processes.kill(task.spec.key)

    def _end(self, task: _Task, outcome: Outcome) -> None:
        if task.ended.is_set():
            return
        if task.timer:
            task.timer.cancel()
        task.outcome = outcome
        task.ended.set()
        self.ended[outcome.state] += 1
        _log(task.spec, f"{outcome.state}: {outcome.error}" if outcome.error else outcome.state)
        self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _log(spec: TaskSpec, what: str) -> None:
    with log_context(job=spec.run.job, task=spec.run.task):
        logger.info("%s, attempt %d: %s", spec.member, spec.run.attempt, what)


def _outcome_of(task: _Task, exit_code: int) -> Outcome:
    """Return how a task ended: its own verdict, else why it was killed, else that nobody knows."""
    verdict = Outcome.read(task.spec.folder)
    if verdict and (verdict.state == SUCCESS) == (exit_code == 0):
        return verdict
    if task.killed_as:
        return task.killed_as
    folder = Path(*task.spec.folder.parts[-5:])
    if exit_code == DISK_FULL:
        what = "the disk is full: its verdict could not be written"
        return Outcome(FAILED, task.failure(what), f"Free space at party {task.spec.member.party}, where {folder} is.")
    if exit_code == -signal.SIGABRT and task.spec.memory_bytes:
        limit = f"may not allocate more than {task.spec.memory_bytes / 2**20:.6g} MiB of memory"
        hint = f"If {folder / OUTPUT} tells of memory, give the task more in the job: memory_bytes."
        return Outcome(FAILED, task.failure(f"its process {_death(exit_code)}; it {limit}"), hint)
    if exit_code == -signal.SIGKILL:
        hint = "Something killed it: if nobody did, the machine is short of memory (dmesg says so)."
    else:
        hint = f"Look at what it printed, at party {task.spec.member.party}: {folder / OUTPUT}"
    return Outcome(LOST, task.failure(f"its process {_death(exit_code)}"), hint)


def _death(exit_code: int) -> str:
    if exit_code < 0:
        return f"was killed by signal {-exit_code} ({signal.strsignal(-exit_code)})"
    return f"ended with exit code {exit_code} and without a verdict"


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
