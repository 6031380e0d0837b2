"""What a task writes while it runs: log lines and figures, JSON lines in its folder.

Owns their format. Does not own who reads them (`launcher`, flow).
"""

from __future__ import annotations

import json
import logging
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from fedparty.errors import ComponentError
from fedparty.worker.spec import LOG, METRICS, TaskSpec

LOGGER = "fedparty.component"
"""Name of the logger that a component gets."""

_MAX_TEXT = 64 * 1024
"""Characters of one message."""


def open_log(spec: TaskSpec) -> logging.Logger:
    """Send this process's log records to the task's log, those of libraries from WARNING on."""
    handler = _LimitedHandler(spec.folder / LOG, spec.log_limit_bytes)
    handler.setFormatter(_TaskFormatter(spec))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logger = logging.getLogger(LOGGER)
    logger.setLevel(spec.log_level)
    return logger


class MetricsFile:
    """The task's figures; the file is opened with the first one."""

    def __init__(self, spec: TaskSpec) -> None:
        self._path = spec.folder / METRICS
        self._run, self._role, self._limit_bytes = spec.run, spec.member.role, spec.log_limit_bytes
        self._file: IO[str] | None = None

    def add(self, name: str, value: float, step: int | None) -> None:
        """Write one figure.

        Raises
        ------
        ComponentError
            There are too many.
        """
        if self._file is None:
            self._file = self._path.open("a", buffering=1, encoding="utf-8")
        number = float(value) if math.isfinite(value) else None  # JSON knows no other numbers
        where = {"task": self._run.task, "attempt": self._run.attempt, "role": self._role}
        line = {"time": _iso(datetime.now(UTC)), **where, "name": name, "value": number, "step": step}
        self._file.write(json.dumps(line) + "\n")
        if self._file.tell() > self._limit_bytes:
            raise ComponentError(
                f"its figures have more than {self._limit_bytes} bytes",
                hint="Record fewer: once a round, not once a row.",
            )

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()


class _LimitedHandler(logging.FileHandler):
    """Writes until the file has its full size, then one line that says so, and no more."""

    def __init__(self, path: Path, limit_bytes: int) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self._limit_bytes = limit_bytes
        self._is_full = False

    def emit(self, record: logging.LogRecord) -> None:
        if self._is_full:
            return
        super().emit(record)
        if self.stream and self.stream.tell() >= self._limit_bytes:
            self._is_full = True
            text = f"the log has reached {self._limit_bytes} bytes: the rest is dropped"
            super().emit(logging.LogRecord(LOGGER, logging.WARNING, __file__, 0, text, None, None))


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
            "message": _cut(record.getMessage()),
        }
        if record.exc_info:
            line["traceback"] = _cut(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def _cut(text: str) -> str:
    too_many = len(text) - _MAX_TEXT
    return text if too_many <= 0 else f"{text[:_MAX_TEXT]}… ({too_many} characters more)"


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")
