"""What may happen to a call between two flows: it is lost, its answer is lost, it comes twice, it comes too late.

Owns which call is hurt next, those that are held back, and the trace of all. Does not own the way itself (the relay in
`flow_party`).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import grpc

Answers = AsyncIterator[bytes]
Forward = Callable[[AsyncIterator[bytes]], Answers]
"""Opens the call at the other party."""

_BROKEN = grpc.StatusCode.UNAVAILABLE, "Socket closed"
_STREAMS = ("Supervise", "Queue")


class Fault(StrEnum):
    """What happens to one call."""

    LOST = "lost"
    """It does not arrive."""
    UNANSWERED = "unanswered"
    """It arrives, and its answer does not; of a stream, all but the first answer."""
    DOUBLED = "doubled"
    """It arrives twice at once."""
    LATE = "late"
    """Its caller hears that it is lost; it arrives when the test says so, after others that were sent later."""


@dataclass(frozen=True)
class _Held:
    what: str
    message: bytes
    forward: Forward


class Faults:
    """The faults of a federation, armed beforehand, one call each."""

    def __init__(self) -> None:
        self._armed: defaultdict[tuple[str, str, str], deque[Fault]] = defaultdict(deque)
        self._held: list[_Held] = []
        self.trace: list[str] = []

    def arm(self, caller: str, to: str, method: str, fault: Fault) -> None:
        """Hurt the next call of this kind."""
        self._armed[caller, to, method].append(fault)

    def disarm(self) -> None:
        """Let every call pass from now on."""
        self._armed.clear()

    @property
    def held(self) -> int:
        """How many calls are held back."""
        return len(self._held)

    async def deliver(self, index: int) -> None:
        """Let a call arrive that was held back; nobody waits for its answer."""
        held = self._held.pop(index)
        try:
            answers = [answer async for answer in held.forward(_one(held.message))]
            self.trace.append(f"{held.what} arrives late: answered with {len(answers)}")
        except grpc.aio.AioRpcError as exc:
            self.trace.append(f"{held.what} arrives late: {exc.details()}")

    async def pass_on(
        self, caller: str, to: str, method: str, requests: AsyncIterator[bytes], forward: Forward, context: Any
    ) -> Answers:
        """Yield the answers to a call, as far as its fault lets them through."""
        name = method.rpartition("/")[2]
        armed = self._armed.get((caller, to, name))
        fault = armed.popleft() if armed else None
        what = f"{caller} to {to}: {name}"
        self.trace.append(f"{what}{f' is {fault}' if fault else ''}")
        if fault is Fault.LATE and name not in _STREAMS:
            self._held.append(_Held(what, b"".join([message async for message in requests]), forward))
        if fault in (Fault.LOST, Fault.LATE):
            await context.abort(*_BROKEN)
        if fault is Fault.DOUBLED:
            message = b"".join([message async for message in requests])
            second = asyncio.ensure_future(_read(forward(_one(message))))
            second.add_done_callback(lambda done: done.cancelled() or done.exception())
            requests = _one(message)
        async for answer in forward(requests):
            if fault is not Fault.UNANSWERED or name in _STREAMS:
                yield answer
            if fault is Fault.UNANSWERED:
                await context.abort(*_BROKEN)


async def _one(message: bytes) -> AsyncIterator[bytes]:
    yield message


async def _read(answers: Answers) -> None:
    async for _ in answers:
        pass
