"""What a task writes while it runs: log lines and figures, JSON lines in its folder.

Owns their format. Does not own who reads them (`launcher`, flow).
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import IO

from fedparty.worker.spec import LOG, METRICS, TaskSpec

LOGGER = "fedparty.component"
"""Name of the logger that a component gets."""


def open_log(spec: TaskSpec) -> logging.Logger:
    """Send this process's log records to the task's log, those of libraries from WARNING on."""
    handler = logging.FileHandler(spec.folder / LOG, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(_TaskFormatter(spec))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logger = logging.getLogger(LOGGER)
    logger.setLevel(spec.log_level)
    return logger


class MetricsFile:
    """The task's figures; the file is made with the first one."""

    def __init__(self, spec: TaskSpec) -> None:
        self._path = spec.folder / METRICS
        self._file: IO[str] | None = None

    def add(self, name: str, value: float, step: int | None) -> None:
        """Write one figure."""
        if self._file is None:
            self._file = self._path.open("a", buffering=1, encoding="utf-8")
        line = {"time": _iso(datetime.now(UTC)), "name": name, "value": value, "step": step}
        self._file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()


class _TaskFormatter(logging.Formatter):
    """time, level, service, party, job, task, attempt, role, source, message; traceback after an exception."""

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__()
        self._task = {
            "service": "task",
            "party": spec.member.party,
            "job": spec.run.job,
            "task": spec.run.task,
            "attempt": spec.run.attempt,
            "role": spec.member.role,
        }

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _iso(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname,
            **self._task,
            "source": f"{record.filename}:{record.lineno}",
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")
