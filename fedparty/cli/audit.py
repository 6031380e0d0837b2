"""``fedparty audit``: who decided what at a party, when and why.

Owns its options and what it prints. Does not own the log.
"""

from __future__ import annotations

from pathlib import Path

import click

from fedparty.cli.session import open_session, output_option, session_options, show, table


@click.group()
def audit() -> None:
    """Read a party's audit log, and check that nobody changed it."""


@audit.command("show")
@click.option("-n", "count", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many entries.")
@session_options
@output_option
def show_entries(count: int, profile: str | None, home: Path | None, output: str) -> None:
    """Show the newest entries, the newest last."""
    with open_session(profile, home) as session:
        entries = session.audit(count)
    columns = ("sequence", "at", "who", "what", "subject", "decision", "why")
    rows = [tuple(str(entry.get(column, "")) for column in columns) for entry in entries]
    show(output, entries, table(tuple(column.upper() for column in columns), rows))


@audit.command()
@session_options
@output_option
def verify(profile: str | None, home: Path | None, output: str) -> int:
    """Check every line against the one before it, and the end against the database; ends with 0 if all fits."""
    with open_session(profile, home) as session:
        verdict = session.verify_audit()
    entries, head, fault = verdict["entries"], verdict["head"], verdict["fault"]
    whole = f"whole: {entries} entries, head {head}"
    show(output, verdict, [f"CHANGED: {fault}; {entries} entries before it are whole" if fault else whole])
    return 1 if fault else 0
