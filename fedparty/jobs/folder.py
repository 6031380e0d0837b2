"""A job as a folder: ``job.yaml``, which says what is to be done.

    sum/
      job.yaml      name, roles, tasks, …: the keys of `fedparty.jobs.description`
      custom/       the job's own code, if it has any: modules

Owns reading and writing that file, and naming what is wrong in it by line and column. Does not own the rules of a job
(`fedparty.jobs.description`), of its code (`fedparty.jobs.code`), nor those of the text (`fedparty.jobs.document`).
Nothing else in the folder is read.
"""

from __future__ import annotations

import difflib
import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import yaml
from pydantic import ValidationError

from fedparty.errors import JobError
from fedparty.jobs import code, document
from fedparty.jobs.code import Package
from fedparty.jobs.description import MAX_BYTES, FaultsError, JobDescription, TaskDescription
from fedparty.jobs.document import Document, FaultError

FILE = "job.yaml"
CUSTOM = "custom"
CODE, RESUME = "code", "resume"
"""Keys of a description that people do not write."""
MAX_FILE_BYTES = 2**20
TEMPLATES = Path(__file__).parent / "templates"

_HINT = "Correct what is named and submit again; docs/jobs.md explains every key."
_HERE = "Make a folder that runs as it is: fedparty job new NAME --template secure-sum."

_EXAMPLES: Mapping[str, str] = {
    "name": "a text, e.g. sum of March",
    "roles": "each role with the parties that play it, e.g. guest: [10000]",
    "tasks": "each task with its component, e.g. sum: {component: secure_sum}",
    "component": "the name of a component, e.g. secure_sum",
    "parameters": "keys and values, e.g. data_num: 1000",
    "role_parameters": "parameters by role, e.g. host: {partition: 5}",
    "party_parameters": "parameters by party, e.g. 9999: {partition: 5}",
    "cores": "a number above 0, e.g. 0.5",
    "memory_bytes": "a whole number of bytes, e.g. 2147483648",
    "gpus": "a whole number, e.g. 1",
    "after": "a list of tasks, e.g. [prepare]",
    "retries": "how often it is tried at most, e.g. 3",
    "timeout_s": "seconds, e.g. 600",
    "priority": "a whole number from -100 to 100",
}
"""What is to be written under each key."""


def read(folder: Path, overrides: Sequence[str] = ()) -> JobDescription:
    """Return the job that a folder describes; see `load`, which returns its code, too."""
    return load(folder, overrides)[0]


def load(folder: Path, overrides: Sequence[str] = ()) -> tuple[JobDescription, Package | None]:
    """Return the job that a folder describes, and its own code.

    Parameters
    ----------
    overrides
        Parameters over those in the file: ``KEY=VALUE``, in a job of several tasks ``TASK.KEY=VALUE``.

    Raises
    ------
    JobError
        There is no such file, it cannot be read, or breaks a rule; every fault is named with line and column. Or what
        is in ``custom/`` is not code.
    """
    text = _text(folder)
    where = folder / FILE
    try:
        read_from = document.read(text)
    except FaultError as exc:
        fault = exc.fault
        raise JobError(f"{where}:{fault.line}:{fault.column}: {fault.what}", hint=_HINT) from exc
    values = _with_party_texts(read_from)
    for override in overrides:
        _override(values, override)
    package = code.pack(folder / CUSTOM) if os.path.lexists(folder / CUSTOM) else None
    try:
        described = JobDescription.model_validate(_with_code(values, package, where))
    except ValidationError as exc:
        lines = [f"{where}:{line}:{column}: {what}" for line, column, what in sorted(set(_faults(exc, read_from)))]
        raise JobError("\n".join(lines), hint=_HINT) from exc
    if len(described.travelling()) > MAX_BYTES:
        raise JobError(f"{where}: written out, the job is larger than {MAX_BYTES} bytes", hint="Put data into a table.")
    return described, package


def write(folder: Path, job: Mapping[str, Any], comment: str, package: Package | None = None) -> None:
    """Write a job as a folder.

    Parameters
    ----------
    job
        Its description, as JSON values.
    comment
        The file's first line.
    package
        The job's own code.

    Raises
    ------
    JobError
        There is one already.
    """
    written = {key: value for key, value in job.items() if key not in (CODE, RESUME)}
    dumped = yaml.dump(written, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    write_text(folder, f"# {comment}\n{dumped}")
    for name, content in (package.files if package else {}).items():
        path = folder / CUSTOM / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_text(folder: Path, text: str) -> None:
    """Write a job's file.

    Raises
    ------
    JobError
        There is one already, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / FILE).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as exc:
        raise JobError(
            f"{folder / FILE} exists already", hint="Choose another folder: nothing is overwritten."
        ) from exc
    except OSError as exc:
        raise JobError(
            f"{folder}: {exc.strerror}", hint="Name a folder where you may write, in a container /tmp/NAME."
        ) from exc


def templates() -> tuple[str, ...]:
    """Return the names of the templates."""
    return tuple(sorted(path.parent.name for path in TEMPLATES.glob(f"*/{FILE}")))


def from_template(template: str, name: str, guest: str, hosts: Sequence[str]) -> str:
    """Return a job's file, made for these parties.

    Parameters
    ----------
    template
        One of `templates`.
    name
        Of the job.
    """
    text = (TEMPLATES / template / FILE).read_text(encoding="utf-8")
    return Template(text).substitute(name=json.dumps(name, ensure_ascii=False), guest=guest, hosts=", ".join(hosts))


def _text(folder: Path) -> str:
    path = folder / FILE
    try:
        content = _bytes(path)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise JobError(f"{path} is a symbolic link", hint="Put the file itself into the folder.") from exc
        if exc.errno in (errno.ENOENT, errno.ENOTDIR):
            what = f"there is no {FILE} in it" if folder.is_dir() else "there is no such folder"
            raise JobError(f"{folder}: {what}", hint=_HERE) from exc
        raise JobError(f"{path}: {exc.strerror}", hint=_HERE) from exc
    if len(content) > MAX_FILE_BYTES:
        raise JobError(
            f"{path}: the file is larger than {MAX_FILE_BYTES} bytes",
            hint="Parameters are for settings: put data into a table.",
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        raise JobError(f"{path}:{line}: the file is not UTF-8", hint="Save it as UTF-8.") from exc


def _bytes(path: Path) -> bytes:
    """Read a regular file, as much as it may hold and one byte; nothing that a link or a pipe leads to."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise JobError(f"{path} is not a file", hint=_HERE)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)


def _with_party_texts(read_from: Document) -> Any:
    """Return the values; party ids are texts, whether they are in quotes or not."""
    values = read_from.value
    roles = values.get("roles") if isinstance(values, dict) else None
    if not isinstance(roles, dict):
        return values
    for role, parties in roles.items():
        if isinstance(parties, list):
            roles[role] = [read_from.texts.get(("roles", role, index), each) for index, each in enumerate(parties)]
    return values


def _with_code(values: Any, package: Package | None, where: Path) -> Any:
    """Return the values with what the folder's code is; nobody writes that into the file."""
    if not isinstance(values, dict):
        return values
    if written := {CODE, RESUME} & values.keys():
        hint = f"A job's own code lies in its folder {CUSTOM}/; fedparty job rerun --from TASK goes on from a job."
        raise JobError(f"{where}: there is no key {min(written)}", hint=hint)
    if package is None:
        return values
    return {**values, CODE: {"sha256": package.sha256, "size_bytes": len(package.content)}}


def _override(values: Any, override: str) -> None:
    """Put one parameter in the place of the file's."""
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise JobError(f"-p {override}: this is not KEY=VALUE", hint="Write e.g. -p data_num=1000")
    try:
        value = document.read(text).value
    except FaultError as exc:
        raise JobError(f"-p {override}: {exc.fault.what}", hint="Write a text, a number, or JSON.") from exc
    task, key = _meant(values, name, override)
    parameters = task.setdefault("parameters", {})
    if isinstance(parameters, dict):
        parameters[key] = value


def _meant(values: Any, name: str, override: str) -> tuple[dict[str, Any], str]:
    """Return which task's parameter an override names, and its key."""
    tasks = values.get("tasks") if isinstance(values, dict) else None
    tasks = {task: of for task, of in tasks.items() if isinstance(of, dict)} if isinstance(tasks, dict) else {}
    task, dot, key = name.partition(".")
    if dot and key and task in tasks:
        return tasks[task], key
    if len(tasks) == 1:
        return next(iter(tasks.values())), name
    raise JobError(
        f"-p {override}: which task's {name} is meant?",
        hint=f"Write -p TASK.KEY=VALUE; the tasks are {', '.join(tasks) or 'none'}.",
    )


def _faults(exc: ValidationError, read_from: Document) -> Iterator[tuple[int, int, str]]:
    """Yield line, column and text of every fault."""
    for error in exc.errors():
        cause = error.get("ctx", {}).get("error")
        if isinstance(cause, FaultsError):
            for place, what in cause.faults:
                yield *read_from.place(place), f"{_named(place)}: {what}{_did_you_mean(place, what, read_from)}"
            continue
        # Pydantic adds a word of its own where a key is at fault
        place = tuple(part for part in error["loc"] if part != "[key]")
        yield *read_from.place(place), f"{_named(place)}: {_told(error['type'], str(error['msg']), place)}"


def _told(kind: str, message: str, place: document.Path) -> str:
    """Return what is wrong and what to write."""
    key = str(place[-1]) if place else ""
    if kind == "extra_forbidden":
        known = _keys_beside(place)
        near = difflib.get_close_matches(key, known, 1, 0.6)
        return f"there is no such key; {f'did you mean {near[0]}?' if near else 'there are: ' + ', '.join(known)}"
    if kind == "missing":
        return f"this key is needed: {_EXAMPLES.get(key, 'see docs/jobs.md')}"
    if not place:
        return "a job is a mapping of keys: name, roles, tasks, …"
    message = message.removeprefix("Value error, ").replace("Input should", "it should")
    wanted = next((_EXAMPLES[str(part)] for part in reversed(place) if str(part) in _EXAMPLES), "")
    return f"{message[:1].lower()}{message[1:]}{f'; write {wanted}' if wanted else ''}"


def _keys_beside(place: document.Path) -> list[str]:
    model = TaskDescription if len(place) > 1 else JobDescription
    return [key for key in model.model_fields if key not in (CODE, RESUME)]


def _did_you_mean(place: document.Path, what: str, read_from: Document) -> str:
    """Return a name that is near to an unknown one, as a question."""
    group = "roles" if "no role" in what else "tasks"
    known = read_from.value.get(group, {})
    near = difflib.get_close_matches(what.rpartition(" ")[2], list(known), 1, 0.6) if "there is no" in what else []
    return f"; did you mean {near[0]}?" if near else ""


def _named(place: document.Path) -> str:
    return ".".join(map(str, place)) or FILE


class _Dumper(yaml.SafeDumper):
    """Writes what `fedparty.jobs.document` reads as the same: a text in quotes where it would be something else."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Represent a text."""
        try:
            is_text = document.scalar(text) == text and text.isprintable() and text != document.MERGE
        except ValueError:
            is_text = False
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_text else '"')


_Dumper.add_representer(str, _Dumper.represent_text)
