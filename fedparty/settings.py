"""What each service of a party reads when it starts.

Owns the shape of ``bundle/<service>/settings.json``: the provisioning half renders it, the runtime half loads it.
Paths are relative to the party's *home*, the working directory of every service:

    home/bundle/    the signed bundle      home/logs/    logs, rotated
    home/data/      what must be kept      home/run/     sockets, 0700; may be a link to a short path

An address is a gRPC target: ``unix:run/federation.sock`` (process engine) or ``host:port`` (docker engine).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedparty.errors import ConfigurationError
from fedparty.types import PARTY_ID, PartyId

Address = Annotated[str, Field(pattern=r"^(unix:[^ ]+|[^ /:]+:[0-9]+)$")]
Party = Annotated[PartyId, Field(pattern=f"^{PARTY_ID.pattern}$")]


class ServiceSettings(BaseModel):
    """What every service knows: who it is and whom it trusts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    party: Party
    federation: str
    """Name of the federation, part of every identity."""
    operations: Address
    """HTTP listener with /healthz, /readyz and /metrics; inside only."""
    ca_certificate: Path
    """The federation CA, PEM."""
    revocations: Path
    """The CRL, PEM; a live file: re-read when it is replaced."""
    log_level: str = "INFO"


class FederationSettings(ServiceSettings):
    """The mailbox."""

    local: Address
    """gRPC for this party's own workers and flow."""
    peer: Address
    """gRPC for the proxy's ingress only."""
    proxy_secret: Path
    """File with the secret by which the ingress proves that it is the ingress."""
    spool: Path
    spool_quota_bytes: Annotated[int, Field(gt=0)]


class FlowSettings(ServiceSettings):
    """The job server. Of several replicas each has addresses of its own; the proxy leads to the one that leads."""

    replica: Annotated[int, Field(ge=1)] = 1
    """Which of the party's flows this is."""
    replicas: Annotated[int, Field(ge=1)] = 1
    """How many there are; of several, one leads: the database says which, so that it must be MariaDB or MySQL."""
    lease_s: Annotated[float, Field(ge=0.5)] = 2.0
    """How long the leader is silent before another replica takes over; the same for all."""
    rest: Address
    """REST for this party's own people."""
    peer: Address
    """gRPC for the proxy's ingress only."""
    proxy_secret: Path
    egress: Address
    """This party's proxy, the way to every party (this one included)."""
    mailbox: Address
    worker: Address
    database_url: str
    """SQLAlchemy URL, e.g. ``sqlite+aiosqlite:///data/flow/flow.db``, or of MariaDB or MySQL 8:
    ``mysql+aiomysql://user@host:3306/name``, over TLS, or ``mysql+aiomysql://user@localhost/name?unix_socket=PATH``."""
    database_password: Path | None = None
    """File with the password of the URL's user; MariaDB and MySQL only."""
    database_ca: Path | None = None
    """PEM of the CA that the database host's certificate must come from; None: the system's trust store."""
    api_token: Path
    signing_key: Path
    signing_certificate: Path
    """PEM; a live file: re-read when it is replaced."""
    policy: Path = Path("policy/policy.yaml")
    """What this site allows, YAML; a live file of the site's own, in no bundle. Where there is none, the default is in
    force."""
    audit_log: Path = Path("data/flow/audit.jsonl")
    """Who decided what, JSON lines; appended, never rewritten."""
    cores: Annotated[float, Field(gt=0)] | None = None
    """What this party's jobs may use at once; None: what the machine has."""
    memory_bytes: Annotated[int, Field(gt=0)] | None = None
    """The same of memory; None: what the machine has, or its limit for the worker."""
    max_attempts: Annotated[int, Field(ge=1)] = 3
    peer_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    """How long an unreachable party is waited for before the job fails."""
    job_timeout_s: Annotated[float, Field(gt=0)] = 3600.0
    """Limit for a job that names none."""
    retention_days: Annotated[float, Field(gt=0)] = 90.0
    """How long an ended job is kept, with its logs and its tasks' folders."""
    retention_jobs: Annotated[int, Field(ge=1)] = 10_000
    """How many jobs are kept; the oldest that have ended go first."""
    retention_files_days: Annotated[float, Field(gt=0)] | None = None
    """How long logs, figures and files of an ended job are kept; None: as long as the job."""

    @property
    def service(self) -> str:
        """The service's name: of its folder in the bundle, its process, its log lines."""
        return "flow" if self.replica == 1 else f"flow-{self.replica}"


class WorkerSettings(ServiceSettings):
    """The launcher of tasks. Holds no secret: tasks get their token with each start."""

    address: Address
    jobs: Path
    """Folder with one folder a task attempt: logs and results."""
    log_limit_bytes: Annotated[int, Field(gt=0)] = 16 << 20
    """Where a task's log, what it prints and its figures end, each."""
    tables: Path = Path("data/tables")
    """Folder below which the files of tables lie; it may be a link to where the site keeps them."""
    egress: Address
    mailbox: Address
    signer: str
    """URI SAN whose service tokens are obeyed: this party's own."""


AnySettings = TypeVar("AnySettings", bound=ServiceSettings)


def load(kind: type[AnySettings], path: Path) -> AnySettings:
    """Read a settings file.

    Raises
    ------
    ConfigurationError
        The file is absent, not JSON, or does not fit `kind`; every field at fault is named.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError as exc:
        raise ConfigurationError(
            f"{path}: there is no such settings file", hint="Start the service in its party's home."
        ) from exc
    except ValidationError as exc:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in exc.errors())
        raise ConfigurationError(f"{path}: {faults}", hint="Run generate_config.py again and deploy.") from exc
