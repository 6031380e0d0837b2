"""What other parties show of a job to this party's people, who submitted it: their roles' logs and figures, live.

Owns who may be asked, waiting until a party has its part, and an end with the job's. Does not own the way there
(`peers`), nor what a party shows (`showing`, at that party).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from fedparty.errors import RpcError
from fedparty.flow.background import until_read
from fedparty.flow.logs import Lines
from fedparty.flow.messages import MAX_ATTEMPT
from fedparty.flow.peers import Peers
from fedparty.flow.records import Job
from fedparty.flow.store import Store
from fedparty.rpc import catalogue
from fedparty.types import JobId, Member, PartyId

_MARGIN_S = 5.0
"""How much later than the way to a party its silence is given up."""


class Viewing:
    """Asks other parties for what they show.

    Parameters
    ----------
    party
        Who asks.
    store, peers
        What is known of jobs; the way to the others.
    patience_s
        How long a party may be silent after the job's end.
    """

    def __init__(self, party: PartyId, store: Store, peers: Peers, patience_s: float) -> None:
        self._party = party
        self._store = store
        self._peers = peers
        self._patience_s = patience_s

    async def read(
        self, job: Job, to: PartyId, kind: str, role: str | None, offsets: Mapping[str, int], *, follow: bool
    ) -> AsyncGenerator[Lines]:
        """Yield nothing once `to` shows it, then lines, with `follow` until the job has ended; see `Showing.read`.

        Raises
        ------
        RpcError
            NOT_KNOWN: that party plays no such role. NOT_INITIATOR: this party did not submit the job.
            POLICY_REFUSED: it is not shown. Else: that party is not reached, or knows nothing of the job.
        """
        self._check(job, to, role)
        with self._store.changes.watch(job.id) as changed:
            while True:
                changed.clear()
                try:
                    shown = self._peers.show(to, job.id, kind, role or "", offsets, follow=follow)
                    async with aclosing(shown), aclosing(self._until_silent(job.id, to, shown)) as lines:
                        async for each in lines:
                            yield checked(each, job, to)
                    return
                except RpcError as exc:  # that party may not have its part yet
                    if exc.code != "NOT_REGISTERED" or not follow or await self._has_ended(job.id):
                        raise
                await changed.wait()

    def _check(self, job: Job, to: PartyId, role: str | None) -> None:
        roles = [member.role for member in job.description.members_at(to)]
        if not roles or role not in (None, *roles):
            what = f"role {role[:40]!r}" if role and roles else "role"
            raise catalogue.error("NOT_KNOWN", f"party {to} has no {what} in job {job.id}")
        if job.initiator != self._party:
            message = f"party {self._party} did not submit job {job.id}: others show it nothing"
            hint = f"Ask the people of party {job.initiator}, which did."
            raise catalogue.error("NOT_INITIATOR", message, hint=hint)

    async def _until_silent(self, job: JobId, to: PartyId, shown: AsyncGenerator[Lines]) -> AsyncGenerator[Lines]:
        """Yield what is shown, until the party falls silent although it was asked just now, or the job has ended.

        Raises
        ------
        RpcError
            DEADLINE: it did.
        """
        may_be_silent = asyncio.create_task(asyncio.sleep(0))
        try:
            while True:
                coming = asyncio.ensure_future(anext(shown, None))
                try:
                    await asyncio.wait((coming, may_be_silent), return_when=asyncio.FIRST_COMPLETED)
                    await asyncio.wait((coming,), timeout=self._patience_s + _MARGIN_S)
                    lines = coming.result() if coming.done() else None
                    if not coming.done():
                        raise catalogue.error("DEADLINE", f"party {to} is silent about job {job}")
                finally:
                    coming.cancel()
                    await asyncio.wait((coming,))
                if lines is None:
                    return
                if not lines.log:
                    may_be_silent = asyncio.create_task(self._end(job))
                yield lines
        finally:
            may_be_silent.cancel()
            await asyncio.gather(may_be_silent, return_exceptions=True)

    async def _end(self, job: JobId) -> None:
        """Return when a job has ended here."""
        with self._store.changes.watch(job) as changed:
            while not await self._has_ended(job):
                await changed.wait()
                changed.clear()

    async def _has_ended(self, job: JobId) -> bool:
        known = await until_read(lambda: self._store.job(job))
        return known is None or known.is_final or self._store.changes.is_closed


def checked(lines: Lines, job: Job, party: PartyId) -> Lines:
    """Return what a party shows, if it is whole lines of a log that it can have: others go on by its name.

    Raises
    ------
    RpcError
        BAD_REQUEST: it is not.
    """
    task, _, rest = lines.log.partition("/")
    attempt, _, role = rest.partition("/")
    is_nothing = not lines.log and not lines.content
    is_number = attempt.isascii() and attempt.isdecimal() and len(attempt) <= len(str(MAX_ATTEMPT))
    is_own = task in job.description.tasks and Member(role, party) in job.description.members_at(party)
    if is_nothing or (is_number and is_own and (lines.content.endswith(b"\n") or not lines.content)):
        return lines
    raise catalogue.error(
        "BAD_REQUEST", f"party {party} shows what are no lines of a log of its own: {lines.log[:80]!r}"
    )
