"""Two job servers behind one proxy: calls go to the one that leads, and to nobody where none does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import httpx
import pytest
from proxy_certificates import CertificateMaker
from proxy_party import ProxyHome, eventually, running

from fedparty.generate.addresses import replicas

MAKER = CertificateMaker()
REPLICAS = replicas(2)


class Replica:
    """What the proxy sees of a job server: who leads, and REST that says which one answers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_leader = False
        self.is_frozen = False

    @asynccontextmanager
    async def serving(self, home: Path, rest: str, operations: str) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for address, answer in ((rest, self._answer_call), (operations, self._answer_health)):
                server = await asyncio.start_unix_server(answer, home / address.removeprefix("unix:"))
                stack.callback(server.close)
            yield

    async def _answer_health(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await self._request(reader):
            status = "200 OK" if self.is_leader else "503 Service Unavailable"
            if not self.is_frozen:
                writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode())
        writer.close()

    async def _answer_call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while path := await self._request(reader):
            if path != "/v1/follow":  # a stream without an end
                writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(self.name)}\r\n\r\n{self.name}".encode())
        writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> str:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return ""
        return head.split()[1].decode()


class Party:
    """A proxy, its two job servers, and a person who asks."""

    def __init__(self, home: ProxyHome, client: httpx.AsyncClient) -> None:
        self.home = home
        self.client = client
        self.first, self.second = Replica("flow"), Replica("flow-2")

    async def ask(self) -> str:
        """Return who answers, or the code of the proxy's own answer."""
        answer = await self.client.get("/v1/jobs")
        return answer.text if answer.status_code == 200 else str(answer.json()["code"])

    async def until_answered_by(self, who: str) -> None:
        async def is_it() -> bool:
            return await self.ask() == who

        await eventually(is_it, f"{who} answers")


@pytest.fixture
async def party() -> AsyncIterator[Party]:
    home = ProxyHome("10000", MAKER, {"replicas": [asdict(replica) for replica in REPLICAS], "peers": []})
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(home))
        transport = httpx.AsyncHTTPTransport(uds=home.socket_path("flow_rest"))
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://flow"))
        found = Party(home, client)
        for replica, addresses in zip((found.first, found.second), REPLICAS, strict=True):
            await stack.enter_async_context(replica.serving(home.path, addresses.rest, addresses.operations))
        yield found


async def test_calls_go_to_whoever_leads(party: Party) -> None:
    assert party.home.socket_mode("flow_rest") == 0o600
    party.first.is_leader = True
    await party.until_answered_by("flow")
    party.first.is_leader, party.second.is_leader = False, True
    await party.until_answered_by("flow-2")
    assert {await party.ask() for _ in range(20)} == {"flow-2"}


async def test_where_nobody_leads_the_proxy_says_that_flow_is_down(party: Party) -> None:
    party.second.is_leader = True
    await party.until_answered_by("flow-2")
    party.second.is_leader = False
    await party.until_answered_by("FLOW_DOWN")
    answer = await party.client.get("/v1/jobs")
    assert (answer.status_code, answer.json()["error"]) == (503, "party 10000's flow does not answer its proxy")
    assert json.dumps(answer.json()).count("deploy.py status") == 1


async def test_a_leader_that_stands_still_loses_its_calls_and_their_connections(party: Party) -> None:
    party.first.is_leader = True
    await party.until_answered_by("flow")
    following = asyncio.create_task(party.client.get("/v1/follow", timeout=20))
    await party.home.until_active("cluster.flow_rest.upstream_rq_active")
    party.first.is_frozen, party.second.is_leader = True, True
    assert (await following).json()["code"] == "FLOW_DOWN"
    await party.until_answered_by("flow-2")


async def test_a_leader_that_died_loses_its_calls(party: Party) -> None:
    party.first.is_leader = True
    await party.until_answered_by("flow")
    for address in (REPLICAS[0].rest, REPLICAS[0].operations):
        (party.home.path / address.removeprefix("unix:")).unlink()
    party.first.is_frozen, party.second.is_leader = True, True  # its open connections stay: a stopped process
    await party.until_answered_by("flow-2")
