"""Entries as lines of a file, each holding the SHA-256 of the line before it.

    {"sequence": 2, "at": "2026-01-31T12:00:00.000Z", "who": "alice@10000", "what": "submit", "subject": "10000-01J…",
     "decision": "allowed", "why": "rule sums", "previous": "<64 hexadecimal digits>"}

Owns the form of a line and finding what does not fit. Does not own writing files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

ALLOWED, REFUSED = "allowed", "refused"

_MAX_TEXT = 1000
_FIRST = "0" * 64


@dataclass(frozen=True)
class Entry:
    """What is written down.

    Parameters
    ----------
    who
        A user of a party, e.g. ``alice@10000``, or the service itself.
    what
        The kind of event, e.g. ``submit``.
    subject
        What it is about, e.g. a job's id.
    decision
        `ALLOWED` or `REFUSED`.
    why
        The rule, or the reason.
    """

    who: str
    what: str
    subject: str
    decision: str
    why: str


@dataclass(frozen=True)
class Head:
    """The end of a chain: how many lines it has, and the SHA-256 of the last one."""

    sequence: int = 0
    digest: str = _FIRST


@dataclass(frozen=True)
class Verdict:
    """What a check of the file found.

    Parameters
    ----------
    head
        As far as the chain holds.
    fault
        What does not fit, and at which line; empty: nothing.
    """

    head: Head
    fault: str = ""


def append(head: Head, entry: Entry, now: float) -> tuple[bytes, Head]:
    """Return the line of an entry behind `head`, with its end of line, and the new head."""
    at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    texts = {key: _plain(value) for key, value in asdict(entry).items()}
    values = {"sequence": head.sequence + 1, "at": at, **texts, "previous": head.digest}
    line = json.dumps(values).encode()
    return line + b"\n", Head(head.sequence + 1, digest_of(line))


def verify(lines: Iterable[bytes], known: Head) -> Verdict:
    """Return how far a chain holds, and what does not fit.

    Parameters
    ----------
    lines
        The file's, with their ends.
    known
        The head that the database keeps: it may be behind the file, never ahead.
    """
    head = Head()
    for line in lines:
        if fault := _fault(line, head):
            return Verdict(head, fault)
        head = Head(head.sequence + 1, digest_of(line[:-1]))
        if head.sequence == known.sequence and head.digest != known.digest:
            return Verdict(head, f"line {head.sequence} is not the one that was written: the database keeps another")
    if head.sequence < known.sequence:
        missing = known.sequence - head.sequence
        return Verdict(head, f"the last {missing} lines are missing: {known.sequence} were written")
    return Verdict(head)


def head_after(line: bytes) -> Head:
    """Return the head of a chain that ends with this line.

    Raises
    ------
    ValueError
        It is not a line of a chain.
    """
    values = json.loads(line)
    if not isinstance(values, dict) or type(values.get("sequence")) is not int:
        raise ValueError("it has no sequence number")
    return Head(values["sequence"], digest_of(line))


def digest_of(line: bytes) -> str:
    """Return the SHA-256 of a line without its end, hexadecimal."""
    return hashlib.sha256(line).hexdigest()


def _fault(line: bytes, head: Head) -> str:
    number = head.sequence + 1
    try:
        values = json.loads(line)
        sequence, previous = values["sequence"], values["previous"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"line {number} was damaged: it is no entry"
    if not line.endswith(b"\n"):
        return f"line {number} is cut off"
    if sequence != number:
        return f"line {number} is entry {sequence}: a line before it was removed or added"
    if previous != head.digest:
        return f"line {number} does not fit the line before it: line {head.sequence or number} was changed"
    return ""


def _plain(text: str) -> str:
    """Return a text that is valid Unicode and not longer than a line should be."""
    return text[:_MAX_TEXT].encode(errors="backslashreplace").decode()
