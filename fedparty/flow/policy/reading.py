"""``policy.yaml`` as a policy, or every fault with its line.

Owns naming what is wrong. Does not own the rules' words (`model`), nor those of the text (`fedparty.jobs.document`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from fedparty.errors import ConfigurationError
from fedparty.flow.policy.model import Policy
from fedparty.jobs import document
from fedparty.jobs.document import Document, FaultError

MAX_BYTES = 2**18
_HINT = "Correct it; fedparty party policy --check FILE tells whether it can be read. docs/policy.md lists the keys."


def read(content: bytes, where: str) -> Policy:
    """Read a policy.

    Parameters
    ----------
    where
        What errors name: the file.

    Raises
    ------
    ConfigurationError
        It is not YAML, or breaks a rule; every fault is named with its line and column.
    """
    if len(content) > MAX_BYTES:
        raise ConfigurationError(f"{where}: larger than {MAX_BYTES} bytes", hint=_HINT)
    try:
        written = document.read(content.decode())
    except UnicodeDecodeError as exc:
        raise ConfigurationError(f"{where}: not UTF-8", hint=_HINT) from exc
    except FaultError as exc:
        raise ConfigurationError(f"{where}:{exc.fault.line}:{exc.fault.column}: {exc.fault.what}", hint=_HINT) from exc
    try:
        return Policy.model_validate(_with_texts(written))
    except ValidationError as exc:
        raise ConfigurationError("; ".join(dict.fromkeys(_faults(exc, where, written))), hint=_HINT) from exc


def _with_texts(written: Document) -> Any:
    """Return the values; what is listed in a rule is meant as it is written, also where YAML sees a number."""
    for path, text in written.texts.items():
        if len(path) == 4 and path[0] == "rules":
            _, rule, key, index = path
            written.value["rules"][rule][key][index] = text
    return written.value


def _faults(exc: ValidationError, where: str, written: Document) -> Iterator[str]:
    for error in exc.errors():
        path = error["loc"]
        known = next(path[:length] for length in range(len(path), -1, -1) if path[:length] in written.places)
        line, column = written.place(known)
        place = ".".join(map(str, known)) or "the file as a whole"
        yield f"{where}:{line}:{column}: {place}: {_words(error, path[len(known) :])}"


def _words(error: Any, missing: tuple[int | str, ...]) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such key"
    if error["type"] == "missing":
        return f"{'.'.join(map(str, missing))} is missing"
    if error["type"] == "model_type":
        return "keys and values are meant, e.g. version: 1"
    return str(error["msg"]).removeprefix("Value error, ")
