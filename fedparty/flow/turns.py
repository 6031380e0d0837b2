"""Which of this party's own tasks ask for resources now: those of the first rank, a few at a time.

Owns the order and the number. Does not own what a party grants (`resources`), nor asking it (`run`). A thousand jobs
that wait so cost one call each when their turn comes, not a call a second.

Whoever asked and was refused waits in the lines of the parties (`places`), and no longer counts. While it does, those
behind it that need a party for which it waits need not ask: they could hardly come before it. `STAND_BY` of them wait
in the lines too, without having asked, so that the next is there at once when its turn comes.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fedparty.flow.resources import Rank
from fedparty.types import PartyId

AT_ONCE = 8
"""How many ask at the same time."""
STAND_BY = 2
"""So many wait in the lines before the rest is held back."""


@dataclass(order=True)
class Turn:
    """A task that asks, or waits until it may."""

    rank: Rank
    parties: frozenset[PartyId] = field(compare=False)
    waits_at: frozenset[PartyId] = field(default=frozenset(), compare=False)
    """The parties that have not granted it yet; where there are any at its turn, it waits first and then asks."""
    has_come: asyncio.Event = field(default_factory=asyncio.Event, compare=False)


class Turns:
    """The tasks that want resources."""

    def __init__(self) -> None:
        self._line: list[Turn] = []

    def __len__(self) -> int:
        return len(self._line)

    @asynccontextmanager
    async def turn(self, rank: Rank, parties: Iterable[PartyId]) -> AsyncIterator[Turn]:
        """Enter the block when it is a task's turn to ask; others follow when it waits, or leaves the block."""
        turn = Turn(rank, frozenset(parties))
        insort(self._line, turn)
        self._call_next()
        try:
            await turn.has_come.wait()
            yield turn
        finally:
            self._line.remove(turn)
            self._call_next()

    def waits(self, turn: Turn, parties: Iterable[PartyId]) -> None:
        """Take note of the parties that a task waits for now."""
        turn.waits_at = frozenset(parties)
        self._call_next()

    def _call_next(self) -> None:
        asking = sum(turn.has_come.is_set() and not turn.waits_at for turn in self._line)
        waiting = sum(bool(turn.waits_at) for turn in self._line)
        blocked: set[PartyId] = set()
        for turn in self._line:
            if asking >= AT_ONCE:
                return
            if turn.has_come.is_set():
                blocked |= turn.waits_at
            elif not blocked & turn.parties:
                turn.has_come.set()
                asking += 1
            elif waiting < STAND_BY:
                turn.waits_at = frozenset(blocked & turn.parties)
                turn.has_come.set()
                waiting += 1
