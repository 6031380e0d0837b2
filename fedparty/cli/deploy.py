"""``fedparty deploy | status | logs | verify``.

Owns their options and exit codes. The story is `fedparty.deploy.deployer`'s, the look `fedparty.cli.console`'s.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from fedparty.cli import console
from fedparty.cli.main import comes_later
from fedparty.cli.options import engine_option, host_key_option, places, repeat_places
from fedparty.config import load
from fedparty.deploy.bundle import PROXY
from fedparty.deploy.commands import TOY_EXAMPLE
from fedparty.deploy.deployer import Deployer
from fedparty.deploy.engine import Engine
from fedparty.deploy.remembered import forget
from fedparty.deploy.report import Progress, Report
from fedparty.deploy.sites import ALL, Machines, Selection, select

_LATER = ("board", "serving", "storage")


@click.command()
@click.argument("targets", nargs=-1, metavar="all | PARTY... | exchange")
@places
@engine_option
@host_key_option
@click.option("--dry-run", "is_dry", is_flag=True, help="Show what would change and run; change nothing.")
@click.option("--no-verify", "is_unverified", is_flag=True, help="Do not run the toy job.")
@click.option("--delete", "is_deleted", is_flag=True, help="Stop the parties.")
@click.option("--purge", "is_purged", is_flag=True, help="With --delete: remove all that was deployed, data included.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0, min_open=True), default=60.0, show_default=True,
    help="Seconds to get healthy.",
)  # fmt: skip
@click.option("--serving", "is_serving", is_flag=True, hidden=True)
@click.option("--training", "is_training", is_flag=True, hidden=True)
def deploy(
    targets: Sequence[str], conf: Path, outputs: Path, engine: str | None, is_dry: bool, is_unverified: bool,
    is_deleted: bool, is_purged: bool, timeout_s: float, is_host_key_accepted: bool, is_serving: bool,
    is_training: bool,
) -> int:  # fmt: skip
    """Put bundles in place, start them, wait until healthy, and prove by the toy job that they work.

    A party's machine is reached directly if it is this one, else by SSH. A party that does not become healthy goes back
    to its last healthy release. Ends with 0 only if every service of every asked party is healthy and the sum is right.

    \b
    python deploy.py all                        the same as: fedparty deploy all
    python deploy.py 9998                       a new party; the others learn the way to it, nothing restarts
    python deploy.py all --dry-run              what would change
    python deploy.py all --delete               stop and remove; add --purge to remove the data too
    python deploy.py status | logs | verify | doctor | images | backup | restore
                                                commands of their own, with their own --help
    """
    if is_serving:
        raise comes_later("online serving")
    if is_purged and not is_deleted:
        raise click.UsageError("--purge goes with --delete.")
    asked = _require(targets)
    where = Where(
        conf, outputs, engine, is_host_key_accepted,
        is_deployed=is_deleted, is_left_over_meant=is_deleted and not is_purged,
    )  # fmt: skip
    if is_dry and is_deleted:
        report = where.run(asked, lambda deployer: deployer.status())
        return _finish(where, replace(report, notes=(*report.notes, "A dry run: nothing was stopped.")))
    if is_dry:
        return _finish(where, where.run(asked, lambda deployer: deployer.plan()))
    if is_deleted:
        report = where.run(asked, lambda deployer: deployer.delete(is_purged=is_purged))
        for result in report.parties:
            if is_purged and result.error is None:
                forget(outputs, result.party)
        return _finish(where, report)
    report = where.run(
        asked,
        lambda deployer: deployer.deploy(is_verified=not is_unverified, timeout_s=timeout_s),
        is_remembered=True,
    )
    return _finish(where, report, is_running=True)


@click.command()
@click.argument("parties", nargs=-1)
@places
@engine_option
@host_key_option
@click.option("--output", type=click.Choice(["text", "json"]), default="text", help="Form of the answer.")
def status(
    parties: Sequence[str], conf: Path, outputs: Path, engine: str | None, is_host_key_accepted: bool, output: str
) -> int:
    """Show every service as it is now; ends with 0 if all are healthy."""
    where = Where(conf, outputs, engine, is_host_key_accepted, is_deployed=True)
    report = where.run(parties or [ALL], lambda deployer: deployer.status())
    if output == "json":
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        console.show(report)
    return 0 if all(result.is_healthy for result in report.parties) else 1


@click.command()
@click.argument("parties", nargs=-1)
@places
@engine_option
@host_key_option
def verify(parties: Sequence[str], conf: Path, outputs: Path, engine: str | None, is_host_key_accepted: bool) -> int:
    """Prove by the toy job that running parties can compute together."""
    where = Where(conf, outputs, engine, is_host_key_accepted, is_deployed=True)
    return _finish(where, where.run(parties or [ALL], lambda deployer: deployer.verify()), is_running=True)


@click.command()
@click.argument("party")
@click.argument("service", required=False)
@places
@engine_option
@host_key_option
@click.option("-f", "--follow", "is_followed", is_flag=True, help="Go on with what is added, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0), default=100, show_default=True, help="Lines to show first.")
def logs(
    party: str, service: str | None, conf: Path, outputs: Path, engine: str | None, is_host_key_accepted: bool,
    is_followed: bool, lines: int,
) -> int:  # fmt: skip
    """Show the log of a party's service, or of all its services."""
    if service in _LATER:
        raise comes_later(service)
    selection = Where(conf, outputs, engine, is_host_key_accepted, is_deployed=True).select([party])
    with suppress(KeyboardInterrupt):  # how following ends
        asyncio.run(_follow_all(selection, service, lines, is_followed=is_followed))
    return 0


@dataclass(frozen=True)
class Where:
    """Which federation is meant, and by which engine, as the command line says it."""

    conf: Path
    outputs: Path
    engine: str | None
    is_host_key_accepted: bool = False
    is_deployed: bool = False
    is_left_over_meant: bool = False

    def machines(self) -> Machines:
        """Return the ways to the machines; a person at a terminal is asked for what is missing."""
        return Machines(self.outputs, accept_host_key=self.is_host_key_accepted, prompt=console.prompt())

    def select(self, targets: Sequence[str]) -> Selection:
        """Return the asked parties."""
        federation = load(self.conf).federation
        return select(
            federation,
            targets,
            self.machines(),
            self.outputs,
            engine=self.engine,
            is_deployed=self.is_deployed,
            is_left_over_meant=self.is_left_over_meant,
        )

    def run(
        self,
        targets: Sequence[str],
        action: Callable[[Deployer], Coroutine[Any, Any, Report]],
        *,
        is_remembered: bool = False,
    ) -> Report:
        """Do something to the asked parties while its progress is shown.

        Parameters
        ----------
        is_remembered
            It may put parties on machines that are to be remembered.
        """
        selection = self.select(targets)
        if is_remembered:
            selection.remember(self.outputs)

        async def act(shown: Progress) -> Report:
            deployer = Deployer(selection.engines, shown, notes=selection.notes, neighbours=selection.neighbours)
            try:
                return await action(deployer)
            finally:
                await selection.close()

        with console.progress() as shown:
            return asyncio.run(act(shown))

    def command(self, *words: str) -> str:
        """Return a command line about what is deployed, to be copied."""
        return shlex.join([_python(), "deploy.py", *words, *repeat_places(self.conf, self.outputs)])

    def toy(self, report: Report) -> str:
        """Return the command line of a job over the parties of a report, to be copied."""
        verified = [result for result in report.parties if result.sum is not None]
        parties = [result.party for result in verified]
        words = [*(parties * 2)[: max(2, len(parties))], "1"]
        if verified[0].entry:
            return shlex.join([*verified[0].entry, TOY_EXAMPLE, *words])
        given = [] if str(self.outputs) == "outputs" else ["--outputs", str(self.outputs)]
        return shlex.join([_python(), f"toy_example/{TOY_EXAMPLE}", *words, *given])


def _require(targets: Sequence[str]) -> Sequence[str]:
    if not targets:
        raise click.UsageError("Say which parties: all, or party ids, or exchange.")
    for target in targets:
        if target in _LATER:
            raise comes_later(target)
    return targets


def _finish(where: Where, report: Report, *, is_running: bool = False) -> int:
    console.show(report)
    if report.is_success and is_running:
        toy = {"try": where.toy(report)} if report.sum is not None else {}
        console.show_success(report, {"look": where.command("status"), **toy, "stop": where.command("all", "--delete")})
    return 0 if report.is_success else 1


def _python() -> str:
    """Return how a person here calls this Python."""
    python, here = Path(sys.executable), Path.cwd()
    return str(python.relative_to(here)) if python.is_relative_to(here) else "python"


async def _follow_all(selection: Selection, service: str | None, lines: int, *, is_followed: bool) -> None:
    try:
        for engine in selection.engines:
            names = [service] if service else engine.services or [PROXY]  # where there are none, it says why
            await _follow(engine, names, lines, is_followed=is_followed)
    finally:
        await selection.close()


async def _follow(engine: Engine, services: Sequence[str], lines: int, *, is_followed: bool) -> None:
    def printer(service: str) -> Callable[[str], None]:
        prefix = f"{service:10} " if len(services) > 1 else ""
        return lambda line: click.echo(f"{prefix}{line}")

    await asyncio.gather(
        *(engine.follow(name, lines, is_followed=is_followed, on_line=printer(name)) for name in services)
    )
