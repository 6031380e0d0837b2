"""Calls to services: one message each way, or a stream in one direction; they fail with `RpcError`.

Owns how a call is made and its errors translated. Does not own repeating it (`channels.retrying`), nor who answers.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from typing import TypeVar

import grpc.aio
from google.protobuf.message import Message

from fedparty.rpc import catalogue
from fedparty.rpc.channels import Metadata

Channel = grpc.aio.Channel

Reply = TypeVar("Reply", bound=Message)
Item = TypeVar("Item")


async def call(
    channel: Channel,
    method: str,
    request: Message,
    reply: type[Reply],
    *,
    metadata: Metadata,
    timeout_s: float,
    unavailable: str,
) -> Reply:
    """Return the answer to one message.

    Parameters
    ----------
    method
        Full name, e.g. ``/fedparty.v1.peer.Coordination/Ping``.
    reply
        What kind of message answers.
    unavailable
        Code of the catalogue for a connection that cannot be made.

    Raises
    ------
    RpcError
        The call failed.
    """
    made = channel.unary_unary(method, request_serializer=_serialize, response_deserializer=reply.FromString)
    try:
        answer: Reply = await made(request, metadata=metadata, timeout=timeout_s)
    except grpc.aio.AioRpcError as exc:
        raise catalogue.from_rpc_error(exc, unavailable=unavailable) from exc
    return answer


async def read_stream(
    channel: Channel,
    method: str,
    request: Message,
    read: Callable[[bytes], Item] | None,
    *,
    metadata: Metadata,
    unavailable: str,
    timeout_s: float | None = None,
) -> AsyncGenerator[Item]:
    """Yield the answers to one message, each as `read` reads it; leaving the loop ends the call.

    Raises
    ------
    RpcError
        The call failed.
    """
    made = channel.unary_stream(method, request_serializer=_serialize, response_deserializer=read)
    answers = made(request, metadata=metadata, timeout=timeout_s)
    try:
        async for answer in answers:
            yield answer
    except grpc.aio.AioRpcError as exc:
        raise catalogue.from_rpc_error(exc, unavailable=unavailable) from exc
    finally:
        answers.cancel()


async def send_stream(
    channel: Channel, method: str, messages: Iterator[bytes], *, metadata: Metadata, timeout_s: float, unavailable: str
) -> None:
    """Send messages as they are, and return when they were answered.

    Raises
    ------
    RpcError
        The call failed.
    """
    made = channel.stream_unary(method, None, None)
    try:
        await made(messages, metadata=metadata, timeout=timeout_s)
    except grpc.aio.AioRpcError as exc:
        raise catalogue.from_rpc_error(exc, unavailable=unavailable) from exc


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
