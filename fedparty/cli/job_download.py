"""What a party knows of a job, as one folder.

    job.yaml       what it was to do: a job's folder, so that it can be submitted again
    custom/        its own code, if it has any
    status.json    what became of it, and of each task's roles
    result.json    what this party's own roles returned, by task and role
    logs.jsonl     what they logged
    metrics.jsonl  the figures they recorded
    outputs/       the files they kept, by task, attempt and role

Owns the layout, and that the folder is whole or absent. Does not own what is in it.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedparty.cli import job_texts as texts
from fedparty.context import output_path
from fedparty.errors import JobError
from fedparty.jobs import folder as folders

if TYPE_CHECKING:
    from fedparty.client import JobStatus, Session


def write(party: Session, job: str, folder: Path) -> list[str]:
    """Write the folder; return the names of its files.

    Raises
    ------
    JobError
        There is one already.
    FedpartyError
        There is no such job, or the flow is not reached.
    """
    if folder.exists():
        raise JobError(f"{folder} exists already", hint="Choose another folder: nothing is overwritten.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        _fill(party, job, partial)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return sorted(path.name for path in folder.iterdir())


def _fill(party: Session, job: str, folder: Path) -> None:
    status = party.job(job)
    described = party.description(job)
    folders.write(folder, described, f"As job {job}.", party.code(job) if folders.CODE in described else None)
    _write_json(folder / "status.json", texts.content(status))
    _write_json(folder / "result.json", _results(status, party.party().id))
    with (folder / "logs.jsonl").open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(f"{texts.json_line(line)}\n" for line in party.logs(job))
    with (folder / "metrics.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(f"{texts.json_line(figure)}\n" for figure in party.metrics(job))
    for kept in party.outputs(job):
        _write_output(party, job, kept, folder / "outputs")


def _write_output(party: Session, job: str, kept: Mapping[str, Any], folder: Path) -> None:
    place = (kept["task"], kept["attempt"], kept["role"], kept["name"])
    with output_path(folder, "/".join(map(str, place))).open("wb") as file:
        file.writelines(party.read_output(job, *place))


def _results(job: JobStatus, own: str) -> dict[str, dict[str, Any]]:
    """Return what the newest attempts of a party's roles returned, by task and role."""
    found: dict[str, dict[str, Any]] = {}
    for task in sorted(job.tasks, key=lambda task: task.attempt):
        if task.party == own and task.state == "success":
            found.setdefault(task.task, {})[task.role] = task.result
    return found


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", errors="backslashreplace")
