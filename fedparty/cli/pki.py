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

from fedparty.cli import console
from fedparty.cli.deploy import Where
from fedparty.cli.options import engine_option, host_key_option, outputs_option, places
from fedparty.config import Federation, load
from fedparty.deploy.live import push_live
from fedparty.deploy.report import PartyResult
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
@host_key_option
@click.option(
    "--new-keys", "is_rekeyed", is_flag=True, help="Make new keys too; the party must then be deployed again."
)
def renew_certificates(
    parties: Sequence[str], conf: Path, outputs: Path, engine: str | None, is_host_key_accepted: bool, is_rekeyed: bool
) -> int:
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
    return _take_effect(federation, Where(conf, outputs, engine, is_host_key_accepted), is_pushed=not is_rekeyed)


@pki.command("revoke")
@click.argument("target", metavar="PARTY | SERIAL")
@places
@engine_option
@host_key_option
@click.option("--reason", type=click.Choice(REASONS), default=REASONS[0], show_default=True)
def revoke_certificates(
    target: str, conf: Path, outputs: Path, engine: str | None, is_host_key_accepted: bool, reason: str
) -> int:
    """Revoke a party's certificates, or one by its serial number, and tell every party that is deployed."""
    federation = _checked(conf, outputs, engine)
    place = Outputs(outputs)
    with place.locked():
        revoked = _open_authority(federation, place).revoke(target, reason.replace("-", "_"))
    for entry in revoked:
        click.echo(f"revoked: {entry.party} {entry.purpose} {entry.serial}")
    if not revoked:
        click.echo(f"{target}: nothing valid is left to revoke")
    code = _take_effect(federation, Where(conf, outputs, engine, is_host_key_accepted), is_pushed=True)
    limit = max(party.max_connection_age_s for party in federation.parties)
    click.echo(f"A party that has the new list refuses them at once; open connections end within {limit} s.")
    return code


def _checked(conf: Path, outputs: Path, engine: str | None) -> Federation:
    """Return the federation if bundles can be generated for it: nothing is changed before that is known."""
    federation = load(conf).federation
    run(federation, outputs, engine=engine, dry_run=True)
    return federation


def _open_authority(federation: Federation, outputs: Outputs) -> Authority:
    return Authority.open(outputs.ca, federation.name, lifetime_days=federation.certificate_lifetime_days)


def _take_effect(federation: Federation, where: Where, *, is_pushed: bool) -> int:
    """Generate the bundles again, replace the live files of the parties that are deployed, and return the exit code."""
    report = run(federation, where.outputs, engine=where.engine)
    results = _push(report.federation, where) if is_pushed else ()
    for result in results:
        if result.error:
            click.secho(f"{result.party}: not told: {result.error.message}", err=True, fg="red")
        elif result.plan:
            click.echo(f"{result.party}: brought to its home, nothing restarted")
    pushed = {result.party for result in results if result.plan}
    if waiting := [party for party in _changed(report) if party not in pushed]:
        chosen = ("--engine", where.engine) if where.engine else ()
        click.echo(f"next: {where.command(*waiting, *chosen)}")
    return 1 if any(result.error for result in results) else 0


def _push(federation: Federation, where: Where) -> Sequence[PartyResult]:
    with console.progress() as shown:
        return push_live(federation, where.outputs, where.machines(), shown).parties


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
