"""What another party shows is taken only where it can be a log of its own."""

from __future__ import annotations

import json

import pytest

from fedparty.errors import RpcError
from fedparty.flow.logs import Lines
from fedparty.flow.records import Job
from fedparty.flow.states import State
from fedparty.flow.viewing import checked
from fedparty.types import JobId, PartyId

HOST = PartyId("9999")
TEXT = json.dumps(
    {"name": "j", "roles": {"guest": ["10000"], "host": [HOST]}, "tasks": {"sum": {"component": "secure_sum"}}}
)
JOB = Job(JobId("10000-01JD3M00000000000000000000"), PartyId("10000"), "j", TEXT, State.RUNNING, 0.0, 1.0)


@pytest.mark.parametrize(
    "lines",
    [Lines("", 0, b""), Lines("sum/1/host", 3, b"{}\n"), Lines("sum/2/host", 8, b"{}\n{}\n")],
)
def test_lines_of_its_own_log_pass(lines: Lines) -> None:
    assert checked(lines, JOB, HOST) is lines


@pytest.mark.parametrize(
    "lines",
    [
        Lines("", 0, b"{}\n"),
        Lines("sum/1/guest", 3, b"{}\n"),
        Lines("other/1/host", 3, b"{}\n"),
        Lines("sum/x/host", 3, b"{}\n"),
        Lines("sum/1000000/host", 3, b"{}\n"),
        Lines("sum/1/host\nevent: end", 3, b"{}\n"),
        Lines("sum/1/host", 3, b"{}"),
    ],
)
def test_anything_else_is_an_error_with_the_party(lines: Lines) -> None:
    with pytest.raises(RpcError, match="party 9999 shows what are no lines") as raised:
        checked(lines, JOB, HOST)
    assert raised.value.code == "BAD_REQUEST"
