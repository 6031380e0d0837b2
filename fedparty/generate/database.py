"""Which database keeps a party's jobs: SQLite, a MariaDB of its own in a container, or one that its people have.

Owns the URL, the password's file and the CA for each, and which of them several job servers can share. Does not own the
database's schema (`fedparty.database`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fedparty.config.model import Database, Federation, Party
from fedparty.crypto.certificates import certificate_from_pem
from fedparty.errors import CertificateError, ConfigurationError
from fedparty.types import PartyId

PASSWORD_FILE, CA_FILE = "secrets/mysql-password", "flow/database-ca.crt"

_SQLITE = "sqlite+aiosqlite:///data/flow/flow.db"
_OWN = "mysql+aiomysql://fedparty@localhost/fedparty?unix_socket=/fedparty/mysql/mysqld.sock"


def has_own_database(party: Party) -> bool:
    """Return whether a party's bundle brings a database server."""
    return party.engine == "docker" and party.database is None


def check_replicas(federation: Federation) -> None:
    """Refuse several job servers where they would have no database to share, or no processes of their own.

    Raises
    ------
    ConfigurationError
        A party's jobs would be in an SQLite file, or all its Python services in one process.
    """
    for party in federation.parties:
        if party.flow_replicas > 1 and party.database is None and not has_own_database(party):
            raise ConfigurationError(
                f"parties.conf: flow_replicas={party.flow_replicas} of {party.id} needs a database server: "
                "without one, its jobs are in an SQLite file",
                hint="Write mysql_ip, mysql_user and mysql_password of a MariaDB or MySQL that the party can reach, "
                "or take the docker engine, which brings one; or leave flow_replicas out.",
            )
        if party.flow_replicas > 1 and party.engine == "process" and party.service_layout == "together":
            raise ConfigurationError(
                f"parties.conf: flow_replicas={party.flow_replicas} of {party.id} needs service_layout=separate: "
                "what ends one process would end both of its job servers",
                hint="Leave service_layout or flow_replicas out.",
            )


def database_variables(party: Party, authority: bytes | None) -> dict[str, Any]:
    """Return what flow is told of its database.

    Parameters
    ----------
    authority
        The CA of an external one; None: whatever the system trusts.
    """
    if party.database is None and not has_own_database(party):
        return {"url": _SQLITE, "password": None, "ca": None}
    return {
        "url": _OWN if party.database is None else _url(party.database),
        "password": f"bundle/{PASSWORD_FILE}",
        "ca": f"bundle/{CA_FILE}" if authority is not None else None,
    }


def read_authorities(federation: Federation) -> Mapping[PartyId, bytes]:
    """Return the CA of each external database that parties.conf names one for, by party.

    Raises
    ------
    ConfigurationError
        A file cannot be read, or holds no certificate.
    """
    return {
        party.id: _read_authority(party.id, party.database.ca)
        for party in federation.parties
        if party.database and party.database.ca
    }


def _read_authority(party: PartyId, path: Path) -> bytes:
    where = f"parties.conf: mysql_ca of {party}: {path}"
    hint = "Name the file with the CA of the database's certificate, PEM; or leave the key out."
    try:
        content = path.read_bytes()
        certificate_from_pem(content, where=where)
    except OSError as exc:
        raise ConfigurationError(f"{where}: {exc.strerror}", hint=hint) from exc
    except CertificateError as exc:
        raise ConfigurationError(exc.message, hint=hint) from exc
    return content


def _url(database: Database) -> str:
    host = f"[{database.host}]" if ":" in database.host else database.host
    return f"mysql+aiomysql://{quote(database.user)}@{host}:{database.port}/{quote(database.name)}"
