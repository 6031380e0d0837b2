"""What a task left, given to a later job."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedparty.errors import JobError
from fedparty.worker import outputs


def test_a_folder_belongs_to_both_jobs_until_the_last_is_deleted(tmp_path: Path) -> None:
    old, new = tmp_path / "old" / "1" / "guest-1", tmp_path / "new" / "1" / "guest-1"
    (old / "outputs" / "models").mkdir(parents=True)
    (old / "outputs" / "models" / "final.bin").write_bytes(b"model")
    (old / "outputs" / "link").symlink_to("/etc/passwd")
    for _ in range(2):
        outputs.take_over(old, new)
    assert outputs.listed(new) == {"models/final.bin": 5}
    (old / "outputs" / "models" / "final.bin").unlink()
    with outputs.open_file(new, "models/final.bin") as file:
        assert file.read() == b"model"
    assert [path.name for path in new.parent.iterdir()] == ["guest-1"]


def test_what_is_gone_is_not_made_up(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="cannot be taken over"):
        outputs.take_over(tmp_path / "old", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
