"""The process engine: a party's services as local processes under supervisord, without Docker and without root.

Owns how a bundle is started, watched and stopped as processes. It works on the deployer's own machine only, so it may
ask the kernel about processes and ports; commands still go through the transport.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from fedparty import __version__
from fedparty.deploy import audit, commands, install, processes, supervision
from fedparty.deploy.bundle import FLOW, PROXY, TOGETHER, Bundle, flows_of, listeners, read_bundle, standby_first
from fedparty.deploy.commands import Command
from fedparty.deploy.health import HEALTHY, Reading
from fedparty.deploy.home import Home
from fedparty.deploy.programs import find_programs
from fedparty.deploy.report import NOT_DEPLOYED, STOPPED, UNSUPERVISED, ServiceState
from fedparty.deploy.transport import Completed, Transport
from fedparty.errors import BundleError, DeployError

_SUPERVISOR = "supervisord.conf"
_LOG_LINES = 15
_COMMAND_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 8.0
_READY_TIMEOUT_S = 30.0
_WAKE_S = 0.15


class ProcessEngine:
    """`Engine` of one party as local processes.

    Parameters
    ----------
    party
        A party id or ``exchange``.
    generated
        The folder of its generated bundle.
    home
        Where it is, or will be, deployed.
    """

    name = "process"

    def __init__(self, transport: Transport, party: str, generated: Path, home: Home) -> None:
        self.party = party
        self.transport = transport
        self._generated = generated
        self.home = home
        self._programs = find_programs()

    @property
    def lock_place(self) -> str:
        """See `Engine.lock_place`."""
        return f"{self.transport.place} {self.home.path.parent}"

    @property
    def logs(self) -> str:
        """See `Engine.logs`."""
        return str(self.home.logs)

    @property
    def entry(self) -> tuple[str, ...]:
        """See `Engine.entry`."""
        return ()

    @property
    def rest_url(self) -> str | None:
        """See `Engine.rest_url`."""
        bundle = self._bundle_if_any()
        return bundle.rest_url if bundle else None

    @property
    def services(self) -> tuple[str, ...]:
        """See `Engine.services`."""
        bundle = self._bundle_if_any()
        return bundle.services if bundle else ()

    def lock(self) -> AbstractAsyncContextManager[None]:
        """See `Engine.lock`."""
        return self.transport.lock(self.home.path.parent)

    async def check(self) -> None:
        """See `Engine.check`."""
        bundle = self._bundle()
        await install.check_bundle(self.transport, bundle, self.home)
        await install.check_own_keys(self.transport, bundle, self.home)
        for host, port in listeners(bundle):
            self._check_port(host, port)

    async def plan(self) -> tuple[str, ...]:
        """See `Engine.plan`."""
        bundle = self._bundle()
        difference = await install.difference_from(self.transport, bundle, self.home)
        lines = [f"{difference}: {bundle.folder} -> {self.home.bundle}"]
        lines += [f"  {path}" for path in difference.static + difference.live + difference.gone]
        return (*lines, *(str(self._command(argv)) for argv in await self._start_commands(bundle)))

    async def install(self, tell: Callable[[str], None]) -> str:
        """See `Engine.install`."""
        bundle = self._bundle()
        await install.prepare_folders(self.transport, bundle, self.home)
        return str(await install.install_bundle(self.transport, bundle, self.home))

    async def is_deployed(self) -> bool:
        """See `Engine.is_deployed`."""
        return self.home.bundle.is_dir()

    async def push_live(self) -> tuple[str, ...]:
        """See `Engine.push_live`."""
        if not await self.is_deployed():
            return ()
        bundle = self._bundle()
        await install.check_bundle(self.transport, bundle, self.home)
        return await install.push_live_files(self.transport, bundle, self.home)

    async def start(self) -> str:
        """See `Engine.start`."""
        bundle = self._bundle()
        to_run = await self._start_commands(bundle)
        if not to_run:
            return "runs already, nothing restarted"
        if not self._is_supervised():
            await self._clear_remains()
        elif commands.shut_down() in to_run:
            await self.stop()
            to_run.remove(commands.shut_down())
        await install.make_run_folder(self.transport, self.home)
        for argv in to_run:
            await self._run(argv)
        await self.transport.write(self.home.started, json.dumps(self._digests(bundle)).encode())
        return _describe_start(to_run)

    async def wait(self, timeout_s: float, on_reading: Callable[[Reading], None]) -> tuple[ServiceState, ...]:
        """See `Engine.wait`."""
        readings: dict[str, Reading] = {}

        def take(line: str) -> None:
            reading = Reading.from_json(line)
            readings[reading.service] = reading
            on_reading(reading)

        command = self._command(commands.health(timeout_s=timeout_s))
        done = await self.transport.run(command, timeout_s=timeout_s + _COMMAND_TIMEOUT_S, on_line=take)
        if not readings:
            done.require(f"party {self.party}")
        return await self._with_logs(readings)

    async def states(self) -> tuple[ServiceState, ...]:
        """See `Engine.states`."""
        if not await self.is_deployed():
            return tuple(ServiceState(service, NOT_DEPLOYED) for service in self.services or ("all services",))
        self._deployed()  # one that is damaged says so, instead of having no services
        if not self._is_supervised():
            state = UNSUPERVISED if processes.of_home(self.home.path) else STOPPED
            return tuple(self._state(service, state) for service in self.services)
        done = await self.transport.run(self._command(commands.health()), timeout_s=_COMMAND_TIMEOUT_S)
        readings = [Reading.from_json(line) for line in done.output.splitlines()]
        return await self._with_logs({reading.service: reading for reading in readings})

    async def execute(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        """See `Engine.execute`."""
        return await self.transport.run(self._command(argv), timeout_s=timeout_s)

    async def follow(self, service: str, lines: int, *, is_followed: bool, on_line: Callable[[str], None]) -> None:
        """See `Engine.follow`."""
        bundle = self._deployed()
        log = self.home.log(bundle.program_of(service) if service in bundle.services else service)
        if not log.exists() and not is_followed:
            raise DeployError(
                f"{log}: there is no such log", hint=f"Services of {self.party}: {', '.join(bundle.services)}"
            )
        await self.transport.run(self._command(commands.tail(log, lines, follow=is_followed)), on_line=on_line)

    async def stop(self) -> None:
        """See `Engine.stop`."""
        # Its socket, and not its own client program: ten parties are stopped in the time that ten clients need to load.
        if await asyncio.to_thread(supervision.shut_down, self.home.supervisor_socket):
            await asyncio.to_thread(self._wait_until_gone)
        await self._clear_remains()
        await self.transport.remove(self.home.started)
        await self.transport.remove(self.home.short_run)
        await self.transport.remove(self.home.run)

    def _wait_until_gone(self) -> None:
        """Return when all processes have ended. Asking wakes the supervisor, which else looks once in a second."""
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while not processes.wait_until_gone(self.home.path, _WAKE_S) and time.monotonic() < deadline:
            supervision.processes(self.home.supervisor_socket)

    async def purge(self) -> None:
        """See `Engine.purge`."""
        await install.empty_home(self.transport, self.home)

    async def confirm(self) -> None:
        """See `Engine.confirm`. This engine keeps no releases: what it runs is installed once for all its parties."""

    async def roll_back(self, timeout_s: float) -> str | None:
        """See `Engine.roll_back`."""
        return None

    async def record(self, what: str) -> None:
        """See `Engine.record`."""
        await audit.append(self.transport, self.home, self.party, what)

    def _bundle(self) -> Bundle:
        bundle = read_bundle(self._generated)
        if bundle.engine != self.name:
            raise BundleError(
                f"{bundle.folder} was generated for the {bundle.engine} engine",
                hint="Run generate_config.py --engine process, then deploy again.",
            )
        return bundle

    def _deployed(self) -> Bundle:
        return read_bundle(self.home.bundle if self.home.bundle.is_dir() else self._generated)

    def _bundle_if_any(self) -> Bundle | None:
        try:
            return self._deployed()
        except BundleError:
            return None

    def _command(self, argv: Sequence[str]) -> Command:
        program = str(self._programs.python) if argv[0] == commands.PYTHON else argv[0]
        environment = commands.environment(self.home, self._programs, os.environ)
        return Command((program, *argv[1:]), cwd=self.home.path, environment=environment)

    async def _run(self, argv: Sequence[str]) -> None:
        done = await self.transport.run(self._command(argv), timeout_s=_COMMAND_TIMEOUT_S)
        if commands.RESTART not in argv:  # a program that does not stay up shows in its health, with its log
            done.require(f"party {self.party}")

    def _digests(self, bundle: Bundle) -> dict[str, str]:
        return bundle.digests(f"{__version__} {self._programs.python} {self._programs.envoy}")

    async def _start_commands(self, bundle: Bundle) -> list[tuple[str, ...]]:
        """Return what must be run so that every program runs with what it reads now."""
        migration = [commands.migrate()] if bundle.flows else []
        running = supervision.processes(self.home.supervisor_socket)
        if running is None:
            return [*migration, commands.start_supervisor()]
        wanted, known = self._digests(bundle), self._started()
        if wanted[_SUPERVISOR] != known.get(_SUPERVISOR):
            return [commands.shut_down(), *migration, commands.start_supervisor()]
        ended = {process.name for process in running if process.state not in ("RUNNING", "STARTING")}
        stale = [name for name in bundle.programs if name in ended or wanted[name] != known.get(name)]
        there = flows_of(process.name for process in running)
        if there and bundle.flows and len(there) != len(bundle.flows):
            return _other_number_of_flows(stale, migration, is_more=len(bundle.flows) > len(there))
        if not stale:
            return []
        flows = standby_first(flows_of(stale), await self._roles() if len(flows_of(stale)) > 1 else {})
        others = [name for name in stale if name not in flows]
        return [
            *(migration if {*bundle.flows, TOGETHER} & set(stale) else []),
            *([commands.restart([*others, *flows])] if len(flows) < 2 else _one_by_one(others, flows)),
        ]

    async def _roles(self) -> dict[str, str]:
        """Return what each service that answers says of its role."""
        done = await self.transport.run(self._command(commands.health()), timeout_s=_COMMAND_TIMEOUT_S)
        readings = map(Reading.from_json, done.output.splitlines())
        return {reading.service: reading.role for reading in readings if reading.role}

    def _started(self) -> dict[str, str]:
        try:
            found: dict[str, str] = json.loads(self.home.started.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return found

    def _is_supervised(self) -> bool:
        return supervision.processes(self.home.supervisor_socket) is not None

    async def _clear_remains(self) -> None:
        """End what a killed supervisor left behind."""
        await asyncio.to_thread(processes.end, self.home.path)

    def _check_port(self, host: str, port: int) -> None:
        if processes.is_free(host, port):
            return
        listener = processes.listener_of(port)
        if listener.home == str(self.home.path):
            return
        raise DeployError(
            f"party {self.party}: port {port} on {host} is taken by {processes.describe(listener)}",
            hint=f"Stop it, or set another {self._port_key(port)} in parties.conf, generate and deploy again.",
        )

    def _port_key(self, port: int) -> str:
        if self.party == "exchange":
            return "exchange_port"
        return "proxy_port" if port == self._bundle().proxy_port else "rest_port"

    def _state(self, service: str, state: str) -> ServiceState:
        return ServiceState(service, state, self._address(service))

    def _address(self, service: str) -> str:
        bundle = self._deployed()
        if service == PROXY:
            return f"{bundle.address}:{bundle.proxy_port}"
        if service == FLOW and bundle.rest_url:
            return bundle.rest_url
        return "inside only"

    async def _with_logs(self, readings: dict[str, Reading]) -> tuple[ServiceState, ...]:
        states = [self._state(name, STOPPED).updated(readings[name]) for name in self.services if name in readings]
        return tuple([state if state.state == HEALTHY else await self._with_log(state) for state in states])

    async def _with_log(self, state: ServiceState) -> ServiceState:
        log = self.home.log(self._deployed().program_of(state.service))
        content = await self.transport.read(log) or b""
        return state.with_log("\n".join(content.decode("utf-8", "replace").splitlines()[-_LOG_LINES:]))


def _other_number_of_flows(
    stale: Sequence[str], migration: Sequence[tuple[str, ...]], *, is_more: bool
) -> list[tuple[str, ...]]:
    """Return the steps between one job server and two: one that is alone holds no lease, so none runs beside it."""
    changed = [name for name in stale if not name.startswith(f"{FLOW}-")]
    restart = [commands.restart(changed)] if changed else []
    steps = [*restart, commands.update_supervisor()] if is_more else [commands.update_supervisor(), *restart]
    return [*migration, *steps]


def _one_by_one(others: Sequence[str], flows: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the steps that start job servers anew, each when the one before is ready to lead."""
    steps = [commands.restart(others)] if others else []
    for flow in flows:
        steps += [commands.restart([flow]), commands.health(timeout_s=_READY_TIMEOUT_S, service=flow)]
    return steps[:-1]  # the last one is waited for with all the others


def _describe_start(to_run: Sequence[tuple[str, ...]]) -> str:
    if commands.start_supervisor() in to_run:
        return "services started"
    restarted = [name.removeprefix(f"{commands.GROUP}:") for argv in to_run for name in _restarted_by(argv)]
    other_number = ["another number of job servers"] if commands.update_supervisor() in to_run else []
    return f"restarted {', '.join([*restarted, *other_number])}"


def _restarted_by(argv: Sequence[str]) -> Sequence[str]:
    return argv[argv.index(commands.RESTART) + 1 :] if commands.RESTART in argv else ()
