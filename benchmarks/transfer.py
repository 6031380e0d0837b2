"""One object of 1 GiB from a party's task to another's: mTLS by two proxies, mailbox, synced spool, checksum.

Beside it, in turns, its peer: one direct mTLS stream of the same chunks between two processes, with grpcio as it comes.
In both, the receiver ends with the object in memory. That memory, and the disk, are warmed first: what a virtual
machine pays to get pages from its host is a cost of neither way.

Run ``python benchmarks/transfer.py [MIB] [ROUNDS]``; it starts a lab of its own in a temporary folder and stops it.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from figures import Figure, show
from lab import PARTIES, free_ports, lab

if TYPE_CHECKING:
    from fedparty.federation.exchange import ObjectExchange
    from fedparty.types import ObjectName

MIB = 1 << 20
LIMIT = 0.35
DIRECT = "/benchmark.Direct/Put"
JOB = f"{PARTIES[0]}-01JD3M00000000000000000000"
HOUR_S = 3600.0

Work = Callable[[str], Awaitable[object]]
Role = Callable[[Connection, int, int], Coroutine[Any, Any, None]]


def main(size_mib: int, rounds: int) -> None:
    """Print both ways and their ratio."""
    size = size_mib * MIB
    with lab("separate", []) as outputs:
        homes = [outputs / "deployed" / f"confs-{party}" for party in PARTIES]
        port = free_ports(1)[0]
        ways = {
            "direct": [Player(role, home, port, size) for role, home in zip((_put, _take), homes, strict=True)],
            "mailbox": [Player(role, home, port, size) for role, home in zip((_send, _receive), homes, strict=True)],
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(rounds + 1):
            for way, pair in ways.items():
                times[way].append(_measure(pair, f"round{number}"))
        for player in (*ways["direct"], *ways["mailbox"]):
            player.stop()
    _report(size_mib / 1024, times["direct"][1:], times["mailbox"][1:])


class Player:
    """A role in a process of its own, which is told each round by a pipe."""

    def __init__(self, role: Role, home: Path, port: int, size: int) -> None:
        spawning = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawning.Pipe()
        self._process = spawning.Process(target=_play, args=(role, theirs, home, port, size), daemon=True)
        self._process.start()
        self.pipe.recv()

    def stop(self) -> None:
        """End it."""
        self.pipe.send("")
        self._process.join()


def _measure(pair: list[Player], name: str) -> float:
    """Return the seconds from the word to start until sender and receiver are done."""
    for player in reversed(pair):
        player.pipe.send(name)
        player.pipe.recv()
    start = time.perf_counter()
    for player in reversed(pair):
        player.pipe.send("go")
    for player in pair:
        player.pipe.recv()
    return time.perf_counter() - start


def _report(size_gib: float, direct: list[float], mailbox: list[float]) -> None:
    direct_rate, rate = (size_gib / statistics.median(each) for each in (direct, mailbox))
    name = f"object of {size_gib:g} GiB between two parties"
    show(
        [
            Figure(f"{name}, one direct grpcio mTLS stream", direct_rate, "GiB/s", note="the peer"),
            Figure(f"{name}, send and receive", rate, "GiB/s", note=f"medians of {len(mailbox)}"),
            Figure(f"{name}, share of the direct stream", rate / direct_rate, "", LIMIT, is_minimum=True),
        ]
    )


def _play(role: Role, pipe: Connection, home: Path, port: int, size: int) -> None:
    os.chdir(home)
    asyncio.run(role(pipe, port, size))


async def _rounds(pipe: Connection, work: Work, *, prepare: Work | None = None, memory: int = 0) -> None:
    """Work through the rounds; `memory` bytes are warmed before each."""
    pipe.send("ready")
    while name := await asyncio.to_thread(pipe.recv):
        if prepare:
            await prepare(name)
        np.ones(3 * memory, np.uint8)  # the page cache takes its share
        pipe.send("prepared")
        await asyncio.to_thread(pipe.recv)
        await work(name)
        pipe.send("done")


async def _send(pipe: Connection, _port: int, size: int) -> None:
    value = np.random.default_rng(1).integers(0, 256, size, np.uint8)

    async def work(task: str) -> None:
        async with Exchange(0, task) as (exchange, name):
            await exchange.send(name, value, deadline=time.monotonic() + HOUR_S)

    await _rounds(pipe, work)


async def _receive(pipe: Connection, _port: int, size: int) -> None:
    from fedparty.federation.client import MailboxClient
    from fedparty.rpc.channels import open_channel

    async with open_channel(_settings("worker")["mailbox"]) as channel:
        client = MailboxClient(channel, lambda: str(_signer(1).service("mailbox")))
        ended: list[str] = []

        async def prepare(task: str) -> None:
            name = _name(task)
            while ended:
                await client.close(name.run.job, ended.pop())
            await client.register(name.run, [name.sender, name.receiver])
            ended.append(task)

        async def work(task: str) -> None:
            async with Exchange(1, task) as (exchange, name):
                await exchange.receive(name, deadline=time.monotonic() + HOUR_S)

        await _rounds(pipe, work, prepare=prepare, memory=size)


class Exchange:
    """What the task of one of both members uses."""

    def __init__(self, member: int, task: str) -> None:
        from fedparty.federation.exchange import ObjectExchange

        worker, self._name = _settings("worker"), _name(task)
        holder = (self._name.sender, self._name.receiver)[member]
        token = _signer(member).task(self._name.run, holder, HOUR_S)
        self._exchange = ObjectExchange(worker["egress"], worker["mailbox"], token)

    async def __aenter__(self) -> tuple[ObjectExchange, ObjectName]:
        return await self._exchange.__aenter__(), self._name

    async def __aexit__(self, *error: Any) -> None:
        await self._exchange.__aexit__(*error)


def _name(task: str) -> ObjectName:
    from fedparty.types import JobId, Member, ObjectName, PartyId, TaskRun

    guest, host = (Member(role, PartyId(party)) for role, party in zip(("guest", "host"), PARTIES, strict=True))
    return ObjectName(TaskRun(JobId(JOB), task, 1), "object", guest, host)


def _signer(member: int) -> Any:
    from fedparty.crypto.tokens import TokenSigner
    from fedparty.types import PartyId

    flow = _settings("flow")
    files = (Path(flow["signing_key"]), Path(flow["signing_certificate"]))
    return TokenSigner(*files, flow["federation"], PartyId(PARTIES[member]))


def _settings(service: str) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(Path("bundle", service, "settings.json").read_text())
    return settings


async def _put(pipe: Connection, port: int, size: int) -> None:
    import grpc.aio

    value = memoryview(np.random.default_rng(1).integers(0, 256, size, np.uint8).data)
    key, certificate, authority = _tls()
    credentials = grpc.ssl_channel_credentials(authority, key, certificate)
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:

        async def work(_name: str) -> None:
            await channel.stream_unary(DIRECT)(_chunks(value), wait_for_ready=True)

        await _rounds(pipe, work)


def _chunks(value: memoryview) -> Iterator[bytes]:
    for start in range(0, len(value), MIB):
        yield bytes(value[start : start + MIB])


async def _take(pipe: Connection, port: int, size: int) -> None:
    import grpc.aio

    done = asyncio.Event()

    async def take(chunks: AsyncIterator[bytes], _context: object) -> bytes:
        value, end = np.empty(size, np.uint8), 0
        async for chunk in chunks:
            value.data[end : end + len(chunk)] = chunk
            end += len(chunk)
        done.set()
        return b""

    async def work(_name: str) -> None:
        await done.wait()
        done.clear()

    key, certificate, authority = _tls()
    options = [("grpc.max_receive_message_length", 8 * MIB)]
    server = grpc.aio.server(options=options)
    service, method = DIRECT[1:].split("/")
    handlers = {method: grpc.stream_unary_rpc_method_handler(take)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_secure_port(
        f"localhost:{port}", grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)
    )
    await server.start()
    await _rounds(pipe, work, memory=size)
    await server.stop(None)


def _tls() -> tuple[bytes, bytes, bytes]:
    """Return key, certificate and CA of the party in whose home this runs."""
    identity = json.loads(Path("bundle/proxy/live/sds_identity.json").read_text())["resources"][0]
    certificate = identity["tls_certificate"]["certificate_chain"]["inline_string"].encode()
    return Path("bundle/proxy/tls.key").read_bytes(), certificate, Path("bundle/ca/ca.crt").read_bytes()


if __name__ == "__main__":
    arguments = [int(text) for text in sys.argv[1:]]
    main(*(arguments + [1024, 5][len(arguments) :]))
