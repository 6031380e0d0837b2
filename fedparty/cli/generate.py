"""``fedparty generate``, which is ``generate_config.py`` too.

Owns its options and what it prints: a table on a terminal, plain lines elsewhere. Decides nothing.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from fedparty.cli.options import engine_option, places, repeat_places
from fedparty.config import Exchange, Party, load
from fedparty.generate import Change, Report, State, run

_HEADINGS = ("party", "machine", "engine", "proxy port", "REST port")
_NAMED_AT_MOST = 4


@click.command()
@places
@engine_option
@click.option("--dry-run", "is_dry", is_flag=True, help="Show what would change; write nothing.")
def generate(conf: Path, outputs: Path, engine: str | None, is_dry: bool) -> int:
    """Write the signed bundle of every party from parties.conf.

    A second run changes nothing; a changed parties.conf changes only what it must.
    """
    loaded = load(conf)
    for warning in loaded.warnings:
        click.secho(f"warning: {warning}", err=True, fg="yellow")

    def announce(change: Change) -> None:
        goes = "would be removed, its keys would stay" if is_dry else "is removed, its keys stay"
        kept = outputs / "parties" / change.party
        click.echo(f"{change.party} is not in {conf} any more: its bundle {goes} in {kept}")
        click.echo(f"If it runs, that does not stop it. On this machine: python deploy.py {change.party} --delete")
        click.echo(f"Elsewhere, to cut it off: fedparty pki revoke {change.party}\n")

    report = run(loaded.federation, outputs, engine=engine, dry_run=is_dry, announce=announce)
    _show_table(_rows(report))
    for line in (*_changes(report), *_notes(report), *_next_steps(report, conf, outputs, engine)):
        click.echo(line)
    return 0


def _rows(report: Report) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for machine in _machines(report):
        ports = report.ports[machine.id]
        rest = "" if isinstance(machine, Exchange) else str(ports.rest_port or "not published")
        rows.append((machine.id, machine.address, machine.engine, str(ports.proxy_port), rest))
    return rows


def _machines(report: Report) -> tuple[Party | Exchange, ...]:
    exchange = report.federation.exchange
    return (*report.federation.parties, *((exchange,) if exchange else ()))


def _show_table(rows: Sequence[Sequence[str]]) -> None:
    if sys.stdout.isatty():
        _show_rich(rows)
        return
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    for row in (_HEADINGS, *rows):
        click.echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _show_rich(rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # a fifth of the whole run, and of no use without a terminal
    from rich.table import Table

    table = Table(*_HEADINGS, box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _changes(report: Report) -> Iterator[str]:
    yield ""
    for party, file, why in report.reissued:
        yield f"{party}: {file} {'would be' if report.is_dry_run else 'was'} issued again: {why}"
    for state in (State.NEW, State.UNCHANGED):
        if parties := [change.party for change in report.changes if change.state is state]:
            yield f"{state.value}: {_named(parties)}"
    changed: dict[str, list[str]] = {}
    for change in report.changes:
        if change.state is State.CHANGED:
            changed.setdefault(_what_changed(change), []).append(change.party)
    for what, parties in changed.items():
        yield f"changed: {_named(parties)}: {what}"


def _what_changed(change: Change) -> str:
    if change.is_archive_only:
        return "its archive only"
    parts = []
    if change.live:
        parts.append(f"live {_named(change.live)}")
    if change.static:
        parts.append(f"static {_named(change.static)} (read when its services start)")
    return "; ".join(parts) or "nothing that a service reads"


def _named(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {rest} more" if rest > 0 else "")


def _notes(report: Report) -> Iterator[str]:
    for key in report.unused:
        yield f"{key.key} has no effect for {_named(key.owners)}: it is for the {key.engine} engine"
    for party, files in report.own_keys.items():
        yield f"{party} keeps private keys to itself: it puts {' and '.join(files)} into its home, see its README.md"
    if report.fingerprint:
        yield ""
        yield f"fingerprint of the federation {report.federation.name}: {report.fingerprint}"
        yield "Give it to every party by another way than its bundle (telephone, paper), to compare before the start."


def _next_steps(report: Report, conf: Path, outputs: Path, engine: str | None) -> Iterator[str]:
    yield ""
    if report.is_dry_run:
        yield "dry run: nothing was written"
        return
    chosen = ["--engine", engine] if engine else []
    yield f"next: {shlex.join(['python', 'deploy.py', 'all', *chosen, *repeat_places(conf, outputs)])}"
