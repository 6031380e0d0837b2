"""``fedparty component``: what tasks can be made of.

Owns the two commands and what they print. Does not own what is installed (`fedparty.components.registry`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from fedparty.cli.session import open_session, output_option, session_options, show, table


@click.group(short_help="List and describe components.")
def component() -> None:
    """What the tasks of jobs can be made of.

    Asked is the party that is meant, as by every command for jobs. With --here, what is installed in this Python.
    """


_here = click.option("--here", "is_here", is_flag=True, help="What is installed in this Python; no party is asked.")


@component.command(name="list")
@session_options
@_here
@output_option
def list_components(profile: str | None, home: Path | None, is_here: bool, output: str) -> None:
    """List the components that are installed."""
    found = _installed() if is_here else _asked(profile, home)
    header = ("COMPONENT", "VERSION", "PACKAGE", "ROLES", "WHAT IT DOES")
    rows = [
        (each["name"], each["version"], each["package"], ", ".join(each["roles"]), each["fault"] or each["summary"])
        for each in found
    ]
    show(output, found, table(header, rows))


@component.command()
@click.argument("name")
@session_options
@_here
@output_option
def describe(name: str, profile: str | None, home: Path | None, is_here: bool, output: str) -> None:
    """Describe the component NAME: its roles and parameters."""
    if is_here:
        from fedparty.components import registry

        described = asdict(registry.describe(name))
    else:
        with open_session(profile, home) as session:
            described = session.component(name)
    show(output, described, _lines(described))


def _installed() -> list[dict[str, Any]]:
    from fedparty.components import registry

    return [asdict(each) for each in registry.described()]


def _asked(profile: str | None, home: Path | None) -> list[dict[str, Any]]:
    with open_session(profile, home) as session:
        return list(session.components())


def _lines(found: Mapping[str, Any]) -> Iterable[str]:
    yield f"{found['name']} {found['version']}, from {found['package']}"
    yield found["summary"]
    yield ""
    yield f"roles: {', '.join(found['roles'])}"
    if found["parameters"] is None:
        yield "parameters: it does not say which it takes"
        return
    yield "parameters:" if found["parameters"] else "parameters: none"
    for each in found["parameters"]:
        default = "needed" if each["is_required"] else f"default {json.dumps(each['default'])}"
        yield f"  {each['name']}  ({each['type']}; {default})"
        yield f"      {each['summary']}"
