"""What is on disk after each step, and after a crash between steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedparty.errors import ConfigurationError
from fedparty.federation import spool
from fedparty.federation.spool import Spool, read_chunks
from fedparty.rpc.v1.peer_pb2 import DeliverHeader, ObjectName
from fedparty.types import JobId, Member, PartyId, TaskRun

RUN = TaskRun(JobId("10000-01JD3M00000000000000000000"), "sum", 1)
LATER = TaskRun(RUN.job, RUN.task, 2)
MEMBERS = frozenset({Member("guest", PartyId("10000")), Member("host", PartyId("9999"))})


def header_of(data: bytes) -> DeliverHeader:
    return DeliverHeader(name=ObjectName(job=RUN.job, tag="x" * 700), size_bytes=len(data), encoding="bytes")


def reopened(folder: Path, former: Spool) -> Spool:
    former.unlock()
    return Spool(folder)


def stored(target: Spool, data: bytes, file_name: str = "ab", run: TaskRun = RUN) -> spool.SpoolFile:
    writer = target.writer(run, file_name, header_of(data))
    writer.append([data[:5], data[5:]])
    return writer.commit()


def test_registration_and_object_survive(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    first = Spool(tmp_path / "spool")
    first.save(RUN, MEMBERS)
    checksum = stored(first, data).checksum
    (run,) = reopened(tmp_path / "spool", first).load()
    assert (run.run, run.members) == (RUN, MEMBERS)
    file = run.objects["ab"]
    assert (file.header, file.checksum) == (header_of(data), checksum)
    assert b"".join(read_chunks(file.open(), file.data_offset, len(data))) == data


def test_what_was_not_finished_is_removed(tmp_path: Path) -> None:
    first = Spool(tmp_path / "spool")
    first.save(RUN, MEMBERS)
    first.writer(RUN, "ab", header_of(b"12345678")).append([b"1234"])
    second = reopened(tmp_path / "spool", first)
    (run,) = second.load()
    assert not run.objects
    assert not list((tmp_path / "spool").rglob("*.part"))


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 5000, b"fpobj\0\0\1\xff\xff\0\0garbage"])
def test_foreign_file_is_removed(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    first = Spool(tmp_path / "spool")
    first.save(RUN, MEMBERS)
    path = tmp_path / "spool" / "tasks" / f"{RUN.job}.{RUN.task}" / "1" / "ab.object"
    path.write_bytes(content)
    (run,) = reopened(tmp_path / "spool", first).load()
    assert not run.objects
    assert not path.exists()
    assert "not an object" in caplog.text


def test_cut_object_is_removed(tmp_path: Path) -> None:
    first = Spool(tmp_path / "spool")
    first.save(RUN, MEMBERS)
    path = stored(first, b"0123456789").path
    path.write_bytes(path.read_bytes()[:-1])
    (run,) = reopened(tmp_path / "spool", first).load()
    assert not run.objects


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"attempt": 1, "members": ["nobody"]}'])
def test_unreadable_registration_is_removed(tmp_path: Path, content: bytes) -> None:
    first = Spool(tmp_path / "spool")
    first.save(RUN, MEMBERS)
    (tmp_path / "spool" / "tasks" / f"{RUN.job}.{RUN.task}" / "run.json").write_bytes(content)
    assert not reopened(tmp_path / "spool", first).load()
    assert not list((tmp_path / "spool" / "tasks").iterdir())


def test_crash_between_registering_and_dropping_the_old_attempt(tmp_path: Path) -> None:
    first = Spool(tmp_path / "spool")
    first.save(RUN, MEMBERS)
    stored(first, b"old")
    first.save(LATER, MEMBERS)
    second = reopened(tmp_path / "spool", first)
    (run,) = second.load()
    assert run.run == LATER
    assert not run.objects
    second.empty_trash()
    assert not list((tmp_path / "spool").rglob("*.object"))


def test_dropped_task_is_gone(tmp_path: Path) -> None:
    first = Spool(tmp_path / "spool")
    first.save(RUN, MEMBERS)
    stored(first, b"bytes")
    first.drop_task(RUN.job, RUN.task)
    first.drop_task(RUN.job, RUN.task)
    second = reopened(tmp_path / "spool", first)
    assert not second.load()
    second.empty_trash()
    assert not list((tmp_path / "spool" / "trash").iterdir())


def test_files_are_private(tmp_path: Path) -> None:
    target = Spool(tmp_path / "spool")
    target.save(RUN, MEMBERS)
    stored(target, b"bytes")
    for path in (tmp_path / "spool").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_spool_has_one_owner(tmp_path: Path) -> None:
    owner = Spool(tmp_path / "spool")
    with pytest.raises(ConfigurationError, match="another mailbox"):
        Spool(tmp_path / "spool")
    owner.unlock()


@given(st.integers(0, 2**50))
def test_quota_counts_whole_blocks(size: int) -> None:
    taken = spool.spool_bytes(size)
    assert taken % 4096 == 0
    assert size < taken < size + 3 * 4096
