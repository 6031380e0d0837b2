"""``fedparty probe``: what a party sees of itself and of the others.

Owns its options and lines. Runs in the party, in its home; the questions are `fedparty.flow.probe`'s.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedparty.cli.options import home_option

if TYPE_CHECKING:
    from fedparty.flow.probe.answers import Answers, Way
    from fedparty.types import PartyId


@click.command()
@home_option
@click.option("--peers", default="", metavar="PARTY,PARTY...", help="Parties to reach; this one may be among them.")
@click.option("--throughput", "is_throughput_wanted", is_flag=True, help="Send up to 32 MiB, for up to 2 s, to each.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", help="Form of the answer.")
def probe(home: Path, peers: str, is_throughput_wanted: bool, output: str) -> int:
    """Examine this party and its ways to others, in its home; ends with 0 if nothing failed."""
    from fedparty.flow.probe.probe import probe as run
    from fedparty.settings import FlowSettings, load

    os.chdir(home)
    parties = _parties(peers)
    settings = load(FlowSettings, Path("bundle/flow/settings.json"))
    answers = asyncio.run(run(settings, parties, is_throughput_wanted=is_throughput_wanted))
    for line in [json.dumps(answers.to_json())] if output == "json" else _lines(answers):
        click.echo(line)
    return 0 if answers.is_sound else 1


def _parties(text: str) -> list[PartyId]:
    from fedparty.types import parse_party_id

    try:
        return [parse_party_id(each) for each in text.split(",") if each]
    except ValueError as exc:
        raise click.UsageError(f"--peers: {exc}.") from exc


def _lines(answers: Answers) -> Iterator[str]:
    for check in answers.checks:
        yield f"{check.name:20} {check.state:5} {check.detail}"
        if check.remedy:
            yield f"{'':26} {check.remedy}"
    for way in answers.ways:
        yield f"to {way.party:17} {_told(way)}"
        if way.remedy:
            yield f"{'':26} {way.remedy}"


def _told(way: Way) -> str:
    if not way.is_reachable:
        return f"fail  {way.hop}: {way.detail}"
    speed = f", {way.throughput_mib_s:g} MiB/s" if way.throughput_mib_s is not None else ""
    return f"ok    {way.latency_ms:.1f} ms{speed}"
