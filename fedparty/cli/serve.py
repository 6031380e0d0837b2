"""``fedparty serve``: services of a party, as its supervisor starts them.

Owns the process: title, signals, the order of the first imports, the one place where a service's failure is recorded.
Owns no service. The fork server of the worker comes first: nothing that knows gRPC may be loaded before it is forked.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import resource
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

import click

from fedparty.cli.options import home_option
from fedparty.errors import FedpartyError

if TYPE_CHECKING:
    from fedparty.settings import ServiceSettings
    from fedparty.worker.forkserver import ForkServer

SERVICES = ("federation", "flow", "flow-2", "worker")
"""What can be served; ``flow-2`` is the flow's second replica."""
_WORKER = "worker"
_FILES = 65_536
"""Open files at most: each person who follows a log is one, and systems often allow 1,024 unless asked for more."""
_COLLECT_AFTER = (700, 10, 10)
"""The interpreter's own thresholds (gc.set_threshold): services and tasks last, other commands do not."""


@click.command()
@click.argument("services", nargs=-1, required=True, type=click.Choice(SERVICES), metavar="SERVICE...")
@home_option
def serve(services: Sequence[str], home: Path) -> NoReturn:
    """Run services of a party in one process, until SIGTERM: federation, flow, flow-2, worker."""
    os.chdir(home)
    gc.set_threshold(*_COLLECT_AFTER)
    fork_server = _start_fork_server() if _WORKER in services else None
    import uvloop

    _allow_many_files()
    loaded = {name: _load_settings(name) for name in dict.fromkeys(services)}
    _introduce(loaded)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(loaded, fork_server))
    except ExceptionGroup as group:  # the process's boundary: recorded, then the supervisor starts it again
        for failure in group.exceptions:
            _record(failure)
        _leave(1)
    _leave(0)


def _leave(code: int) -> NoReturn:
    """End at once: everything is closed, and taking the interpreter apart costs a quarter of a second of a core."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _record(failure: Exception) -> None:
    if isinstance(failure, FedpartyError):
        logging.getLogger(__name__).error("%s. %s", failure.message, failure.hint)
    else:
        logging.getLogger(__name__).error("a service failed: %s", failure, exc_info=failure)


def _start_fork_server() -> ForkServer:
    from fedparty.worker import forkserver

    return forkserver.start()


def _allow_many_files() -> None:
    """Raise the soft limit of open files; that of the tasks stays, for the fork server has begun before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _load_settings(service: str) -> ServiceSettings:
    from fedparty import settings

    kinds: dict[str, type[settings.ServiceSettings]] = {
        "federation": settings.FederationSettings,
        "flow": settings.FlowSettings,
        _WORKER: settings.WorkerSettings,
    }
    return settings.load(kinds[_kind_of(service)], Path("bundle") / service / "settings.json")


def _kind_of(service: str) -> str:
    """Return what a service is, whichever replica of it: the package that it is in."""
    return service.partition("-")[0]


def _introduce(loaded: dict[str, ServiceSettings]) -> None:
    """Set the process's title and log level: the chattiest that a service asks for."""
    from setproctitle import setproctitle

    from fedparty.rpc.logging import configure

    levels = logging.getLevelNamesMapping()
    configure(min((each.log_level for each in loaded.values()), key=lambda name: levels.get(name, 0)))
    setproctitle(f"fedparty {next(iter(loaded.values())).party} {' '.join(loaded)}")


def _import(services: Iterable[str]) -> dict[str, ModuleType]:
    """Import services; what they are made of is never looked through for garbage, which would block every call."""
    gc.disable()
    modules = {name: importlib.import_module(f"fedparty.{_kind_of(name)}.service") for name in services}
    gc.freeze()
    gc.enable()
    return modules


async def _run(loaded: dict[str, ServiceSettings], fork_server: ForkServer | None) -> None:
    """Run the services until one fails or the process is told to end."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    services = _import(loaded)
    async with asyncio.TaskGroup() as group:
        for name, settings in loaded.items():
            service = services[name]
            extra = (fork_server,) if name == _WORKER else ()
            group.create_task(service.serve(settings, stop, *extra), name=name)
