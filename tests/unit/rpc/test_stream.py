"""Objects in chunks: their order, and what is noticed when one is damaged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable

import pytest

from fedparty.errors import RpcError
from fedparty.rpc import encoding, stream
from fedparty.rpc.stream import CHUNK_BYTES
from fedparty.rpc.v1.peer_pb2 import DeliverHeader, DeliverTrailer

DATA = bytes(range(256)) * (CHUNK_BYTES // 128) + b"tail"


def messages_of(data: bytes) -> list[bytes]:
    encoded = encoding.encode(data)
    return list(stream.messages(DeliverHeader(size_bytes=len(data), encoding="bytes"), encoded.data))


async def flowing(messages: Iterable[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


def test_header_chunks_trailer() -> None:
    header, *chunks, trailer = messages_of(DATA)
    assert DeliverHeader.FromString(header).size_bytes == len(DATA)
    assert [len(chunk) for chunk in chunks] == [CHUNK_BYTES, CHUNK_BYTES, 4]
    assert len(DeliverTrailer.FromString(trailer).checksum) == stream.CHECKSUM_BYTES


def test_empty_object_has_no_chunk() -> None:
    assert len(messages_of(b"")) == 2


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda parts: parts[:-1], "CHECKSUM_MISMATCH"),
        (lambda parts: parts[:2], "CHECKSUM_MISMATCH"),
        (lambda _parts: [], "CHECKSUM_MISMATCH"),
        (lambda parts: [parts[0], parts[1], b"X" + parts[2][1:], *parts[3:]], "CHECKSUM_MISMATCH"),
        (lambda parts: [parts[0], parts[1] + b"X", *parts[2:]], "CHECKSUM_MISMATCH"),
        (lambda parts: [b"\xff\xff", *parts[1:]], "BAD_REQUEST"),
        (lambda parts: [parts[0].replace(b"bytes", b"pickl"), *parts[1:]], "BAD_REQUEST"),
    ],
    ids=["no trailer", "cut", "nothing", "changed", "too long", "no header", "unknown encoding"],
)
async def test_damage_is_noticed(damage: Callable[[list[bytes]], list[bytes]], code: str) -> None:
    with pytest.raises(RpcError) as caught:
        await stream.read_value(flowing(damage(messages_of(DATA))))
    assert caught.value.code == code


async def test_whole_object_is_read() -> None:
    assert await stream.read_value(flowing(messages_of(DATA))) == DATA
