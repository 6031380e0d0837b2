"""What may leave a site: the limits, and their form in a token."""

from __future__ import annotations

import json

import pytest

from fedparty.crypto.leaving import Leaving
from fedparty.flow.policy import read


@pytest.mark.parametrize(
    ("leaving", "tag", "size_bytes", "sent_bytes", "said"),
    [
        (Leaving(), "anything", 1 << 40, 1 << 40, ""),
        (Leaving(("sum*", "share")), "sum-1", 1, 0, ""),
        (Leaving(("sum*", "share")), "rows", 1, 0, "tag 'rows' is none that may leave (sum*, share)"),
        (Leaving(("sum",)), "SUM", 1, 0, "tag 'SUM' is none that may leave (sum)"),
        (Leaving(()), "sum", 0, 0, "tag 'sum' is none that may leave (none may)"),
        (Leaving(object_bytes=4), "x", 4, 100, ""),
        (Leaving(object_bytes=4), "x", 5, 0, "tag 'x' has 5 bytes, an object may have 4"),
        (Leaving(task_bytes=4), "x", 2, 2, ""),
        (Leaving(task_bytes=4), "x", 2, 3, "tag 'x' makes it 5 bytes, the task may send 4"),
    ],
)
def test_limits(leaving: Leaving, tag: str, size_bytes: int, sent_bytes: int, said: str) -> None:
    assert leaving.refusal(tag, size_bytes, sent_bytes) == said
    assert Leaving.from_claims(json.loads(json.dumps(leaving.to_claims()))) == leaving


@pytest.mark.parametrize("claims", [{"tags": "sum"}, {"tags": [1]}, {"object_bytes": "4"}, {"task_bytes": []}])
def test_a_token_that_says_it_otherwise_is_refused(claims: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="does not say what may leave"):
        Leaving.from_claims(claims)


def test_a_rule_says_it() -> None:
    rule = b"{name: a, parties: all, components: all, sends: [sum*], max_object_bytes: 4, max_task_bytes: 8}"
    (found,) = read(b"version: 1\nrules: [" + rule + b"]\n", "policy.yaml").rules
    assert found.leaving == Leaving(("sum*",), 4, 8)
    (found,) = read(b"version: 1\nrules: [{name: a, parties: all, components: all}]\n", "policy.yaml").rules
    assert found.leaving == Leaving()
