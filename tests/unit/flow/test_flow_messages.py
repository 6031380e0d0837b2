"""What arrives from others is checked."""

from __future__ import annotations

import pytest

from fedparty.errors import RpcError
from fedparty.flow import messages
from fedparty.flow.records import RoleRun
from fedparty.flow.states import State
from fedparty.rpc.v1.peer_pb2 import RunId, StopRequest, TaskReport
from fedparty.types import JobId, Member, PartyId, TaskRun

JOB = "10000-01JD3M00000000000000000000"


@pytest.mark.parametrize("version", ["1.0", "1.9"])
def test_the_same_major_version_is_spoken(version: str) -> None:
    messages.check_protocol(version, "party 7")


@pytest.mark.parametrize("version", ["2.0", "0.9", "", "1", "1.x", "11.0", "x" * 100])
def test_another_is_refused(version: str) -> None:
    with pytest.raises(RpcError, match="party 7 speaks protocol"):
        messages.check_protocol(version, "party 7")


@pytest.mark.parametrize(
    "run",
    [
        RunId(job="10000-1", task="sum", attempt=1),
        RunId(job=JOB, task="", attempt=1),
        RunId(job=JOB, task="a/b", attempt=1),
        RunId(job=JOB, task="sum", attempt=0),
        RunId(job=JOB, task="sum", attempt=messages.MAX_ATTEMPT + 1),
    ],
)
def test_malformed_runs(run: RunId) -> None:
    with pytest.raises(RpcError) as raised:
        messages.run_of(run)
    assert raised.value.code == "BAD_REQUEST"


def test_reports_survive_the_wire() -> None:
    member = Member("host", PartyId("9999"))
    role = RoleRun(TaskRun(JobId(JOB), "sum", 2), member, State.FAILED, error="no", hint="do")
    outcome = messages.outcome_of(TaskReport.FromString(messages.report_of(role).SerializeToString()))
    assert (outcome.state, outcome.error, outcome.hint) == (State.FAILED, "no", "do")


@pytest.mark.parametrize("state", ["", "asleep", "SUCCESS"])
def test_states_there_are_not(state: str) -> None:
    with pytest.raises(RpcError):
        messages.outcome_of(TaskReport(state=state))


@pytest.mark.parametrize("state", ["", "running", "waiting", "lost"])
def test_ends_that_are_none(state: str) -> None:
    with pytest.raises(RpcError):
        messages.end_of(StopRequest(state=state, is_final=True))
