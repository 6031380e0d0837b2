"""``fedparty backup | restore``.

Owns their options and exit codes. What is in a backup is `fedparty.deploy.containers.backup`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import click

from fedparty.cli import console
from fedparty.cli.deploy import Where
from fedparty.cli.options import engine_option, host_key_option, places
from fedparty.deploy.containers import backup as backups
from fedparty.deploy.engine import DockerEngine
from fedparty.deploy.report import Report
from fedparty.errors import NotAvailableError


@click.command()
@click.argument("party")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@places
@engine_option
@host_key_option
def backup(
    party: str, file: Path | None, conf: Path, outputs: Path, engine: str | None, is_host_key_accepted: bool
) -> None:
    """Write all that a party must not lose into one file, while it runs: jobs, objects, keys.

    The file holds the party's data in the clear: keep it like the party's machine.  FILE defaults to
    backup-PARTY-TIME.tar.gz in the working directory.
    """
    target = file or Path(f"backup-{party}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar.gz")
    where = Where(conf, outputs, engine, is_host_key_accepted, is_deployed=True)
    _with_party(where, party, lambda found, tell: backups.back_up(found, target, tell))
    click.echo(f"{party}: {target}, {target.stat().st_size / (1 << 20):,.1f} MiB")
    click.echo(f"back from it: {where.command('restore', party, str(target))}")


@click.command()
@click.argument("party")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@places
@engine_option
@host_key_option
def restore(party: str, file: Path, conf: Path, outputs: Path, engine: str | None, is_host_key_accepted: bool) -> int:
    """Put a backup back, on the machine that parties.conf names, then start the party and verify it.

    The machine must have no data of the party: a restore replaces nothing.
    """
    where = Where(conf, outputs, engine, is_host_key_accepted)
    _with_party(where, party, lambda found, tell: backups.restore(found, file, tell))
    report: Report = where.run([party], lambda deployer: deployer.deploy(is_verified=True), is_remembered=True)
    console.show(report)
    return 0 if report.is_success else 1


def _with_party(
    where: Where, party: str, action: Callable[[DockerEngine, Callable[[str], None]], Awaitable[None]]
) -> None:
    selection = where.select([party])

    async def act() -> None:
        try:
            (found,) = selection.engines
            if not isinstance(found, DockerEngine):
                raise NotAvailableError(
                    f"party {party} runs as local processes, which have no backup command",
                    hint=f"Stop it (python deploy.py {party} --delete) and copy the folder {found.home.data}.",
                )
            with console.progress() as shown:
                await action(found, lambda text: shown.step(party, text))
        finally:
            await selection.close()

    asyncio.run(act())
