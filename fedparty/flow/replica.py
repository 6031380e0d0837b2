"""One of several replicas of a flow: it stands by until it leads, and then is the flow.

Owns what a standby does, and the step from one to the other. Does not own the election (`leadership`), nor what a flow
does (`service`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from ulid import ULID

from fedparty.database.engine import Database
from fedparty.database.migrate import check
from fedparty.flow.background import until_read
from fedparty.flow.leadership import Leadership, Term
from fedparty.flow.leadership.store import LeaseStore
from fedparty.flow.neighbours import PROBE_S, Neighbours, open_neighbours
from fedparty.flow.store import Store
from fedparty.rpc.operations import Readiness, serve_operations
from fedparty.settings import FlowSettings

logger = logging.getLogger(__name__)

_LOCK_WAIT_S = 1.0


@dataclass(frozen=True)
class Flow:
    """A flow that runs."""

    store: Store
    missing: Readiness
    """Returns what it waits for."""

    async def until(self, stop: asyncio.Event) -> None:
        """Wait; at the end, however it comes, whoever waits for changes is told that there will be none."""
        try:
            await stop.wait()
            logger.info("the flow is being stopped")
        finally:
            self.store.changes.close()


Running = Callable[[FlowSettings, Term, CollectorRegistry], AbstractAsyncContextManager[Flow]]


async def serve_replica(
    settings: FlowSettings, stop: asyncio.Event, registry: CollectorRegistry, running: Running
) -> None:
    """Stand by until this replica leads, then run the flow, until `stop` is set.

    Raises
    ------
    FedpartyError
        It cannot start, or it does not lead any more: whoever runs the service starts it again.
    """
    async with _open_database(settings) as database, open_neighbours(settings) as neighbours:
        leadership = Leadership(LeaseStore(database), _holder(settings), settings.lease_s)
        _LeaderMetrics(leadership, registry)
        replica = _Replica(database, neighbours)
        async with serve_operations(settings.operations, replica.missing, registry, lambda: leadership.leads):
            logger.info("replica %d of %d stands by", settings.replica, settings.replicas)
            if not await _comes_before(_campaign(database, leadership), stop):
                return
            replica.readiness = _starting
            async with leadership.held(), running(settings, leadership, registry) as flow:
                replica.readiness = flow.missing
                await flow.until(stop)


class _Replica:
    """What a replica waits for: as a standby, what it would need to take over."""

    def __init__(self, database: Database, neighbours: Neighbours) -> None:
        self._database = database
        self._neighbours = neighbours
        self.readiness: Readiness = self._standby

    async def missing(self) -> dict[str, str]:
        return await self.readiness()

    async def _standby(self) -> dict[str, str]:
        fault, missing = await asyncio.gather(self._database.fault(PROBE_S), self._neighbours.missing())
        return missing | ({"database": fault} if fault else {})


async def _starting() -> dict[str, str]:
    return {"flow": "is taking over"}


async def _campaign(database: Database, leadership: Leadership) -> None:
    await until_read(lambda: check(database))
    await leadership.campaign()


async def _comes_before(work: Awaitable[None], stop: asyncio.Event) -> bool:
    """Return whether something is done before `stop` is set, else break it off."""
    working, stopping = asyncio.ensure_future(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return False
        await working
        return True
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


@asynccontextmanager
async def _open_database(settings: FlowSettings) -> AsyncIterator[Database]:
    """Open connections apart from the flow's own: what these wait for must not keep the lease from being renewed."""
    database = Database(settings, lock_wait_s=_LOCK_WAIT_S, silence_s=settings.lease_s)
    try:
        yield database
    finally:
        await database.close()


def _holder(settings: FlowSettings) -> str:
    """Return a name that no other process ever has; a person sees in the table which one it is."""
    return f"{ULID()} {settings.service} {os.getpid()}@{socket.gethostname()}"[:64]


class _LeaderMetrics(Collector):
    """Whether this replica leads, for Prometheus."""

    def __init__(self, leadership: Leadership, registry: CollectorRegistry) -> None:
        self._leadership = leadership
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        leads = self._leadership.leads
        yield GaugeMetricFamily("fedparty_flow_is_leader", "Whether this replica leads", value=float(leads))
        epoch = self._leadership.epoch if leads else 0
        yield GaugeMetricFamily("fedparty_flow_epoch", "The epoch in which this replica leads, or 0", value=epoch)
