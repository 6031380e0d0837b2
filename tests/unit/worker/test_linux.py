"""File changes and the process table."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedparty.worker.linux import FileChanges, children_of


async def test_a_growing_file_wakes_everybody_who_watches_it(tmp_path: Path):
    path = tmp_path / "log"
    path.touch()
    changes = FileChanges()
    with changes.of(path) as first, changes.of(path) as second:
        assert not first.is_set()
        path.write_text("line")
        await asyncio.gather(first.wait(), second.wait())
    changes.close()


async def test_one_watcher_leaving_does_not_disturb_the_other(tmp_path: Path):
    path = tmp_path / "log"
    path.touch()
    changes = FileChanges()
    with changes.of(path) as stays:
        with changes.of(path):
            pass
        path.write_text("line")
        await stays.wait()
    with changes.of(path) as again:
        path.write_text("more")
        await again.wait()
    changes.close()


async def test_a_file_that_is_not_there_cannot_be_watched(tmp_path: Path):
    changes = FileChanges()
    with pytest.raises(FileNotFoundError), changes.of(tmp_path / "none"):
        pass
    changes.close()


def test_children_are_found_in_the_process_table():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in children_of(os.getpid())
        child.communicate(b"\n")
    assert child.pid not in children_of(os.getpid())
