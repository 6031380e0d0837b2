"""Channels to services: options, metadata, and repeating calls that may succeed later.

Owns how a call leaves this process. Does not own what is called, nor who may (see `identity`).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc.aio
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from fedparty.errors import RpcError
from fedparty.rpc import catalogue
from fedparty.types import JobId, PartyId

MESSAGE_LIMIT_BYTES = 4 << 20
"""The largest message either side accepts; chunks of objects are smaller."""

ChannelOptions = tuple[tuple[str, Any], ...]

COMMON_OPTIONS: ChannelOptions = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
)
"""What clients and servers share: a dead connection is noticed within 20 s."""

_CHANNEL_OPTIONS: ChannelOptions = (
    *COMMON_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_retries", 0),  # would keep a copy of what was sent; `retrying` repeats whole calls
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


Metadata = tuple[tuple[str, str], ...]
Result = TypeVar("Result")


def open_channel(address: str, *, options: ChannelOptions = ()) -> grpc.aio.Channel:
    """Return a plaintext channel; it connects with the first call, and again after each loss.

    Parameters
    ----------
    address
        ``unix:run/egress.sock`` (relative to the working directory) or ``host:port``.
    options
        gRPC channel arguments that are added.
    """
    return grpc.aio.insecure_channel(address, options=(*_CHANNEL_OPTIONS, *options))


def to_party(party: PartyId, job: JobId | None = None) -> Metadata:
    """Return the metadata by which this party's proxy routes a call to `party`."""
    routed = (("x-fedparty-to", party),)
    return routed if job is None else (*routed, ("x-fedparty-job", job))


def bearer(token: str) -> Metadata:
    """Return the metadata that shows a token to a service of this party."""
    return (("authorization", f"Bearer {token}"),)


def bearer_of(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Return the token that a caller shows.

    Raises
    ------
    RpcError
        ``TOKEN_REFUSED``: there is none.
    """
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value.startswith("Bearer "):
            return value.removeprefix("Bearer ")
    raise catalogue.error("TOKEN_REFUSED", "the call carries no token")


async def retrying(call: Callable[[], Awaitable[Result]], *, deadline: float) -> Result:
    """Repeat a call while its error is retryable, with backoff and jitter, until `deadline`.

    Parameters
    ----------
    call
        Idempotent; raises `RpcError`.
    deadline
        On the clock of `time.monotonic`, seconds. The last error is raised when it would be passed.
    """
    try:
        return await call()  # what succeeds at once does without tenacity, which takes 0.4 ms: a job makes hundreds
    except RpcError as exc:
        if not catalogue.is_retryable(exc) or not remaining_s(deadline):
            raise

    async def attempt() -> Result:  # tenacity awaits coroutine functions only, not every callable
        return await call()

    retry = AsyncRetrying(
        retry=retry_if_exception(lambda exc: isinstance(exc, RpcError) and catalogue.is_retryable(exc)),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        stop=_stop_before(deadline),
        reraise=True,
    )
    return await retry(attempt)


def remaining_s(deadline: float) -> float:
    """Return the seconds until `deadline` on the clock of `time.monotonic`, at least 0."""
    return max(0.0, deadline - time.monotonic())


def _stop_before(deadline: float) -> Callable[[RetryCallState], bool]:
    return lambda state: time.monotonic() + state.upcoming_sleep >= deadline
