"""Where parties were deployed as containers, remembered beside their kept files: ``outputs/parties/<id>/machine.json``.

Owns that file. A party that was taken out of parties.conf can so still be looked at and removed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fedparty.config.model import Exchange, Machine, Party
from fedparty.crypto.files import make_private_folder, replace_file
from fedparty.errors import ConfigurationError

_FILE = "machine.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered(Machine):
    """A machine with a party that parties.conf may not know any more."""

    id: str


def remember(outputs: Path, member: Party | Exchange) -> None:
    """Keep where a party, or the exchange, is deployed from now on."""
    known = {
        "address": member.address,
        "user": member.user,
        "ssh_port": member.ssh_port,
        "ssh_key": str(member.ssh_key) if member.ssh_key else None,
        "directory": str(member.directory),
    }
    make_private_folder(_file(outputs, str(member.id)).parent)
    replace_file(_file(outputs, str(member.id)), json.dumps(known, indent=1).encode())


def forget(outputs: Path, party: str) -> None:
    """Forget a party of which nothing is left."""
    _file(outputs, party).unlink(missing_ok=True)


def remembered(outputs: Path) -> Iterator[Remembered]:
    """Yield every machine that was not forgotten, by party.

    Raises
    ------
    ConfigurationError
        A file is damaged.
    """
    for path in sorted((outputs / "parties").glob(f"*/{_FILE}")):
        try:
            known = json.loads(path.read_bytes())
            yield Remembered(
                id=path.parent.name,
                address=known["address"],
                engine="docker",
                managed="ssh",
                user=known["user"],
                ssh_port=known["ssh_port"],
                ssh_key=Path(known["ssh_key"]) if known["ssh_key"] else None,
                directory=PurePosixPath(known["directory"]),
                process_dir=None,
                extra_hosts=(),
            )
        except (ValueError, KeyError, TypeError) as exc:
            hint = "Remove it; the party must then be removed by hand on its machine."
            raise ConfigurationError(f"{path}: cannot be read: {exc}", hint=hint) from exc


def _file(outputs: Path, party: str) -> Path:
    return outputs / "parties" / party / _FILE
