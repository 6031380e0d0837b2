"""Names of services, objects and runs: between the wire's messages, the domain's types and the spool's files.

Owns what is a well-formed name. Does not own who may use it.
"""

from __future__ import annotations

import hashlib

from fedparty.errors import RpcError
from fedparty.rpc import catalogue
from fedparty.rpc.v1 import peer_pb2
from fedparty.types import TASK_NAME, JobId, Member, ObjectName, TaskRun, parse_job_id

PEER_SERVICE = "fedparty.v1.peer.Mailbox"
LOCAL_SERVICE = "fedparty.v1.local.Mailbox"
MAX_TAG_BYTES = 1024


def name_from(message: peer_pb2.ObjectName) -> ObjectName:
    """Read an object's name.

    Raises
    ------
    RpcError
        ``BAD_REQUEST``: a part of it is malformed.
    """
    if not 0 < len(message.tag.encode()) <= MAX_TAG_BYTES:
        raise _malformed(f"a tag has 1 to {MAX_TAG_BYTES} bytes")
    run = _run(message.job, message.task, message.attempt)
    return ObjectName(run, message.tag, member_from(message.sender), member_from(message.receiver))


def message_of(name: ObjectName) -> peer_pb2.ObjectName:
    """Return a name as the wire's message."""
    return peer_pb2.ObjectName(
        job=name.run.job,
        task=name.run.task,
        attempt=name.run.attempt,
        tag=name.tag,
        sender=str(name.sender),
        receiver=str(name.receiver),
    )


def run_from(message: peer_pb2.RunId) -> TaskRun:
    """Read a task attempt.

    Raises
    ------
    RpcError
        ``BAD_REQUEST``: a part of it is malformed.
    """
    return _run(message.job, message.task, message.attempt)


def run_message_of(run: TaskRun) -> peer_pb2.RunId:
    """Return a task attempt as the wire's message."""
    return peer_pb2.RunId(job=run.job, task=run.task, attempt=run.attempt)


def member_from(text: str) -> Member:
    """Read ``role:party``.

    Raises
    ------
    RpcError
        ``BAD_REQUEST``: it is malformed.
    """
    try:
        return Member.parse(text)
    except ValueError as exc:
        raise _malformed(str(exc)) from exc


def task_from(job: str, task: str) -> tuple[JobId, str]:
    """Read a job id and a task name.

    Raises
    ------
    RpcError
        ``BAD_REQUEST``: one of them is malformed.
    """
    try:
        parsed = parse_job_id(job)
    except ValueError as exc:
        raise _malformed(str(exc)) from exc
    if not TASK_NAME.fullmatch(task):
        raise _malformed(f"{task!r} is not a task name")
    return parsed, task


def file_name_of(name: ObjectName) -> str:
    """Return the file name of an object in its attempt's folder: a digest, whatever the tag contains."""
    parts = "\0".join((str(name.sender), str(name.receiver), name.tag))
    return hashlib.sha256(parts.encode()).hexdigest()[:40]


def _run(job: str, task: str, attempt: int) -> TaskRun:
    return TaskRun(*task_from(job, task), attempt)


def _malformed(message: str) -> RpcError:
    return catalogue.error("BAD_REQUEST", message)
