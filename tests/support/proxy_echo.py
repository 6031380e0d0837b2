"""Services behind a proxy that tell what reached them.

Owns the stand-ins for Mailbox and Coordination in the proxy's tests.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
from proxy_party import SUPERVISE, ProxyHome


@asynccontextmanager
async def echoing(*homes: ProxyHome) -> AsyncIterator[None]:
    """Run the services behind these proxies."""
    services = [EchoServices(home) for home in homes]
    try:
        for each in services:
            await each.start()
        yield
    finally:
        for each in services:
            await each.stop()


class EchoServices:
    """Mailbox and Coordination of a party: unary calls return the metadata that arrived, streams echo."""

    def __init__(self, home: ProxyHome) -> None:
        self._home = home
        self._servers: dict[str, grpc.aio.Server] = {}

    async def start(self, *names: str) -> None:
        """Start the servers on the sockets `federation_peer` and `flow_peer`, or on those named."""
        for name in names or ("federation_peer", "flow_peer"):
            server = grpc.aio.server()
            server.add_generic_rpc_handlers((_Echo(),))
            server.add_insecure_port(f"unix:{self._home.socket_path(name)}")
            await server.start()
            self._servers[name] = server

    async def stop(self, *names: str) -> None:
        """Stop all servers, or those named, at once."""
        for name in names or tuple(self._servers):
            await self._servers.pop(name).stop(None)


class _Echo(grpc.GenericRpcHandler):
    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        if details.method == SUPERVISE:
            return grpc.stream_stream_rpc_method_handler(_echo_stream)
        return grpc.unary_unary_rpc_method_handler(_echo_metadata)


async def _echo_metadata(_request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return json.dumps({str(key): str(value) for key, value in context.invocation_metadata() or ()}).encode()


async def _echo_stream(
    requests: AsyncIterator[bytes], _context: grpc.aio.ServicerContext[bytes, bytes]
) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request
