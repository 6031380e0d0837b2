"""The table of tasks, with processes that only pretend."""

import asyncio
import json
import logging
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from fedparty.errors import JobError
from fedparty.jobs import machine
from fedparty.jobs.machine import Machine
from fedparty.rpc.logging import JsonFormatter
from fedparty.types import JobId, Member, PartyId, TaskRun
from fedparty.worker.launcher import Launcher, UnknownTaskError
from fedparty.worker.linux import FileChanges
from fedparty.worker.spec import DISK_FULL, LOG, Outcome, TaskSpec, folder_of

GUEST, HOST = Member("guest", PartyId("10000")), Member("host", PartyId("10000"))
RUN = TaskRun(JobId("10000-01JD3MZZZZZZZZZZZZZZZZZZZZ"), "sum", 1)


class Processes:
    """Starts nothing; a kill ends the task as the fork server would report it."""

    def __init__(self) -> None:
        self.started: list[TaskSpec] = []
        self.launcher = Launcher(self)

    def start(self, spec: TaskSpec) -> None:
        self.started.append(spec)
        asyncio.get_running_loop().call_soon(self.launcher.on_event, {"started": spec.key, "pid": 17})

    def kill(self, key: str) -> None:
        self.end(key, -9)

    def end(self, key: str, exit_code: int) -> None:
        asyncio.get_running_loop().call_soon(self.launcher.on_event, {"ended": key, "exit_code": exit_code})


@pytest.fixture
def processes() -> Processes:
    return Processes()


def spec(jobs: Path, member: Member = GUEST, run: TaskRun = RUN) -> TaskSpec:
    folder = folder_of(jobs, run, member)
    return TaskSpec(run, member, (GUEST, HOST), "secure_sum", "{}", "t", 0.0, 1.0, folder, "unix:e", "unix:m")


async def states(launcher: Launcher, run: TaskRun = RUN) -> list[tuple[str, str]]:
    return [(member.role, outcome.state) async for member, outcome in launcher.watch(run)]


async def last(launcher: Launcher) -> Outcome:
    return [outcome async for _, outcome in launcher.watch(RUN)][-1]


async def test_watching_tells_every_change_until_all_have_ended(processes: Processes, tmp_path: Path):
    launcher = processes.launcher
    launcher.start(spec(tmp_path), 60)
    seen = asyncio.create_task(states(launcher))
    await asyncio.sleep(0)
    launcher.start(spec(tmp_path, HOST), 60)
    Outcome("success", result="1").write(spec(tmp_path).folder)
    processes.end(spec(tmp_path).key, 0)
    await asyncio.sleep(0)
    processes.end(spec(tmp_path, HOST).key, -9)
    assert await seen == [("guest", "running"), ("host", "running"), ("guest", "success"), ("host", "lost")]
    assert await states(launcher) == [("guest", "success"), ("host", "lost")]
    assert launcher.ended == {"success": 1, "lost": 1}
    assert launcher.running == []


async def test_its_log_lines_name_job_and_task(processes: Processes, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    caplog.handler.setFormatter(JsonFormatter())
    processes.launcher.start(spec(tmp_path), 60)
    await asyncio.sleep(0)
    lines = [json.loads(line) for line in caplog.text.splitlines()]
    assert {(line["job"], line["task"]) for line in lines} == {(RUN.job, RUN.task)}
    assert [line["message"] for line in lines] == [
        "guest:10000, attempt 1: starting secure_sum",
        "guest:10000, attempt 1: process 17",
    ]


async def test_starting_again_changes_nothing(processes: Processes, tmp_path: Path):
    for _ in range(2):
        processes.launcher.start(spec(tmp_path), 60)
    assert len(processes.started) == 1
    await processes.launcher.stop(RUN)
    processes.launcher.start(spec(tmp_path), 60)
    assert len(processes.started) == 1


async def test_an_attempt_of_an_earlier_launcher_is_lost(processes: Processes, tmp_path: Path):
    spec(tmp_path).folder.mkdir(parents=True)
    processes.launcher.start(spec(tmp_path), 60)
    outcome = await last(processes.launcher)
    assert outcome.state == "lost"
    assert outcome.error == "secure_sum (guest:10000): an earlier launcher ran this attempt and died"
    assert processes.started == []


async def test_stopping_ends_all_roles_of_the_run_as_canceled(processes: Processes, tmp_path: Path):
    other = TaskRun(RUN.job, "other", 1)
    for each in (spec(tmp_path), spec(tmp_path, HOST), spec(tmp_path, GUEST, other)):
        processes.launcher.start(each, 60)
    await processes.launcher.stop(RUN)
    assert await states(processes.launcher) == [("guest", "canceled"), ("host", "canceled")]
    assert [running.run for running in processes.launcher.running] == [other]
    await processes.launcher.stop(TaskRun(RUN.job, "unheard", 1))
    await processes.launcher.stop(other)


async def test_the_time_limit_kills_and_waits_end_before_it(processes: Processes, tmp_path: Path):
    processes.launcher.start(spec(tmp_path), 0.01)
    outcome = await last(processes.launcher)
    assert outcome.state == "timeout"
    assert outcome.error == "secure_sum (guest:10000): killed after its time limit of 0.01 s"
    assert processes.started[0].deadline > 0


@pytest.mark.parametrize(
    ("exit_code", "error"),
    [
        (-9, "its process was killed by signal 9 (Killed)"),
        (-11, "its process was killed by signal 11 (Segmentation fault)"),
        (3, "its process ended with exit code 3 and without a verdict"),
        (0, "its process ended with exit code 0 and without a verdict"),
    ],
)
async def test_a_death_without_a_verdict_is_a_loss(processes: Processes, tmp_path: Path, exit_code: int, error: str):
    processes.launcher.start(spec(tmp_path), 60)
    processes.end(spec(tmp_path).key, exit_code)
    outcome = await last(processes.launcher)
    assert (outcome.state, outcome.error) == ("lost", f"secure_sum (guest:10000): {error}")
    assert outcome.hint


async def test_a_success_that_died_afterwards_is_not_believed(processes: Processes, tmp_path: Path):
    processes.launcher.start(spec(tmp_path), 60)
    Outcome("success").write(spec(tmp_path).folder)
    processes.end(spec(tmp_path).key, -9)
    assert (await last(processes.launcher)).state == "lost"


async def test_a_process_that_cannot_be_started_is_lost(processes: Processes, tmp_path: Path):
    processes.launcher.start(spec(tmp_path), 60)
    processes.launcher.on_event({"refused": spec(tmp_path).key, "error": "no memory"})
    assert (await last(processes.launcher)).error == "secure_sum (guest:10000): no memory"


async def test_the_fork_server_takes_its_tasks_with_it(processes: Processes, tmp_path: Path):
    processes.launcher.start(spec(tmp_path), 60)
    await asyncio.sleep(0)
    processes.launcher.lose_all()
    assert (await last(processes.launcher)).error == "secure_sum (guest:10000): the worker's fork server died"


async def test_an_unknown_run_cannot_be_watched(processes: Processes):
    with pytest.raises(UnknownTaskError, match="was not started here"):
        await states(processes.launcher)


async def test_a_log_is_followed_until_the_task_ends(processes: Processes, tmp_path: Path):
    launcher, changes = processes.launcher, FileChanges()
    launcher.start(spec(tmp_path), 60)
    log = spec(tmp_path).folder / LOG
    log.write_text("zero one ")
    reader = launcher.read_log(RUN, GUEST, 5, follow=True, changes=changes)
    assert await anext(reader) == b"one "
    with log.open("a") as file:
        file.write("two")
    assert await anext(reader) == b"two"
    with log.open("a") as file:
        file.write(" three")
    processes.end(spec(tmp_path).key, 0)
    assert b"".join([chunk async for chunk in reader]) == b" three"
    assert [chunk async for chunk in launcher.read_log(RUN, GUEST, 0, follow=True, changes=changes)] == [
        b"zero one two three"
    ]
    changes.close()


async def test_a_log_is_read_as_it_is_when_not_followed(processes: Processes, tmp_path: Path):
    launcher, changes = processes.launcher, FileChanges()
    launcher.start(spec(tmp_path), 60)
    assert [chunk async for chunk in launcher.read_log(RUN, GUEST, 0, follow=False, changes=changes)] == []
    with pytest.raises(UnknownTaskError):
        await anext(launcher.read_log(RUN, HOST, 0, follow=False, changes=changes))
    await launcher.stop(RUN)
    changes.close()


async def test_a_job_is_forgotten_only_when_it_has_ended(processes: Processes, tmp_path: Path):
    launcher = processes.launcher
    launcher.start(spec(tmp_path), 60)
    with pytest.raises(JobError, match="is still running here"):
        await launcher.forget(RUN.job, tmp_path)
    await launcher.stop(RUN)
    await launcher.forget(RUN.job, tmp_path)
    assert not folder_of(tmp_path, RUN, GUEST).parents[2].exists()
    await launcher.forget(RUN.job, tmp_path)
    with pytest.raises(UnknownTaskError):
        await states(launcher)


async def test_a_folder_that_cannot_be_made_ends_the_task(processes: Processes, tmp_path: Path):
    jobs = tmp_path / "jobs"
    jobs.write_text("no folder")
    processes.launcher.start(spec(jobs), 60)
    outcome = await last(processes.launcher)
    assert outcome.state == "lost"
    assert f"its folder {spec(jobs).folder} could not be made: Not a directory" in outcome.error
    assert "disk" in outcome.hint
    await processes.launcher.stop(RUN)
    assert processes.started == []


async def test_a_task_that_could_not_write_its_verdict_found_the_disk_full(processes: Processes, tmp_path: Path):
    processes.launcher.start(spec(tmp_path), 60)
    processes.end(spec(tmp_path).key, DISK_FULL)
    outcome = await last(processes.launcher)
    assert outcome.state == "failed"
    assert outcome.error == "secure_sum (guest:10000): the disk is full: its verdict could not be written"
    assert outcome.hint.startswith("Free space at party 10000")


async def test_an_abort_under_a_memory_limit_names_the_limit(processes: Processes, tmp_path: Path):
    processes.launcher.start(replace(spec(tmp_path), memory_bytes=64 << 20), 60)
    processes.end(spec(tmp_path).key, -signal.SIGABRT)
    outcome = await last(processes.launcher)
    assert outcome.state == "failed"
    assert outcome.error.endswith("signal 6 (Aborted); it may not allocate more than 64 MiB of memory")
    assert "memory_bytes" in outcome.hint


async def test_tasks_get_cpus_and_gpus_of_their_own(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(machine, "detect", lambda: Machine(4, 1 << 30, (0, 1)))
    launcher = Launcher(processes)
    for member in (GUEST, HOST):
        launcher.start(replace(spec(tmp_path, member), cores=2.0, gpus=1), 60)
    first, second = processes.started
    assert len(first.cpus) == len(second.cpus) == 2
    assert not set(first.cpus) & set(second.cpus)
    assert (first.devices, second.devices) == ((0,), (1,))
    third = replace(spec(tmp_path, GUEST, TaskRun(RUN.job, "other", 1)), gpus=1)
    launcher.start(third, 60)
    outcome = [outcome async for _, outcome in launcher.watch(third.run)][-1]
    assert outcome.error == "secure_sum (guest:10000): it asks for 1 GPUs, 0 of 2 are free"
