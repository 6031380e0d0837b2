"""``fedparty pki list | renew | revoke``.

Owns their options and what they print. Issuing and revoking are `fedparty.pki`'s, bundles `fedparty.generate`'s,
bringing them to running parties `fedparty.deploy`'s.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from fedparty.cli.deploy import Where
from fedparty.cli.options import engine_option, outputs_option, places
from fedparty.config import Federation, load
from fedparty.deploy.live import push_live
from fedparty.generate import Report, State, run
from fedparty.generate.outputs import Outputs
from fedparty.pki.authority import Authority
from fedparty.pki.registry import IssuedCertificate
from fedparty.pki.renewal import forget_keys, renew

REASONS = (
    "unspecified",
    "key-compromise",
    "affiliation-changed",
    "superseded",
    "cessation-of-operation",
    "privilege-withdrawn",
)
"""Why a certificate is revoked (RFC 5280 §5.3.1)."""


@click.group()
def pki() -> None:
    """List, renew and revoke certificates."""


@pki.command("list")
@outputs_option
@click.option(
    "--output",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Form of the answer.",
)
def list_certificates(outputs: Path, form: str) -> None:
    """Show the federation's fingerprint and every certificate that was issued."""
    authority = Authority.open(Outputs(outputs).ca)
    now = datetime.now(UTC)
    if form == "json":
        click.echo(json.dumps(_as_json(authority, now), indent=2))
        return
    click.echo(f"federation {authority.federation}, fingerprint {authority.fingerprint}\n")
    for line in _table(authority.certificates(), now):
        click.echo(line)


@pki.command("renew")
@click.argument("parties", nargs=-1, required=True, metavar="PARTY... | exchange")
@places
@engine_option
@click.option(
    "--new-keys", "is_rekeyed", is_flag=True, help="Make new keys too; the party must then be deployed again."
)
def renew_certificates(parties: Sequence[str], conf: Path, outputs: Path, engine: str | None, is_rekeyed: bool) -> None:
    """Issue the certificates of parties again, and bring them to where the parties run.

    Certificates near their end are renewed whenever bundles are generated; this is for doing so now, and for letting a
    revoked party in again.
    """
    federation = _checked(conf, outputs, engine)
    place = Outputs(outputs)
    with place.locked():
        folders = {party: place.parties / party for party in parties}
        if is_rekeyed:
            forget_keys(folders)
        else:
            renew(_open_authority(federation, place), folders)
    _take_effect(federation, Where(conf, outputs, engine), is_pushed=not is_rekeyed)


@pki.command("revoke")
@click.argument("target", metavar="PARTY | SERIAL")
@places
@engine_option
@click.option("--reason", type=click.Choice(REASONS), default=REASONS[0], show_default=True)
def revoke_certificates(target: str, conf: Path, outputs: Path, engine: str | None, reason: str) -> None:
    """Revoke a party's certificates, or one by its serial number, and tell every party that runs here."""
    federation = _checked(conf, outputs, engine)
    place = Outputs(outputs)
    with place.locked():
        revoked = _open_authority(federation, place).revoke(target, reason.replace("-", "_"))
    for entry in revoked:
        click.echo(f"revoked: {entry.party} {entry.purpose} {entry.serial}")
    if not revoked:
        click.echo(f"{target}: nothing valid is left to revoke")
    _take_effect(federation, Where(conf, outputs, engine), is_pushed=True)
    limit = max(party.max_connection_age_s for party in federation.parties)
    click.echo(f"A party that has the new list refuses them at once; open connections end within {limit} s.")


def _checked(conf: Path, outputs: Path, engine: str | None) -> Federation:
    """Return the federation if bundles can be generated for it: nothing is changed before that is known."""
    federation = load(conf).federation
    run(federation, outputs, engine=engine, dry_run=True)
    return federation


def _open_authority(federation: Federation, outputs: Outputs) -> Authority:
    return Authority.open(outputs.ca, federation.name, lifetime_days=federation.certificate_lifetime_days)


def _take_effect(federation: Federation, where: Where, *, is_pushed: bool) -> None:
    """Generate the bundles again, and replace the live files of the parties that run on this machine."""
    report = run(federation, where.outputs, engine=where.engine)
    pushed = push_live(report.federation, where.outputs) if is_pushed else ()
    for party in pushed:
        click.echo(f"{party}: brought to its home, nothing restarted")
    if waiting := [party for party in _changed(report) if party not in pushed]:
        chosen = ("--engine", where.engine) if where.engine else ()
        click.echo(f"next: {where.command(*waiting, *chosen)}")


def _changed(report: Report) -> list[str]:
    return [change.party for change in report.changes if change.state in (State.NEW, State.CHANGED)]


def _as_json(authority: Authority, now: datetime) -> dict[str, Any]:
    certificates = [{**entry.as_json(), "state": entry.state(now)} for entry in authority.certificates()]
    return {
        "federation": authority.federation,
        "fingerprint": authority.fingerprint,
        "certificates": certificates,
    }


def _table(certificates: Sequence[IssuedCertificate], now: datetime) -> list[str]:
    rows = [("party", "purpose", "state", "ends", "serial")]
    for entry in certificates:
        rows.append((entry.party, entry.purpose, _state(entry, now), f"{entry.not_after:%Y-%m-%d}", entry.serial))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _state(entry: IssuedCertificate, now: datetime) -> str:
    reason = (entry.reason or REASONS[0]).replace("_", "-")
    return entry.state(now) if reason == REASONS[0] else f"{entry.state(now)} ({reason})"
