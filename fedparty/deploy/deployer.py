"""The deploy story: check everything, install, start, watch until healthy, prove it by the toy job.

Owns the order of the steps and what happens to the other parties when one fails. Knows parties only as engines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from types import MappingProxyType

from fedparty.deploy.engine.base import Engine
from fedparty.deploy.health import HEALTHY, Reading
from fedparty.deploy.locks import PlaceLock, locked
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

_FAULT = "This is a fault of fedparty: run it again with -v, and report what it shows."


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
        async with self._locked(self._engines) as locks:
            checks = await self._for_all(self._check, locks=locks)
            if any(result.error for result in checks):
                return Report(checks, notes=(*self._notes, "Nothing was changed."))
            self._notes += await self._tell_neighbours(locks)
            results = await self._for_all(
                lambda engine: self._bring_up(engine, timeout_s, is_verified=is_verified), locks=locks
            )
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
        async with self._locked(self._engines) as locks:
            results = await self._for_all(lambda engine: self._delete(engine, is_purged=is_purged), locks=locks)
            return Report(results, notes=self._notes)

    async def push_live(self) -> Report:
        """Bring renewed and revoked certificates, and new ways, to parties that are deployed: nothing restarts."""
        return Report(await self._push_to(self._engines), notes=self._notes)

    async def _check(self, engine: Engine) -> PartyResult:
        await engine.check()
        self._progress.step(engine.party, CHECKED)
        return PartyResult(engine.party)

    async def _plan(self, engine: Engine) -> PartyResult:
        await engine.check()
        return PartyResult(engine.party, plan=await engine.plan())

    async def _push_to(
        self, engines: Sequence[Engine], locks: Mapping[str, PlaceLock] = MappingProxyType({})
    ) -> tuple[PartyResult, ...]:
        """Bring live files to those of the parties that are deployed; other machines are left as they are.

        Parameters
        ----------
        locks
            Those that are held already; the others are taken.
        """
        deployed: list[Engine] = []

        async def find(engine: Engine) -> PartyResult:
            if await engine.is_deployed():
                deployed.append(engine)
            return PartyResult(engine.party)

        async def push(engine: Engine) -> PartyResult:
            return PartyResult(engine.party, plan=await engine.push_live())

        found = await self._for_all(find, engines)
        async with self._locked(engine for engine in deployed if engine.lock_place not in locks) as more:
            pushed = await self._for_all(push, deployed, locks={**locks, **more})
        by_party = {result.party: result for result in (*found, *pushed)}
        return tuple(by_party[engine.party] for engine in engines)

    async def _tell_neighbours(self, locks: Mapping[str, PlaceLock]) -> tuple[str, ...]:
        """Bring the ways to the asked parties to the deployed others; returns who was not reached."""
        results = await self._push_to(self._neighbours, locks)
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
        except Exception as exc:  # noqa: BLE001  # the parties' own results count, too
            return replace(report, error=_explained(exc, f"the job of party {guest.party}"))
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
        engines: Sequence[Engine] | None = None,
        *,
        locks: Mapping[str, PlaceLock] = MappingProxyType({}),
    ) -> tuple[PartyResult, ...]:
        """Do something to all parties at once, at each as long as the lock of its place, if any, is held."""

        async def act(engine: Engine) -> PartyResult:
            lock = locks.get(engine.lock_place)
            return await (lock.during(lambda: action(engine)) if lock else action(engine))

        async def attempt(engine: Engine) -> PartyResult:
            async with self._at_once:
                return await self._attempt(engine, act)

        return tuple(await asyncio.gather(*map(attempt, self._engines if engines is None else engines)))

    @staticmethod
    async def _attempt(engine: Engine, action: Callable[[Engine], Awaitable[PartyResult]]) -> PartyResult:
        """Do something to a party; whatever goes wrong there is its error, and no other party's."""
        try:
            return await action(engine)
        except Exception as exc:  # noqa: BLE001  # the boundary of a party
            return PartyResult(engine.party, error=_explained(exc, f"party {engine.party}"))

    def _locked(self, engines: Iterable[Engine]) -> AbstractAsyncContextManager[Mapping[str, PlaceLock]]:
        return locked(engines, self._at_once)


async def _told(step: Awaitable[str | None], failure: str) -> str | None:
    """Return what a step tells, or why it failed: the error before it is the one that counts."""
    try:
        return await step
    except Exception as exc:  # noqa: BLE001  # it must not hide the error before
        return f"{failure}: {_explained(exc).message}"


def _explained(exc: Exception, where: str = "") -> FedpartyError:
    """Return an error for people; what it came from is its cause."""
    if isinstance(exc, FedpartyError):
        return exc
    if isinstance(exc, OSError) and exc.strerror:
        what, hint = ": ".join(str(each) for each in (exc.filename, exc.strerror) if each), ""
    else:
        what, hint = ": ".join(each for each in (type(exc).__name__, str(exc)) if each), _FAULT
    error = DeployError(": ".join(each for each in (where, what) if each), hint=hint)
    error.__cause__ = exc
    return error


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
