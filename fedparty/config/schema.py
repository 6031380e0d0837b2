"""The one table of keys: the file's comments, the reference in docs/ and the checks all come from it.

Owns every key's name, spellings, type, unit, default and meaning, and what replaces a KubeFATE key that has none here.
Does not own how values are read (`values`) or checked against each other (`validate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from types import MappingProxyType

from fedparty.config import values
from fedparty.config.model import FIRST_PORTS
from fedparty.config.values import Reader


class Scope(Enum):
    """Where a key may stand."""

    FEDERATION = "top"
    """Above the sections only."""
    PARTY = "top, [party]"
    """Above the sections, for every party, or in a party's section."""
    MACHINE = "top, [party], [exchange]"
    """As PARTY, and in the exchange's section."""


@dataclass(frozen=True)
class Key:
    """One key of parties.conf.

    Parameters
    ----------
    name
        How the documentation spells it.
    field
        Where its value lands in the model, e.g. ``exchange.port`` or, for what each party has, ``database.host``.
    read
        Reader of one word.
    default
        As it would be written in the file; empty: none, see `unset`.
    unset
        What happens without it, when there is no default.
    unit
        Unit or kind of value, for people.
    example
        A value for the commented example when there is no default.
    aliases
        Other spellings.
    is_list
        Takes an array.
    engine
        The one engine that it means something to; empty: both.
    """

    name: str
    field: str
    scope: Scope
    read: Reader
    unit: str
    doc: str
    default: str = ""
    unset: str = ""
    example: str = ""
    aliases: tuple[str, ...] = ()
    is_list: bool = False
    engine: str = ""

    @cached_property
    def default_value(self) -> object:
        """The default as the model holds it."""
        if self.is_list:
            return ()
        return self.read(self.default) if self.default else None

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every name that the key goes by."""
        return (self.name, *self.aliases)


def _planned(key: str) -> str:
    return f"the first free port from {FIRST_PORTS[key]} on"


_TOP, _PARTY, _MACHINE = Scope.FEDERATION, Scope.PARTY, Scope.MACHINE
_DAYS = values.whole(1, 36500)

GROUPS: Mapping[str, tuple[Key, ...]] = MappingProxyType(
    {
        "Parties": (
            Key("party_list", "parties.id", _TOP, values.party_id, "list of ids",
                "The parties. Lists are matched by position.",
                unset="must be given", example="(10000 9999)", aliases=("partylist",), is_list=True),
            Key("party_ip_list", "parties.address", _TOP, values.address, "list of addresses",
                "IP address or host name of each party's machine, as the other parties reach it.",
                unset="must be given", example="(127.0.0.1 127.0.0.1)", aliases=("partyiplist",), is_list=True),
            Key("serving_ip_list", "parties.serving_address", _TOP, values.address, "list of addresses",
                "Address of each party's online serving. Checked and kept; this release has no serving.",
                unset="no serving", example="()", aliases=("servingiplist",), is_list=True),
            Key("federation_name", "name", _TOP, values.label, "DNS label",
                "Name of the federation; part of every certificate, so it cannot be changed later.",
                default="fedparty"),
        ),
        "Exchange": (
            Key("exchange_ip", "exchange.address", _TOP, values.address, "address",
                "Machine of the exchange, which routes between all parties without decrypting anything.",
                unset="no exchange: the parties reach each other directly", example="192.168.1.10",
                aliases=("exchangeip",)),
            Key("exchange_port", "exchange.port", _TOP, values.port, "port",
                "Port of the exchange.", unset=_planned("exchange_port"), example="9371"),
        ),
        "Machines": (
            Key("engine", "engine", _MACHINE, values.choice("docker", "process"), "docker or process",
                "What runs the services: containers, or plain processes of this machine (no Docker, no root).",
                default="docker"),
            Key("managed", "managed", _MACHINE, values.choice("ssh", "manual"), "ssh or manual",
                "ssh: deploy.py starts it (a local address needs no SSH). manual: its own people start its bundle.",
                default="ssh"),
            Key("user", "user", _MACHINE, values.user, "user",
                "Who logs in by SSH.", unset="whoever runs deploy.py", example="fate", engine="docker"),
            Key("ssh_port", "ssh_port", _MACHINE, values.port, "port",
                "Port of the SSH server.", default="22", aliases=("SSH_PORT",), engine="docker"),
            Key("ssh_key", "ssh_key", _MACHINE, values.local_file, "file on this machine",
                "Private key for SSH, absolute or below ~/.", unset="the SSH agent and the usual files",
                example="~/.ssh/id_ed25519", engine="docker"),
            Key("dir", "directory", _MACHINE, values.target_folder, "folder on the target",
                "Where bundles are installed: <dir>/confs-<id>. Absolute.",
                default="/data/projects/fedparty", engine="docker"),
            Key("process_dir", "process_dir", _MACHINE, values.local_folder, "folder on this machine",
                "Where bundles are installed: <process_dir>/confs-<id>. Absolute.",
                unset="deployed/ in the output folder", example="/var/lib/fedparty", engine="process"),
            Key("extra_hosts", "extra_hosts", _MACHINE, values.host_entry, "list of name:address",
                "Names that containers know without DNS.", unset="none",
                example="(party-b.example.org:192.168.1.2)", is_list=True, engine="docker"),
            Key("registry", "registry", _TOP, values.registry, "host, host:port or host/folder",
                "Where images come from.", unset="the images on the machine",
                example="registry.example.org:5000", aliases=("RegistryURI",), engine="docker"),
            Key("tag", "tag", _TOP, values.tag, "image tag",
                "Tag of the images.", unset="this release", example="1.0.0", engine="docker"),
            Key("image", "image", _PARTY, values.image, "party, worker-torch or any image",
                "What the worker service and its tasks run in: an image of this release, or one built from it.",
                unset="party", example="worker-torch", engine="docker"),
            Key("requirements", "requirements", _PARTY, values.local_file, "file on this machine",
                "What pip installs into the worker's image besides; deploy.py images build makes it. Absolute or ~/.",
                unset="nothing", example="~/requirements-10000.txt", engine="docker"),
        ),
        "Ports": (
            Key("proxy_port", "proxy_port", _PARTY, values.port, "port",
                "The one port that other parties and the exchange reach.",
                unset=_planned("proxy_port"), example="9370"),
            Key("rest_port", "rest_port", _PARTY, values.port_or_none, "port",
                "REST of the party, by TLS and token. 0: not published.", unset=_planned("rest_port"), example="9380"),
            Key("board_port", "board_port", _PARTY, values.port_or_none, "port",
                "Web page of the party. 0: not published. Reserved: this release has no board.",
                unset=_planned("board_port"), example="8080"),
            Key("rest_bind", "rest_bind", _PARTY, values.bind_address, "IP address",
                "Where REST and board listen. 0.0.0.0: every network of the machine.", default="127.0.0.1"),
        ),
        "Resources": (
            Key("service_layout", "service_layout", _PARTY, values.choice("separate", "together"),
                "separate or together",
                "One process a service, or the Python services of a party in one process (less memory).",
                default="separate", engine="process"),
            Key("flow_replicas", "flow_replicas", _PARTY, values.whole(1, 2), "count",
                "Job servers of the party. 2: when one dies the other goes on; they need MariaDB or MySQL.",
                default="1"),
            Key("cores", "cores", _PARTY, values.decimal, "CPU cores",
                "What the party's jobs may use at once.", unset="what the machine has", example="4"),
            Key("job_memory", "job_memory_bytes", _PARTY, values.size(2**26, 2**50), "size",
                "Memory that the party's jobs may ask for at once.",
                unset="what the machine has, or worker_memory", example="8GiB"),
            Key("worker_memory", "worker_memory_bytes", _PARTY, values.size(2**26, 2**50), "size",
                "Memory for the worker and its tasks.", unset="no limit",
                example="8GiB", engine="docker"),
            Key("spool_quota", "spool_quota_bytes", _PARTY, values.size(2**20, 2**50), "size",
                "Disk space for objects on their way between parties; a send that exceeds it is refused.",
                default="10GiB"),
            Key("data_dir", "data_dir", _PARTY, values.target_folder, "folder on the target",
                "The site's own data, which tasks see read-only as /data. Absolute.",
                unset="none", example="/data/tables", engine="docker"),
            Key("log_level", "log_level", _PARTY, values.choice("DEBUG", "INFO", "WARNING", "ERROR"),
                "DEBUG, INFO, WARNING or ERROR",
                "Least severe message that the services log.", default="INFO"),
        ),
        "Links and jobs": (
            Key("max_connection_age_s", "max_connection_age_s", _PARTY, values.whole(1, 86400), "seconds",
                "A peer's certificate is checked again after this: the longest that a revoked party stays connected.",
                default="30"),
            Key("proxy_window", "proxy_window_bytes", _PARTY, values.size(2**16, 2**31 - 1), "size",
                "HTTP/2 window of a stream between two proxies. More is faster over long distances, and more memory.",
                default="16MiB"),
            Key("peer_timeout_s", "peer_timeout_s", _PARTY, values.decimal, "seconds",
                "How long an unreachable party is waited for before the job fails.", default="30"),
            Key("job_timeout_s", "job_timeout_s", _PARTY, values.decimal, "seconds",
                "Limit for a job that names none.", default="3600"),
            Key("max_attempts", "max_attempts", _PARTY, values.whole(1, 100), "count",
                "How often a task is tried when a worker dies.", default="3"),
        ),
        "What is kept": (
            Key("job_days", "job_days", _PARTY, _DAYS, "days",
                "How long an ended job is kept, with its logs, figures and files.", default="90"),
            Key("job_count", "job_count", _PARTY, values.whole(1, 10_000_000), "count",
                "How many jobs are kept; the oldest that have ended go first.", default="10000"),
            Key("job_files_days", "job_files_days", _PARTY, _DAYS, "days",
                "How long logs, figures and files of an ended job are kept, where that is less.",
                unset="as long as the job", example="30"),
            Key("log_limit", "log_limit_bytes", _PARTY, values.size(2**16, 2**30), "size",
                "Where a task's log ends, what it prints, and its figures; the rest is dropped.", default="16MiB"),
        ),
        "Certificates": (
            Key("certificate_lifetime_days", "certificate_lifetime_days", _TOP, _DAYS, "days",
                "Lifetime of a party's certificates.", default="365"),
            Key("ca_lifetime_days", "ca_lifetime_days", _TOP, _DAYS, "days",
                "Lifetime of the federation's CA.", default="3650"),
            Key("crl_refresh_days", "crl_refresh_days", _TOP, _DAYS, "days",
                "Age at which the list of revoked certificates is issued anew.", default="30"),
        ),
        "External database": (
            Key("mysql_ip", "database.host", _PARTY, values.database_host, "address",
                "MySQL or MariaDB that keeps the party's jobs. mysql: the same as leaving it out.",
                unset="a database of the party's own", example="192.168.1.20"),
            Key("mysql_port", "database.port", _PARTY, values.port, "port", "Its port.", default="3306"),
            Key("mysql_user", "database.user", _PARTY, values.user, "user",
                "Its user.", unset="must be given with mysql_ip", example="fedparty"),
            Key("mysql_password", "database.password", _PARTY, values.secret, "password",
                "Its password. A published default such as fate_dev is refused.",
                unset="must be given with mysql_ip", example="'write it in single quotes'"),
            Key("mysql_db", "database.name", _PARTY, values.database_name, "name",
                "Its database; every party needs one of its own.", default="fedparty"),
            Key("mysql_ca", "database.ca", _PARTY, values.local_file, "file on this machine",
                "CA of its certificate, PEM, absolute or below ~/; the connection is always TLS.",
                unset="the CAs that the party's system trusts", example="~/database-ca.pem"),
        ),
    }
)  # fmt: skip

KEYS: tuple[Key, ...] = tuple(key for group in GROUPS.values() for key in group)
BY_SPELLING: Mapping[str, Key] = MappingProxyType({name: key for key in KEYS for name in key.spellings})

PUBLISHED_PASSWORDS = frozenset({"admin", "fate_dev", "fate", "root", "password", "mysql"})
"""Passwords of other systems' example files: everybody knows them."""

_ONE_ENGINE = "Data moves by one mailbox and one proxy in every party; nothing is to be chosen"
_CORES = "Limit a party's jobs with cores"
_TOKEN = "Each party's REST has a random token, secrets/api-token in its bundle"

FOREIGN: Mapping[str, str] = MappingProxyType(
    {
        "computing": _ONE_ENGINE,
        "storage": _ONE_ENGINE,
        "federation": f"{_ONE_ENGINE}. The federation's name is federation_name",
        "computing_backend": _ONE_ENGINE,
        "backend": _ONE_ENGINE,
        "name_node": _ONE_ENGINE,
        "algorithm": "Every component is always installed",
        "enabled_nn": "Every component is always installed",
        "device": "Jobs run on the CPU in this release",
        "gpu_count": "Jobs run on the CPU in this release",
        "compute_core": _CORES,
        "serverTimezone": "Times are kept in UTC",
        "fateboard_username": _TOKEN,
        "fateboard_password": _TOKEN,
        "serving_admin_username": "This release has no serving",
        "serving_admin_password": "This release has no serving",
        "redis_ip": "Nothing here needs Redis",
        "redis_port": "Nothing here needs Redis",
        "redis_password": "Nothing here needs Redis",
        "TAG": "It names FATE's images. Choose the images of this system with tag",
        "SERVING_TAG": "This release has no serving",
        "PREFIX": "Write it into registry, e.g. registry=registry.example.org/team",
    }
)
"""Keys of KubeFATE that mean nothing here, and what replaces each: one sentence or two, without the last full stop."""
