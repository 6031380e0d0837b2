"""Archives: the same files give the same bytes, and nothing of the machine is in them."""

from __future__ import annotations

import io
import tarfile

from fedparty.generate.archive import pack

FILES = {"b/live/x.json": (b"{}", 0o644), "a.key": (b"secret", 0o600)}


def test_members_are_sorted_and_anonymous() -> None:
    with tarfile.open(fileobj=io.BytesIO(pack("confs-1", FILES))) as archive:
        members = archive.getmembers()
        assert [member.name for member in members] == [
            "confs-1", "confs-1/b", "confs-1/b/live", "confs-1/a.key", "confs-1/b/live/x.json",
        ]  # fmt: skip
        assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", 0)}
        assert members[3].mode == 0o600
        file = archive.extractfile("confs-1/a.key")
        assert file is not None
        assert file.read() == b"secret"


def test_the_same_files_give_the_same_bytes_in_whatever_order() -> None:
    assert pack("confs-1", FILES) == pack("confs-1", dict(reversed(FILES.items())))


def test_the_header_has_no_time() -> None:
    assert pack("confs-1", FILES)[4:8] == bytes(4)
