"""A federation as parties.conf describes it: frozen, checked, defaults filled in.

Owns what is configured. Does not own what is planned from it (ports, networks: `generate`) nor where each value was
written (`resolve`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fedparty.types import EXCHANGE, PartyId, Secret

FIRST_PORTS = {"proxy_port": 9370, "exchange_port": 9371, "rest_port": 9380, "board_port": 8080}
"""The port that is planned first for a key that is not given; the next free ones follow."""


@dataclass(frozen=True, slots=True)
class Database:
    """An external MySQL or MariaDB, reached over TLS.

    Parameters
    ----------
    ca
        File on the operator's machine with the CA of its certificate; None: those that the party's system trusts.
    """

    host: str
    port: int
    user: str
    password: Secret
    name: str
    ca: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where something is deployed, and how it is reached.

    Parameters
    ----------
    address
        IP address or host name by which the parties reach it.
    engine
        ``docker`` or ``process``.
    managed
        ``ssh``: this deployer starts it (a local address needs no SSH). ``manual``: its own people do.
    user
        Who logs in by SSH; None: whoever runs the deployer.
    ssh_key
        Private key; None: SSH's own choice.
    directory
        Folder on the target that takes the bundles (docker engine).
    process_dir
        Folder that takes the homes (process engine); None: ``deployed/`` in the output folder.
    extra_hosts
        ``(name, IP address)`` pairs that its services know without DNS.
    """

    address: str
    engine: str
    managed: str
    user: str | None
    ssh_port: int
    ssh_key: Path | None
    directory: PurePosixPath
    process_dir: Path | None
    extra_hosts: tuple[tuple[str, str], ...]

    @property
    def is_loopback(self) -> bool:
        """Whether the address means this machine whoever asks."""
        return self.address in ("localhost", "::1") or self.address.startswith("127.")

    @property
    def host(self) -> str:
        """The machine that ports are counted on: all loopback addresses are one."""
        return "127.0.0.1" if self.is_loopback else self.address


@dataclass(frozen=True, slots=True, kw_only=True)
class Party(Machine):
    """One party.

    Parameters
    ----------
    serving_address
        Where its online serving will run; None: nowhere.
    service_layout
        ``separate``: one process a service; ``together``: its Python services in one.
    flow_replicas
        How many job servers it has: one leads, another stands by.
    proxy_port, rest_port, board_port
        None: planned from `FIRST_PORTS`. 0 (not for the proxy): not published.
    rest_bind
        IP address that REST and board listen on.
    cores
        What its jobs may use at once; None: what the machine has.
    job_memory_bytes
        What its jobs may ask for at once; None: what the machine has.
    worker_memory_bytes
        Limit for the worker and its tasks (docker engine); None: no limit.
    data_dir
        Folder on the target with the site's own data, read-only to its tasks.
    max_connection_age_s
        A peer's connection is verified again after this; the limit for cutting off a revoked party.
    proxy_window_bytes
        HTTP/2 window of each stream between proxies.
    database
        None: one of the party's own.
    job_days, job_count, job_files_days
        How long ended jobs are kept, how many, and how long their logs and files; None: as long as the job.
    log_limit_bytes
        Where each log of a task ends.
    image
        What the worker service runs in (docker engine): a name of the release's images or any image; None: ``party``.
    requirements
        File on the operator's machine: what pip installs into the worker's image besides; None: nothing.
    """

    id: PartyId
    serving_address: str | None
    service_layout: str
    flow_replicas: int
    proxy_port: int | None
    rest_port: int | None
    rest_bind: str
    board_port: int | None
    cores: float | None
    job_memory_bytes: int | None
    worker_memory_bytes: int | None
    spool_quota_bytes: int
    data_dir: PurePosixPath | None
    max_connection_age_s: int
    proxy_window_bytes: int
    peer_timeout_s: float
    job_timeout_s: float
    max_attempts: int
    job_days: int
    job_count: int
    job_files_days: int | None
    log_limit_bytes: int
    log_level: str
    database: Database | None
    image: str | None
    requirements: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange(Machine):
    """The optional router between all parties.

    Parameters
    ----------
    port
        None: planned from `FIRST_PORTS`.
    """

    port: int | None

    @property
    def id(self) -> str:
        """What stands in a party id's place."""
        return EXCHANGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """Everything parties.conf says.

    Parameters
    ----------
    name
        A DNS label; part of every identity.
    parties
        In the order of the file; at least one.
    exchange
        None: every party reaches every other directly.
    registry
        Where the docker engine gets images; None: the images on the machine.
    tag
        Image tag; None: this release.
    certificate_lifetime_days, ca_lifetime_days
        Lifetimes of what is issued from now on.
    crl_refresh_days
        Age at which the revocation list is issued anew.
    """

    name: str
    parties: tuple[Party, ...]
    exchange: Exchange | None
    registry: str | None
    tag: str | None
    certificate_lifetime_days: int
    ca_lifetime_days: int
    crl_refresh_days: int

    def party(self, party: str) -> Party:
        """Return the party with this id.

        Raises
        ------
        KeyError
            There is none.
        """
        for candidate in self.parties:
            if candidate.id == party:
                return candidate
        raise KeyError(party)
