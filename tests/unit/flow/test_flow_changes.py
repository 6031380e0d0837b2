"""Waking who waits."""

from __future__ import annotations

from fedparty.flow.changes import Changes
from fedparty.types import JobId

ONE, OTHER = JobId("one"), JobId("other")


async def test_only_who_watches_the_job_is_woken() -> None:
    changes = Changes()
    with changes.watch(ONE) as one, changes.watch(ONE) as same, changes.watch(OTHER) as other:
        changes.notify(ONE)
        assert (one.is_set(), same.is_set(), other.is_set()) == (True, True, False)


async def test_nothing_is_kept_of_who_left() -> None:
    changes = Changes()
    with changes.watch(ONE):
        pass
    changes.notify(ONE)
    assert not changes._waiting


async def test_the_end_of_the_service_wakes_all_and_whoever_comes_later() -> None:
    changes = Changes()
    with changes.watch(ONE) as one:
        changes.close()
        assert one.is_set()
    with changes.watch(OTHER) as late:
        assert late.is_set()
