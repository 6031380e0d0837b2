"""``fedparty party``: what a site is, what it offers, what it allows.

Owns the commands ``status`` and ``resources``, and what they print. Does not own ``policy`` (`fedparty.cli.policy`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedparty.cli.policy import policy
from fedparty.cli.session import open_session, output_option, session_options, show

if TYPE_CHECKING:
    from fedparty.client.status import PartyStatus

_GIB = 2**30


@click.group()
def party() -> None:
    """Show what a site is, what it offers to jobs, and what it allows."""


@party.command()
@session_options
@output_option
def status(profile: str | None, home: Path | None, output: str) -> None:
    """Show who the party is, and that it answers."""
    found = _ask(profile, home)
    content = {name: getattr(found, name) for name in ("id", "federation", "version", "protocol")}
    show(output, content, (f"{name:<12}{value}" for name, value in content.items()))


@party.command()
@session_options
@output_option
def resources(profile: str | None, home: Path | None, output: str) -> None:
    """Show what the party offers to jobs, what is free now, and how many tasks wait for it."""
    found = _ask(profile, home)
    names = ("cores", "free_cores", "memory_bytes", "free_memory_bytes", "gpus", "free_gpus", "waiting")
    show(output, {name: value for name, value in asdict(found).items() if name in names}, _lines(found))


party.add_command(policy)


def _ask(profile: str | None, home: Path | None) -> PartyStatus:
    with open_session(profile, home) as session:
        return session.party()


def _lines(found: PartyStatus) -> Iterator[str]:
    yield f"{'':<14}{'offered':>10}{'free':>10}"
    yield f"{'cores':<14}{found.cores:>10g}{found.free_cores:>10g}"
    yield f"{'memory (GiB)':<14}{found.memory_bytes / _GIB:>10.1f}{found.free_memory_bytes / _GIB:>10.1f}"
    yield f"{'GPUs':<14}{found.gpus:>10}{found.free_gpus:>10}"
    yield f"tasks that wait for them: {found.waiting}"
