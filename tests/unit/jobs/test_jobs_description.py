"""Job descriptions: what is accepted, and what is said about the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fedparty.errors import JobError
from fedparty.jobs import description
from fedparty.types import Member, PartyId


def _job(**changes: Any) -> dict[str, Any]:
    return {
        "name": "toy",
        "roles": {"guest": ["10000"], "host": ["9999", "10000"]},
        "tasks": {"sum": {"component": "secure_sum"}},
    } | changes


def _task(**fields: Any) -> dict[str, Any]:
    return {"sum": {"component": "secure_sum", **fields}}


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def test_members_parties_and_cores() -> None:
    job = description.parse(json.dumps(_job(tasks=_task(cores=0.5))))
    assert [str(member) for member in job.members] == ["guest:10000", "host:9999", "host:10000"]
    assert job.parties == ("10000", "9999")
    assert job.members_at(PartyId("10000")) == (Member("guest", PartyId("10000")), Member("host", PartyId("10000")))
    assert job.cores_at(PartyId("10000"), "sum") == 1.0


def test_a_roles_parameters_go_over_the_common_ones() -> None:
    task = _task(parameters={"a": 1, "b": 1}, role_parameters={"host": {"b": 2}})
    job = description.parse(json.dumps(_job(tasks=task)))
    assert job.parameters_of("sum", Member("guest", PartyId("10000"))) == {"a": 1, "b": 1}
    assert job.parameters_of("sum", Member("host", PartyId("9999"))) == {"a": 1, "b": 2}


def test_a_partys_parameters_go_over_its_roles() -> None:
    task = _task(parameters={"a": 1}, role_parameters={"host": {"a": 2, "b": 2}}, party_parameters={"9999": {"a": 3}})
    job = description.parse(json.dumps(_job(tasks=task)))
    assert job.parameters_of("sum", Member("host", PartyId("9999"))) == {"a": 3, "b": 2}
    assert job.parameters_of("sum", Member("host", PartyId("10000"))) == {"a": 2, "b": 2}


def test_what_travels_names_only_what_was_said() -> None:
    """So that a party of an older release, which does not know the new words, reads a job that uses none of them."""
    job = description.parse(json.dumps(_job(tasks=_task(gpus=0, retries=None), priority=0)))
    assert json.loads(job.travelling()) == _job()
    said = _job(tasks=_task(memory_bytes=2**30, gpus=1, retries=5, timeout_s=10.0), priority=-1)
    assert json.loads(description.parse(json.dumps(said)).travelling()) == said


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (_job(name=""), "name:"),
        (_job(roles={}), "roles:"),
        (_job(roles={"guest": []}), "roles.guest:"),
        (_job(roles={"Guest": ["1"]}), "roles.Guest"),
        (_job(roles={"guest": ["01"]}), "roles.guest.0:"),
        (_job(roles={"guest": ["7", "7"]}), "roles.guest: party 7 is given twice"),
        (_job(tasks={}), "tasks:"),
        (_job(tasks={"../x": {"component": "c"}}), "tasks.../x"),
        (_job(tasks=_task(cores=0)), "tasks.sum.cores:"),
        (_job(tasks=_task(cores="inf")), "tasks.sum.cores:"),
        (_job(tasks=_task(after=["other"])), "tasks.sum.after: there is no task other"),
        (_job(tasks=_task(after=["sum"])), "these wait for each other: sum -> sum"),
        (_job(tasks=_task(role_parameters={"arbiter": {}})), "there is no role arbiter"),
        (_job(tasks=_task(core=1)), "tasks.sum.core:"),
        (_job(timeout_s=-1), "timeout_s:"),
        (_job(timeout_s=1e9), "timeout_s:"),
        (_job(priority=101), "priority:"),
        (_job(prioritaet=1), "prioritaet:"),
        (_job(tasks=_task(memory_bytes=0)), "tasks.sum.memory_bytes:"),
        (_job(tasks=_task(gpus=-1)), "tasks.sum.gpus:"),
        (_job(tasks=_task(retries=0)), "tasks.sum.retries:"),
        (_job(tasks=_task(timeout_s="inf")), "tasks.sum.timeout_s:"),
        (_job(tasks=_task(party_parameters={"1": {}})), "party_parameters: party 1 has no role"),
        (_job(tasks=_task(party_parameters={"01": {}})), "tasks.sum.party_parameters.01"),
        (
            _job(tasks=_task(parameters={"a": nested(60)})),
            "tasks.sum.parameters: Value error, lists and objects lie more",
        ),
        (
            _job(tasks=_task(parameters={"a": [float("nan")]})),
            "tasks.sum.parameters: Value error, a number is not finite",
        ),
        (
            _job(tasks=_task(role_parameters={"guest": {"a": float("inf")}})),
            "role_parameters.guest: Value error, a number",
        ),
        (_job(tasks={f"t{number}": {"component": "c"} for number in range(1001)}), "tasks:"),
    ],
)
def test_faults_are_named_with_their_place(job: dict[str, Any], said: str) -> None:
    with pytest.raises(JobError) as raised:
        description.parse(json.dumps(job))
    assert said in raised.value.message
    assert raised.value.hint


def test_all_faults_at_once() -> None:
    with pytest.raises(JobError, match=r"given twice.*no task other"):
        description.parse(json.dumps(_job(roles={"guest": ["7", "7"]}, tasks=_task(after=["other"]))))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", "{}" + " " * description.MAX_BYTES])
def test_what_is_no_description(text: str) -> None:
    with pytest.raises(JobError, match="job description"):
        description.parse(text)
