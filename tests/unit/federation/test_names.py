"""Names that cross the wire, and the file names that no tag can escape from."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedparty.errors import RpcError
from fedparty.federation import names
from fedparty.rpc.v1 import peer_pb2
from fedparty.types import JobId, Member, ObjectName, PartyId, TaskRun

RUN = TaskRun(JobId("10000-01JD3M00000000000000000000"), "sum", 1)
GUEST, HOST = Member("guest", PartyId("10000")), Member("host", PartyId("9999"))


@given(st.text(min_size=1, max_size=200), st.integers(0, 2**32 - 1))
def test_names_survive_the_wire(tag: str, attempt: int) -> None:
    name = ObjectName(TaskRun(RUN.job, RUN.task, attempt), tag, GUEST, HOST)
    data = names.message_of(name).SerializeToString()
    assert names.name_from(peer_pb2.ObjectName.FromString(data)) == name
    assert names.run_from(names.run_message_of(name.run)) == name.run


@given(st.text(min_size=1))
def test_file_names_are_harmless(tag: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{40}", names.file_name_of(ObjectName(RUN, tag, GUEST, HOST)))


def test_each_part_of_a_name_counts() -> None:
    variants = [
        ObjectName(RUN, "a", GUEST, HOST),
        ObjectName(RUN, "b", GUEST, HOST),
        ObjectName(RUN, "a", HOST, GUEST),
        ObjectName(RUN, "a", GUEST, GUEST),
        ObjectName(RUN, "a", Member("guest", HOST.party), HOST),
    ]
    assert len(set(map(names.file_name_of, variants))) == len(variants)


@pytest.mark.parametrize(
    "change",
    [
        {"job": "../../etc"},
        {"job": ""},
        {"task": "../x"},
        {"task": "a/b"},
        {"task": ""},
        {"tag": ""},
        {"tag": "ä" * 513},
        {"sender": "guest"},
        {"sender": "Guest:10000"},
        {"receiver": "host:0999"},
        {"receiver": "host:9999:1"},
    ],
    ids=str,
)
def test_malformed_names_are_refused(change: dict[str, str]) -> None:
    message = names.message_of(ObjectName(RUN, "tag", GUEST, HOST))
    for field, value in change.items():
        setattr(message, field, value)
    with pytest.raises(RpcError) as caught:
        names.name_from(message)
    assert caught.value.code == "BAD_REQUEST"
