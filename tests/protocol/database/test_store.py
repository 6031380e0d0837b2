"""The flow's statements mean the same at each kind of database."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from fedparty.database import migrate
from fedparty.database.engine import Database
from fedparty.flow.changes import Changes
from fedparty.flow.records import Job, Notice, Outcome
from fedparty.flow.states import State
from fedparty.flow.store import Store
from fedparty.settings import FlowSettings
from fedparty.types import JobId, Member, PartyId, TaskRun

PARTIES = (PartyId("10000"), PartyId("9999"))
GUEST, HOST = Member("guest", PARTIES[0]), Member("host", PARTIES[1])
RUN = TaskRun(JobId("10000-A"), "sum", 1)
JOB = Job(RUN.job, PARTIES[0], "tøy 🧪", '{"name": "tøy 🧪"}', State.WAITING, 1763655922.1234567, 1763659522.7654321)


@pytest.fixture
async def store(settings: FlowSettings) -> AsyncIterator[Store]:
    migrate.upgrade(settings)
    database = Database(settings)
    yield Store(database, Changes())
    await database.close()


async def _states(store: Store) -> dict[str, State]:
    return {role.member.role: role.state for role in await store.role_runs(RUN.job)}


async def _begin(store: Store) -> None:
    await store.add_job(JOB)
    await store.begin_attempt(RUN, (GUEST, HOST))


async def test_a_job_is_read_as_it_was_written(store: Store) -> None:
    long = dataclasses.replace(JOB, text='"' + "ä🧪\\'%s:x" * 100_000 + '"')
    await store.add_job(long)
    assert await store.job(JOB.id) == long
    assert await store.job(JobId("10000-a")) is None
    assert await store.job(JobId("10000-A ")) is None


async def test_what_is_known_stays_as_it_is(store: Store) -> None:
    await _begin(store)
    await store.report(RUN, HOST, Outcome(State.RUNNING))
    await store.add_job(dataclasses.replace(JOB, name="another"))
    await store.begin_attempt(RUN, (GUEST, HOST))
    await store.hold(dataclasses.replace(JOB, name="another"), RUN, (HOST,))
    known = await store.job(JOB.id)
    assert known is not None
    assert (known.name, known.is_held) == (JOB.name, True)
    assert await _states(store) == {"guest": State.WAITING, "host": State.RUNNING}
    assert [job.id for job in await store.held()] == [JOB.id]
    await store.let_go(JOB.id)
    assert await store.held() == ()


async def test_roles_of_an_unknown_job_are_an_error(store: Store) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        await store.begin_attempt(RUN, (GUEST,))


async def test_an_end_is_the_end_and_is_recorded_once(store: Store) -> None:
    await _begin(store)
    await store.started(RUN)
    await store.report(RUN, GUEST, Outcome(State.SUCCESS, result='{"sum": 2000.0}'))
    error = "it broke: " + "ä" * 100_000
    assert await store.finish(JOB.id, Outcome(State.FAILED, error, "Mend it."), PARTIES, 7.5)
    assert not await store.finish(JOB.id, Outcome(State.CANCELED), PARTIES, 8.5)
    await store.launched(RUN, PARTIES[1])
    ended = await store.job(JOB.id)
    assert ended is not None
    assert (ended.state, ended.error, ended.hint) == (State.FAILED, error, "Mend it.")
    assert await _states(store) == {"guest": State.SUCCESS, "host": State.CANCELED}
    assert (await store.role_runs(JOB.id, party=PARTIES[0]))[0].result == '{"sum": 2000.0}'
    assert set(await store.notices()) == {Notice(JOB.id, party, 7.5) for party in PARTIES}
    await store.acknowledge(Notice(JOB.id, PARTIES[0], 7.5))
    assert [notice.party for notice in await store.notices()] == [PARTIES[1]]


async def test_an_attempt_that_never_started_is_forgotten(store: Store) -> None:
    await _begin(store)
    await store.report(RUN, GUEST, Outcome(State.RUNNING))
    for party in PARTIES:
        await store.forget_unstarted(RUN, party)
    assert await _states(store) == {"guest": State.RUNNING}
    await store.abandon(RUN, "lost")
    assert await _states(store) == {"guest": State.CANCELED}


async def test_lists_are_read_page_by_page_by_state_and_by_name(store: Store) -> None:
    ids = [JobId(f"10000-{number}") for number in range(5)]
    for id_ in ids:  # all at the same time: then their names decide
        await store.add_job(dataclasses.replace(JOB, id=id_))
    await store.end_part(ids[1], PARTIES[0], Outcome(State.TIMEOUT))
    pages, before = [], None
    while page := await store.jobs(2, before=before):
        pages.append([job.id for job in page])
        before = page[-1]
    assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
    assert [job.id for job in await store.jobs(9, states=(State.TIMEOUT, State.FAILED))] == [ids[1]]
    assert [job.id for job in await store.jobs(9, match="-3")] == [ids[3]]
    assert len(await store.jobs(9, match="10000-")) == 5
    assert await store.jobs(9, match="_") == await store.jobs(9, match="%") == ()
    known = await store.job(ids[1])
    assert known is not None
    assert (await store.jobs(1, states=(State.TIMEOUT,)))[0] == known.head


async def test_a_deleted_job_is_known_by_name_for_a_while(store: Store, settings: FlowSettings) -> None:
    await _begin(store)
    await store.finish(JOB.id, Outcome(State.FAILED), PARTIES, 7.5)
    for _ in range(2):
        await store.delete(JOB.id, time.time() + 60)
    assert await store.job(JOB.id) is None
    assert await store.role_runs(JOB.id) == ()
    assert await store.notices() == ()
    assert await store.is_deleted(JOB.id)
    another = JobId("10000-B")
    await store.delete(another, 1.0)
    await store.delete(JobId("10000-C"), time.time() + 60)
    assert not await store.is_deleted(another)


async def test_jobs_are_listed_newest_first_and_unfinished_ones_oldest_first(store: Store) -> None:
    for age in (2, 1, 3):
        await store.add_job(dataclasses.replace(JOB, id=JobId(f"10000-{age}"), created_at=float(age)))
    await store.end_part(JobId("10000-2"), PARTIES[0], Outcome(State.TIMEOUT))
    assert [job.id for job in await store.jobs(2)] == ["10000-3", "10000-2"]
    assert [job.id for job in await store.unfinished(PARTIES[0])] == ["10000-1", "10000-3"]
