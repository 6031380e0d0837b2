"""``fedparty user``: the people of a party.

Owns its options and what it prints. The party itself does what is asked, for who shows an admin's token.
"""

from __future__ import annotations

import re
from pathlib import Path

import click

from fedparty.cli.session import open_session, output_option, session_options, show, table
from fedparty.errors import ConfigurationError

ROLES = ("viewer", "researcher", "operator", "site-admin")
_SPAN = re.compile(r"([1-9][0-9]{0,5})([dhm])")
_UNIT_S = {"d": 86400, "h": 3600, "m": 60}


@click.group()
def user() -> None:
    """Say who may do what in a party: users, their roles, their tokens."""


@user.command()
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What the user may do.")
@click.option(
    "--key", "key", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the user's public key: then every submission of theirs must be signed.",
)  # fmt: skip
@session_options
@output_option
def add(name: str, role: str, key: Path | None, profile: str | None, home: Path | None, output: str) -> None:
    """Add a user; a token is made by `fedparty user token NAME`."""
    with open_session(profile, home) as session:
        added = session.add_user(name, role, key.read_text().strip() if key else "")
    show(output, added, [f"added {name} as {role}; next: fedparty user token {name}"])


@user.command("list")
@session_options
@output_option
def list_users(profile: str | None, home: Path | None, output: str) -> None:
    """List the users."""
    with open_session(profile, home) as session:
        users = session.users()
    rows = [
        (each["name"], each["role"], "yes" if each["public_key"] else "-", str(each["tokens"]), _day(each))
        for each in users
    ]
    show(output, users, table(("NAME", "ROLE", "KEY", "TOKENS", "VALID UNTIL"), rows))


@user.command()
@click.argument("name")
@session_options
def remove(name: str, profile: str | None, home: Path | None) -> None:
    """Remove a user; their tokens are void at once."""
    with open_session(profile, home) as session:
        session.remove_user(name)
    click.echo(f"removed {name}")


@user.command()
@click.argument("name")
@click.option("--expires", default="30d", show_default=True, metavar="SPAN", help="How long it is valid: 30d, 12h, 5m.")
@click.option("--revoke", "is_revoked", is_flag=True, help="Make none, but void every token of the user.")
@session_options
@output_option
def token(name: str, expires: str, is_revoked: bool, profile: str | None, home: Path | None, output: str) -> None:
    """Make a token for a user, and print it this once."""
    lifetime_s = _seconds(expires)
    with open_session(profile, home) as session:
        if is_revoked:
            session.revoke_tokens(name)
            click.echo(f"every token of {name} is void")
            return
        made = session.new_token(name, lifetime_s)
    show(output, made, [made["token"]])
    click.echo(f"valid until {made['expires_at'][:16]} UTC; it cannot be shown again", err=True)


@user.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
def key(file: Path | None) -> None:
    """Make a key pair with which you sign what you submit: FILE, 0600, and FILE.pub, for an admin to register."""
    from fedparty.client import signing
    from fedparty.crypto.files import make_private_folder
    from fedparty.crypto.user_keys import make_pair

    path = file or signing.key_file()
    if file is None and not path.parent.exists():
        make_private_folder(path.parent)
    public = make_pair(path)
    click.echo(f"{path}: private, keep it to yourself\n{public}: public, for: fedparty user add NAME --key {public}")


def _seconds(span: str) -> float:
    found = _SPAN.fullmatch(span)
    if not found:
        raise ConfigurationError(f"--expires {span}: not a span of time", hint="Write it like 30d, 12h or 5m.")
    return float(int(found[1]) * _UNIT_S[found[2]])


def _day(user_: dict[str, str | None]) -> str:
    return (user_["token_expires_at"] or "-")[:16].replace("T", " ")
