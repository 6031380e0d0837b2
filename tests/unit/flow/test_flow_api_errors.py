"""Every code of the catalogue has its HTTP status."""

from __future__ import annotations

import pytest

from fedparty.errors import JobError, RpcError
from fedparty.flow.api.errors import status_of
from fedparty.rpc.catalogue import CATALOGUE


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_every_code_but_internal_is_the_callers_or_a_neighbours(code: str) -> None:
    status = status_of(RpcError("x", code=code))
    assert 400 <= status < 600
    known_as_500 = {"INTERNAL", "CHECKSUM_MISMATCH", "CANCELED"}
    assert (status == 500) == (code in known_as_500)


def test_others() -> None:
    assert status_of(JobError("x")) == 422
    assert status_of(RpcError("x", code="FROM_A_LATER_RELEASE")) == 500
