"""``fedparty profile list | use | remove``: the parties that were logged in to.

Owns their options and lines. Does not own the files (`fedparty.client.profiles`).
"""

from __future__ import annotations

import click

from fedparty.cli import session


@click.group()
def profile() -> None:
    """The parties elsewhere that you logged in to: fedparty login."""


@profile.command("list")
@session.output_option
def list_(output: str) -> None:
    """List them; a star marks the one in use."""
    from fedparty.client import profiles

    in_use = profiles.in_use()
    found = [profiles.read(name) for name in profiles.names()]
    content = [
        {"name": each.name, "url": each.url, "party": each.party, "federation": each.federation,
         "is_in_use": each.name == in_use}
        for each in found
    ]  # fmt: skip
    rows = [("*" if each.name == in_use else "", each.name, each.party, each.federation, each.url) for each in found]
    header = ("", "PROFILE", "PARTY", "FEDERATION", "ADDRESS")
    session.show(output, {"profiles": content}, session.table(header, rows))


@profile.command()
@click.argument("name")
def use(name: str) -> None:
    """Make a profile the one that is meant where nothing else says."""
    from fedparty.client import profiles

    profiles.use(name)
    click.echo(f"profile {name} is in use")


@profile.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove a profile, its token with it."""
    from fedparty.client import profiles

    profiles.remove(name)
    click.echo(f"profile {name} was removed")
