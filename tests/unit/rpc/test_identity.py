"""Whom the proxy's headers name, and whom they do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fedparty.errors import RpcError
from fedparty.rpc.identity import Caller, StreamGuard, caller_of
from fedparty.types import PartyId, Secret, party_uri

SECRET = Secret("0123456789")
GOOD = (
    ("x-fedparty-proxy", "0123456789"),
    ("x-fedparty-from", party_uri("lab", "9999")),
    ("x-fedparty-serial", "0a1b"),
)
CALLER = Caller(PartyId("9999"), "0a1b")


class FakeContext:
    """A call's metadata."""

    def __init__(self, *metadata: tuple[str, str | bytes]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._metadata


class FakeRevocations:
    """A list that tests change."""

    def __init__(self) -> None:
        self.serials: set[str] = set()
        self.changed = asyncio.Event()

    def is_revoked(self, serial: str) -> bool:
        return serial in self.serials

    async def changes(self) -> AsyncIterator[None]:
        while True:
            await self.changed.wait()
            self.changed.clear()
            yield


def caller(*metadata: tuple[str, str | bytes]) -> Caller:
    return caller_of(FakeContext(*metadata), SECRET, "lab")  # type: ignore[arg-type]


def test_the_proxy_vouches() -> None:
    assert caller(*GOOD) == CALLER


@pytest.mark.parametrize(
    "metadata",
    [
        GOOD[1:],
        (("x-fedparty-proxy", "0123456780"), *GOOD[1:]),
        (("x-fedparty-proxy", "ä"), *GOOD[1:]),
        (*GOOD, GOOD[0]),
        (("x-fedparty-proxy", b"0123456789"), *GOOD[1:]),
    ],
    ids=["absent", "wrong", "not ASCII", "twice", "bytes"],
)
def test_without_the_secret_nobody_is_known(metadata: tuple[tuple[str, str | bytes], ...]) -> None:
    with pytest.raises(RpcError) as caught:
        caller(*metadata)
    assert caught.value.code == "NOT_THROUGH_PROXY"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        party_uri("other", "9999"),
        party_uri("lab", "exchange"),
        party_uri("lab", "9999/..") + "/10000",
        party_uri("lab", "09999"),
        f"{party_uri('lab', '9998')},{party_uri('lab', '9999')}",
    ],
)
def test_certificate_without_a_party(uri: str) -> None:
    with pytest.raises(RpcError) as caught:
        caller(GOOD[0], ("x-fedparty-from", uri))
    assert caught.value.code == "NOT_ALLOWED"


def test_two_names_are_none() -> None:
    with pytest.raises(RpcError) as caught:
        caller(*GOOD, ("x-fedparty-from", party_uri("lab", "9998")))
    assert caught.value.code == "NOT_ALLOWED"


async def test_revocation_ends_the_stream_of_that_caller_only() -> None:
    revocations = FakeRevocations()
    guard = StreamGuard(revocations)  # type: ignore[arg-type]
    done = asyncio.Event()

    async def stream(serial: str) -> str:
        async with guard.guarding(Caller(PartyId("9999"), serial)):
            await done.wait()
        return serial

    async with guard.watching():
        revoked, fine = asyncio.create_task(stream("0a")), asyncio.create_task(stream("0b"))
        await asyncio.sleep(0)
        revocations.serials.add("0a")
        revocations.changed.set()
        with pytest.raises(RpcError) as caught:
            await revoked
        assert caught.value.code == "CERTIFICATE_REVOKED"
        done.set()
        assert await fine == "0b"


async def test_revoked_caller_does_not_begin() -> None:
    revocations = FakeRevocations()
    revocations.serials.add("0a1b")
    with pytest.raises(RpcError) as caught:
        async with StreamGuard(revocations).guarding(CALLER):  # type: ignore[arg-type]
            pytest.fail("entered")
    assert caught.value.code == "CERTIFICATE_REVOKED"
