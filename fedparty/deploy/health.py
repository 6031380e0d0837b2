"""Whether the services of a party are healthy, seen from within the party.

Owns the reading of each service's readiness and the wait for it. Runs in the party, whatever its engine: standard
library only. Knows nothing of how services are started, but listens to the supervisor where there is one.
"""

from __future__ import annotations

import http.client
import json
import math
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fedparty.deploy import supervision

HEALTHY = "healthy"
WAITING = "waiting"
DOWN = "down"
NO_ANSWER = "does not answer"
LEADER = "leader"
STANDBY = "standby"

_INTERVAL_S = 0.04
_INTERVAL_SHARE = 0.05
"""Of the time waited so far: many parties that start at once must not be slowed down by being asked about it."""
_SUPERVISOR_INTERVAL_S = 0.5
_REQUEST_TIMEOUT_S = 2.0
_TOO_MANY_STARTS = 3
_FAILED = frozenset({"BACKOFF", "EXITED", "FATAL"})


@dataclass(frozen=True)
class Reading:
    """The state of one service.

    Attributes
    ----------
    state
        ``healthy``; ``waiting`` (runs, but is not ready); ``down`` (does not answer).
    detail
        What it waits for, or what became of its process.
    pid, started
        The process and the epoch second of its start; 0 where they are not known.
    role
        ``leader`` or ``standby`` where a service is one of several; empty: it is the only one, or does not say.
    """

    service: str
    state: str
    detail: str = ""
    pid: int = 0
    started: int = 0
    role: str = ""

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Reading:
        """Read what `to_json` wrote.

        Raises
        ------
        ValueError
            It is something else.
        """
        try:
            return cls(**json.loads(line))
        except TypeError as exc:
            raise ValueError(f"not a reading: {line!r}") from exc


@dataclass(frozen=True)
class Probe:
    """Where one service tells whether it is ready.

    Attributes
    ----------
    listeners
        Of the proxy: the names of those that must be open, for Envoy calls itself ready without them.
    """

    service: str
    address: str
    path: str
    listeners: frozenset[str] = frozenset()


class Watcher:
    """Reads the services of one party.

    Parameters
    ----------
    home
        The party's home; addresses in its settings are relative to it, so it must be the working directory.
    service
        The only one to read: in its container, the others' settings are not there. None: all of them.

    Raises
    ------
    OSError, ValueError, KeyError
        A service's settings are not there, or are something else.
    """

    def __init__(self, home: Path, service: str | None = None) -> None:
        self._probes = tuple(_probe(home / "bundle", name) for name in ([service] if service else _services(home)))
        self._supervisor = home / "run/supervisor.sock"
        self._processes: dict[str, supervision.Process] = {}
        self._asked = -math.inf
        self._failed_starts: dict[str, set[int]] = {}

    def read(self) -> tuple[Reading, ...]:
        """Return the state of every service now."""
        self._ask_supervisor()
        return with_one_leader([_read(probe, self._process_of(probe.service)) for probe in self._probes])

    def wait(self, timeout_s: float) -> Iterator[Reading]:
        """Yield each change of a service's state until all are healthy, one ends again and again, or time is over."""
        begun = time.monotonic()
        deadline = begun + timeout_s
        known: dict[str, tuple[str, str]] = {}
        while True:
            readings = self.read()
            for reading in readings:
                if known.get(reading.service) != (reading.state, reading.detail):
                    known[reading.service] = (reading.state, reading.detail)
                    yield reading
            if all(reading.state == HEALTHY for reading in readings) or self._is_hopeless():
                return
            if time.monotonic() > deadline:
                return
            time.sleep(max(_INTERVAL_S, _INTERVAL_SHARE * (time.monotonic() - begun)))

    def _ask_supervisor(self) -> None:
        if time.monotonic() - self._asked < _SUPERVISOR_INTERVAL_S:
            return
        found = supervision.processes(self._supervisor) or ()
        self._processes = {process.name: process for process in found}
        self._asked = time.monotonic()
        for process in found:
            if process.state in _FAILED:
                self._failed_starts.setdefault(process.name, set()).add(process.started)

    def _process_of(self, service: str) -> supervision.Process | None:
        return self._processes.get(service, self._processes.get("party"))

    def _is_hopeless(self) -> bool:
        return any(len(starts) >= _TOO_MANY_STARTS for starts in self._failed_starts.values())


def with_one_leader(readings: Sequence[Reading]) -> tuple[Reading, ...]:
    """Return readings in which no job server is healthy unless exactly one of them leads.

    Each is asked at a moment of its own, so two may seem to lead while one takes over from the other.
    """
    roles = [reading.role for reading in readings if reading.role]
    leaders = roles.count(LEADER)
    if len(roles) < 2 or leaders == 1:
        return tuple(readings)
    why = f"leader: {leaders or 'none'} of {len(roles)} job servers leads"
    return tuple(
        replace(each, state=WAITING, detail=why) if each.role and each.state == HEALTHY else each for each in readings
    )


def _read(probe: Probe, process: supervision.Process | None) -> Reading:
    state, detail, role = _ask(probe)
    if process is None:
        return Reading(probe.service, state, detail, role=role)
    if state == DOWN and process.state in _FAILED:
        detail = f"its process ended{': ' if process.error else ''}{process.error}"
    return Reading(probe.service, state, detail, process.pid, process.started, role)


def _services(home: Path) -> list[str]:
    services: list[str] = json.loads((home / "bundle/bundle.json").read_bytes())["services"]
    return services


def _probe(bundle: Path, service: str) -> Probe:
    if service == "proxy":
        bootstrap = json.loads((bundle / "proxy/bootstrap.json").read_bytes())
        listeners = json.loads((bundle / "proxy/live/lds.json").read_bytes())["resources"]
        address = _envoy_address(bootstrap["admin"]["address"])
        return Probe(service, address, "/ready", frozenset(listener["name"] for listener in listeners))
    settings = json.loads((bundle / service / "settings.json").read_bytes())
    return Probe(service, settings["operations"], "/readyz")


def _envoy_address(address: dict[str, Any]) -> str:
    if "pipe" in address:
        return f"unix:{address['pipe']['path']}"
    target = address["socket_address"]
    host = {"0.0.0.0": "127.0.0.1"}.get(target["address"], target["address"])  # noqa: S104  # where to ask, not to listen
    return f"{host}:{target['port_value']}"


class _Connection(http.client.HTTPConnection):
    """HTTP to ``unix:path`` or ``host:port``."""

    def __init__(self, address: str) -> None:
        self._path = address.removeprefix("unix:") if address.startswith("unix:") else ""
        super().__init__("localhost" if self._path else address, timeout=_REQUEST_TIMEOUT_S)

    def connect(self) -> None:
        if not self._path:
            return super().connect()
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
        return None


def _ask(probe: Probe) -> tuple[str, str, str]:
    """Return a service's state, what it waits for, and its role."""
    try:
        status, body = _get(probe.address, probe.path)
        if status != http.client.OK:
            return WAITING, _waiting_for(body), _role(body)
        closed = probe.listeners - _open_listeners(probe) if probe.listeners else None
    except (OSError, http.client.HTTPException):
        return DOWN, NO_ANSWER, ""
    if closed:
        return WAITING, f"cannot listen: {', '.join(sorted(closed))}; is the port taken by another program?", ""
    return HEALTHY, "", _role(body)


def _open_listeners(probe: Probe) -> set[str]:
    """Return the names of the proxy's open listeners: Envoy tells one a line, ``name::address``."""
    _, body = _get(probe.address, "/listeners")
    return {line.partition("::")[0] for line in body.decode().splitlines()}


def _get(address: str, path: str) -> tuple[int, bytes]:
    connection = _Connection(address)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _role(body: bytes) -> str:
    """Return which of several replicas a service says it is."""
    try:
        return str(json.loads(body).get("role", ""))
    except (ValueError, AttributeError):
        return ""


def _waiting_for(body: bytes) -> str:
    """Return what a service says it waits for; Envoy says its state in plain text."""
    try:
        waiting = json.loads(body)["waiting_for"]
        return ", ".join(f"{name}: {why}" for name, why in waiting.items())
    except (ValueError, KeyError, TypeError, AttributeError):
        return body.decode("utf-8", "replace").strip()[:200]
