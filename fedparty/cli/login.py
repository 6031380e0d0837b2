"""``fedparty login``: one party elsewhere, kept as a profile.

Owns its options, where the token comes from, and what is printed. Does not own what is believed
(`fedparty.client.login`).
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fedparty.errors import ConfigurationError
from fedparty.types import Secret


@click.command()
@click.argument("url", metavar="https://HOST:PORT")
@click.option("--profile", "name", default="default", show_default=True, metavar="NAME", help="What to call it.")
@click.option(
    "--token-file", type=click.Path(path_type=Path), metavar="FILE",
    help="File with the token, - for standard input; else you are asked for it.",
)  # fmt: skip
@click.option(
    "--ca", type=click.Path(path_type=Path), metavar="FILE", help="The federation's CA: a bundle's ca/ca.crt."
)
@click.option("--fingerprint", metavar="SHA256:…", help="The federation's fingerprint, as its operator told you.")
def login(url: str, name: str, token_file: Path | None, ca: Path | None, fingerprint: str | None) -> None:
    """Log in to a party on another machine, over HTTPS.

    Its federation's CA is pinned: by --ca, or by --fingerprint, which must have come to you another way than this
    connection. A profile that exists keeps its CA; a changed one is refused. The token is never given on the command
    line, where other people of the machine see it; it is kept in a file that only you can read.

    Then fedparty job works from here: with --profile NAME, or without, for the profile in use.
    """
    from fedparty.client import login as logins

    url = url.rstrip("/")
    ca_pem = logins.pinned_ca(url, name, ca, fingerprint)
    profile = logins.log_in(url, name, ca_pem, _token(token_file))
    click.echo(f"logged in to party {profile.party} of the federation {profile.federation}: profile {name}")


def _token(path: Path | None) -> Secret:
    from fedparty.crypto.files import read_secret

    if path is None and not sys.stdin.isatty():
        hint = "Give --token-file FILE, or --token-file - and write it to standard input."
        raise ConfigurationError("there is no terminal to ask for the token", hint=hint)
    if path is None:
        return Secret(click.prompt("Token", hide_input=True, err=True).strip())
    if str(path) != "-":
        return read_secret(path, hint="Give the file that the party's operator gave you.")
    token = sys.stdin.readline().strip()
    if not token:
        raise ConfigurationError("standard input: there is no token", hint="Write it there, e.g. with < FILE.")
    return Secret(token)
