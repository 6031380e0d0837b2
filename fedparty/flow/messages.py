"""Between the flow's values and its protobuf messages.

Owns the translation and the checks of what arrives. Does not own calls.
"""

from __future__ import annotations

import re
import time

from fedparty.crypto.certificates import CLOCK_SKEW_S
from fedparty.federation import names
from fedparty.flow.records import Outcome, RoleRun
from fedparty.flow.states import FINAL, State
from fedparty.jobs.description import MAX_TASKS
from fedparty.rpc import catalogue
from fedparty.rpc.v1.peer_pb2 import RunId, ShowRequest, StopRequest, TaskReport
from fedparty.types import JobId, PartyId, TaskRun, parse_job_id

PROTOCOL = "1.0"
"""Version of this release's protocol, ``major.minor``: another major version is refused."""

MAX_ATTEMPT = 10_000
_MAX_TEXT = 10_000
_VERSION = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}")


def job_of(run: RunId) -> JobId:
    """Return the job that a message names.

    Raises
    ------
    RpcError
        BAD_REQUEST: it is not a job id.
    """
    try:
        return parse_job_id(run.job)
    except ValueError as exc:
        raise catalogue.error("BAD_REQUEST", str(exc)) from exc


def run_of(message: RunId) -> TaskRun:
    """Return the attempt that a message names.

    Raises
    ------
    RpcError
        BAD_REQUEST: a part of it is malformed.
    """
    run = names.run_from(message)
    if not 1 <= run.attempt <= MAX_ATTEMPT:
        raise catalogue.error("BAD_REQUEST", f"{run.attempt} is not the number of an attempt")
    return run


def check_protocol(theirs: str, caller: str) -> None:
    """Make sure that a caller speaks this release's major version.

    Raises
    ------
    RpcError
        PROTOCOL_MISMATCH
    """
    if not _VERSION.fullmatch(theirs) or theirs.split(".")[0] != PROTOCOL.split(".")[0]:
        raise catalogue.error("PROTOCOL_MISMATCH", f"{caller} speaks protocol {theirs[:20]!r}, this is {PROTOCOL}")


def offsets_of(request: ShowRequest) -> dict[str, int]:
    """Return from where on logs are to be read.

    Raises
    ------
    RpcError
        BAD_REQUEST: there are too many.
    """
    if len(request.positions) > MAX_TASKS:
        raise catalogue.error("BAD_REQUEST", f"{len(request.positions)} positions are too many")
    return {position.log: position.offset_bytes for position in request.positions}


def check_clock(sent_at: float, caller: str, party: PartyId) -> None:
    """Make sure that a caller's clock is near this one's; a release that does not say its time is believed.

    Parameters
    ----------
    sent_at
        When the caller sent its message, by its own clock, seconds since the epoch; 0: not said.

    Raises
    ------
    RpcError
        CLOCKS_DIFFER: by more than tokens, vouchers and certificates bear.
    """
    skew_s = sent_at - time.time()
    if not sent_at or abs(skew_s) < CLOCK_SKEW_S:
        return
    way = "ahead of" if skew_s > 0 else "behind"
    raise catalogue.error(
        "CLOCKS_DIFFER",
        f"the clock of {caller} is {abs(skew_s):.0f} s {way} that of party {party}: {CLOCK_SKEW_S} s are borne",
    )


def report_of(role: RoleRun) -> TaskReport:
    """Return the state of a role as a message."""
    return TaskReport(
        role=role.member.role,
        party=role.member.party,
        state=role.state,
        error=role.error,
        hint=role.hint,
        result=role.result,
    )


def outcome_of(report: TaskReport) -> Outcome:
    """Return the state that a message reports.

    Raises
    ------
    RpcError
        BAD_REQUEST: there is no such state.
    """
    try:
        return Outcome(State(report.state), report.error[:_MAX_TEXT], report.hint[:_MAX_TEXT], report.result)
    except ValueError as exc:
        raise catalogue.error("BAD_REQUEST", f"{report.state!r} is not the state of a task") from exc


def end_of(request: StopRequest) -> Outcome:
    """Return how a job ended, as its initiator says.

    Raises
    ------
    RpcError
        BAD_REQUEST: that is not an end.
    """
    if request.state not in FINAL - {State.LOST}:
        raise catalogue.error("BAD_REQUEST", f"{request.state!r} is not the end of a job")
    return Outcome(State(request.state), request.reason[:_MAX_TEXT])
