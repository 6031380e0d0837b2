"""The deploy story: check everything, install, start, watch until healthy, prove it by the toy job.

Owns the order of the steps and what happens to the other parties when one fails. Knows parties only as engines.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from fedparty.deploy.engine.base import Engine
from fedparty.deploy.health import HEALTHY, Reading
from fedparty.deploy.report import (
    CHECKED,
    NOT_DEPLOYED,
    STOPPED,
    UNSUPERVISED,
    PartyResult,
    Progress,
    Report,
    ServiceState,
    join_parties,
)
from fedparty.deploy.verify import verify
from fedparty.errors import DeployError, FedpartyError
from fedparty.types import EXCHANGE

HEALTH_TIMEOUT_S = 60.0
VERIFY_TIMEOUT_S = 60.0


class Deployer:
    """Does one thing to several parties at once and keeps the result or the error of each.

    Parameters
    ----------
    engines
        One for each asked party, in the order in which they were asked for.
    progress
        Is told what happens.
    notes
        What the report says besides, e.g. about parties that are not managed.
    """

    def __init__(self, engines: Sequence[Engine], progress: Progress, *, notes: Sequence[str] = ()) -> None:
        self._engines = tuple(engines)
        self._progress = progress
        self._notes = tuple(notes)

    async def deploy(self, *, is_verified: bool, timeout_s: float = HEALTH_TIMEOUT_S) -> Report:
        """Check, install, start, watch, verify. Nothing is changed anywhere unless every check passes."""
        async with self._locked():
            checks = await self._for_all(self._check)
            if any(result.error for result in checks):
                return Report(checks, notes=(*self._notes, "Nothing was changed."))
            results = await self._for_all(lambda engine: self._bring_up(engine, timeout_s, is_verified=is_verified))
            return await self._verified_together(results) if is_verified else self._unverified(results)

    async def plan(self) -> Report:
        """Return what `deploy` would change and run at each party; changes nothing."""
        return Report(await self._for_all(self._plan), notes=self._notes)

    async def verify(self) -> Report:
        """Verify what runs."""
        return await self._verified_together(await self._for_all(self._verify_running))

    async def status(self) -> Report:
        """Return every service as it is now."""
        return Report(await self._for_all(self._look), notes=self._notes)

    async def delete(self, *, is_purged: bool) -> Report:
        """Stop the parties; with `is_purged` remove all that was deployed, data included."""
        async with self._locked():
            return Report(
                await self._for_all(lambda engine: self._delete(engine, is_purged=is_purged)), notes=self._notes
            )

    async def _check(self, engine: Engine) -> PartyResult:
        await engine.check()
        self._progress.step(engine.party, CHECKED)
        return PartyResult(engine.party)

    async def _plan(self, engine: Engine) -> PartyResult:
        await engine.check()
        return PartyResult(engine.party, plan=await engine.plan())

    async def _bring_up(self, engine: Engine, timeout_s: float, *, is_verified: bool) -> PartyResult:
        self._progress.step(engine.party, await engine.install())
        self._progress.step(engine.party, await engine.start())
        services = await engine.wait(timeout_s, lambda reading: self._tell(engine, reading))
        result = _result(engine, services)
        return await self._verified_alone(engine, result) if is_verified else result

    async def _verify_running(self, engine: Engine) -> PartyResult:
        return await self._verified_alone(engine, _result(engine, await engine.states()))

    async def _verified_alone(self, engine: Engine, result: PartyResult) -> PartyResult:
        """Out of and in by its own proxy: the party with itself."""
        if result.error is not None or engine.party == EXCHANGE:
            return result
        try:
            total = await verify(engine, [engine.party], timeout_s=VERIFY_TIMEOUT_S)
        except FedpartyError as exc:
            return replace(result, error=exc)
        self._progress.step(engine.party, f"verified with itself: {total}")
        return replace(result, sum=total)

    async def _verified_together(self, results: tuple[PartyResult, ...]) -> Report:
        """One job over all asked parties, if there are several and each is verified."""
        engines = [engine for engine in self._engines if engine.party != EXCHANGE]
        report = Report(results, notes=self._notes)
        if not report.is_success or not engines:
            return report
        if len(engines) == 1:
            return replace(report, sum=next(result.sum for result in results if result.party == engines[0].party))
        guest, *hosts = engines
        try:
            total = await verify(guest, [host.party for host in hosts], timeout_s=VERIFY_TIMEOUT_S)
        except FedpartyError as exc:
            return replace(report, error=exc)
        self._progress.step(join_parties(engine.party for engine in engines), f"verified together: {total}")
        return replace(report, sum=total)

    def _unverified(self, results: tuple[PartyResult, ...]) -> Report:
        return Report(results, notes=(*self._notes, "Not verified, as asked."))

    async def _look(self, engine: Engine) -> PartyResult:
        return replace(_result(engine, await engine.states()), error=None)

    async def _delete(self, engine: Engine, *, is_purged: bool) -> PartyResult:
        await engine.stop()
        if is_purged:
            await engine.purge()
        self._progress.step(engine.party, "stopped and removed" if is_purged else "stopped")
        return PartyResult(engine.party, await engine.states())

    def _tell(self, engine: Engine, reading: Reading) -> None:
        self._progress.service(engine.party, reading.service, reading.state, reading.detail)

    async def _for_all(self, action: Callable[[Engine], Awaitable[PartyResult]]) -> tuple[PartyResult, ...]:
        async def attempt(engine: Engine) -> PartyResult:
            try:
                return await action(engine)
            except FedpartyError as exc:
                return PartyResult(engine.party, error=exc)
            except OSError as exc:
                what = ": ".join(str(each) for each in (exc.filename, exc.strerror) if each)
                error = DeployError(f"party {engine.party}: {what}")
                return PartyResult(engine.party, error=error)

        return tuple(await asyncio.gather(*(attempt(engine) for engine in self._engines)))

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        """Hold the lock of every place once."""
        async with AsyncExitStack() as stack:
            for engine in {engine.lock_place: engine for engine in self._engines}.values():
                await stack.enter_async_context(engine.lock())
            yield


def _result(engine: Engine, services: tuple[ServiceState, ...]) -> PartyResult:
    result = PartyResult(engine.party, services, rest_url=engine.rest_url, logs=engine.logs)
    if result.is_healthy:
        return result
    bad = ", ".join(f"{each.service} is {each.state}" for each in services if each.state != HEALTHY)
    start = f"Run: python deploy.py {engine.party} --engine {engine.name}"
    if all(each.state in (STOPPED, NOT_DEPLOYED) for each in services):
        error = DeployError(f"party {engine.party} does not run", hint=start)
    else:
        is_abandoned = any(each.state == UNSUPERVISED for each in services)
        hint = start if is_abandoned else f"Look at: python deploy.py logs {engine.party}"
        error = DeployError(f"party {engine.party} is not healthy: {bad}", hint=hint)
    return replace(result, error=error)
