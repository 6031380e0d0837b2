"""The mailbox over real gRPC: what the wire's comments promise, seen from both of its listeners."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import httpx
import numpy as np
import pytest
from mailbox_party import (
    GUEST,
    HOST,
    MIB,
    RUN,
    FederationKeys,
    MailboxParty,
    header_of,
    object_name,
)

from fedparty.errors import ConfigurationError, RpcError
from fedparty.federation.mailbox import Mailbox
from fedparty.rpc import encoding, stream
from fedparty.types import Member, ObjectName, TaskRun

LATER = TaskRun(RUN.job, RUN.task, 2)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> FederationKeys:
    return FederationKeys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
async def host(keys: FederationKeys) -> AsyncIterator[MailboxParty]:
    party = MailboxParty(keys, "9999")
    async with party.serving():
        await party.register()
        yield party


async def code_of(attempt: Awaitable[object]) -> str:
    with pytest.raises(RpcError) as caught:
        await attempt
    return caught.value.code


class TestObjects:
    @pytest.mark.parametrize(
        "value",
        [b"", b"abc", os.urandom(3 * MIB + 17), {"weights": [1, 2.5, None], "mask": np.ones(3)}],
        ids=["empty", "small", "several chunks", "structure"],
    )
    async def test_arrives_as_it_was_sent(self, host: MailboxParty, value: object) -> None:
        await host.deliver(object_name(), value)
        received = await host.receive(object_name())
        np.testing.assert_equal(received, value)
        assert type(received) is type(value)

    async def test_small_ones_beyond_what_memory_keeps_are_read_from_their_files(
        self, host: MailboxParty, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fedparty.federation.mailbox._KEPT_BYTES", 0)
        await host.deliver(object_name(), b"abc")
        assert await host.receive(object_name()) == b"abc"
        (file,) = (host.home / "spool").rglob("*.object")
        file.unlink()
        with pytest.raises(RpcError):
            await host.receive(object_name())

    async def test_array_keeps_dtype_and_shape(self, host: MailboxParty) -> None:
        value = np.arange(600_000, dtype=">f8").reshape(2, 3, -1)
        await host.deliver(object_name(), value)
        received = await host.receive(object_name())
        assert isinstance(received, np.ndarray)
        assert received.dtype == np.dtype("<f8")
        np.testing.assert_array_equal(received, value)

    async def test_receive_before_send_waits(self, host: MailboxParty) -> None:
        receiving = asyncio.create_task(host.receive(object_name()))
        await host.until_waiting(1)
        await host.deliver(object_name(), b"late")
        assert await receiving == b"late"

    async def test_receive_does_not_consume(self, host: MailboxParty) -> None:
        await host.deliver(object_name(), b"again")
        assert [await host.receive(object_name()) for _ in range(2)] == [b"again", b"again"]

    async def test_many_tags_and_directions_do_not_mix(self, host: MailboxParty) -> None:
        tags = ["a", "../a", "a/b", "a\0b", "ä" * 500, "." * 200]
        await asyncio.gather(*(host.deliver(object_name(tag), tag.encode()) for tag in tags))
        assert [await host.receive(object_name(tag)) for tag in tags] == [tag.encode() for tag in tags]

    async def test_one_party_sends_to_itself(self, keys: FederationKeys) -> None:
        party = MailboxParty(keys, "10000")
        other = Member("host", GUEST.party)
        async with party.serving():
            await party.register(RUN, GUEST, other)
            await party.deliver(object_name("x", GUEST, other), b"self")
            assert await party.receive(object_name("x", GUEST, other)) == b"self"

    @pytest.mark.parametrize("tag", ["", "x" * 1025], ids=["empty", "long"])
    async def test_malformed_tag_is_refused(self, host: MailboxParty, tag: str) -> None:
        assert await code_of(host.deliver(object_name(tag), b"")) == "BAD_REQUEST"


class TestOverlap:
    async def test_receiver_reads_what_is_not_whole_yet(self, host: MailboxParty) -> None:
        name, data = object_name(), os.urandom(8 * MIB)
        seen = asyncio.Event()
        encoded = encoding.encode(data)
        header = header_of(name, encoded, host.keys.task_token(RUN, GUEST))

        async def half_then_wait() -> AsyncIterator[bytes]:
            for number, message in enumerate(stream.messages(header, encoded.data)):
                if number == 5:
                    await asyncio.wait_for(seen.wait(), 10)
                yield message

        async def receive() -> bytes:
            got = b""
            async for message in host.receiving(name):
                got += message
                seen.set()
            return got

        async with host.delivering("10000") as call:
            _, got = await asyncio.gather(call(half_then_wait()), receive())
        assert data in got

    async def test_broken_delivery_fails_its_reader_and_is_replaced(self, host: MailboxParty) -> None:
        name, data = object_name(), os.urandom(4 * MIB)
        started = asyncio.Event()
        reading = asyncio.create_task(signalling_receive(host, name, started))
        async with host.delivering("10000") as call:
            broken = asyncio.create_task(call(endless(host, data)))
            await asyncio.wait_for(started.wait(), 10)
            broken.cancel()
            assert await code_of(reading) == "DELIVERY_BROKEN"
        await host.deliver(name, data)
        assert await host.receive(name) == data

    async def test_a_new_delivery_replaces_one_that_hangs(self, host: MailboxParty) -> None:
        name, data = object_name(), os.urandom(2 * MIB)
        started = asyncio.Event()
        reading = asyncio.create_task(signalling_receive(host, name, started))
        async with host.delivering("10000") as call:
            hanging = asyncio.create_task(call(endless(host, data)))
            await asyncio.wait_for(started.wait(), 10)
            await host.deliver(name, data)
            assert await code_of(hanging) == "DELIVERY_BROKEN"
        assert await code_of(reading) == "DELIVERY_BROKEN"
        assert await host.receive(name) == data


class TestRepetition:
    async def test_same_object_again_is_answered_the_same(self, host: MailboxParty) -> None:
        data = os.urandom(2 * MIB)
        for _ in range(3):
            await host.deliver(object_name(), data)
        async with host.client() as client:
            assert (await client.stats()).objects == 1

    @pytest.mark.parametrize("other", [b"other", b"longer than before", "text"], ids=["bytes", "size", "encoding"])
    async def test_other_bytes_are_refused(self, host: MailboxParty, other: object) -> None:
        await host.deliver(object_name(), b"value")
        assert await code_of(host.deliver(object_name(), other)) == "OBJECT_CONFLICT"
        assert await host.receive(object_name()) == b"value"

    async def test_registering_again_keeps_the_objects(self, host: MailboxParty) -> None:
        await host.deliver(object_name(), b"kept")
        await host.register()
        assert await host.receive(object_name()) == b"kept"

    async def test_registering_again_with_other_members_is_refused(self, host: MailboxParty) -> None:
        assert await code_of(host.register(RUN, HOST)) == "BAD_REQUEST"


class TestFencing:
    async def test_unregistered_run_is_refused(self, host: MailboxParty) -> None:
        unknown = object_name(run=TaskRun(RUN.job, "other", 1))
        assert await code_of(host.deliver(unknown, b"")) == "NOT_REGISTERED"
        assert await code_of(host.receive(unknown)) == "NOT_REGISTERED"

    async def test_later_attempt_than_registered_is_refused(self, host: MailboxParty) -> None:
        assert await code_of(host.deliver(object_name(run=LATER), b"")) == "NOT_REGISTERED"

    async def test_new_attempt_drops_the_old_one(self, host: MailboxParty) -> None:
        await host.deliver(object_name(), b"old")
        waiting = asyncio.create_task(host.receive(object_name("never")))
        await host.until_waiting(1)
        await host.register(LATER)
        assert await code_of(waiting) == "STALE_ATTEMPT"
        assert await code_of(host.deliver(object_name("y"), b"")) == "STALE_ATTEMPT"
        assert await code_of(host.receive(object_name())) == "STALE_ATTEMPT"
        assert await code_of(host.register()) == "STALE_ATTEMPT"
        await host.deliver(object_name(run=LATER), b"new")
        assert await host.receive(object_name(run=LATER)) == b"new"

    async def test_new_attempt_breaks_off_open_deliveries(self, host: MailboxParty) -> None:
        started = asyncio.Event()
        reading = asyncio.create_task(signalling_receive(host, object_name(), started))
        async with host.delivering("10000") as call:
            sending = asyncio.create_task(call(endless(host, b"x" * MIB)))
            await asyncio.wait_for(started.wait(), 10)
            await host.register(LATER)
            assert await code_of(sending) == "STALE_ATTEMPT"
        assert await code_of(reading) == "STALE_ATTEMPT"

    async def test_close_ends_everything(self, host: MailboxParty) -> None:
        await host.deliver(object_name(), os.urandom(MIB))
        waiting = asyncio.create_task(host.receive(object_name("never")))
        await host.until_waiting(1)
        async with host.client() as client:
            await client.close(RUN.job, RUN.task)
            await client.close(RUN.job, RUN.task)
            stats = await client.stats()
        assert (stats.used_bytes, stats.objects, stats.tasks) == (0, 0, 0)
        assert await code_of(waiting) == "TASK_ENDED"
        assert await code_of(host.deliver(object_name(), b"")) == "TASK_ENDED"
        assert await code_of(host.register(LATER)) == "TASK_ENDED"
        assert not list((host.home / "spool" / "tasks").iterdir())


class TestQuota:
    @pytest.fixture
    async def small(self, keys: FederationKeys) -> AsyncIterator[MailboxParty]:
        party = MailboxParty(keys, "9999", quota_bytes=2 * MIB)
        async with party.serving():
            await party.register()
            yield party

    async def test_object_over_the_quota_is_refused(self, small: MailboxParty) -> None:
        with pytest.raises(RpcError, match="quota is reached") as caught:
            await small.deliver(object_name(), bytes(2 * MIB))
        assert caught.value.code == "SPOOL_FULL"

    async def test_room_comes_back(self, small: MailboxParty) -> None:
        await small.deliver(object_name("a"), bytes(MIB))
        assert await code_of(small.deliver(object_name("b"), bytes(MIB))) == "SPOOL_FULL"
        await small.register(LATER)
        await small.deliver(object_name("b", run=LATER), bytes(MIB))

    async def test_damaged_object_takes_no_room(self, small: MailboxParty) -> None:
        for _ in range(5):
            assert await code_of(damaged_delivery(small, b"x" * MIB)) == "CHECKSUM_MISMATCH"
        await small.deliver(object_name(), b"x" * MIB)


class TestDamage:
    async def test_more_bytes_than_announced_are_refused(self, host: MailboxParty) -> None:
        encoded = encoding.encode(b"1234")
        header = header_of(object_name(), encoded, host.keys.task_token(RUN, GUEST))
        header.size_bytes = 3
        async with host.delivering("10000") as call:
            assert await code_of(call(list(stream.messages(header, encoded.data)))) == "CHECKSUM_MISMATCH"

    async def test_fewer_bytes_than_announced_are_refused(self, host: MailboxParty) -> None:
        encoded = encoding.encode(b"1234")
        header = header_of(object_name(), encoded, host.keys.task_token(RUN, GUEST))
        header.size_bytes = 400
        async with host.delivering("10000") as call:
            assert await code_of(call(list(stream.messages(header, encoded.data)))) == "CHECKSUM_MISMATCH"

    async def test_waiting_receiver_outlives_a_damaged_delivery(self, host: MailboxParty) -> None:
        assert await code_of(damaged_delivery(host, b"")) == "CHECKSUM_MISMATCH"
        receiving = asyncio.create_task(host.receive(object_name()))
        await host.until_waiting(1)
        await host.deliver(object_name(), b"right")
        assert await receiving == b"right"

    @pytest.mark.parametrize("data", [b"", b"\xff\xff\xff"], ids=["empty", "noise"])
    async def test_noise_is_refused(self, host: MailboxParty, data: bytes) -> None:
        async with host.delivering("10000") as call:
            assert await code_of(call([data])) == "BAD_REQUEST"


class TestRestart:
    async def test_nothing_acknowledged_is_lost(self, keys: FederationKeys) -> None:
        party = MailboxParty(keys, "9999")
        data = os.urandom(2 * MIB)
        async with party.serving():
            await party.register()
            await party.deliver(object_name(), data)
        async with party.serving():
            assert await party.receive(object_name()) == data
            await party.deliver(object_name(), data)
            assert await code_of(party.deliver(object_name(), b"other")) == "OBJECT_CONFLICT"
            async with party.client() as client:
                stats = await client.stats()
        assert stats.objects == 1
        assert stats.used_bytes >= len(data)

    async def test_waiting_receiver_is_told(self, keys: FederationKeys) -> None:
        party = MailboxParty(keys, "9999")
        async with party.serving():
            await party.register()
            waiting = asyncio.create_task(party.receive(object_name()))
            await party.until_waiting(1)
        assert await code_of(waiting) == "SHUTTING_DOWN"

    async def test_a_spool_has_one_mailbox(self, host: MailboxParty) -> None:
        with pytest.raises(ConfigurationError, match="another mailbox"):
            Mailbox(host.settings.spool, 1)


class TestOperations:
    async def test_ready_and_measured(self, host: MailboxParty) -> None:
        await host.deliver(object_name(), b"12345")
        transport = httpx.AsyncHTTPTransport(uds=str(host.home / "operations.sock"))
        async with httpx.AsyncClient(transport=transport, base_url="http://mailbox") as client:
            assert (await client.get("/readyz")).json() == {"ready": True}
            metrics = (await client.get("/metrics")).text
        assert "fedparty_mailbox_objects 1.0" in metrics
        assert "fedparty_mailbox_delivered_bytes_total 5.0" in metrics

    async def test_sockets_are_private(self, host: MailboxParty) -> None:
        modes = await asyncio.to_thread(modes_of_sockets, host.home)
        assert modes == dict.fromkeys(("local.sock", "peer.sock", "operations.sock"), 0o600)


def modes_of_sockets(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.glob("*.sock")}


async def signalling_receive(party: MailboxParty, name: ObjectName, started: asyncio.Event) -> None:
    """Receive; `started` is set at the first message."""
    async for _ in party.receiving(name):
        started.set()


async def endless(party: MailboxParty, data: bytes) -> AsyncIterator[bytes]:
    """Send all of an object but its trailer, and wait."""
    encoded = encoding.encode(data)
    header = header_of(object_name(), encoded, party.keys.task_token(RUN, GUEST))
    for message in list(stream.messages(header, encoded.data))[:-1]:
        yield message
    await asyncio.Event().wait()


async def damaged_delivery(party: MailboxParty, data: bytes) -> None:
    encoded = encoding.encode(data)
    header = header_of(object_name(), encoded, party.keys.task_token(RUN, GUEST))
    messages = list(stream.messages(header, encoded.data))
    messages[-1] = messages[-1][:-1] + bytes([messages[-1][-1] ^ 1])
    async with party.delivering("10000") as call:
        await call(messages)
