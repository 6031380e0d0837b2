"""How long ended jobs are kept: by age and by number, their files for a shorter time where that is wanted.

Owns when they are looked for. Does not own deleting one (`site`), which takes its rows here, and its tasks' folders and
logs at the worker. Jobs that have not ended, of which something is held, or whose end a party has not heard of, stay.
"""

from __future__ import annotations

import asyncio
import logging
import time

from fedparty.errors import DatabaseError, RpcError
from fedparty.flow.codes import Codes
from fedparty.flow.site import Site
from fedparty.flow.store import Store

logger = logging.getLogger(__name__)

PERIOD_S = 600.0
_DAY_S = 24 * 3600.0
_BATCH = 100


class Retention:
    """Deletes what is too old or too much.

    Parameters
    ----------
    site, store
        Who deletes a job, and who knows them.
    codes
        The jobs' own code, which goes with the last job that has it.
    days, jobs
        How long an ended job is kept at most, and how many jobs are.
    files_days
        How long its logs, figures and files are; None: as long as the job.
    """

    def __init__(
        self, site: Site, store: Store, codes: Codes, days: float, jobs: int, files_days: float | None = None
    ) -> None:
        self._codes = codes
        self._site = site
        self._store = store
        self._age_s = days * _DAY_S
        self._jobs = jobs
        self._files_age_s = None if files_days is None else files_days * _DAY_S

    async def run(self) -> None:
        """Clean now and then, until cancelled."""
        while True:
            await self.clean()
            await asyncio.sleep(PERIOD_S)

    async def clean(self) -> int:
        """Delete what is to go, and return how many jobs that were; what cannot be deleted now is left for later."""
        count = 0
        try:
            while found := await self._store.outdated(time.time() - self._age_s, self._jobs, _BATCH):
                for job in found:
                    await self._site.delete(job)
                    count += 1
            await self._clean_files()
            await self._codes.prune()
        except (RpcError, DatabaseError) as exc:
            logger.warning("old jobs are deleted later: %s", exc.message)
        if count:
            logger.info("%d old jobs were deleted", count)
        return count

    async def _clean_files(self) -> None:
        if self._files_age_s is None:
            return
        while found := await self._store.with_old_files(time.time() - self._files_age_s, _BATCH):
            for job in found:
                await self._site.delete_files(job)
