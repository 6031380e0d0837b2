"""A job's own code at the worker: taken in, unpacked below the job's folder, loaded into a task.

Owns the folder's name and that it is whole or absent. Does not own what an archive may hold (`fedparty.jobs.code`), nor
what holds the code when it runs (`isolation`).
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import secrets
import shutil
import sys
from pathlib import Path

from fedparty.errors import ComponentError, JobError
from fedparty.jobs import code
from fedparty.types import JobId

_UNPACKED = ".code"
"""No task's name begins so."""
_LOGS = "The traceback is in the task's log. Try it in one process first: docs/components.md, run_in_process."


def folder_of(jobs: Path, job: JobId, sha256: str) -> Path:
    """Return where a job's code is unpacked."""
    return jobs / job / f"{_UNPACKED}-{sha256}"


def is_unpacked(folder: str) -> bool:
    """Return whether a job's code is there."""
    return Path(folder).is_dir()


def unpack(jobs: Path, job: JobId, sha256: str, content: bytes) -> None:
    """Check an archive and unpack it for one job; repeating it changes nothing.

    Raises
    ------
    JobError
        It has another digest, is no archive of modules, or the disk is full.
    """
    if hashlib.sha256(content).hexdigest() != sha256:
        raise JobError("the job's code has another SHA-256 than the job says", hint="Submit the job again.")
    package = code.read(content)
    folder = folder_of(jobs, job, sha256)
    partial = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}")
    try:
        for name, data in package.files.items():
            path = partial / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o400)
        partial.rename(folder)
    except OSError as exc:
        if folder.is_dir():  # brought twice at once: both are the same
            return
        raise JobError(f"the job's code cannot be unpacked: {exc}", hint="Look at the worker's disk.") from exc
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load(component: str, folder: Path) -> type:
    """Return a class of a job's own code; what its modules say at the top is run.

    Raises
    ------
    ComponentError
        There is no such module or class.
    """
    named = code.NAME.fullmatch(component)
    if named is None:
        raise ComponentError(f"{component}: not custom:MODULE.CLASS", hint="Correct the component in job.yaml.")
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    module = named["module"]
    file = folder / module.replace(".", "/")
    if not (file.with_suffix(".py").is_file() or file.is_dir()):
        raise ComponentError(f"{component}: there is no module {module} in custom/", hint="Correct job.yaml.")
    found = getattr(importlib.import_module(module), named["name"], None)
    if not inspect.isclass(found):
        raise ComponentError(f"{component}: {module} has no class {named['name']}", hint="Correct job.yaml.")
    return found
