"""The files that a task keeps for its party's people.

Owns which files count (plain ones below the task's folder ``outputs``, no links), their limit, and reading them. Does
not own who asks (`service`).
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from pathlib import Path
from typing import BinaryIO

from fedparty.context import OUTPUT_NAME
from fedparty.errors import ComponentError, JobError
from fedparty.worker.spec import OUTPUTS

MAX_BYTES = 2**30
"""All outputs of one role of an attempt together."""
MAX_FILES = 1000


def listed(task: Path) -> dict[str, int]:
    """Return name and size of each output in a task's folder, sorted."""
    folder = task / OUTPUTS
    found = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() and not folder.is_symlink() else ():
        name = path.relative_to(folder).as_posix()
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and OUTPUT_NAME.fullmatch(name):
            found[name] = status.st_size
    return found


def check(task: Path) -> None:
    """Make sure that a task did not keep too much.

    Raises
    ------
    ComponentError
        It did.
    """
    sizes = listed(task)
    if len(sizes) > MAX_FILES or sum(sizes.values()) > MAX_BYTES:
        raise ComponentError(
            f"its {len(sizes)} outputs have {sum(sizes.values())} bytes; the limits are {MAX_FILES} and {MAX_BYTES}",
            hint="Keep less: what a later task needs can be sent, and data belongs into a table.",
        )


def take_over(old: Path, new: Path) -> None:
    """Give a task's folder to the same task of a later job: its files are in both, and take their space once.

    Raises
    ------
    JobError
        It is gone, or cannot be given.
    """
    partial = new.with_name(f".{new.name}.{secrets.token_hex(4)}")
    try:
        shutil.copytree(old, partial, symlinks=True, copy_function=os.link)
        partial.rename(new)
    except OSError as exc:
        if new.is_dir():  # given before
            return
        raise JobError(f"what is in {old} cannot be taken over: {exc}", hint="Run its task again.") from exc
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def open_file(task: Path, name: str) -> BinaryIO:
    """Open an output.

    Raises
    ------
    JobError
        There is no such output.
    """
    if name not in listed(task):
        raise JobError(f"there is no output {name[:200]!r}", hint="List the outputs to see their names.")
    descriptor = os.open(task / OUTPUTS / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    return os.fdopen(descriptor, "rb")
