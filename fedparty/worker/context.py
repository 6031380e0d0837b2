"""What a component sees in a task's process: sends and receives through this party's own proxy and mailbox.

Owns the bridge from the component's thread to the event loop on which gRPC runs, and how many sends are under way. Does
not own the objects' way (`fedparty.federation.exchange`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from fedparty.context import Peer, ReceiveTimeoutError, is_group, output_path, peers, table_of
from fedparty.crypto.leaving import Leaving
from fedparty.errors import ComponentError, RpcError
from fedparty.federation.exchange import ObjectExchange
from fedparty.storage import reading
from fedparty.storage.source import Source
from fedparty.storage.table import Table
from fedparty.types import ObjectName
from fedparty.worker import outputs
from fedparty.worker.spec import OUTPUTS, TaskSpec
from fedparty.worker.tasklog import MetricsFile

SENDS_AT_ONCE = 8
"""How many objects may be on their way; the next `send` waits. Bounds the memory they hold."""

LONG_WAIT_S = 5.0
"""A wait that takes longer is told in the log, once."""

Result = TypeVar("Result")


class WorkerContext:
    """See `fedparty.context.Context`. A ``with`` block: at its good end every value sent has arrived.

    Parameters
    ----------
    spec
        Who this is, and the addresses and the token to use.
    log
        The task's log.
    """

    def __init__(self, spec: TaskSpec, log: logging.Logger) -> None:
        self.member = spec.member
        self.members = spec.members
        self.role = spec.member.role
        self.party = str(spec.member.party)
        self.parameters: dict[str, Any] = json.loads(spec.parameters)
        self.log = log
        self._spec = spec
        self._metrics = MetricsFile(spec)
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="exchange", daemon=True)
        self._connection = _open(spec, log)
        self._traffic: _Traffic

    def __enter__(self) -> Self:
        self._thread.start()
        self._traffic = self._run(self._connection.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _exc: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                outputs.check(self._spec.folder)
                self._run(self._traffic.flush())
        finally:
            self._run(self._connection.__aexit__(None, None, None))
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._metrics.close()

    def send(self, tag: str, value: Any, to: Peer) -> None:
        """See `Context.send`; returns when the value is on its way."""
        for receiver in peers(self, to):
            self._run(self._traffic.send(ObjectName(self._spec.run, tag, self.member, receiver), value))

    def receive(self, tag: str, source: Peer, *, timeout_s: float | None = None) -> Any:
        """See `Context.receive`."""
        deadline = self._spec.deadline
        if timeout_s is not None:
            deadline = min(deadline, time.monotonic() + timeout_s)
        names = [ObjectName(self._spec.run, tag, sender, self.member) for sender in peers(self, source)]
        values = self._run(self._traffic.receive(names, deadline))
        return values if is_group(self, source) else values[0]

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """See `Context.metric`."""
        self._metrics.add(name, value, step)

    def table(self, name: str) -> Table:
        """See `Context.table`; the file is read with each call."""
        tables = {each["name"]: Source.from_json(each) for each in json.loads(self._spec.tables)}
        return reading.read(Path(self._spec.tables_folder), table_of(tables, name))

    def output(self, name: str) -> Path:
        """See `Context.output`."""
        return output_path(self._spec.folder / OUTPUTS, name)

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class _Traffic:
    """A member's objects on their way; everything here runs on the loop."""

    def __init__(self, exchange: ObjectExchange, deadline: float, log: logging.Logger) -> None:
        self._exchange = exchange
        self._deadline = deadline
        self._log = log
        self._window = asyncio.Semaphore(SENDS_AT_ONCE)
        self._sending: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def send(self, name: ObjectName, value: object) -> None:
        """Begin to send, as soon as there is room; raise what is wrong with the value, or failed before."""
        await self._window.acquire()
        self._check()
        sending = asyncio.create_task(self._deliver(name, value))
        self._sending.add(sending)
        sending.add_done_callback(self._on_sent)
        await asyncio.sleep(0)  # its first step encodes the value
        if sending.done():
            sending.result()

    async def receive(self, names: list[ObjectName], deadline: float) -> list[object]:
        """Wait for all of `names`, unless a send fails meanwhile."""
        receiving = asyncio.gather(*(self._receive(name, deadline) for name in names))
        await asyncio.wait((receiving, self._failure), return_when=asyncio.FIRST_COMPLETED)
        if receiving.done():
            return receiving.result()
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        raise self._failure.result()

    async def flush(self) -> None:
        """Return when all that was sent has arrived."""
        await asyncio.gather(*self._sending)
        self._check()

    async def give_up(self) -> None:
        """End what is still on its way."""
        for sending in self._sending:
            sending.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    async def _deliver(self, name: ObjectName, value: object) -> None:
        try:
            await self._exchange.send(name, value, deadline=self._deadline)
        finally:
            self._window.release()

    def _on_sent(self, sending: asyncio.Task[None]) -> None:
        self._sending.discard(sending)
        failure = None if sending.cancelled() else sending.exception()
        # What is wrong with a value was told by `send`; everything else is told by the next call.
        if failure and not isinstance(failure, ComponentError) and not self._failure.done():
            self._failure.set_result(failure)

    async def _receive(self, name: ObjectName, deadline: float) -> object:
        waiting = f"waiting for tag {name.tag!r} from {name.sender}"
        long_wait = asyncio.get_running_loop().call_later(LONG_WAIT_S, self._log.info, waiting)
        try:
            return await self._exchange.receive(name, deadline=deadline)
        except RpcError as exc:
            if exc.code == "RECEIVE_TIMEOUT":
                raise ReceiveTimeoutError(name.tag, name.sender, exc.message) from exc
            raise
        finally:
            long_wait.cancel()

    def _check(self) -> None:
        if self._failure.done():
            raise self._failure.result()


@asynccontextmanager
async def _open(spec: TaskSpec, log: logging.Logger) -> AsyncIterator[_Traffic]:
    """Connect a member; the connections end with the block."""
    leaving = Leaving.from_claims(json.loads(spec.leaving or "{}"))
    async with ObjectExchange(spec.egress, spec.mailbox, spec.token, leaving) as exchange:
        traffic = _Traffic(exchange, spec.deadline, log)
        try:
            yield traffic
        finally:
            await traffic.give_up()
