"""Which bundles there are, which files each has, and from what each is made.

Owns the lists of files and the variables of their templates; pure: reads and writes nothing. Does not own the rendering
(`render`), the signing (`fedparty.pki`) or the writing (`write`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fedparty.config.model import Exchange, Federation, Machine, Party
from fedparty.crypto.files import PUBLIC_MODE, SECRET_MODE
from fedparty.generate.addresses import replica_services, replicas
from fedparty.generate.bundle import Bundle, PlannedFile
from fedparty.generate.containers import (
    dialled_address,
    exchange_containers,
    is_neighbour,
    party_containers,
)
from fedparty.generate.database import CA_FILE, PASSWORD_FILE, database_variables, has_own_database
from fedparty.generate.kept import Identity, Kept
from fedparty.generate.ports import Assigned
from fedparty.pki.readers import COMPOSE, SUPERVISOR, live_rank
from fedparty.types import EXCHANGE, PartyId, party_host_name, party_uri

DATABASE = "mysql"
PROGRAM = "fedparty-bundle"
"""With it the people of a party start its containers themselves."""
PROGRAM_MODE = 0o755

_ALWAYS = ("README.md", "bundle.json", "proxy/bootstrap.json", "proxy/live/lds.json", "proxy/live/cds.json")
_PARTY_ONLY = (
    "proxy/live/rds_egress.json",
    "proxy/live/rds_ingress.json",
    "proxy/live/sds_trust.json",
    "federation/settings.json",
    "worker/settings.json",
)
_SECRET = frozenset({"proxy/live/rds_ingress.json"})
_OF_ENGINE = {"process": (SUPERVISOR,), "docker": (COMPOSE, PROGRAM)}
_SHARED = frozenset({"README.md", "bundle.json", SUPERVISOR, COMPOSE, PROGRAM})
"""Files that the exchange renders from the same template as a party."""


_EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  # the party's one door; in a container, what is published is what is reached


@dataclass(frozen=True)
class Trust:
    """What every bundle says of the federation's CA."""

    fingerprint: str
    ca_pem: bytes
    crl_pem: bytes


def with_engine(federation: Federation, engine: str | None) -> Federation:
    """Return the federation with every machine on `engine`; None: as parties.conf says."""
    if engine is None:
        return federation
    exchange = federation.exchange and replace(federation.exchange, engine=engine)
    parties = tuple(replace(party, engine=engine) for party in federation.parties)
    return replace(federation, parties=parties, exchange=exchange)


def tls_addresses(machine: Machine) -> tuple[str, ...]:
    """Return the names under which a party's own people may reach its TLS listeners, for the certificate."""
    bind = machine.rest_bind if isinstance(machine, Party) else ""
    names = (machine.address, "" if _is_everywhere(bind) else bind, "127.0.0.1")
    return tuple(dict.fromkeys(name for name in names if name))


def plan(
    federation: Federation,
    ports: Mapping[str, Assigned],
    kept: Mapping[PartyId, Kept],
    exchange_identity: Identity | None,
    trust: Trust,
    database_authorities: Mapping[PartyId, bytes],
) -> tuple[Bundle, ...]:
    """Return every bundle of the federation: the parties' in the order of parties.conf, then the exchange's.

    Parameters
    ----------
    ports
        By party id; the exchange's under ``exchange``.
    kept
        By party id.
    exchange_identity
        The exchange's, if there is an exchange.
    database_authorities
        CAs of external databases, by party id.
    """
    peers = [_peer(federation, party, ports[party.id]) for party in federation.parties]
    exchange = _exchange(federation, ports)
    common = {"federation": federation.name, "fingerprint": trust.fingerprint, "exchange": exchange}
    common |= {"ca_pem": trust.ca_pem.decode(), "crl_pem": trust.crl_pem.decode()}
    bundles = []
    for party in federation.parties:
        services = _services(party)
        variables = common | {"peers": [] if exchange else peers, "services": list(services)}
        variables |= _container_variables(federation, party, services, ports[party.id])
        bundles.append(
            _plan_party(party, ports[party.id], kept[party.id], trust, database_authorities.get(party.id), variables)
        )
    if federation.exchange and exchange_identity:
        variables = common | {"peers": peers, "services": ["proxy"]}
        variables |= _container_variables(federation, federation.exchange, ("proxy",), ports[EXCHANGE])
        bundles.append(_plan_exchange(federation.exchange, ports[EXCHANGE], exchange_identity, trust, variables))
    return tuple(bundles)


def _services(party: Party) -> tuple[str, ...]:
    database = (DATABASE,) if has_own_database(party) else ()
    return ("proxy", "federation", *replica_services(party.flow_replicas), "worker", *database)


def _plan_party(
    party: Party, ports: Assigned, kept: Kept, trust: Trust, database_ca: bytes | None, common: dict[str, Any]
) -> Bundle:
    variables = common | {
        "party": _party_variables(party, ports, common["federation"]),
        "database": database_variables(party, database_ca),
        "replicas": [asdict(replica) for replica in replicas(party.flow_replicas)],
        "engine": party.engine,
        "service_layout": party.service_layout if party.engine == "process" else "separate",
        "tls_certificate_pem": kept.tls.certificate.decode(),
        "tls_key_file": _key_file("proxy/tls.key", kept.tls.key),
        "signing_key_file": _key_file("flow/signing.key", kept.signing.key),
        "proxy_secret": kept.proxy_secret.decode(),
    }
    variables["own_keys"] = _own_keys(variables)
    files = [
        *_rendered((*_ALWAYS, "proxy/live/sds_identity.json", *_PARTY_ONLY), party.engine),
        *_flow_files(variables["replicas"], party.engine),
        *_keys({"proxy/tls.key": kept.tls.key, "flow/signing.key": kept.signing.key}),
        PlannedFile("ca/ca.crt", content=trust.ca_pem),
        PlannedFile("ca/live/crl.pem", content=trust.crl_pem),
        PlannedFile("flow/live/signing.crt", content=kept.signing.certificate),
        PlannedFile("secrets/api-token", content=kept.api_token, mode=SECRET_MODE),
        PlannedFile("secrets/proxy-secret", content=kept.proxy_secret, mode=SECRET_MODE),
        *_database_files(party, kept, database_ca),
    ]
    return _bundle(party.id, files, variables)


def _plan_exchange(
    exchange: Exchange, ports: Assigned, identity: Identity, trust: Trust, common: dict[str, Any]
) -> Bundle:
    variables = common | {
        "replicas": [],
        "party": {"id": EXCHANGE, "address": exchange.host, "proxy_port": ports.proxy_port, "rest_url": None},
        "engine": exchange.engine,
        "service_layout": "separate",
        "tls_certificate_pem": identity.certificate.decode(),
        "tls_key_file": _key_file("proxy/tls.key", identity.key),
    }
    variables["own_keys"] = _own_keys(variables)
    del variables["crl_pem"]  # the exchange trusts nobody: a revocation does not touch its bundle
    rendered = _rendered((*_ALWAYS, "proxy/live/sds_identity.json"), exchange.engine)
    files = [
        *(file if file.path in _SHARED else replace(file, template=f"exchange/{file.template}") for file in rendered),
        *_keys({"proxy/tls.key": identity.key}),
        PlannedFile("ca/ca.crt", content=trust.ca_pem),
    ]
    return _bundle(EXCHANGE, files, variables)


def _container_variables(
    federation: Federation, machine: Party | Exchange, services: tuple[str, ...], ports: Assigned
) -> dict[str, Any]:
    """Return what the docker engine needs; another one runs no containers."""
    variables: dict[str, Any] = {"is_loopback": machine.is_loopback, "images": {}, "containers": {}, "published": []}
    if machine.engine != "docker":
        return variables
    if isinstance(machine, Party):
        return variables | party_containers(federation, machine, services, ports)
    return variables | exchange_containers(federation, machine, ports)


def _database_files(party: Party, kept: Kept, authority: bytes | None) -> list[PlannedFile]:
    password = party.database.password.reveal().encode() if party.database else kept.mysql_password
    secret = [] if password is None else [PlannedFile(PASSWORD_FILE, content=password, mode=SECRET_MODE)]
    return secret if authority is None else [*secret, PlannedFile(CA_FILE, content=authority)]


def _bundle(party: str, files: list[PlannedFile], variables: dict[str, Any]) -> Bundle:
    ordered = tuple(sorted(files, key=lambda file: file.path))
    variables["secret_files"] = [file.path for file in ordered if file.mode == SECRET_MODE]
    variables["live_files"] = sorted((file.path for file in ordered if file.is_live), key=live_rank)
    return Bundle(party, variables["federation"], ordered, variables, variables["engine"])


def _rendered(paths: tuple[str, ...], engine: str) -> list[PlannedFile]:
    return [PlannedFile(path, template=f"{path}.j2", mode=_mode(path)) for path in (*paths, *_OF_ENGINE[engine])]


def _flow_files(found: Sequence[Mapping[str, Any]], engine: str) -> list[PlannedFile]:
    """Return what each job server reads alone; the first one's program is in the supervisor's own file."""
    files = [(replica, "settings.json") for replica in found]
    if engine == "process":
        files += [(replica, SUPERVISOR) for replica in found if replica["number"] > 1]
    return [PlannedFile(f"{each['service']}/{name}", template=f"flow/{name}.j2", replica=each) for each, name in files]


def _mode(path: str) -> int:
    if path == PROGRAM:
        return PROGRAM_MODE
    return SECRET_MODE if path in _SECRET else PUBLIC_MODE


def _keys(found: Mapping[str, bytes | None]) -> list[PlannedFile]:
    return [PlannedFile(path, content=key, mode=SECRET_MODE) for path, key in found.items() if key is not None]


def _key_file(path: str, key: bytes | None) -> str:
    """Return where a service finds a key, from its home: in the bundle, or where the party puts its own."""
    return f"bundle/{path}" if key is not None else f"keys/{path.rpartition('/')[2]}"


def _own_keys(variables: Mapping[str, Any]) -> list[str]:
    files = [variables[name] for name in ("tls_key_file", "signing_key_file") if name in variables]
    return [path for path in files if not path.startswith("bundle/")]


def _party_variables(party: Party, ports: Assigned, federation: str) -> dict[str, Any]:
    return {
        "id": party.id,
        "uri": party_uri(federation, party.id),
        "address": party.host,
        "proxy_bind": _bind(party),
        "proxy_port": ports.proxy_port,
        "rest_bind": party.rest_bind if party.engine == "process" else _EVERY_ADDRESS,
        "rest_port": ports.rest_port,
        "rest_url": _rest_url(party, ports.rest_port),
        "window_bytes": party.proxy_window_bytes,
        "max_connection_age_s": party.max_connection_age_s,
        "spool_quota_bytes": party.spool_quota_bytes,
        "cores": party.cores,
        "job_memory_bytes": party.job_memory_bytes,
        "max_attempts": party.max_attempts,
        "peer_timeout_s": party.peer_timeout_s,
        "job_timeout_s": party.job_timeout_s,
        "log_level": party.log_level,
        "job_days": party.job_days,
        "job_count": party.job_count,
        "job_files_days": party.job_files_days,
        "log_limit_bytes": party.log_limit_bytes,
    }


def _peer(federation: Federation, party: Party, ports: Assigned) -> dict[str, Any]:
    return {
        "id": party.id,
        "address": dialled_address(party),
        "is_neighbour": is_neighbour(party),
        "port": ports.proxy_port,
        "host_name": party_host_name(federation.name, party.id),
        "uri": party_uri(federation.name, party.id),
    }


def _exchange(federation: Federation, ports: Mapping[str, Assigned]) -> dict[str, Any] | None:
    exchange = federation.exchange
    if exchange is None:
        return None
    port = ports[EXCHANGE].proxy_port
    return {
        "address": dialled_address(exchange),
        "is_neighbour": is_neighbour(exchange),
        "port": port,
        "proxy_bind": _bind(exchange),
        "proxy_port": port,
        "window_bytes": max(party.proxy_window_bytes for party in federation.parties),
    }


def _bind(machine: Machine) -> str:
    """Return where a proxy listens; one that only this machine may reach does not listen to others."""
    if machine.is_loopback and machine.engine == "process":
        return machine.host
    return "::" if ":" in machine.host else _EVERY_ADDRESS


def _rest_url(party: Party, port: int | None) -> str | None:
    if port is None:
        return None
    host = party.host if _is_everywhere(party.rest_bind) else party.rest_bind
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _is_everywhere(bind: str) -> bool:
    return bind in ("", "0.0.0.0", "::")  # noqa: S104
