"""``fedparty migrate``: a step of every deploy.

Owns its options and lines. The migrations are `fedparty.database.migrate`'s.
"""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.option("--check", "is_checking", is_flag=True, help="Say which revision is there and which is needed, as JSON.")
@click.option("--timeout", "timeout_s", type=float, default=60.0, show_default=True, help="Seconds to wait for it.")
def migrate(is_checking: bool, timeout_s: float) -> None:
    """Bring a party's database to this release's schema, in its home."""
    from fedparty.database.migrate import REVISION, current, upgrade
    from fedparty.settings import FlowSettings, load

    settings = load(FlowSettings, Path("bundle/flow/settings.json"))
    if is_checking:
        click.echo(json.dumps({"current": current(settings), "needed": REVISION}))
    else:
        click.echo(f"the database is at revision {upgrade(settings, timeout_s)}")
