"""What a party knows of a job, as one folder.

    job.yaml       what it was to do: a job's folder, so that it can be submitted again
    custom/        its own code, if it has any
    status.json    what became of it, and of each task's roles
    result.json    what this party's own roles returned, by task and role
    results.json   what all roles returned as far as this party knows, by party, task and role
    logs.jsonl     what its own roles logged
    metrics.jsonl  the figures they recorded; metrics.csv and tensorboard/ have the same
    outputs/       the files they kept, by task, attempt and role
    parties/       what other parties' policies show: logs and figures of each

Owns the layout, that the folder is whole or absent, and going on with one that was broken off. Does not own what is in
it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedparty.cli import job_metrics
from fedparty.cli import job_texts as texts
from fedparty.context import output_path
from fedparty.errors import FedpartyError, JobError, NotAvailableError
from fedparty.jobs import folder as folders

if TYPE_CHECKING:
    from fedparty.client import JobStatus, Session

_PARTS = ".part"
_NOT_SHOWN = frozenset({"POLICY_REFUSED", "NOT_SUPPORTED", "NOT_REGISTERED"})


def write(party: Session, job: str, folder: Path, tell: Callable[[str], None]) -> list[str]:
    """Write the folder; return the names of what is in it.

    Until it is whole it has another name. Where it breaks off, that stays, and the next call goes on from there.

    Parameters
    ----------
    tell
        Called with what is left out, and why.

    Raises
    ------
    JobError
        There is one already, or somebody else is writing it.
    FedpartyError
        There is no such job, or the flow is not reached.
    """
    if folder.exists():
        raise JobError(f"{folder} exists already", hint="Choose another folder: nothing is overwritten.")
    status = party.job(job)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _partial(folder.with_name(f".{folder.name}.{job}.partial")) as partial:
        _Download(party, status, partial, tell).fill()
        partial.rename(folder)
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """Make a folder, or take over one that was left, for this process alone.

    Raises
    ------
    JobError
        Another process writes it.
    """
    path.mkdir(exist_ok=True)
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield path
    except BlockingIOError as exc:
        raise JobError(
            f"{path}: another download is writing it", hint="Wait for it, or choose another folder."
        ) from exc
    finally:
        os.close(lock)


class _Download:
    """Fills a folder; what is there from an earlier try, and cannot have changed, stays."""

    def __init__(self, party: Session, status: JobStatus, folder: Path, tell: Callable[[str], None]) -> None:
        self._party = party
        self._status = status
        self._job = status.id
        self._own = party.party().id
        self._folder = folder
        self._tell = tell

    def fill(self) -> None:
        """Write everything."""
        (self._folder / folders.FILE).unlink(missing_ok=True)
        described = self._party.description(self._job)
        package = self._party.code(self._job) if folders.CODE in described else None
        shutil.rmtree(self._folder / folders.CUSTOM, ignore_errors=True)
        folders.write(self._folder, described, f"As job {self._job}.", package)
        _write_json(self._folder / "status.json", texts.content(self._status))
        results = _results(self._status)
        _write_json(self._folder / "result.json", results.get(self._own, {}))
        _write_json(self._folder / "results.json", results)
        self._write_streams(self._folder, None)
        for kept in self._party.outputs(self._job):
            self._write_output(kept, self._folder / "outputs")
        if self._status.initiator == self._own:
            for other in sorted({task.party for task in self._status.tasks} - {self._own}):
                self._write_streams(self._folder / "parties" / other, other)

    def _write_streams(self, folder: Path, party: str | None) -> None:
        """Write logs and figures of this party's own roles, or of those that another party shows."""
        logs = self._shown("logs", party, lambda: list(self._party.logs(self._job, party=party)))
        if logs is not None:
            _write_lines(folder / "logs.jsonl", logs)
        figures = self._shown("metrics", party, lambda: list(self._party.metrics(self._job, party=party)))
        if figures is not None:
            _write_lines(folder / "metrics.jsonl", figures)
            job_metrics.write_table(figures, folder / "metrics.csv")
            self._write_events(figures, folder / "tensorboard")

    def _shown(
        self, kind: str, party: str | None, read: Callable[[], list[dict[str, Any]]]
    ) -> list[dict[str, Any]] | None:
        """Return lines, or None, and tell so, where another party does not show them."""
        try:
            return read()
        except FedpartyError as exc:
            if party is None or getattr(exc, "code", "") not in _NOT_SHOWN:
                raise
            self._tell(f"without {exc.message if kind in exc.message else f'{kind} of party {party}: {exc.message}'}")
            return None

    def _write_events(self, figures: list[dict[str, Any]], folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        if not figures:
            return
        try:
            job_metrics.write_events(figures, folder)
        except NotAvailableError as exc:
            self._tell(f"without {folder.name}/: {exc.message}: {exc.hint}")

    def _write_output(self, kept: Mapping[str, Any], folder: Path) -> None:
        """Fetch a file, from where an earlier try broke off; it does not change after its role has ended."""
        place = (kept["task"], kept["attempt"], kept["role"], kept["name"])
        path = output_path(folder, "/".join(map(str, place)))
        if path.exists():
            return
        part = path.with_name(f".{path.name}{_PARTS}")
        with part.open("ab") as file:
            file.writelines(self._party.read_output(self._job, *place, offset=file.tell()))
            size = file.tell()
        if size != kept["size_bytes"]:
            part.unlink()
            hint = "Download again: it is fetched anew."
            raise JobError(f"{path.name} has {size} bytes, not {kept['size_bytes']}", hint=hint)
        part.rename(path)


def _results(job: JobStatus) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what the newest attempts of roles returned, by party, task and role."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for task in sorted(job.tasks, key=lambda task: task.attempt):
        if task.state == "success":
            found.setdefault(task.party, {}).setdefault(task.task, {})[task.role] = task.result
    return found


def _write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(f"{texts.json_line(line)}\n" for line in lines)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", errors="backslashreplace")
