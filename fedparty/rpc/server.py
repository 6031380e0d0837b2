"""gRPC servers: listening, handlers that answer with the catalogue, a graceful stop.

Owns how a call arrives. Does not own what it does.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from fedparty.errors import RpcError, TokenError
from fedparty.rpc import catalogue, sockets
from fedparty.rpc.channels import COMMON_OPTIONS

logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Handlers: TypeAlias = "grpc.GenericRpcHandler[Any, Any]"
Request = TypeVar("Request", bound=Message)

_SERVER_OPTIONS = (
    *COMMON_OPTIONS,
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),  # else two servers share a port in silence
)


class Server:
    """A running server; see `start_server`.

    Parameters
    ----------
    server, address
        What runs, and where it listens; port 0 was replaced by the real one.
    """

    def __init__(self, server: grpc.aio.Server, address: str) -> None:
        self._server = server
        self.address = address

    async def stop(self, grace_s: float = 1.0) -> None:
        """Refuse new calls, end those that still run after `grace_s`, free the address."""
        await self._server.stop(grace_s)
        sockets.release(self.address)


async def start_server(
    address: str,
    handlers: Sequence[grpc.GenericRpcHandler[Any, Any]],
    interceptors: Sequence[grpc.aio.ServerInterceptor[Any, Any]] = (),
) -> Server:
    """Listen on `address` and serve `handlers` (of `service`).

    Raises
    ------
    ConfigurationError
        The address is taken or cannot be used.
    """
    sockets.claim(address)
    server = grpc.aio.server(interceptors=tuple(interceptors), options=_SERVER_OPTIONS)
    server.add_generic_rpc_handlers(tuple(handlers))
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as exc:
        raise sockets.taken(address) from exc
    await server.start()
    path = sockets.unix_path(address)
    if path is None:
        return Server(server, f"{address.rpartition(':')[0]}:{port}")
    path.chmod(0o600)
    return Server(server, address)


def service(name: str, methods: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> grpc.GenericRpcHandler[Any, Any]:
    """Return the handlers of a service, e.g. ``fedparty.v1.local.Mailbox``, by method name."""
    return grpc.method_handlers_generic_handler(name, dict(methods))


def unary(
    request: type[Request], respond: Callable[[Request, Context], Awaitable[Message]]
) -> grpc.RpcMethodHandler[Any, Any]:
    """Return a handler for one message each way."""

    async def handle(data: bytes, context: Context) -> bytes:
        async with answering(context):
            return (await respond(parse(request, data), context)).SerializeToString()

    return grpc.unary_unary_rpc_method_handler(handle)


def server_stream(
    request: type[Request], respond: Callable[[Request, Context], AsyncIterator[Message | bytes]]
) -> grpc.RpcMethodHandler[Any, Any]:
    """Return a handler that answers one message with a stream of messages or raw bytes."""

    async def handle(data: bytes, context: Context) -> AsyncIterator[bytes]:
        async with answering(context):
            async for message in respond(parse(request, data), context):
                yield message if isinstance(message, bytes) else message.SerializeToString()

    return grpc.unary_stream_rpc_method_handler(handle)


def raw_client_stream(
    respond: Callable[[AsyncIterator[bytes], Context], Awaitable[Message]],
) -> grpc.RpcMethodHandler[Any, Any]:
    """Return a handler that answers a stream of raw bytes with one message."""

    async def handle(messages: AsyncIterator[bytes], context: Context) -> bytes:
        async with answering(context):
            return (await respond(messages, context)).SerializeToString()

    return grpc.stream_unary_rpc_method_handler(handle)


def parse(kind: type[Request], data: bytes) -> Request:
    """Read a message.

    Raises
    ------
    RpcError
        ``BAD_REQUEST``: `data` is no such message.
    """
    try:
        return kind.FromString(data)
    except DecodeError as exc:
        raise catalogue.error("BAD_REQUEST", f"not a {kind.DESCRIPTOR.full_name}: {exc}") from exc


@asynccontextmanager
async def answering(context: Context) -> AsyncIterator[None]:
    """Turn what a handler raises into the catalogue's answer; an unforeseen error is logged here, once."""
    try:
        yield
    except RpcError as exc:
        await catalogue.abort(context, exc)
    except TokenError as exc:
        await catalogue.abort(context, RpcError(exc.message, hint=exc.hint, code="TOKEN_REFUSED"))
    except grpc.aio.AbortError:
        raise
    except Exception as exc:  # the boundary of one call
        logger.exception("a call failed")
        await catalogue.abort(context, catalogue.error("INTERNAL", f"unforeseen error: {type(exc).__name__}"))
