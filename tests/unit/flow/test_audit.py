"""The audit log: each entry is there when it is acknowledged, and what was changed is found."""

# ruff: noqa: ASYNC240 - the files are tiny, and nothing else runs meanwhile

from __future__ import annotations

import asyncio
import fcntl
import json
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from databases import settings_with
from hypothesis import given
from hypothesis import strategies as st

from fedparty.database.engine import Database
from fedparty.database.migrate import upgrade
from fedparty.errors import DatabaseError
from fedparty.flow.audit import ALLOWED, Audit, Entry, chain
from fedparty.flow.audit.chain import Head
from fedparty.flow.audit.store import AuditStore
from fedparty.rpc import catalogue

ENTRY = Entry("alice@10000", "submit", "10000-X", ALLOWED, "rule 'sums'")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[AuditStore]:
    settings = settings_with(database_url=f"sqlite+aiosqlite:///{tmp_path}/flow.db")
    upgrade(settings)
    database = Database(settings)
    yield AuditStore(database)
    await database.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "audit.jsonl"


async def _write(audit: Audit, count: int) -> None:
    for number in range(count):
        await audit.record(Entry("alice@10000", "submit", f"job {number}", ALLOWED, "rule 'sums'"))


async def test_a_lock_that_is_not_given_back_holds_nobody_up_for_ever(
    store: AuditStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedparty.flow.audit.audit._LOCK_WAIT_S", 0.05)
    audit = Audit(path, store)
    await audit.record(ENTRY)
    with path.open("rb") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        with pytest.raises(DatabaseError, match="has been locked by another process") as raised:
            await audit.record(ENTRY)
    assert f"fuser {path}" in raised.value.hint
    await audit.record(ENTRY)
    assert (await audit.verify()).head.sequence == 2


async def test_a_flow_that_leads_no_more_writes_nothing(store: AuditStore, path: Path) -> None:
    class Over:
        epoch, fence = 7, None

        def check(self) -> None:
            raise catalogue.error("SHUTTING_DOWN", "this replica of the flow leads no more")

    await Audit(path, store).record(ENTRY)
    before = path.read_bytes()
    with pytest.raises(DatabaseError, match="leads no more"):
        await Audit(path, store, Over()).record(ENTRY)
    assert path.read_bytes() == before


async def test_entries_are_kept_in_order_and_privately(store: AuditStore, path: Path) -> None:
    audit = Audit(path, store)
    await asyncio.gather(*(audit.record(ENTRY) for _ in range(20)))
    entries = [json.loads(line) for line in await audit.newest(3)]
    assert [each["sequence"] for each in entries] == [18, 19, 20]
    assert entries[-1] | {"at": "", "previous": ""} == {
        "sequence": 20, "at": "", "who": "alice@10000", "what": "submit", "subject": "10000-X", "decision": "allowed",
        "why": "rule 'sums'", "previous": "",
    }  # fmt: skip
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    verdict = await audit.verify()
    assert (verdict.fault, verdict.head) == ("", await store.head())


async def test_it_goes_on_after_a_restart_and_beside_a_replica(store: AuditStore, path: Path) -> None:
    first, second = Audit(path, store), Audit(path, store)
    for audit in (first, second, first, Audit(path, store)):
        await _write(audit, 2)
    verdict = await second.verify()
    assert (verdict.fault, verdict.head) == ("", await store.head())
    assert verdict.head.sequence == 8


def _remove(number: int) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: lines[:number] + lines[number + 1 :]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda lines: [lines[0].replace(b"alice", b"mallo"), *lines[1:]], "line 1 was changed"),
        (lambda lines: [*lines[:-1], lines[-1].replace(b"alice", b"mallo")], "line 5 is not the one that was written"),
        (_remove(0), "line 1 is entry 2"),
        (_remove(2), "line 3 is entry 4"),
        (_remove(4), "the last 1 lines are missing: 5 were written"),
        (lambda _lines: [], "the last 5 lines are missing"),
        (lambda lines: [*lines[:2], b"oops\n", *lines[2:]], "line 3 was damaged"),
        (lambda lines: [*lines[:4], lines[4][:-1]], "line 5 is cut off"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "line 1 is entry 2"),
    ],
)
async def test_what_was_changed_is_found_and_stays_found(
    store: AuditStore, path: Path, change: Callable[[list[bytes]], list[bytes]], fault: str
) -> None:
    await _write(Audit(path, store), 5)
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    audit = Audit(path, store)
    assert fault in (await audit.verify()).fault
    assert audit.fault
    known = await store.head()
    if "cut off" not in fault:
        await _write(audit, 9)
        assert await store.head() == known
        assert (await Audit(path, store).verify()).fault


async def test_a_file_that_was_replaced_by_another_chain_is_found_by_who_writes(store: AuditStore, path: Path) -> None:
    await _write(Audit(path, store), 5)
    head, lines = Head(), []
    for _ in range(9):
        line, head = chain.append(head, ENTRY, 0)
        lines.append(line)
    path.write_bytes(b"".join(lines))
    audit = Audit(path, store)
    await _write(audit, 1)
    assert "line 5 is not the one" in audit.fault
    assert (await store.head()).sequence == 5


async def test_a_line_that_a_crash_cut_off_is_taken_away(store: AuditStore, path: Path) -> None:
    await _write(Audit(path, store), 2)
    with path.open("ab") as file:
        file.write(b'{"sequence": 3, "wh')
    audit = Audit(path, store)
    await _write(audit, 1)
    verdict = await audit.verify()
    assert (verdict.fault, verdict.head.sequence) == ("", 3)


async def test_what_cannot_be_written_down_is_told(store: AuditStore, path: Path) -> None:
    path.mkdir(parents=True)
    audit = Audit(path, store)
    with pytest.raises(DatabaseError, match=r"audit log .* cannot be used"):
        await audit.record(ENTRY)
    await audit.note(ENTRY)
    path.rmdir()
    await audit.record(ENTRY)
    assert (await audit.verify()).head.sequence == 1


async def test_a_long_line_is_found_from_the_end(store: AuditStore, path: Path) -> None:
    for _ in range(200):
        await Audit(path, store).record(Entry("a", "b", "\N{GREEK SMALL LETTER ALPHA}" * 2000, ALLOWED, "\ud800"))
    verdict = await Audit(path, store).verify()
    assert (verdict.fault, verdict.head.sequence) == ("", 200)


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_no_line_breaks_the_check(lines: list[bytes]) -> None:
    chain.verify([line + b"\n" for line in lines], Head())
