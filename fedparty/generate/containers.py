"""What the docker engine runs for one party, or for the exchange: images, names, limits, published ports.

Owns the variables of ``docker-compose.yml``. Pure; does not own the file's text (``templates/``) nor running it
(`fedparty.deploy`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedparty.config.images import MYSQL, NAMES, PARTY, PROXY, image_name, worker_image
from fedparty.config.model import Exchange, Federation, Machine, Party
from fedparty.generate.bundle import bundle_name
from fedparty.generate.ports import Assigned
from fedparty.types import EXCHANGE

_MIB = 2**20
_SERVICE_BYTES = 1024 * _MIB
"""Limit of a service: several times what it was seen to need."""
_EXCHANGE_BYTES = 4096 * _MIB
_PROXY_BYTES, _WINDOWS = 512 * _MIB, 32
"""A proxy keeps up to a window for each stream to a slow receiver; it has room for so many of them."""
_WORKER = "worker"


def container_name(owner: str, service: str) -> str:
    """Return the name of a container; `owner` is a party id or ``exchange``, the number that of the replica."""
    name, _, number = service.partition("-")
    return f"{bundle_name(owner)}_{name}_{number or 1}"


def is_neighbour(machine: Machine) -> bool:
    """Return whether others reach a machine's proxy by its container's name, on the network that such proxies share."""
    return machine.engine == "docker" and machine.is_loopback


def dialled_address(machine: Party | Exchange) -> str:
    """Return where other proxies find a machine's: a container cannot reach the loopback address of its machine."""
    return container_name(machine.id, PROXY) if is_neighbour(machine) else machine.host


def party_containers(federation: Federation, party: Party, services: Sequence[str], ports: Assigned) -> dict[str, Any]:
    """Return the variables of a party's docker-compose.yml."""
    release = {name: image_name(name, registry=federation.registry, tag=federation.tag) for name in NAMES}
    images = {PROXY: release[PROXY], _WORKER: worker_image(federation, party), MYSQL: release[MYSQL]}
    found = {service: images.get(service, release[PARTY]) for service in services}
    variables = _containers(federation, party, found, ports) | {
        "cpus": {_WORKER: party.cores},
        "memory_bytes": {
            **dict.fromkeys(services, _SERVICE_BYTES),
            PROXY: _PROXY_BYTES + _WINDOWS * party.proxy_window_bytes,
            _WORKER: party.worker_memory_bytes,
        },
        "data_dir": str(party.data_dir) if party.data_dir else None,
        "is_flow_outside": party.database is not None,
    }
    if party.image not in (None, *NAMES) and party.requirements is None:
        variables["pulled"] = sorted({*variables["pulled"], variables["images"][_WORKER]})
    return variables


def exchange_containers(federation: Federation, exchange: Exchange, ports: Assigned) -> dict[str, Any]:
    """Return the variables of the exchange's docker-compose.yml."""
    image = image_name(PROXY, registry=federation.registry, tag=federation.tag)
    return _containers(federation, exchange, {PROXY: image}, ports) | {
        "cpus": {},
        "memory_bytes": {PROXY: _EXCHANGE_BYTES},
        "data_dir": None,
        "is_flow_outside": False,
    }


def published(machine: Party | Exchange, ports: Assigned) -> list[dict[str, Any]]:
    """Return the ports of the machine that lead to its proxy; `host` is empty for every address."""
    found = [{"name": "proxy", "host": "127.0.0.1" if machine.is_loopback else "", "port": ports.proxy_port}]
    if isinstance(machine, Party) and ports.rest_port is not None:
        found.append({"name": "rest", "host": machine.rest_bind, "port": ports.rest_port})
    return found


def _containers(
    federation: Federation, machine: Party | Exchange, images: Mapping[str, str], ports: Assigned
) -> dict[str, Any]:
    verifier = image_name(PARTY, registry=federation.registry, tag=federation.tag)
    owner = machine.id if isinstance(machine, Party) else EXCHANGE
    return {
        "images": images,
        "containers": {service: container_name(owner, service) for service in images},
        "published": published(machine, ports),
        "extra_hosts": dict(machine.extra_hosts),
        "verifier": verifier,
        "pulled": sorted({*images.values(), verifier}) if federation.registry else [],
    }
