"""The deploy story: check everything, install, start, watch until healthy, prove it by the toy job.

Owns the order of the steps and what happens to the other parties when one fails. Knows parties only as engines.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
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
_AT_ONCE = 32
"""Parties that are worked on at the same time."""


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
    neighbours
        The deployed parties that were not asked for: a deploy brings them the ways to the asked ones.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        progress: Progress,
        *,
        notes: Sequence[str] = (),
        neighbours: Sequence[Engine] = (),
    ) -> None:
        self._engines = tuple(engines)
        self._progress = progress
        self._notes = tuple(notes)
        self._neighbours = tuple(neighbours)
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    async def deploy(self, *, is_verified: bool, timeout_s: float = HEALTH_TIMEOUT_S) -> Report:
        """Check, install, start, watch, verify. Nothing is changed anywhere unless every check passes.

        A party that does not become healthy goes back to its last healthy release, if it has one.
        """
        async with self._locked() as refused:
            checks = await self._for_all(self._check, refused)
            if any(result.error for result in checks):
                return Report(checks, notes=(*self._notes, "Nothing was changed."))
            self._notes += await self._tell_neighbours()
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
        async with self._locked() as refused:
            results = await self._for_all(lambda engine: self._delete(engine, is_purged=is_purged), refused)
            return Report(results, notes=self._notes)

    async def push_live(self) -> Report:
        """Bring renewed and revoked certificates, and new ways, to parties that run: nothing restarts."""
        return Report(await self._for_all(self._push), notes=self._notes)

    async def _check(self, engine: Engine) -> PartyResult:
        await engine.check()
        self._progress.step(engine.party, CHECKED)
        return PartyResult(engine.party)

    async def _plan(self, engine: Engine) -> PartyResult:
        await engine.check()
        return PartyResult(engine.party, plan=await engine.plan())

    async def _push(self, engine: Engine) -> PartyResult:
        return PartyResult(engine.party, plan=await engine.push_live())

    async def _tell_neighbours(self) -> tuple[str, ...]:
        """Bring the ways to the asked parties to the deployed others; returns who was not reached."""
        results = await self._for_all(self._push, engines=self._neighbours)
        for result in results:
            if result.plan:
                self._progress.step(result.party, "knows the new ways, nothing restarted")
        return tuple(
            f"{result.party} has not been told of the change: {result.error.message}. "
            f"Once it is reached: python deploy.py {result.party}"
            for result in results
            if result.error
        )

    async def _bring_up(self, engine: Engine, timeout_s: float, *, is_verified: bool) -> PartyResult:
        result = await self._attempt(
            engine, lambda engine: self._install_and_start(engine, timeout_s, is_verified=is_verified)
        )
        if result.error is not None:
            return await self._gone_back(engine, result, timeout_s)
        await engine.confirm()
        await engine.record("deployed and verified" if is_verified else "deployed")
        return result

    async def _install_and_start(self, engine: Engine, timeout_s: float, *, is_verified: bool) -> PartyResult:
        self._progress.step(engine.party, await engine.install(lambda text: self._progress.step(engine.party, text)))
        self._progress.step(engine.party, await engine.start())
        services = await engine.wait(timeout_s, lambda reading: self._tell(engine, reading))
        result = _result(engine, services)
        return await self._verified_alone(engine, result) if is_verified else result

    async def _gone_back(self, engine: Engine, failed: PartyResult, timeout_s: float) -> PartyResult:
        """Return the failed result with what became of the release before."""
        recovery = await _told(engine.roll_back(timeout_s), "could not go back to the release before")
        record = engine.record(f"failed: {failed.error and failed.error.message}; {recovery or 'left as it is'}")
        said = [text for text in (recovery, await _told(record, "could not write its audit log")) if text]
        for text in said:
            self._progress.step(engine.party, text)
        return replace(failed, recovery="\n".join(f"{engine.party} {text}." for text in said))

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

    async def _for_all(
        self,
        action: Callable[[Engine], Awaitable[PartyResult]],
        refused: Mapping[str, FedpartyError] | None = None,
        engines: Sequence[Engine] | None = None,
    ) -> tuple[PartyResult, ...]:
        """Do something to all parties at once; those that were refused before keep that error."""

        async def attempt(engine: Engine) -> PartyResult:
            if refused and engine.party in refused:
                return PartyResult(engine.party, error=refused[engine.party])
            async with self._at_once:
                return await self._attempt(engine, action)

        return tuple(await asyncio.gather(*map(attempt, self._engines if engines is None else engines)))

    @staticmethod
    async def _attempt(engine: Engine, action: Callable[[Engine], Awaitable[PartyResult]]) -> PartyResult:
        try:
            return await action(engine)
        except FedpartyError as exc:
            return PartyResult(engine.party, error=exc)
        except OSError as exc:
            what = ": ".join(str(each) for each in (exc.filename, exc.strerror) if each)
            return PartyResult(engine.party, error=DeployError(f"party {engine.party}: {what}"))

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[Mapping[str, FedpartyError]]:
        """Hold the lock of every place once; gives the parties whose place is not to be had, and why."""
        places: dict[str, list[Engine]] = {}
        for engine in self._engines:
            places.setdefault(engine.lock_place, []).append(engine)
        refused: dict[str, FedpartyError] = {}
        async with AsyncExitStack() as stack:

            async def hold(engines: Sequence[Engine]) -> None:
                try:
                    async with self._at_once:
                        await stack.enter_async_context(engines[0].lock())
                except FedpartyError as exc:
                    refused.update({engine.party: exc for engine in engines})

            await asyncio.gather(*map(hold, places.values()))
            yield refused


async def _told(step: Awaitable[str | None], failure: str) -> str | None:
    """Return what a step tells, or why it failed: the error before it is the one that counts."""
    try:
        return await step
    except FedpartyError as exc:
        return f"{failure}: {exc.message}"
    except OSError as exc:
        return f"{failure}: {exc}"


def _result(engine: Engine, services: tuple[ServiceState, ...]) -> PartyResult:
    result = PartyResult(engine.party, services, rest_url=engine.rest_url, logs=engine.logs, entry=engine.entry)
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
