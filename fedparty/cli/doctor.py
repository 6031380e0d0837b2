"""``fedparty doctor``: what is broken between running parties, and the remedy.

Owns its options and what it prints. The examination is `fedparty.deploy.doctor`'s.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedparty.cli.console import stdout_console
from fedparty.cli.deploy import Where
from fedparty.cli.options import engine_option, host_key_option, places
from fedparty.config import Federation, load
from fedparty.deploy.doctor.doctor import Doctor
from fedparty.deploy.doctor.findings import FAIL, OK, Case, Check, Examination, Finding, Way
from fedparty.deploy.health import HEALTHY
from fedparty.deploy.sites import ALL, Selection
from fedparty.types import EXCHANGE

_CELL = 24
_COLOURS = {OK: "green", FAIL: "red"}


@click.command()
@click.argument("parties", nargs=-1)
@places
@engine_option
@host_key_option
@click.option("--no-throughput", "is_quiet", is_flag=True, help="Send no bytes to measure the lines.")
@click.option("-a", "--all-checks", "is_whole", is_flag=True, help="Show the checks that are well, too.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", help="Form of the answer.")
def doctor(
    parties: Sequence[str], conf: Path, outputs: Path, engine: str | None, is_host_key_accepted: bool,
    is_quiet: bool, is_whole: bool, output: str,
) -> int:  # fmt: skip
    """Find what is broken between running parties, at which hop, and name the remedy; ends with 0 if nothing is.

    Each party is looked at from its machine and from within. PARTIES are asked; each tries every party.
    """
    selection = Where(conf, outputs, engine, is_host_key_accepted, is_deployed=True).select(parties or [ALL])
    found = asyncio.run(_examine(selection, load(conf).federation, is_throughput_wanted=not is_quiet))
    if output == "json":
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        show(found, is_whole=is_whole)
    return 0 if found.is_healthy else 1


async def _examine(selection: Selection, federation: Federation, *, is_throughput_wanted: bool) -> Examination:
    doctor = Doctor(selection.engines, federation, notes=selection.notes, is_throughput_wanted=is_throughput_wanted)
    try:
        return await doctor.examine()
    finally:
        await selection.close()


def show(found: Examination, *, is_whole: bool = False) -> None:
    """Print the parties, the matrix and, last, what is broken."""
    console = stdout_console()
    for case in found.cases:
        _show_case(console, case, is_whole=is_whole)
    if found.matrix:
        console.print()
        table = _matrix(found)  # as wide as it is: a terminal that is narrower breaks its lines
        Console(width=_CELL * len(table.columns), highlight=False).print(table)
    for note in found.notes:
        console.print(escape(note))
    console.print()
    for finding in found.findings:
        _show_finding(console, finding)
    if found.is_healthy:
        console.print("[green]Nothing is broken.[/green]")


def _show_case(console: Console, case: Case, *, is_whole: bool) -> None:
    well = sum(check.state == OK for check in case.checks)
    healthy = sum(service.state == HEALTHY for service in case.services)
    console.print(
        f"[bold]{case.party}[/bold] {escape(f'({case.engine}, {case.place})')}: "
        f"{healthy} of {len(case.services)} services healthy, {well} of {len(case.checks)} checks well"
    )
    for check in case.checks:
        if is_whole or check.state != OK:
            _show_check(console, check)


def _show_check(console: Console, check: Check) -> None:
    colour = _COLOURS.get(check.state, "yellow")
    console.print(f"  [{colour}]{check.state:4}[/] {escape(f'{check.name}: {check.detail}')}")
    if check.remedy:
        console.print(escape(f"       {check.remedy}"))


def _matrix(found: Examination) -> Table:
    """Return the ways: a row a sender, a column a receiver."""
    ways = {(way.sender, way.receiver): way for way in found.matrix}
    senders = [case.party for case in found.cases if case.party != EXCHANGE]
    receivers = list(dict.fromkeys(way.receiver for way in found.matrix))
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("from \\ to")
    for receiver in receivers:
        table.add_column(receiver, justify="right", no_wrap=True)
    for sender in senders:
        table.add_row(sender, *(_cell(ways.get((sender, receiver))) for receiver in receivers))
    return table


def _cell(way: Way | None) -> str:
    if way is None:
        return "-"
    if not way.is_reachable:
        return f"[red]{escape(way.hop)}[/red]"
    speed = f", {way.throughput_mib_s:,.0f} MiB/s" if way.throughput_mib_s is not None else ""
    return f"{way.latency_ms:.1f} ms{speed}"


def _show_finding(console: Console, finding: Finding) -> None:
    seen = f" (seen from {', '.join(finding.seen_from)})" if finding.seen_from else ""
    console.print(f"[red]{escape(f'{finding.hop} at {finding.at}: {finding.what}{seen}')}[/red]")
    if finding.remedy:
        console.print(escape(f"  {finding.remedy}"))
