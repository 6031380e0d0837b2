"""The flow service: the database, the two listeners, the parts between them.

Owns putting the parts together, in order, and taking them apart. Does not own what they do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry

from fedparty.crypto.files import read_secret
from fedparty.crypto.revocations import Revocations
from fedparty.crypto.tokens import TokenSigner, TokenVerifier
from fedparty.database.engine import Database
from fedparty.database.migrate import check
from fedparty.federation.client import MailboxClient
from fedparty.flow.admission import Admission
from fedparty.flow.api.app import create_app
from fedparty.flow.api.backend import Backend
from fedparty.flow.audit import ALLOWED, REFUSED, Audit, Entry
from fedparty.flow.audit.store import AuditStore
from fedparty.flow.background import Background, until_read
from fedparty.flow.bindings import Bindings
from fedparty.flow.bindings.store import BindingStore
from fedparty.flow.changes import Changes
from fedparty.flow.codes import Codes
from fedparty.flow.codes.store import CodeStore
from fedparty.flow.coordination import Coordination
from fedparty.flow.launcher import Launcher
from fedparty.flow.leadership import ALONE, Term
from fedparty.flow.leadership.peers import PeerEpochs
from fedparty.flow.leadership.store import EpochStore
from fedparty.flow.logs import Logs
from fedparty.flow.metrics import FlowMetrics
from fedparty.flow.neighbours import PROBE_S, Neighbours, open_neighbours
from fedparty.flow.peers import Peers
from fedparty.flow.people import People
from fedparty.flow.people.store import PeopleStore
from fedparty.flow.policy import PolicyFile
from fedparty.flow.replica import Flow, serve_replica
from fedparty.flow.resources import Resources
from fedparty.flow.retention import Retention
from fedparty.flow.scheduler import Scheduler
from fedparty.flow.showing import Showing
from fedparty.flow.site import Site
from fedparty.flow.store import Store
from fedparty.flow.viewing import Viewing
from fedparty.rpc import logging as service_logging
from fedparty.rpc.http import serve_http
from fedparty.rpc.identity import StreamGuard
from fedparty.rpc.operations import new_registry, serve_operations
from fedparty.settings import FlowSettings

logger = logging.getLogger(__name__)

_GRACE_S, _REST_GRACE_S = 1.0, 2
_MAILBOX_S = 2.0
"""How long the mailbox is tried before the initiator hears of it, and asks again: it has more patience."""


async def serve(settings: FlowSettings, stop: asyncio.Event) -> None:
    """Run the flow until `stop` is set, then stop it gracefully; tasks go on and are adopted by the next start.

    A database that is away is waited for. One of several replicas stands by until it leads.

    Raises
    ------
    FedpartyError
        It cannot start: the database lacks a migration, an address is taken, a file of the bundle is absent. Or it
        does not lead any more.
    """
    service_logging.bind(service=settings.service, party=settings.party)
    registry = new_registry()
    if settings.replicas > 1:
        await serve_replica(settings, stop, registry, _running)
        return
    async with (
        _running(settings, ALONE, registry) as flow,
        serve_operations(settings.operations, flow.missing, registry),
    ):
        await flow.until(stop)


@asynccontextmanager
async def _running(settings: FlowSettings, term: Term, registry: CollectorRegistry) -> AsyncIterator[Flow]:
    """Do everything that one flow of a party does, in its term, while the block runs."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(_open_store(settings, term))
        neighbours = await stack.enter_async_context(open_neighbours(settings))
        governance = await stack.enter_async_context(_govern(settings, term, store))
        codes, admission = Codes(settings.party, CodeStore(store.database)), governance.admission
        launcher, site = await stack.enter_async_context(_site(settings, term, store, neighbours, codes, admission))
        kinds = {
            "logs": Logs(settings.party, store, launcher.read_log),
            "metrics": Logs(settings.party, store, launcher.read_metrics),
        }
        showing = Showing(settings.party, store, admission, kinds)
        await stack.enter_async_context(_coordination(settings, term, store, site, admission, showing, codes))
        peers = Peers(neighbours.egress, settings.peer_timeout_s, term, codes)
        scheduler = await stack.enter_async_context(_scheduler(settings, site, admission, store, peers, codes))
        await stack.enter_async_context(_retention(settings, site, store, codes))
        viewing = Viewing(settings.party, store, peers, settings.peer_timeout_s)
        backend = Backend(
            settings.party, settings.federation, store, scheduler, site, peers, kinds, viewing, governance.people,
            governance.policy, admission, governance.audit, codes, settings.ca_certificate, term,
        )  # fmt: skip
        app = create_app(backend, str(settings.api_token))
        await stack.enter_async_context(serve_http(settings.rest, app, grace_s=_REST_GRACE_S))
        FlowMetrics(scheduler, site.resources, registry)
        logger.info("the flow is ready: REST %s, peer %s", settings.rest, settings.peer)
        yield Flow(store, partial(_missing, store, neighbours, governance))


@dataclass(frozen=True)
class _Governance:
    """Who may do what here, and what was decided."""

    people: People
    policy: PolicyFile
    audit: Audit
    admission: Admission

    def faults(self) -> dict[str, str]:
        """Return what is wrong with the site's own files."""
        found = {"policy": self.policy.fault, "audit log": self.audit.fault}
        return {name: fault for name, fault in found.items() if fault}

    async def follow_policy(self) -> None:
        """Write down each policy that comes into force, and each file that does not."""
        async for _ in self.policy.changes():
            decision = REFUSED if self.policy.fault else ALLOWED
            why = self.policy.fault or self.policy.source
            await self.audit.note(Entry("flow", "reload policy", str(self.policy.path), decision, why))


async def _missing(store: Store, neighbours: Neighbours, governance: _Governance) -> dict[str, str]:
    """Return what the flow waits for."""
    fault, missing = await asyncio.gather(store.fault(PROBE_S), neighbours.missing())
    return missing | governance.faults() | ({"database": fault} if fault else {})


@asynccontextmanager
async def _open_store(settings: FlowSettings, term: Term) -> AsyncIterator[Store]:
    database = Database(settings, fence=term.fence, silence_s=settings.lease_s if settings.replicas > 1 else None)
    try:
        await until_read(lambda: check(database))
        yield Store(database, Changes())
    finally:
        await database.close()


@asynccontextmanager
async def _govern(settings: FlowSettings, term: Term, store: Store) -> AsyncIterator[_Governance]:
    database = store.database
    people = People(PeopleStore(database), read_secret(settings.api_token))
    policy, audit = PolicyFile(settings.policy), Audit(settings.audit_log, AuditStore(database), term)
    signer = TokenSigner(settings.signing_key, settings.signing_certificate, settings.federation, settings.party)
    verifier = TokenVerifier(settings.ca_certificate, settings.revocations, settings.federation)
    governance = _Governance(people, policy, audit, Admission(settings.party, policy, people, audit, signer, verifier))
    following = asyncio.create_task(governance.follow_policy())
    try:
        yield governance
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await audit.close()


@asynccontextmanager
async def _site(
    settings: FlowSettings, term: Term, store: Store, neighbours: Neighbours, codes: Codes, admission: Admission
) -> AsyncIterator[tuple[Launcher, Site]]:
    files = settings.signing_key, settings.signing_certificate
    signer = TokenSigner(*files, settings.federation, settings.party, term.epoch)
    launcher = Launcher(neighbours.worker, signer, settings.party, settings.peer_timeout_s, term)

    def token() -> str:
        term.check()
        return signer.service("mailbox")

    mailbox = MailboxClient(neighbours.mailbox, token, min(_MAILBOX_S, settings.peer_timeout_s / 4))
    resources = Resources(settings.party, settings.cores, settings.memory_bytes)
    lease_s = 2 * settings.peer_timeout_s
    bindings = Bindings(settings.party, BindingStore(store.database), launcher)
    site = Site(settings.party, store, resources, launcher, mailbox, bindings, codes, admission.granted, lease_s)
    await site.adopt()
    try:
        yield launcher, site
    finally:
        await site.close()


@asynccontextmanager
async def _coordination(
    settings: FlowSettings,
    term: Term,
    store: Store,
    site: Site,
    admission: Admission,
    showing: Showing,
    codes: Codes,
) -> AsyncIterator[None]:
    guard = StreamGuard(Revocations(settings.revocations))
    secret, epochs = read_secret(settings.proxy_secret), PeerEpochs(EpochStore(store.database))
    coordination = Coordination(
        site, admission, showing, store, codes, guard, epochs, term, secret, settings.federation
    )
    server = await coordination.listen(settings.peer)
    try:
        async with guard.watching():
            yield
    finally:
        await server.stop(_GRACE_S)


@asynccontextmanager
async def _scheduler(
    settings: FlowSettings, site: Site, admission: Admission, store: Store, peers: Peers, codes: Codes
) -> AsyncIterator[Scheduler]:
    scheduler = Scheduler(site, admission, store, peers, codes, settings.max_attempts, settings.job_timeout_s)
    await scheduler.resume()
    try:
        yield scheduler
    finally:
        await scheduler.close()


@asynccontextmanager
async def _retention(settings: FlowSettings, site: Site, store: Store, codes: Codes) -> AsyncIterator[None]:
    background = Background()
    days, jobs = settings.retention_days, settings.retention_jobs
    retention = Retention(site, store, codes, days, jobs, settings.retention_files_days)
    background.keep("retention", retention.run())
    try:
        yield
    finally:
        await background.close()
