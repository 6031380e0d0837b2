"""Objects as a task's process sends and receives them: out through the party's own proxy, in from its own mailbox.

Owns repeating, deadlines and saying which hop failed. Does not own tags or roles (see `fedparty.context`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Self, TypeVar

from fedparty.crypto.leaving import Leaving
from fedparty.crypto.tokens import ANYTHING
from fedparty.errors import ComponentError, RpcError
from fedparty.federation import names
from fedparty.rpc import calls, catalogue, channels, encoding, stream
from fedparty.rpc.v1 import local_pb2
from fedparty.rpc.v1.peer_pb2 import DeliverHeader
from fedparty.types import ObjectName

_RECENT_S = 3.0

Result = TypeVar("Result")


class ObjectExchange:
    """Sends and receives the objects of one member of one task attempt; an ``async with`` block closes it.

    Parameters
    ----------
    egress, mailbox
        Addresses of this party's proxy and of its mailbox's local listener.
    token
        The member's task token.
    leaving
        What it may send to other parties.
    """

    def __init__(self, egress: str, mailbox: str, token: str, leaving: Leaving = ANYTHING) -> None:
        self._leaving = leaving
        self._sent_bytes = 0
        stream.keep_chunk_memory()
        self._egress = channels.open_channel(egress)
        self._mailbox = channels.open_channel(mailbox)
        self._token = token

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _exc: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await self._egress.close(None)
        await self._mailbox.close(None)

    async def send(self, name: ObjectName, value: object, *, deadline: float) -> None:
        """Send an object; when this returns it is safe at the receiver's party.

        Parameters
        ----------
        value
            See `fedparty.rpc.encoding`; it must not change until this returns.
        deadline
            On the clock of `time.monotonic`, seconds.

        Raises
        ------
        ComponentError
            The value has no encoding, or the site's policy does not let it leave.
        RpcError
            Its message says which hop failed.
        """
        encoded = encoding.encode(value)
        if name.receiver.party != name.sender.party:
            self._check_leaving(name, len(encoded.data))
        header = DeliverHeader(
            name=names.message_of(name),
            size_bytes=len(encoded.data),
            encoding=encoded.encoding,
            dtype=encoded.dtype,
            shape=encoded.shape,
            token=self._token,
        )
        what = f"sending tag {name.tag!r} to {name.receiver}"
        repetition = _Repetition(what, "DEADLINE", deadline)
        await repetition.run(lambda: self._deliver(name, header, encoded.data, deadline))

    async def receive(self, name: ObjectName, *, deadline: float) -> object:
        """Wait for an object and return its value.

        Parameters
        ----------
        deadline
            On the clock of `time.monotonic`, seconds.

        Raises
        ------
        RpcError
            Its message says which hop failed; ``RECEIVE_TIMEOUT``: nothing came.
        """
        what = f"waiting for tag {name.tag!r} from {name.sender}"
        return await _Repetition(what, "RECEIVE_TIMEOUT", deadline).run(lambda: self._receive(name, deadline))

    def _check_leaving(self, name: ObjectName, size_bytes: int) -> None:
        if why := self._leaving.refusal(name.tag, size_bytes, self._sent_bytes):
            party = name.sender.party
            message = f"the policy of party {party} does not let it leave for {name.receiver}: {why}"
            raise ComponentError(message, hint=f"Ask the people of party {party} for another rule in policy.yaml.")
        self._sent_bytes += size_bytes

    async def _deliver(self, name: ObjectName, header: DeliverHeader, data: memoryview, deadline: float) -> None:
        await calls.send_stream(
            self._egress,
            f"/{names.PEER_SERVICE}/Deliver",
            stream.messages(header, data),
            metadata=channels.to_party(name.receiver.party, name.run.job),
            timeout_s=channels.remaining_s(deadline),
            unavailable="PROXY_DOWN",
        )

    async def _receive(self, name: ObjectName, deadline: float) -> object:
        messages: AsyncGenerator[bytes] = calls.read_stream(
            self._mailbox,
            f"/{names.LOCAL_SERVICE}/Receive",
            local_pb2.ReceiveRequest(name=names.message_of(name)),
            None,
            metadata=channels.bearer(self._token),
            timeout_s=channels.remaining_s(deadline),
            unavailable="MAILBOX_DOWN",
        )
        async with aclosing(messages):
            return await stream.read_value(messages)


class _Repetition:
    """Repeats an attempt until a deadline, and says on failure what was being done and which hop is at fault.

    Parameters
    ----------
    what
        Begins the message, e.g. ``waiting for tag 'x' from host:9999``.
    timeout_code
        The code where nothing but time ran out.
    """

    def __init__(self, what: str, timeout_code: str, deadline: float) -> None:
        self._what = what
        self._timeout_code = timeout_code
        self._deadline = deadline
        self._reason: RpcError | None = None
        self._reason_at = 0.0

    async def run(self, attempt: Callable[[], Awaitable[Result]]) -> Result:
        try:
            return await channels.retrying(lambda: self._noting(attempt), deadline=self._deadline)
        except RpcError as exc:
            raise self._named(exc) from exc

    async def _noting(self, attempt: Callable[[], Awaitable[Result]]) -> Result:
        try:
            return await attempt()
        except RpcError as exc:
            if exc.code != "DEADLINE":
                self._reason, self._reason_at = exc, time.monotonic()
            raise

    def _named(self, exc: RpcError) -> RpcError:
        if exc.code == "DEADLINE":
            is_recent = time.monotonic() - self._reason_at < _RECENT_S
            if self._reason is None or not is_recent:
                return catalogue.error(self._timeout_code, f"{self._what}: nothing came in time")
            exc = self._reason  # the last attempt was cut short: what ended the one before is the reason
        return RpcError(f"{self._what}: {exc.message}", hint=exc.hint, code=exc.code)
