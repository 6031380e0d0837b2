"""Who waits for a job to change is woken when it did.

Owns waking. Does not own what changed: whoever is woken reads the database.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from fedparty.types import JobId


class Changes:
    """Events of this process's writes to jobs."""

    def __init__(self) -> None:
        self._waiting: defaultdict[JobId, set[asyncio.Event]] = defaultdict(set)
        self.is_closed = False

    def notify(self, job: JobId) -> None:
        """Wake everyone who watches `job`."""
        for event in self._waiting.get(job, ()):
            event.set()

    def close(self) -> None:
        """Wake everyone, now and from now on: the service ends."""
        self.is_closed = True
        for job in tuple(self._waiting):
            self.notify(job)

    @contextmanager
    def watch(self, job: JobId) -> Iterator[asyncio.Event]:
        """Watch `job`: clear the event, read the database, and only then wait; so no change is missed."""
        event = asyncio.Event()
        if self.is_closed:
            event.set()
        self._waiting[job].add(event)
        try:
            yield event
        finally:
            self._waiting[job].discard(event)
            if not self._waiting[job]:
                del self._waiting[job]
