"""What this party shows to the people of a job's initiator: its own roles' logs and figures, where its policy says so.

Owns who may read, how many at once, and that a policy that changes meanwhile counts from then on. Does not own the logs
(`logs`), deciding (`admission`), nor who calls (`coordination`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager

from fedparty.flow.admission import Admission
from fedparty.flow.logs import Lines, Logs
from fedparty.flow.records import Job
from fedparty.flow.store import Store
from fedparty.rpc import catalogue
from fedparty.types import JobId, PartyId

MAX_READERS = 100
"""How much one party may read at once."""

_PIECE_BYTES = 1 << 18
_NOTHING = Lines("", 0, b"")


class Showing:
    """Reads for other parties.

    Parameters
    ----------
    party
        Whose roles' logs these are.
    store, admission
        What is known of jobs; who decides.
    kinds
        What there is to read: ``logs`` and ``metrics``.
    """

    def __init__(self, party: PartyId, store: Store, admission: Admission, kinds: Mapping[str, Logs]) -> None:
        self._party = party
        self._store = store
        self._admission = admission
        self._kinds = kinds
        self._readers: Counter[PartyId] = Counter()

    async def read(
        self, job: JobId, kind: str, role: str, offsets: Mapping[str, int], *, follow: bool
    ) -> AsyncGenerator[Lines]:
        """Yield nothing once it is allowed, then lines; `offsets` as in `Logs.read`.

        Raises
        ------
        RpcError
            NOT_REGISTERED: job or role are not known here. POLICY_REFUSED. OVERLOADED: the initiator reads too much.
        """
        logs = self._kinds.get(kind)
        if logs is None:
            raise catalogue.error("BAD_REQUEST", f"there are no {kind[:20]!r} of a job")
        known = await self._store.job(job)
        if known is None or not self._plays(known, role):
            what = f"role {role[:40]!r} of job {job}" if role else f"job {job}"
            raise catalogue.error("NOT_REGISTERED", f"{what} is not known at party {self._party}")
        with self._reading(known.initiator):
            policy = self._admission.policy
            await self._admission.shown(known, kind, role)
            yield _NOTHING
            async with aclosing(logs.read(job, role or None, follow=follow, offsets=offsets)) as read:
                async for lines in read:
                    if policy is not self._admission.policy:
                        policy = self._admission.policy
                        await self._admission.shown(known, kind, role)
                    for piece in _pieces(lines):
                        yield piece

    def _plays(self, job: Job, role: str) -> bool:
        own = [member.role for member in job.description.members_at(self._party)]
        return role in own if role else bool(own)

    @contextmanager
    def _reading(self, party: PartyId) -> Iterator[None]:
        if self._readers[party] >= MAX_READERS:
            raise catalogue.error("OVERLOADED", f"party {party} is reading {MAX_READERS} times at once already")
        self._readers[party] += 1
        try:
            yield
        finally:
            self._readers[party] -= 1


def _pieces(lines: Lines) -> Iterator[Lines]:
    """Yield lines in messages of a moderate size, each of whole lines and with the place where it ends."""
    content, place = lines.content, lines.offset - len(lines.content)
    while len(content) > _PIECE_BYTES:
        end = content.rfind(b"\n", 0, _PIECE_BYTES) + 1 or content.find(b"\n") + 1
        place += end
        yield Lines(lines.log, place, content[:end])
        content = content[end:]
    yield Lines(lines.log, lines.offset, content)
