"""Metadata, and which failures are repeated."""

from __future__ import annotations

import time

import pytest

from fedparty.errors import RpcError
from fedparty.rpc import catalogue, channels
from fedparty.types import JobId, PartyId


def test_metadata() -> None:
    assert channels.to_party(PartyId("9999")) == (("x-fedparty-to", "9999"),)
    assert channels.to_party(PartyId("9999"), JobId("j")) == (("x-fedparty-to", "9999"), ("x-fedparty-job", "j"))
    assert channels.bearer("t") == (("authorization", "Bearer t"),)


@pytest.mark.parametrize("metadata", [(), (("authorization", "Basic t"),), (("authorization-bin", b"Bearer t"),)])
def test_no_token(metadata: tuple[tuple[str, str | bytes], ...]) -> None:
    with pytest.raises(RpcError) as caught:
        channels.bearer_of(FakeContext(metadata))  # type: ignore[arg-type]
    assert caught.value.code == "TOKEN_REFUSED"


def test_token_comes_back() -> None:
    assert channels.bearer_of(FakeContext(channels.bearer("t"))) == "t"  # type: ignore[arg-type]


async def test_retryable_failures_are_repeated() -> None:
    calls = Calls("MAILBOX_DOWN", "CONNECTION_LOST", "")
    assert await channels.retrying(calls, deadline=time.monotonic() + 10) == 3


async def test_other_failures_are_not() -> None:
    calls = Calls("MAILBOX_DOWN", "STALE_ATTEMPT", "")
    with pytest.raises(RpcError) as caught:
        await channels.retrying(calls, deadline=time.monotonic() + 10)
    assert (caught.value.code, calls.count) == ("STALE_ATTEMPT", 2)


async def test_nothing_is_repeated_after_the_deadline() -> None:
    calls = Calls("MAILBOX_DOWN", "")
    with pytest.raises(RpcError) as caught:
        await channels.retrying(calls, deadline=time.monotonic())
    assert (caught.value.code, calls.count) == ("MAILBOX_DOWN", 1)


def test_remaining_time_is_never_negative() -> None:
    assert channels.remaining_s(time.monotonic() - 5) == 0


class FakeContext:
    """A call's metadata."""

    def __init__(self, metadata: tuple[tuple[str, str | bytes], ...]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._metadata


class Calls:
    """Fails with one code after another; an empty one succeeds."""

    def __init__(self, *codes: str) -> None:
        self._codes = codes
        self.count = 0

    async def __call__(self) -> int:
        self.count += 1
        code = self._codes[self.count - 1]
        if code:
            raise catalogue.error(code, "text")
        return self.count
