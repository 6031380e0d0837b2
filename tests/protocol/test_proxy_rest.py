"""The TLS front of REST: what people reach from outside, and what they do not."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from proxy_certificates import CertificateMaker
from proxy_party import ProxyHome, running


@asynccontextmanager
async def flow_rest(home: ProxyHome) -> AsyncIterator[None]:
    """Serve HTTP/1.1 where flow does; every answer is the request line and the headers that arrived."""
    connections = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        while head := await _head(reader):
            line, *headers = head.split("\r\n")
            seen = {"line": line, "headers": [header.partition(":")[0].lower() for header in headers]}
            body = json.dumps(seen).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
            writer.write(body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, home.socket_path("flow_rest"))
    try:
        yield
    finally:
        server.close()
        for writer in connections:
            writer.close()
        await server.wait_closed()


async def _head(reader: asyncio.StreamReader) -> str:
    try:
        return (await reader.readuntil(b"\r\n\r\n")).decode().strip()
    except asyncio.IncompleteReadError:
        return ""


@asynccontextmanager
async def browsing(home: ProxyHome) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client which trusts the federation's CA and shows no certificate."""
    trust = ssl.create_default_context(cadata=home.maker.ca_pem)
    async with httpx.AsyncClient(base_url=f"https://localhost:{home.rest_port}", verify=trust) as client:
        yield client


@pytest.fixture
def home() -> ProxyHome:
    return ProxyHome("10000", CertificateMaker())


async def test_passes_the_api_and_nothing_else(home: ProxyHome) -> None:
    allowed = ("/v1/jobs?state=running", "/healthz", "/openapi.json")
    refused = ("/", "/docs", "/metrics", "/readyz", "/v1", "/docsx", "/healthz/x", "/v1/../metrics", "//metrics")
    async with running(home), flow_rest(home), browsing(home) as client:
        for path in allowed:
            assert (await client.get(path)).json()["line"] == f"GET {path} HTTP/1.1"
        for path in refused:
            answer = await client.get(client.base_url.copy_with(raw_path=path.encode()))
            assert (answer.status_code, answer.json()["code"]) == (404, "HTTP_404"), path
        assert (await client.get("/v1/%2e%2e%2fmetrics")).status_code == 400


async def test_nobody_passes_for_a_party(home: ProxyHome) -> None:
    forged = {"x-fedparty-from": "a", "x-fedparty-proxy": "b", "x-envoy-upstream-rq-timeout-ms": "1"}
    async with running(home), flow_rest(home), browsing(home) as client:
        seen = (await client.get("/v1/jobs", headers=forged | {"authorization": "Bearer t"})).json()["headers"]
    assert "authorization" in seen
    assert not [name for name in seen if name.startswith(("x-fedparty", "x-envoy"))]


async def test_says_that_flow_is_down_as_flow_says_errors(home: ProxyHome) -> None:
    async with running(home), browsing(home) as client:
        answer = await client.get("/v1/jobs")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "error": "party 10000's flow does not answer its proxy",
        "hint": "Look at this party's flow service: deploy.py status.",
        "code": "FLOW_DOWN",
    }


async def test_the_log_has_no_query(home: ProxyHome) -> None:
    async with running(home), flow_rest(home), browsing(home) as client:
        await client.get("/v1/jobs?token=hidden")
        line = await home.logged(direction="rest")
    assert line["method"] == "GET /v1/jobs"
    assert "hidden" not in json.dumps(line)


async def test_is_not_there_unless_published(home: ProxyHome) -> None:
    home.variables["party"] = {"rest_port": None}
    async with running(home), browsing(home) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("/healthz")
