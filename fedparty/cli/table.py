"""``fedparty table``: the site's files that tasks may read, under names.

Owns the commands and what they print. Does not own which files may be bound: the party's worker decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from fedparty.cli.session import open_session, output_option, session_options, show
from fedparty.cli.session import table as aligned


@click.group(short_help="Bind a site's CSV or Parquet files to names for tasks.")
def table() -> None:
    """A site's CSV or Parquet files, under the names by which tasks ask for them.

    A file must lie below the party's folder for tables: data/tables in its home, which may be a link (process engine),
    or data_dir in parties.conf (containers). A task sees only the tables that its parameters name.
    """


@table.command()
@click.argument("name")
@click.argument("path")
@click.option("--id", "id_column", metavar="COLUMN", help="The column that identifies a row.")
@session_options
@output_option
def bind(name: str, path: str, id_column: str | None, profile: str | None, home: Path | None, output: str) -> None:
    """Let NAME stand for the file PATH, a path at the site: below its folder for tables, or absolute.

    The file is read once, now. One that changes later is not read by tasks until it is bound again.
    """
    with open_session(profile, home) as session:
        bound = session.bind_table(name, path, id_column)
    show(output, bound, _lines(bound))


@table.command(name="list")
@session_options
@output_option
def list_tables(profile: str | None, home: Path | None, output: str) -> None:
    """List the tables that are bound."""
    with open_session(profile, home) as session:
        found = list(session.tables())
    header = ("TABLE", "ROWS", "COLUMNS", "ID", "FILE", "BOUND")
    rows = [
        (
            each["name"], str(each["rows"]), str(len(each["columns"])), each["id_column"] or "-", each["path"],
            each["bound_at"][:19],
        )
        for each in found
    ]  # fmt: skip
    show(output, found, aligned(header, rows) if found else ["no table is bound: fedparty table bind NAME PATH"])


@table.command(name="show")
@click.argument("name")
@session_options
@output_option
def show_table(name: str, profile: str | None, home: Path | None, output: str) -> None:
    """Show the table NAME: its columns and their types."""
    with open_session(profile, home) as session:
        found = session.table(name)
    show(output, found, _lines(found))


@table.command()
@click.argument("name")
@session_options
def unbind(name: str, profile: str | None, home: Path | None) -> None:
    """Forget the table NAME; its file stays."""
    with open_session(profile, home) as session:
        session.unbind_table(name)
    click.echo(f"table {name} is not bound any more")


def _lines(found: Mapping[str, Any]) -> Iterable[str]:
    yield f"{found['name']}: {found['rows']} rows, from {found['path']}"
    header = ("COLUMN", "TYPE", "")
    id_column = found["id_column"]
    yield from aligned(
        header,
        [
            (each["name"], each["type"], "identifies a row" if each["name"] == id_column else "")
            for each in found["columns"]
        ],
    )
