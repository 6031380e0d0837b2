"""Jobs as text and as JSON, and their progress while one waits.

Owns how they look. Does not own where they come from.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from fedparty.cli.session import printable, table

if TYPE_CHECKING:
    from fedparty.client import JobStatus, TaskStatus

_COLORS = {
    "success": "green",
    "failed": "red",
    "timeout": "red",
    "lost": "red",
    "canceled": "yellow",
    "running": "cyan",
}
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGE = re.compile(r"([0-9]{1,9})([smhdw])")
_RESULT_WIDTH = 60


class Age(click.ParamType[float]):
    """A time span: a number and its unit."""

    name = "AGE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        found = _AGE.fullmatch(str(value))
        if not found:
            self.fail(f"{value!r} is not a time span: write e.g. 12h, 30d or 8w", param, ctx)
        return float(found[1]) * _UNITS_S[found[2]]


def content(job: JobStatus) -> dict[str, Any]:
    """Return a job as JSON values."""
    return asdict(job)


def summary(job: JobStatus) -> dict[str, Any]:
    """Return a job without its tasks as JSON values."""
    return {key: value for key, value in asdict(job).items() if key not in ("tasks", "version")}


def jobs(found: list[JobStatus] | tuple[JobStatus, ...]) -> list[str]:
    """Return a table of jobs, or that there is none."""
    if not found:
        return ["no job"]
    rows = ((each.id, each.state, _local(each.created_at), _lasted(each), _by(each), each.name) for each in found)
    return table(("ID", "STATUS", "SUBMITTED", "TOOK", "BY", "NAME"), rows)


def _by(found: JobStatus) -> str:
    return found.submitter or f"party {found.initiator}"


def job(found: JobStatus) -> Iterator[str]:
    """Yield the lines of one job."""
    yield f"job        {found.id}"
    yield f"name       {printable(found.name)}"
    yield f"status     {found.state}"
    yield f"submitted  {_local(found.created_at)}, by {printable(_by(found))}"
    if found.started_at:
        yield f"took       {_lasted(found)}"
    for label, text in (("error", found.error), ("hint", found.hint)):
        if text:
            yield f"{label:10} {printable(text)}"
    if found.tasks:
        yield ""
        yield from table(("TASK", "ROLE", "PARTY", "STATUS", "RESULT"), map(_row, found.tasks))


def ended(found: JobStatus) -> str:
    """Return what became of a job, in one line."""
    return printable(found.verdict) if found.state != "success" else f"job {found.id} had ended with success"


def json_line(line: Mapping[str, Any]) -> str:
    """Return a log line as JSON."""
    return json.dumps(line, ensure_ascii=False)


def log_line(line: Mapping[str, Any]) -> str:
    """Return a log line for people; what is not printable is escaped."""
    time = _local(str(line.get("time", "")), "%H:%M:%S")
    attempt = f"#{line['attempt']}" if line.get("attempt", 1) != 1 else ""
    where = f"{line['task']}{attempt}/{line.get('role', '')}" if "task" in line else ""
    words = (time, f"{line.get('level', ''):7}" if "level" in line else "", where, str(line.get("message", line)))
    text = printable(" ".join(word for word in words if word))
    traceback = "".join(f"\n    {printable(each)}" for each in str(line.get("traceback", "")).splitlines())
    return text + traceback


@contextmanager
def progress() -> Iterator[Callable[[JobStatus], None]]:
    """Show a job's progress on standard error: in place on a terminal, else a line for each change."""
    if sys.stderr.isatty():
        shown = _InPlace()
        yield shown
        shown.clear()
    else:
        yield _Lines()


class _Lines:
    """A line for each role whose state has changed."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, str, str], str] = {}

    def __call__(self, job: JobStatus) -> None:
        for task in job.tasks:
            key = (task.task, task.attempt, task.role, task.party)
            if self._known.get(key) != task.state:
                self._known[key] = task.state
                click.echo(_task_line(task), err=True)


class _InPlace:
    """The newest state of each role, written over the one before."""

    def __init__(self) -> None:
        self._height = 0

    def __call__(self, job: JobStatus) -> None:
        size = shutil.get_terminal_size()
        newest = [task for task in job.tasks if task.attempt == _newest(job, task.task)]
        lines = [_task_line(task)[: size.columns - 1] for task in newest] or [f"{job.state} …"]
        self.clear()
        shown = lines[-(size.lines - 1) :]
        states = [task.state for task in newest][-len(shown) :] or [job.state]
        for line, state in zip(shown, states, strict=True):
            click.secho(line, err=True, fg=_COLORS.get(state))
        self._height = len(shown)

    def clear(self) -> None:
        """Remove what was written."""
        if self._height:
            click.echo(f"\x1b[{self._height}A\x1b[J", nl=False, err=True)
            self._height = 0


def age_s(found: JobStatus) -> float:
    """Return how long ago a job ended, seconds."""
    ended_at = datetime.fromisoformat(found.ended_at or found.created_at)
    return (datetime.now(UTC) - ended_at).total_seconds()


def _newest(job: JobStatus, task: str) -> int:
    return max(each.attempt for each in job.tasks if each.task == task)


def _task_line(task: TaskStatus) -> str:
    attempt = f" (attempt {task.attempt})" if task.attempt > 1 else ""
    return printable(f"{task.task}{attempt}  {task.role} at {task.party}: {task.state}")


def _row(task: TaskStatus) -> tuple[str, str, str, str, str]:
    name = f"{task.task} (attempt {task.attempt})" if task.attempt > 1 else task.task
    told = task.error or (json.dumps(task.result, ensure_ascii=False) if task.result is not None else "")
    return name, task.role, task.party, task.state, told if len(told) <= _RESULT_WIDTH else f"{told[:_RESULT_WIDTH]}…"


def _local(time: str, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    try:
        return datetime.fromisoformat(time).astimezone().strftime(form)
    except ValueError:
        return ""


def _lasted(found: JobStatus) -> str:
    """Return how long a job ran, or has run until now."""
    if found.started_at is None:
        return ""
    end = datetime.fromisoformat(found.ended_at) if found.ended_at else datetime.now(UTC)
    seconds = (end - datetime.fromisoformat(found.started_at)).total_seconds()
    if seconds < 60:
        return f"{max(0.0, seconds):.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
