"""Archives by their digest: taken in once, kept as long as a job has them.

Owns the checks of what is taken in, and the limit of what no job has. Does not own the statements (`store`).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Protocol

from fedparty.errors import JobError
from fedparty.jobs import code
from fedparty.jobs.description import JobDescription
from fedparty.rpc import catalogue
from fedparty.types import PartyId

WAITS_S = 3600.0
"""How long an archive is kept before a job has it, and after none has it any more."""
MAX_UNUSED = 32
"""How many archives may wait for a job."""


class Records(Protocol):
    """Where archives are kept."""

    async def keep(self, sha256: str, at: float) -> bool:
        """Note that an archive is wanted at a time; return whether it is there."""

    async def put(self, sha256: str, content: bytes, at: float) -> None:
        """Keep an archive; one that is there stays as it is."""

    async def get(self, sha256: str) -> bytes | None:
        """Return an archive, or None."""

    async def prune(self, before: float) -> None:
        """Forget what no job has and nobody has wanted since a time."""

    async def unused(self) -> int:
        """Return how many archives no job has."""


class Codes:
    """The archives of a party.

    Parameters
    ----------
    party
        Whose they are.
    records
        Where they are kept.
    """

    def __init__(self, party: PartyId, records: Records) -> None:
        self._party = party
        self._records = records

    async def has(self, job: JobDescription) -> bool:
        """Return whether what a job needs is here: its code, if it has any. It stays for a while."""
        return job.code is None or await self._records.keep(job.code.sha256, time.time())

    async def put(self, sha256: str, content: bytes) -> None:
        """Take an archive in, if it is one.

        Raises
        ------
        RpcError
            BAD_REQUEST: it has another digest, or is no archive of modules. OVERLOADED: too many wait for a job.
        """
        if hashlib.sha256(content).hexdigest() != sha256:
            message = f"party {self._party}: the code that arrived has another SHA-256 than {sha256[:80]}"
            raise catalogue.error("BAD_REQUEST", message, hint="Submit the job again.")
        try:
            await asyncio.to_thread(code.read, content)
        except JobError as exc:
            raise catalogue.error("BAD_REQUEST", exc.message, hint=exc.hint) from exc
        await self.prune()
        if await self._records.unused() >= MAX_UNUSED:
            message = f"party {self._party} keeps {MAX_UNUSED} archives of code already that no job has"
            raise catalogue.error("OVERLOADED", message, hint=f"They go after {WAITS_S:.0f} s: submit again then.")
        await self._records.put(sha256, content, time.time())

    async def get(self, sha256: str) -> bytes:
        """Return an archive.

        Raises
        ------
        RpcError
            NOT_KNOWN
        """
        content = await self._records.get(sha256)
        if content is None:
            message = f"the job's code {sha256} is not at party {self._party} any more"
            raise catalogue.error("NOT_KNOWN", message, hint="Submit the job's folder again.")
        return content

    async def prune(self) -> None:
        """Forget what no job has any more."""
        await self._records.prune(time.time() - WAITS_S)
