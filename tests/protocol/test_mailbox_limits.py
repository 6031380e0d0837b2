"""What a mailbox of its own process takes: memory whatever the object's size, and a disk that has no room."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import numpy as np
import psutil
import pytest
from mailbox_party import HOST, MIB, RUN, FederationKeys, MailboxParty, object_name

from fedparty.errors import RpcError


@pytest.fixture
def host(tmp_path: Path) -> MailboxParty:
    return MailboxParty(FederationKeys(tmp_path), "9999")


async def test_memory_does_not_grow_with_the_object(host: MailboxParty) -> None:
    value = np.arange(32 * MIB)  # 256 MiB
    async with host.process() as started:
        mailbox = psutil.Process(started.pid)
        await host.register()
        await host.deliver(object_name("warm"), value[: 8 * MIB])
        before = mailbox.memory_info().rss
        for tag in ("unread", "read"):
            receiving = asyncio.create_task(host.receive(object_name(tag))) if tag == "read" else None
            await host.deliver(object_name(tag), value)
            if receiving is not None:
                np.testing.assert_array_equal(await receiving, value)
        assert mailbox.memory_info().rss - before < 64 * MIB


async def test_full_disk_is_told_and_forgotten(host: MailboxParty) -> None:
    """A limit for the size of files stands for a disk without room: writing fails in the middle of an object."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, 2 * MIB))

    async with host.process(limit):
        await host.register()
        waiting = asyncio.create_task(host.receive(object_name()))
        await host.until_waiting(1)
        for attempt in (host.deliver(object_name(), bytes(8 * MIB)), waiting):
            with pytest.raises(RpcError, match="disk is full") as caught:
                await attempt
            assert caught.value.code == "SPOOL_FULL"
        async with host.client() as client:
            assert (await client.stats()).used_bytes == 0
        await host.deliver(object_name(), bytes(MIB))
        token = host.keys.task_token(RUN, HOST)
        assert await host.receive(object_name(), token=token) == bytes(MIB)
    assert not list(host.home.rglob("*.part"))
