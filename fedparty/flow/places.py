"""A task's places in the lines of all its parties at once, as its initiator keeps them.

Owns reading what each party says, and when all of them say that it is the task's turn. Does not own a party's line
(`resources`). Nothing is held while it waits: a place is a claim, and it is gone when the connection is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from types import TracebackType
from typing import Self

from fedparty.flow.peers import Peers
from fedparty.flow.records import Job
from fedparty.types import PartyId, TaskRun

_NOT_SAID = "has not answered yet"


class Places:
    """An ``async with`` block in which a task stands in every line.

    Parameters
    ----------
    peers
        The way to every party.
    job, run
        Who waits.
    on_change
        Called with what each party that is waited for says.
    """

    def __init__(self, peers: Peers, job: Job, run: TaskRun, on_change: Callable[[dict[PartyId, str]], None]) -> None:
        self._peers = peers
        self._job = job
        self._run = run
        self._on_change = on_change
        self._words = dict.fromkeys(job.description.parties, _NOT_SAID)
        self._is_turn = asyncio.Event()
        self._reading: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._reading = [asyncio.create_task(self._read(party)) for party in self._words]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _exc: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        for reading in self._reading:
            reading.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)

    async def turn(self) -> None:
        """Return when every party says that it is this task's turn.

        Raises
        ------
        RpcError
            A party refused, or was not reached for longer than the patience.
        """
        waiting = asyncio.create_task(self._is_turn.wait())
        try:
            done, _ = await asyncio.wait((waiting, *self._reading), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        for task in done:
            task.result()

    async def _read(self, party: PartyId) -> None:
        async with aclosing(self._peers.queue(party, self._job, self._run)) as words:
            async for waits_for in words:
                self._words[party] = waits_for
                waited_for = {party: word for party, word in self._words.items() if word}
                self._on_change(waited_for)
                if waited_for:
                    self._is_turn.clear()
                else:
                    self._is_turn.set()
