"""How a command finds its party, and how it prints what it found.

Owns the options ``--profile``, ``--home`` and ``--output``, and the order in which parties are looked for. Does not own
profiles (`fedparty.client.profiles`) nor the calls (`fedparty.client.session`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fedparty.errors import ConfigurationError

if TYPE_CHECKING:
    from fedparty.client import Session

HOME_VARIABLE = "FEDPARTY_HOME"

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Party(click.ParamType[str]):
    """A party's id."""

    name = "PARTY"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it."""
        from fedparty.types import parse_party_id

        try:
            return parse_party_id(str(value))
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


def session_options(function: Decorated) -> Decorated:
    """Add the options that say which party is meant: the arguments ``profile`` and ``home`` of `open_session`."""
    profile = click.option("--profile", metavar="NAME", help="A party that was logged in to: fedparty login.")
    home = click.option(
        "--home",
        type=click.Path(file_okay=False, path_type=Path),
        help=f"A party's home on this machine; else {HOME_VARIABLE}, the working directory, or the profile in use.",
    )
    return profile(home(function))


def output_option(function: Decorated) -> Decorated:
    """Add the choice between text for people and JSON for programs: the argument ``output`` of `show`."""
    return click.option(
        "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Form of the answer."
    )(function)


def open_session(profile: str | None, home: Path | None) -> Session:
    """Open a session with the party that is meant.

    That is the party of `profile`, else the one that lives in `home`, else in the folder that FEDPARTY_HOME names, else
    in the working directory, else the profile in use.

    Raises
    ------
    ConfigurationError
        No party is meant, or two are; or what is meant cannot be used.
    RpcError
        FLOW_DOWN: the party at a home does not run.
    """
    from fedparty.client import Session, profiles

    if profile is not None and home is not None:
        raise ConfigurationError("--profile and --home each name a party", hint="Give one of the two.")
    if profile is not None:
        return profiles.read(profile).open()
    found = home or _home_here()
    if found is not None:
        return Session.at_home(found)
    in_use = profiles.in_use()
    if in_use is None:
        raise ConfigurationError(
            "no party is meant: the working directory is not a party's home, and no profile is in use",
            hint=f"Give --home or {HOME_VARIABLE}, or log in to a party elsewhere: fedparty login https://HOST:PORT.",
        )
    return profiles.read(in_use).open()


def show(output: str, content: Any, lines: Iterable[str]) -> None:
    """Print an answer: `content` as JSON, or `lines` as text."""
    for line in [json.dumps(content, indent=2, ensure_ascii=False)] if output == "json" else lines:
        click.echo(line)


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Return the lines of a table whose columns are as wide as what is in them; what is not printable is escaped."""
    cells = [header, *(tuple(printable(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def printable(text: str) -> str:
    """Return a text with what is not printable escaped: others wrote it, and a terminal obeys such characters."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _home_here() -> Path | None:
    if given := os.environ.get(HOME_VARIABLE):
        return Path(given)
    here = Path.cwd()
    return here if (here / "bundle" / "bundle.json").exists() else None
