"""``fedparty health``: whether the services of a party are healthy.

Owns its options and lines. Runs in the party and imports nothing that is slow to load.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from fedparty.cli.options import home_option
from fedparty.deploy.health import HEALTHY, Reading, Watcher
from fedparty.errors import DeployError

SERVICE_VARIABLE = "FEDPARTY_SERVICE"
"""Says in a container which service it runs."""


@click.command()
@home_option
@click.option("--wait", "is_waiting", is_flag=True, help="Wait until all services are healthy.")
@click.option("--timeout", "timeout_s", type=float, default=60.0, show_default=True, help="Seconds to wait.")
@click.option("--service", envvar=SERVICE_VARIABLE, help="The only one to look at.  [default: in a container, its own]")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", help="Form of each line.")
def health(home: Path, is_waiting: bool, timeout_s: float, service: str | None, output: str) -> int:
    """Show the state of every service, with --wait each change; ends with 0 if all are healthy."""
    os.chdir(home)
    latest: dict[str, str] = {}
    watcher = _watch(service)
    for reading in watcher.wait(timeout_s) if is_waiting else watcher.read():
        latest[reading.service] = reading.state
        click.echo(reading.to_json() if output == "json" else _line(reading))
    return 0 if all(state == HEALTHY for state in latest.values()) else 1


def _watch(service: str | None) -> Watcher:
    try:
        return Watcher(Path(), service)
    except (OSError, ValueError, KeyError) as exc:
        what = f"has no service {service}" if service else "is not a party's home"
        raise DeployError(f"{Path.cwd()}: {what}: {exc}", hint="Give another folder with --home.") from exc


def _line(reading: Reading) -> str:
    return f"{reading.service:12} {reading.state:8} {reading.detail or reading.role}".rstrip()
