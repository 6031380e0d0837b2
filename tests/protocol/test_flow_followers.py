"""Many people who follow a job's logs and figures: the flow stays quick and small, and forgets those who leave."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import psutil
import pytest
from flow_party import TOKEN, FlowParty, description, flow_lab

MIB = 1 << 20
PER_STREAM_BYTES = 256 << 10
"""Far more than one needs, far less than a thread or a log in memory."""
ANSWER_S = 5.0
"""Generous: an answer takes milliseconds."""


class _Follower:
    """A client that reads the head of an endless answer, and then nothing."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    @classmethod
    async def open(cls, party: FlowParty, path: str) -> _Follower:
        reader, writer = await asyncio.open_unix_connection(party.settings.rest.removeprefix("unix:"))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: flow\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert head.startswith(b"HTTP/1.1 200"), head
        return cls(writer)

    async def leave(self) -> None:
        self._writer.transport.abort()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


async def _follow(party: FlowParty, job: str, count: int) -> list[_Follower]:
    """Let as many people follow logs as figures."""
    paths = [f"/v1/jobs/{job}/{what}?follow=true" for what in ("logs", "metrics")]
    return [await _Follower.open(party, paths[number % 2]) for number in range(count)]


async def _until_followers(party: FlowParty, count: int) -> None:
    async with asyncio.timeout(60):
        while party.worker.followers != count:  # noqa: ASYNC110 - from outside there is nothing to wait on
            await asyncio.sleep(0.05)


async def _check(count: int, files: int) -> None:
    """Let so many follow a flow that was started with leave to open so many files."""
    async with flow_lab("10000", "9999", start=False) as lab:
        party = lab.parties["10000"]
        await lab.parties["9999"].start_flow()
        await party.start_flow_process(files=files)
        job = await party.submit(description("hang", timeout_s=600))
        await party.until(job, "running")
        flow = psutil.Process(party.flow_pid)
        for follower in await _follow(party, job, 20):  # what is loaded and kept once
            await follower.leave()
        await _until_followers(party, 0)
        files, memory_bytes = flow.num_fds(), flow.memory_info().rss

        followers = await _follow(party, job, count)
        await _until_followers(party, count // 2)
        assert flow.memory_info().rss - memory_bytes < count * PER_STREAM_BYTES + 32 * MIB
        began = time.monotonic()
        assert (await party.call(lambda session: session.job(job))).state == "running"
        assert time.monotonic() - began < ANSWER_S

        for follower in followers:
            await follower.leave()
        await _until_followers(party, 0)
        async with asyncio.timeout(30):
            while flow.num_fds() > files + 10:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
        for each in lab.parties.values():
            await each.worker.end_all("success")
        assert (await party.until(job)).state == "success"


async def test_a_hundred_followers() -> None:
    await _check(100, files=100)


@pytest.mark.matrix
async def test_a_thousand_followers() -> None:
    await _check(1000, files=1024)
