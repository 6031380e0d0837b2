"""Who calls: the party that this party's own proxy vouches for, and its certificate while a stream is open.

Owns reading the proxy's headers and ending the streams of a revoked caller. Does not own what a caller may do.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc.aio

from fedparty.crypto.revocations import Revocations
from fedparty.errors import RpcError
from fedparty.rpc import catalogue
from fedparty.rpc.breaking import Breakable
from fedparty.types import PartyId, Secret, party_of_uri


@dataclass(frozen=True)
class Caller:
    """A party as its TLS certificate names it, and that certificate's serial number, hexadecimal."""

    party: PartyId
    serial: str


def caller_of(context: grpc.aio.ServicerContext[Any, Any], secret: Secret, federation: str) -> Caller:
    """Return who calls through this party's proxy.

    Parameters
    ----------
    secret
        What the proxy's ingress adds as ``x-fedparty-proxy``.

    Raises
    ------
    RpcError
        ``NOT_THROUGH_PROXY``: the secret is absent or wrong. ``NOT_ALLOWED``: the certificate is of no party.
    """
    headers = _headers(context)
    if not hmac.compare_digest(headers.get("x-fedparty-proxy", "").encode(), secret.reveal().encode()):
        raise catalogue.error("NOT_THROUGH_PROXY", "the call did not come through this party's proxy")
    try:
        party = party_of_uri(federation, headers.get("x-fedparty-from", ""))
    except ValueError as exc:
        raise catalogue.error("NOT_ALLOWED", f"the caller's certificate names no party: {exc}") from exc
    return Caller(party, headers.get("x-fedparty-serial", ""))


def _headers(context: grpc.aio.ServicerContext[Any, Any]) -> dict[str, str]:
    """Return the text headers; one given twice is dropped, so that it can say nothing."""
    headers: dict[str, str] = {}
    doubled = set()
    for key, value in context.invocation_metadata() or ():
        if key in headers:
            doubled.add(key)
        if isinstance(value, str):
            headers[key] = value
    return {key: value for key, value in headers.items() if key not in doubled}


class StreamGuard:
    """Ends the open streams of callers whose certificate is revoked.

    Parameters
    ----------
    revocations
        The live list.
    """

    def __init__(self, revocations: Revocations) -> None:
        self._revocations = revocations
        self._open: dict[Breakable, Caller] = {}

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """End what must end at each change of the list, while the block runs."""
        watcher = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher

    def end_revoked(self) -> None:
        """End the streams of callers that are revoked now."""
        for stream, caller in self._open.items():
            if self._revocations.is_revoked(caller.serial):
                stream.break_off(_revoked(caller))

    @asynccontextmanager
    async def guarding(self, caller: Caller) -> AsyncIterator[None]:
        """Run a block that a revocation of `caller` breaks off.

        Raises
        ------
        RpcError
            ``CERTIFICATE_REVOKED``: it is revoked, or was while the block ran.
        """
        if self._revocations.is_revoked(caller.serial):
            raise _revoked(caller)
        async with Breakable() as stream:
            self._open[stream] = caller
            try:
                yield
            finally:
                del self._open[stream]

    async def _watch(self) -> None:
        async for _ in self._revocations.changes():
            self.end_revoked()


def _revoked(caller: Caller) -> RpcError:
    return catalogue.error(
        "CERTIFICATE_REVOKED", f"the certificate {caller.serial or '(no serial)'} of party {caller.party} is revoked"
    )
