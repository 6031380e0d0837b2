"""The examination: every party at once, from its machine, its engine and from within, then what follows from it.

Owns the order and the limits. What each answer means is `diagnosis`'s.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from fedparty.config.model import Federation, Party
from fedparty.deploy.bundle import PROXY
from fedparty.deploy.doctor import asking, machine
from fedparty.deploy.doctor.diagnosis import MACHINE, TLS_CERTIFICATE, diagnose, unexplained_refusals
from fedparty.deploy.doctor.findings import FAIL, OK, WARN, Case, Check, Examination
from fedparty.deploy.engine.base import Engine
from fedparty.deploy.report import NOT_DEPLOYED, STOPPED
from fedparty.errors import CertificateError, FedpartyError
from fedparty.pki.trust import ProxyTrust, read_trust
from fedparty.types import EXCHANGE, party_uri

_AT_ONCE = 16
_EXPIRES_SOON_DAYS = 30
_LOG_LINES = 400
_LOG_IN = "See that its machine is on, and that you can log in there with ssh."


class Doctor:
    """Examines parties of a federation; changes nothing.

    Parameters
    ----------
    engines
        One for each party that is asked, the exchange among them.
    federation
        What parties.conf says: the parties that each one must reach.
    notes
        What the result says besides.
    now
        Seconds since the epoch.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        federation: Federation,
        *,
        notes: Sequence[str] = (),
        is_throughput_wanted: bool = True,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._engines = tuple(engines)
        self._federation = federation
        self._notes = tuple(notes)
        self._is_throughput_wanted = is_throughput_wanted
        self._now = now
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self._skews: dict[str, float] = {}

    async def examine(self) -> Examination:
        """Return what was seen, and what is broken."""
        cases = await asyncio.gather(*(self._bounded(engine) for engine in self._engines))
        cases = await self._with_refusals(cases)
        now = {case.party: self._now() + self._skews.get(case.party, 0.0) for case in cases}
        has_exchange = self._federation.exchange is not None
        found = diagnose(self._federation.name, cases, now=now, has_exchange=has_exchange)
        return Examination(tuple(cases), found, self._notes)

    async def _bounded(self, engine: Engine) -> Case:
        async with self._limit:
            return await self._examine(engine)

    async def _examine(self, engine: Engine) -> Case:
        case = Case(engine.party, engine.transport.place, engine.name)
        try:
            facts, files = await asyncio.gather(
                machine.examine(engine.transport, self._needs(engine)), self._files(engine)
            )
        except (FedpartyError, OSError) as exc:
            return replace(case, checks=(_failed(MACHINE, exc, _LOG_IN),))
        try:
            services = await engine.states()
        except (FedpartyError, OSError) as exc:
            return replace(case, checks=(*facts.checks, _failed(engine.name, exc, f"python deploy.py {engine.party}")))
        self._skews[engine.party] = facts.skew_s
        is_running = any(service.state not in (STOPPED, NOT_DEPLOYED) for service in services)
        is_asked = is_running and engine.party != EXCHANGE
        answers = await self._ask(engine) if is_asked else asking.Answers(())
        shown = self._certificate(engine.party, files.trust) if files.trust else ()
        return replace(
            case,
            is_running=is_running,
            services=services,
            checks=(*facts.checks, *files.checks, *shown, *answers.checks),
            ways=answers.ways,
            proxy_port=files.proxy_port,
            trust=files.trust,
        )

    async def _ask(self, engine: Engine) -> asking.Answers:
        parties = [str(party.id) for party in self._federation.parties]
        return await asking.ask(engine, parties, is_throughput_wanted=self._is_throughput_wanted)

    def _needs(self, engine: Engine) -> machine.Needs:
        known: Mapping[str, Party] = {str(party.id): party for party in self._federation.parties}
        party = known.get(engine.party)
        return machine.Needs(
            engine.name,
            engine.home.path,
            cores=party.cores if party else None,
            memory_bytes=party.worker_memory_bytes if party else None,
        )

    async def _files(self, engine: Engine) -> _Files:
        """Read what is deployed: where the proxy listens, what it shows, whom it trusts."""
        bundle, live = engine.home.bundle, engine.home.bundle / "proxy/live"
        about, identity, trust = await asyncio.gather(
            *(
                engine.transport.read(path)
                for path in (bundle / "bundle.json", live / "sds_identity.json", live / "sds_trust.json")
            )
        )
        try:
            port = json.loads(about)["proxy_port"] if about else None
            return _Files(port, read_trust(identity, trust) if identity and trust else None)
        except (CertificateError, ValueError, KeyError) as exc:
            again = f"python generate_config.py && python deploy.py {engine.party}"
            return _Files(None, None, (Check("bundle", FAIL, f"cannot be read: {exc}", again),))

    def _certificate(self, party: str, trust: ProxyTrust) -> tuple[Check, ...]:
        """Judge a party's own certificate as it would itself."""
        now = self._now() + self._skews[party]
        renew = f"fedparty pki renew {party} && python deploy.py {party}"
        refusal = trust.why_refused(trust, party_uri(self._federation.name, party), now)
        if refusal is not None:
            again = f"python generate_config.py && python deploy.py {party}"
            return (Check(TLS_CERTIFICATE, FAIL, refusal.text, again if refusal.is_judges_fault else renew),)
        days = int(trust.days_left(now))
        if days < _EXPIRES_SOON_DAYS:
            return (Check(TLS_CERTIFICATE, WARN, f"valid for {days} more days", renew),)
        return (Check(TLS_CERTIFICATE, OK, f"valid for {days} more days"),)

    async def _with_refusals(self, cases: Sequence[Case]) -> list[Case]:
        """Add what the proxies' logs say, where a handshake was refused and only the other side knows why."""
        asked = unexplained_refusals(cases)
        return [
            replace(case, refusals=await self._refusals(engine)) if case.party in asked else case
            for engine, case in zip(self._engines, cases, strict=True)
        ]

    async def _refusals(self, engine: Engine) -> dict[str, str]:
        found: dict[str, str] = {}

        def take(line: str) -> None:
            with suppress(ValueError, KeyError, TypeError):
                record = json.loads(line)
                if record["message"] == "handshake refused":
                    found[record["peer"]] = record["reason"]

        with suppress(FedpartyError):  # a log that cannot be read explains nothing
            await engine.follow(PROXY, _LOG_LINES, is_followed=False, on_line=take)
        return found


def _failed(name: str, error: Exception, otherwise: str) -> Check:
    hint = error.hint if isinstance(error, FedpartyError) else ""
    return Check(name, FAIL, str(error), hint or otherwise)


@dataclass(frozen=True)
class _Files:
    proxy_port: int | None
    trust: ProxyTrust | None
    checks: tuple[Check, ...] = ()
