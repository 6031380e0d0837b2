"""A task's process: plays one role of a component and leaves a verdict.

Owns the verdict: success with a result, or what failed, who and what to do. Does not own the process (`forkserver`) nor
the component's view of the world (`context`).
"""

from __future__ import annotations

import errno
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from fedparty.components import registry
from fedparty.context import ReceiveTimeoutError, failure, role_method
from fedparty.errors import ComponentError, JobError, RpcError
from fedparty.rpc import catalogue
from fedparty.worker import code, isolation
from fedparty.worker.context import WorkerContext
from fedparty.worker.spec import DISK_FULL, FAILED, LOG, LOST, SUCCESS, TIMEOUT, Outcome, TaskSpec
from fedparty.worker.tasklog import open_log

_MAX_ERROR_LENGTH = 1000
_MAX_RESULT_BYTES = 2**20
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def run(spec: TaskSpec) -> int:
    """Play the role, write the verdict, and return the process's exit code."""
    if "numpy.random" in sys.modules:  # else it is seeded when a component loads it, which takes 10 ms
        np.random.seed()  # the fork copied the generator's state, which must not be the same in every task
    log = open_log(spec)
    outcome = _play(spec, log)
    try:
        outcome.write(spec.folder)
    except OSError as exc:
        if exc.errno not in _NO_SPACE:
            raise
        return DISK_FULL
    return 0 if outcome.state == SUCCESS else 1


def _play(spec: TaskSpec, log: logging.Logger) -> Outcome:
    try:
        component = _component(spec, log)
        method = role_method(component, spec.member.role)
        with WorkerContext(spec, log) as context:
            result = method(component(), context)
        return Outcome(SUCCESS, result=_as_json(result))
    except (Exception, SystemExit) as exc:  # the boundary of a task: whatever it is, it is recorded
        log.error("%s: %s", type(exc).__name__, exc, exc_info=exc)
        return _verdict(spec, exc)


def _component(spec: TaskSpec, log: logging.Logger) -> type:
    """Return the class to run; before a byte of a job's own code is read, the process is held."""
    if not spec.code:
        return registry.find(spec.component)
    isolation.hold(spec, log)
    return code.load(spec.component, Path(spec.code))


def _as_json(result: Any) -> str:
    try:
        text = json.dumps(result)
    except (TypeError, ValueError, RecursionError) as exc:
        raise ComponentError(
            f"its result cannot be written as JSON: {exc}", hint="Return numbers, strings, lists and dictionaries."
        ) from exc
    if len(text) > _MAX_RESULT_BYTES:
        raise ComponentError(
            f"its result has {len(text)} bytes, more than {_MAX_RESULT_BYTES}",
            hint="A result is a summary: send or keep data, and return what describes it.",
        )
    return text


def _verdict(spec: TaskSpec, exc: BaseException) -> Outcome:
    told = failure(spec.component, spec.member, _named(spec, exc))
    if isinstance(exc, ReceiveTimeoutError) and time.monotonic() >= spec.deadline:
        state = TIMEOUT
    else:
        state = LOST if isinstance(exc, RpcError) and catalogue.is_retryable(exc) else FAILED
    error = told.message[:_MAX_ERROR_LENGTH].encode(errors="backslashreplace").decode()
    return Outcome(state, error=error, hint=told.hint or _hint(spec))


def _named(spec: TaskSpec, exc: BaseException) -> BaseException:
    """Return what a person understands where a limit or the disk is the cause."""
    if isinstance(exc, MemoryError) and spec.memory_bytes:
        limit = f"{spec.memory_bytes / 2**20:.6g} MiB"
        return JobError(
            f"it needs more memory than the {limit} that it may use: {exc or 'MemoryError'}",
            hint="Give the task more in the job: memory_bytes. Or let it work on its data in parts.",
        )
    if isinstance(exc, OSError) and exc.errno in _NO_SPACE:
        return JobError(
            f"the disk is full: {exc}", hint=f"Free space at party {spec.member.party}, where {spec.folder} is."
        )
    return exc


def _hint(spec: TaskSpec) -> str:
    log = Path(*spec.folder.parts[-5:]) / LOG
    return f"The traceback is in its log at party {spec.member.party}: {log}"
