"""``fedparty migrate``: a step of every deploy.

Owns its line. The migrations are `fedparty.database.migrate`'s.
"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
def migrate() -> None:
    """Bring a party's database to this release's schema, in its home."""
    from fedparty.database.migrate import upgrade
    from fedparty.settings import FlowSettings, load

    revision = upgrade(load(FlowSettings, Path("bundle/flow/settings.json")))
    click.echo(f"the database is at revision {revision}")
