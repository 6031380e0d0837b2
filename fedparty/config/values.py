"""How one word of parties.conf becomes a typed value.

Owns the readers: ``str -> value`` or `Unfit`. Does not own which key uses which reader (`schema`) nor anything that
looks at two values (`validate`).
"""

from __future__ import annotations

import ipaddress
import os.path
import posixpath
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from fedparty.types import PartyId, Secret, parse_party_id

Reader = Callable[[str], object]

BUNDLED_DATABASE = "mysql"
"""What KubeFATE writes for the database that comes with a party."""

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_HOST_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_REGISTRY = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*/?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_IMAGE = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
_DATABASE_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
_WHOLE = re.compile(r"[0-9]{1,15}")
_DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB|TiB)?", re.IGNORECASE)
_FACTORS = {"b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


class Unfit(ValueError):
    """A word that is not what its key takes.

    Parameters
    ----------
    what
        What is wrong, without a full stop.
    remedy
        What to write, as a sentence.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


def party_id(word: str) -> PartyId:
    """Read a party id."""
    try:
        return parse_party_id(word)
    except ValueError as exc:
        remedy = "Write 1 to 9 digits without a leading zero, e.g. 10000."
        raise Unfit(f"{word!r} is not a party id", remedy) from exc


def address(word: str) -> str:
    """Read the IP address or host name of one machine; the result is in its shortest, lower-case spelling."""
    ip = _ip(word)
    if ip is not None:
        if ip.is_unspecified or ip.is_multicast or str(ip) == "255.255.255.255":
            raise Unfit(f"{word} names no single machine", "Write the address by which the other parties reach it.")
        return str(ip)
    labels = word.split(".")
    if len(word) > 253 or labels[-1].isdecimal() or not all(map(_HOST_LABEL.fullmatch, labels)):
        raise Unfit(f"{word!r} is not an IP address or host name", "Write e.g. 192.168.1.1 or party-a.example.org.")
    return word.lower()


def bind_address(word: str) -> str:
    """Read an address to listen on; ``0.0.0.0`` and ``::`` mean every interface."""
    ip = _ip(word)
    if ip is None:
        raise Unfit(f"{word!r} is not an IP address", "Write 127.0.0.1 for this machine, 0.0.0.0 for every network.")
    return str(ip)


def database_host(word: str) -> str | None:
    """Read the address of an external database; None for the one that comes with a party."""
    return None if word == BUNDLED_DATABASE else address(word)


def host_entry(word: str) -> tuple[str, str]:
    """Read ``name:address``."""
    name, _, ip = word.partition(":")
    if not all(map(_HOST_LABEL.fullmatch, name.split("."))) or _ip(ip) is None:
        raise Unfit(f"{word!r} is not name:address", "Write e.g. (party-b.example.org:192.168.1.2).")
    return name.lower(), str(_ip(ip))


def port(word: str) -> int:
    """Read a TCP port."""
    return _port(word, smallest=1, remedy="Write a number from 1 to 65535.")


def port_or_none(word: str) -> int:
    """Read a TCP port; 0 means not published."""
    return _port(word, smallest=0, remedy="Write a number from 1 to 65535, or 0 to publish nothing.")


def whole(smallest: int, largest: int) -> Reader:
    """Return a reader of whole numbers from `smallest` to `largest`."""

    def read(word: str) -> int:
        if not _WHOLE.fullmatch(word) or not smallest <= int(word) <= largest:
            remedy = f"Write a whole number from {smallest} to {largest}."
            raise Unfit(f"{word!r} is not possible", remedy)
        return int(word)

    return read


def decimal(word: str) -> float:
    """Read a number above 0."""
    if not _DECIMAL.fullmatch(word) or float(word) <= 0:
        raise Unfit(f"{word!r} is not a number above 0", "Write e.g. 30 or 0.5.")
    return float(word)


def size(smallest: int, largest: int) -> Reader:
    """Return a reader of sizes from `smallest` to `largest` bytes, e.g. ``10GiB``."""

    def read(word: str) -> int:
        match = _SIZE.fullmatch(word)
        if not match:
            raise Unfit(f"{word!r} is not a size", "Write a whole number with B, KiB, MiB, GiB or TiB, e.g. 10GiB.")
        size_bytes = int(match[1]) * _FACTORS[(match[2] or "B").lower()]
        if not smallest <= size_bytes <= largest:
            raise Unfit(f"{word} is not possible", f"Write a size from {smallest} to {largest} bytes.")
        return size_bytes

    return read


def choice(*allowed: str) -> Reader:
    """Return a reader of one of `allowed`."""

    def read(word: str) -> str:
        if word not in allowed:
            raise Unfit(f"{word!r} is not possible", f"Write {', '.join(allowed[:-1])} or {allowed[-1]}.")
        return word

    return read


def target_folder(word: str) -> PurePosixPath:
    """Read an absolute folder on a party's machine."""
    return PurePosixPath(posixpath.normpath(_absolute(word)))


def local_folder(word: str) -> Path:
    """Read an absolute folder on this machine."""
    return Path(posixpath.normpath(_absolute(word)))


def local_file(word: str) -> Path:
    """Read a file on this machine, absolute or below ``~/``."""
    return Path(posixpath.normpath(_absolute(os.path.expanduser(word) if word.startswith("~/") else word)))  # noqa: PTH111


def label(word: str) -> str:
    """Read a DNS label."""
    return _matching(_LABEL, word, "a name", "Write 1 to 63 lower-case letters, digits or -, e.g. fedparty.")


def user(word: str) -> str:
    """Read a Unix user."""
    return _matching(_USER, word, "a user name", "Write e.g. fate.")


def registry(word: str) -> str:
    """Read the address of an image registry, without a scheme."""
    remedy = "Write host, host:port or host/folder, without https://."
    return _matching(_REGISTRY, word, "a registry", remedy).rstrip("/")


def tag(word: str) -> str:
    """Read an image tag."""
    return _matching(_TAG, word, "an image tag", "Write letters, digits, dots, - or _, e.g. 1.0.0.")


def image(word: str) -> str:
    """Read the name of an image, with or without a registry, a tag and a digest."""
    return _matching(_IMAGE, word, "an image", "Write e.g. worker-torch or registry.example.org/team/worker:1.0.")


def database_name(word: str) -> str:
    """Read the name of a database."""
    return _matching(_DATABASE_NAME, word, "a database name", "Write letters, digits or _, e.g. fedparty.")


def secret(word: str) -> Secret:
    """Read a password."""
    return Secret(word)


def _ip(word: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return None if "%" in word else ipaddress.ip_address(word)
    except ValueError:
        return None


def _port(word: str, smallest: int, remedy: str) -> int:
    if not _WHOLE.fullmatch(word) or not smallest <= int(word) <= 65535:
        raise Unfit(f"{word!r} is not a port", remedy)
    return int(word)


def _absolute(word: str) -> str:
    if not word.startswith("/"):
        raise Unfit(f"{word!r} is not absolute", "Write a path that starts with /.")
    if ":" in word or not word.isprintable():
        raise Unfit(f"{word!r} has a colon or a control character", "Write a path without them.")
    return word


def _matching(pattern: re.Pattern[str], word: str, noun: str, remedy: str) -> str:
    if not pattern.fullmatch(word):
        raise Unfit(f"{word!r} is not {noun}", remedy)
    return word
