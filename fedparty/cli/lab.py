"""``fedparty lab up | down | status | party add | party remove``.

Owns their options, what is printed and the exit codes. The lab is `fedparty.deploy.lab`'s, the look
`fedparty.cli.console`'s.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from fedparty.cli import console
from fedparty.cli.options import repeat_places
from fedparty.cli.session import output_option
from fedparty.deploy.lab import HEALTH_TIMEOUT_S, Lab
from fedparty.deploy.lab_conf import DEFAULT_PARTIES, FIRST_PORT, Shape
from fedparty.deploy.report import Progress, Report, Silence

_MOST_PARTIES = 100

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def dir_option(function: Decorated) -> Decorated:
    """Add the folder of the lab."""
    return click.option(
        "--dir", "folder", type=click.Path(file_okay=False, path_type=Path), default="lab", show_default=True,
        help="Folder of the lab.",
    )(function)  # fmt: skip


def timeout_option(function: Decorated) -> Decorated:
    """Add how long parties may take to start."""
    return click.option(
        "--timeout", "timeout_s", type=click.FloatRange(0, min_open=True), default=HEALTH_TIMEOUT_S, show_default=True,
        help="Seconds to get healthy.",
    )(function)  # fmt: skip


@click.group()
def lab() -> None:
    """A federation on this machine to try things in: processes, no Docker, no root, the real security."""


@lab.command()
@click.option(
    "-n", "parties", type=click.IntRange(1, _MOST_PARTIES),
    help=f"How many parties.  [default: {DEFAULT_PARTIES}, or as many as there are]",
)  # fmt: skip
@dir_option
@click.option("--remove", "is_shrunk", is_flag=True, help="With a smaller -n: revoke and stop the last parties.")
@click.option("--exchange", "has_exchange", is_flag=True, help="The parties meet at an exchange. For a new lab.")
@click.option(
    "--together/--separate", "is_together", default=None,
    help="A party's Python services as one process (less memory), or one each. For a new lab."
    "  [default: together from three parties on]",
)  # fmt: skip
@click.option(
    "--base-port", type=click.IntRange(1, 65535),
    help=f"First port that is tried. For a new lab.  [default: {FIRST_PORT}]",
)  # fmt: skip
@timeout_option
def up(
    parties: int | None, folder: Path, is_shrunk: bool, has_exchange: bool, is_together: bool | None,
    base_port: int | None, timeout_s: float,
) -> int:  # fmt: skip
    """Make a lab, or start the one that is there, and prove by the toy job that its parties compute together.

    Again: nothing that runs is restarted. With a larger -n parties come in beside those that run.

    \b
    fedparty lab up -n 5            five parties; parties.conf is in lab/, to be edited
    fedparty lab up -n 3 --remove   the last two are revoked and stopped
    fedparty lab down               stop; --purge removes everything
    """
    found = Lab(folder)
    shape = Shape(parties, is_shrunk, is_together, has_exchange, base_port)
    return _finish(found, _watched(lambda shown: found.up(shape, shown, timeout_s=timeout_s)))


@lab.command()
@dir_option
@click.option("--purge", "is_purged", is_flag=True, help="Remove the lab too: data, keys and parties.conf.")
def down(folder: Path, is_purged: bool) -> int:
    """Stop every party of the lab; what they know stays, and `fedparty lab up` goes on with it."""
    report = _watched(lambda shown: Lab(folder).down(shown, is_purged=is_purged))
    stopped = sum(result.error is None for result in report.parties)
    if not report.is_success:
        console.show(report)
    click.echo(f"{stopped} stopped{' and removed' if is_purged else ''}")
    return 0 if report.is_success else 1


@lab.command()
@dir_option
@output_option
def status(folder: Path, output: str) -> int:
    """Show every service of the lab as it is now; ends with 0 if all are healthy."""
    found = Lab(folder)
    report = asyncio.run(found.status(Silence()))
    if output == "json":
        click.echo(json.dumps({"folder": str(folder), **report.to_json()}, indent=2))
    else:
        console.show(report)
    return 0 if all(result.is_healthy for result in report.parties) else 1


@lab.group()
def party() -> None:
    """One party more or less, while the others go on."""


@party.command()
@click.argument("party", required=False, metavar="[ID]")
@dir_option
@timeout_option
def add(party: str | None, folder: Path, timeout_s: float) -> int:
    """Add a party to the lab, start it, and verify it with the others; without ID it gets the next one."""
    found = Lab(folder)
    return _finish(found, _watched(lambda shown: found.add(party, shown, timeout_s=timeout_s)))


@party.command()
@click.argument("party", metavar="ID")
@dir_option
@click.option("--purge", "is_purged", is_flag=True, help="Remove its data too.")
def remove(party: str, folder: Path, is_purged: bool) -> int:
    """Revoke a party's certificates, tell the others, and stop it."""
    found = Lab(folder)
    report = _watched(lambda shown: found.remove(party, shown, is_purged=is_purged))
    if not report.is_success:
        console.show(report)
        return 1
    click.echo(f"{party} is revoked and stopped; in the lab are {', '.join(found.homes())}")
    return 0


def _watched(action: Callable[[Progress], Coroutine[Any, Any, Report]]) -> Report:
    with console.progress() as shown:
        return asyncio.run(action(shown))


def _finish(found: Lab, report: Report) -> int:
    console.show(report)
    if not report.is_success:
        click.echo(f"For this lab the commands above take: {shlex.join(repeat_places(found.conf, found.outputs))}")
        return 1
    home = next(iter(found.homes().values()))
    own = _program()
    console.show_success(
        report,
        {
            "look": f"{own} {shlex.join(found.words('status'))}",
            "jobs": f"{own} console --home {shlex.quote(os.path.relpath(home))}",
            "stop": f"{own} {shlex.join(found.words('down'))}",
        },
    )
    return 0


def _program() -> str:
    """Return how a person here calls this program."""
    called, here = Path(sys.argv[0]).absolute(), Path.cwd()
    return str(called.relative_to(here)) if called.name == "fedparty" and called.is_relative_to(here) else "fedparty"
