"""A lab: a whole federation on this machine, as processes, in one folder.

    lab/parties.conf    made by the first `up`; its owner may edit it
    lab/outputs/        bundles, the CA, and below deployed/ the homes

Owns which parties a lab has, and the order in which one comes and goes: a party that goes is revoked first, then the
others are told, then it is stopped. Does not own generating, deploying nor verifying.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from fedparty.config import Federation, load
from fedparty.config.edit import check, with_party, without_party
from fedparty.crypto.files import make_private_folder, replace_file
from fedparty.deploy import processes, supervision
from fedparty.deploy.deployer import Deployer
from fedparty.deploy.engine import ProcessEngine
from fedparty.deploy.home import Home
from fedparty.deploy.lab_conf import ADDRESS, DEFAULT_PARTIES, FIRST_PORT, Shape, free_ports, new_conf
from fedparty.deploy.report import Progress, Report
from fedparty.deploy.sites import ALL, Machines, Selection, deployed, home_of, select
from fedparty.deploy.transport import LocalTransport
from fedparty.deploy.transport.holder import LOCK_FILE
from fedparty.errors import ConfigurationError, DeployError
from fedparty.generate import run
from fedparty.generate.outputs import Outputs
from fedparty.pki.authority import Authority
from fedparty.pki.renewal import forget_keys
from fedparty.types import parse_party_id

HEALTH_TIMEOUT_S = 60.0
WATCHERS_OF_A_PARTY = 11
"""Seven of its proxy, the others of its services."""

_REVOKED = "cessation_of_operation"


class Lab:
    """One lab, which may not exist yet.

    Parameters
    ----------
    folder
        Where it lies.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "parties.conf"
        self.outputs = folder / "outputs"

    def homes(self) -> dict[str, Path]:
        """Return where each party lives, by id, in the order of parties.conf."""
        return {str(party.id): home_of(party, self.outputs).path for party in self.federation().parties}

    async def up(self, shape: Shape, progress: Progress, *, timeout_s: float = HEALTH_TIMEOUT_S) -> Report:
        """Make the lab what is wanted, start what does not run, and verify all of it.

        Raises
        ------
        FedpartyError
            Somebody else is at work on it, its parties.conf is no lab's, or the shape is not to be had.
        """
        async with self._alone():
            if self.conf.exists():
                await self._adjust(shape, progress)
            else:
                self._write(new_conf(shape))
            return await self._deploy(progress, timeout_s)

    async def down(self, progress: Progress, *, is_purged: bool) -> Report:
        """Stop every party; with `is_purged` remove the whole lab, its keys and parties.conf included."""
        self._require()
        async with self._alone():
            selection = self._select([ALL], is_left_over_meant=True)
            report = await Deployer(selection.engines, progress, notes=selection.notes).delete(is_purged=is_purged)
            if is_purged and report.is_success:
                self._remove()
            return report

    async def status(self, progress: Progress) -> Report:
        """Return every service as it is now."""
        self._require()
        selection = self._select([ALL])
        return await Deployer(selection.engines, progress, notes=selection.notes).status()

    async def add(self, party: str | None, progress: Progress, *, timeout_s: float = HEALTH_TIMEOUT_S) -> Report:
        """Add a party, start it while the others go on, and verify all of them; None: the next free id."""
        self._require()
        async with self._alone():
            name = self._next_free() if party is None else _parse(party)
            if name in self._parties():
                raise ConfigurationError(
                    f"{self.conf}: party {name} is there already", hint="Give another id, or none."
                )
            self._put_in([name])
            return await self._deploy(progress, timeout_s)

    async def remove(self, party: str, progress: Progress, *, is_purged: bool) -> Report:
        """Revoke a party, tell the others, and stop it; with `is_purged` remove its data. The others go on."""
        self._require()
        async with self._alone():
            return await self._take_out(_parse(party), progress, is_purged=is_purged)

    def federation(self) -> Federation:
        """Return what parties.conf describes.

        Raises
        ------
        ConfigurationError
            It has faults, or is not about this machine's processes alone.
        """
        federation = load(self.conf).federation
        for party in federation.parties:
            if party.engine != ProcessEngine.name:
                raise ConfigurationError(
                    f"{self.conf}: party {party.id} has engine={party.engine}: this is not a lab's parties.conf",
                    hint="Name another folder with --dir; or for containers: python deploy.py all -c ... -o ...",
                )
        return federation

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Keep others out of the lab; a folder of something else is left alone."""
        if self.folder.is_dir() and not self.conf.exists():
            others = sorted(path.name for path in self.folder.iterdir() if path.name != LOCK_FILE)
            if others:
                raise ConfigurationError(
                    f"{self.folder} is not a lab: it has {', '.join(others[:3])} and no parties.conf",
                    hint="Name another folder with --dir, or put the parties.conf of this one back.",
                )
        async with LocalTransport().lock(self.folder):
            yield

    def _require(self) -> None:
        if not self.conf.exists():
            raise ConfigurationError(f"there is no lab in {self.folder}", hint=f"Make one: {self._command('up')}")

    def words(self, *command: str) -> tuple[str, ...]:
        """Return a command about this lab, as the words after ``fedparty``."""
        return ("lab", *command, *(() if self.folder == Path("lab") else ("--dir", str(self.folder))))

    def _command(self, *command: str) -> str:
        return shlex.join(["fedparty", *self.words(*command)])

    def _parties(self) -> list[str]:
        return [str(party.id) for party in self.federation().parties]

    async def _adjust(self, shape: Shape, progress: Progress) -> None:
        """Add parties, or remove them, where another number is wanted."""
        self._refuse_later(shape)
        known = self._parties()
        wanted = len(known) if shape.parties is None else shape.parties
        if wanted > len(known):
            self._put_in([self._next_free(index) for index in range(wanted - len(known))])
        if wanted < len(known) and not shape.is_shrunk:
            raise ConfigurationError(
                f"{self.conf} has {len(known)} parties; {wanted} would mean to revoke and stop "
                f"{', '.join(known[wanted:])}",
                hint=f"If that is meant: {self._command('up', '-n', str(wanted), '--remove')}",
            )
        for party in reversed(known[wanted:]):
            report = await self._take_out(party, progress, is_purged=False)
            if not report.is_success:
                raise next(result.error for result in report.parties if result.error)

    def _refuse_later(self, shape: Shape) -> None:
        """Refuse what only a new lab is asked for."""
        federation = self.federation()
        layouts = {party.service_layout == "together" for party in federation.parties}
        asked = {
            "service_layout": shape.is_together is not None and layouts != {shape.is_together},
            "exchange_ip": shape.has_exchange and federation.exchange is None,
            "proxy_port and rest_port": shape.base_port is not None,
        }
        for key, is_asked in asked.items():
            if is_asked:
                raise ConfigurationError(
                    f"{self.conf} is there already, and its {key} says otherwise",
                    hint=f"Change {key} in it, then: {self._command('up')}; "
                    f"or begin anew: {self._command('down', '--purge')}",
                )

    def _next_free(self, skipped: int = 0) -> str:
        """Return an id that no party of this lab ever had."""
        ever = {int(name) for name in self._parties()} | {int(name) for name in self._kept()}
        lowest = min(ever)
        return str(lowest - 1 - skipped if lowest - 1 > skipped else max(ever) + 1 + skipped)

    def _kept(self) -> list[str]:
        """Return the parties that keys are kept of, whether they are in parties.conf or not."""
        folder = Outputs(self.outputs).parties
        return [path.name for path in folder.glob("*") if path.name.isdecimal()]

    def _put_in(self, parties: Sequence[str]) -> None:
        ports = free_ports(min(self._ports(), default=FIRST_PORT), self._ports())
        text, layout = self.conf.read_text(), self._layout_of_more(len(parties))
        for party in parties:
            settings = {"proxy_port": next(ports), "rest_port": next(ports), **layout}
            text = with_party(text, party, ADDRESS, settings)
        self._write(text)
        place = Outputs(self.outputs)
        with place.locked():  # one that was revoked comes back with keys of its own
            forget_keys({party: place.parties / party for party in parties if party in self._kept()})

    def _layout_of_more(self, n: int) -> dict[str, str]:
        """Return the layout of parties that come in, where it is not that of the others: many save memory."""
        layouts = [party.service_layout for party in self.federation().parties]
        is_asked_for = len(layouts) > DEFAULT_PARTIES  # as many would be together, had nobody chosen
        return (
            {}
            if is_asked_for or "together" in layouts or len(layouts) + n <= DEFAULT_PARTIES
            else {"service_layout": "together"}
        )

    def _ports(self) -> frozenset[int]:
        """Return the ports that the lab has, whether it runs or not."""
        federation = self.federation()
        own = (port for party in federation.parties for port in (party.proxy_port, party.rest_port, party.board_port))
        exchange = federation.exchange.port if federation.exchange else None
        planned = (
            port for each in Outputs(self.outputs).read_ports().values() for port in (each.proxy_port, each.rest_port)
        )
        return frozenset(port for port in (*own, exchange, *planned) if port)

    async def _take_out(self, party: str, progress: Progress, *, is_purged: bool) -> Report:
        """Revoke, tell, stop: in this order, and again from where it broke off."""
        federation, is_known = self.federation(), party in self._parties()
        if is_known and len(federation.parties) == 1:
            raise ConfigurationError(
                f"party {party} is the last of the lab", hint=f"Stop the lab: {self._command('down')}"
            )
        engines = self._select([party]).engines
        if is_known:
            text = without_party(self.conf.read_text(), party)
            check(text, str(self.conf))  # nothing is revoked for a file that would then be refused
        self._revoke(federation, party, progress)
        if is_known:
            self._write(text)
        run(self.federation(), self.outputs)
        told = await self._push(progress)
        stopped = await Deployer(engines, progress).delete(is_purged=is_purged)
        return replace(stopped, parties=(*stopped.parties, *(result for result in told.parties if result.error)))

    def _revoke(self, federation: Federation, party: str, progress: Progress) -> None:
        place = Outputs(self.outputs)
        if not place.ca.exists():
            return
        with place.locked():
            authority = Authority.open(place.ca, federation.name, lifetime_days=federation.certificate_lifetime_days)
            if party in {entry.party for entry in authority.certificates()} and authority.revoke(party, _REVOKED):
                progress.step(party, "revoked")

    async def _push(self, progress: Progress) -> Report:
        """Bring the list of revoked certificates and the new ways to the parties that stay."""
        machines = Machines(self.outputs)
        report = await Deployer(deployed(self.federation(), machines, self.outputs), progress).push_live()
        for result in report.parties:
            if result.plan:
                progress.step(result.party, "knows of it, nothing restarted")
        return report

    async def _deploy(self, progress: Progress, timeout_s: float) -> Report:
        run(self.federation(), self.outputs)
        self._check_watchers()
        selection = self._select([ALL])
        return await Deployer(selection.engines, progress, notes=selection.notes).deploy(
            is_verified=True, timeout_s=timeout_s
        )

    def _check_watchers(self) -> None:
        """Raise where the parties that are to be started could not watch their files."""
        homes = {party: Home(path) for party, path in self.homes().items()}
        to_start = [party for party, home in homes.items() if supervision.processes(home.supervisor_socket) is None]
        left, needed = processes.watchers_left(), WATCHERS_OF_A_PARTY * len(to_start)
        if left is not None and left < needed:
            raise DeployError(
                f"{len(to_start)} parties need {needed} file watchers, and this user has {max(left, 0)} left "
                "(fs.inotify.max_user_instances)",
                hint="Stop another lab, start fewer parties, or: sudo sysctl fs.inotify.max_user_instances=1024",
            )

    def _select(self, targets: Sequence[str], *, is_left_over_meant: bool = False) -> Selection:
        return select(
            self.federation(),
            targets,
            Machines(self.outputs),
            self.outputs,
            is_deployed=True,
            is_left_over_meant=is_left_over_meant,
        )

    def _write(self, text: str) -> None:
        check(text, str(self.conf))
        make_private_folder(self.folder)
        replace_file(self.conf, text.encode())

    def _remove(self) -> None:
        shutil.rmtree(self.outputs)
        self.conf.unlink()


def _parse(party: str) -> str:
    try:
        return parse_party_id(party)
    except ValueError as exc:
        raise ConfigurationError(str(exc), hint="For example: fedparty lab party add 9998") from exc
