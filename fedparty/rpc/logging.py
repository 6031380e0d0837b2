"""Logs of the services: JSON lines on standard output, each with service, party, job and task.

Owns the format and the context that calls carry. Does not own files or rotation: whoever starts the service does.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

_FIELDS = ("service", "party", "job", "task")
_context: ContextVar[dict[str, str] | None] = ContextVar("fedparty_log_context", default=None)


def configure(level: str = "INFO") -> None:
    """Send every logger's lines to standard output as JSON; called once by each process."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)


def bind(**fields: str) -> None:
    """Add fields (service, party, job, task) to every line of the current task and those it starts from now on."""
    _context.set({**(_context.get() or {}), **fields})


@contextmanager
def log_context(**fields: str) -> Iterator[None]:
    """Add fields (service, party, job, task) to the lines written in a block."""
    token = _context.set({**(_context.get() or {}), **fields})
    try:
        yield
    finally:
        _context.reset(token)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, service, party, job, task, message; error with the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname}
        context = _context.get() or {}
        line |= {field: context[field] for field in _FIELDS if field in context}
        line["message"] = record.getMessage()
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
