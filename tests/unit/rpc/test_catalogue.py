"""The catalogue is complete, and translating there and back loses nothing."""

from __future__ import annotations

import re
from typing import Any, NoReturn

import grpc
import grpc.aio
import pytest
from grpc.aio import Metadata

from fedparty.errors import RpcError
from fedparty.rpc import catalogue
from fedparty.rpc.catalogue import BY_STATUS, CATALOGUE


class Aborted(Exception):
    """What `FakeContext.abort` raises."""


class FakeContext:
    """Keeps what a call was ended with, as the caller's gRPC would see it."""

    def __init__(self) -> None:
        self.error: grpc.aio.AioRpcError | None = None

    async def abort(self, code: grpc.StatusCode, details: str, trailing: tuple[Any, ...] = ()) -> NoReturn:
        self.error = aio_error(code, details, trailing)
        raise Aborted


def aio_error(code: grpc.StatusCode, details: str, trailing: tuple[Any, ...] = ()) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, Metadata(), Metadata(*trailing), details)


async def sent(error: RpcError) -> RpcError:
    """Return what a caller gets when a handler raises `error`."""
    context = FakeContext()
    with pytest.raises(Aborted):
        await catalogue.abort(context, error)  # type: ignore[arg-type]
    assert context.error is not None
    return catalogue.from_rpc_error(context.error)


def test_every_status_has_a_meaning() -> None:
    assert set(BY_STATUS) == set(grpc.StatusCode)
    assert set(BY_STATUS.values()) <= set(CATALOGUE)


@pytest.mark.parametrize("code", CATALOGUE)
async def test_each_code_travels(code: str) -> None:
    error = catalogue.error(code, "what: went wrong\nin two lines")
    received = await sent(error)
    assert (received.code, received.message, received.hint) == (code, error.message, CATALOGUE[code].hint)
    assert re.fullmatch(r"[A-Z][A-Z0-9_]*", code)
    assert received.hint.endswith(".")


async def test_hint_of_ones_own_travels() -> None:
    received = await sent(catalogue.error("SPOOL_FULL", "full", hint="lösche etwas"))
    assert received.hint == "lösche etwas"


@pytest.mark.parametrize("status", grpc.StatusCode)
def test_status_without_code_is_translated(status: grpc.StatusCode) -> None:
    error = catalogue.from_rpc_error(aio_error(status, "free text"))
    assert error.code == BY_STATUS[status]
    assert error.message == "free text"


def test_no_details_still_says_something() -> None:
    assert "UNKNOWN" in catalogue.from_rpc_error(aio_error(grpc.StatusCode.UNKNOWN, "")).message


def test_unavailable_names_the_hop_of_the_channel() -> None:
    failed = aio_error(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses")
    assert catalogue.from_rpc_error(failed, unavailable="PROXY_DOWN").code == "PROXY_DOWN"


@pytest.mark.parametrize(
    ("status", "details"),
    [
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2"),
        (grpc.StatusCode.UNAVAILABLE, "Socket closed"),
        (grpc.StatusCode.UNKNOWN, "Stream removed"),
        (grpc.StatusCode.INTERNAL, "Internal error from Core"),
    ],
)
def test_broken_connection_may_be_retried(status: grpc.StatusCode, details: str) -> None:
    error = catalogue.from_rpc_error(aio_error(status, details), unavailable="PROXY_DOWN")
    assert error.code == "CONNECTION_LOST"
    assert catalogue.is_retryable(error)


def test_code_of_a_newer_release_is_kept() -> None:
    error = catalogue.from_rpc_error(aio_error(grpc.StatusCode.NOT_FOUND, "[BRAND_NEW] text"))
    assert (error.code, error.message) == ("BRAND_NEW", "text")
    assert error.hint == CATALOGUE["NOT_KNOWN"].hint
    assert not catalogue.is_retryable(error)


async def test_unknown_code_is_sent_as_internal() -> None:
    assert (await sent(RpcError("text", code="NO_SUCH_CODE"))).code == "NO_SUCH_CODE"
