"""One file with all that a party must not lose, and the way back from it.

    about.json      whose it is, from which release, when
    database.sql    the jobs
    data/<service>.tar    what the services keep
    keys/, policy/  what the party put into its home itself, if anything

Owns the form of the file and the order of both ways, for the docker engine. What can be generated again (the bundle) is
not in it. It is taken while the party runs: jobs that run at that moment go on after a restore like after a crash.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedparty import __version__
from fedparty.deploy import install
from fedparty.deploy.bundle import Bundle
from fedparty.deploy.commands import Command
from fedparty.deploy.containers import compose, watching
from fedparty.deploy.containers.migration import DATABASE, START_TIMEOUT_S
from fedparty.deploy.engine.docker import DockerEngine
from fedparty.errors import BundleError, DeployError

_TIMEOUT_S = 3600.0
_FORMAT = 1
_ABOUT = "about.json"
_PACK = 'cd "$1" && find . -mindepth 1 -maxdepth 1 -print0 | { tar --null --files-from=- -cf - || [ $? -eq 1 ]; }'
"""Without the folder itself: a volume's root is Docker's. tar ends with 1 where a file changed while it was read."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class About:
    """What a backup says of itself."""

    party: str
    federation: str
    fingerprint: str
    release: str
    created: str
    format: int = _FORMAT


async def back_up(engine: DockerEngine, file: Path, tell: Tell) -> None:
    """Write the party's backup to a file of this machine, 0600, under its name only when it is whole.

    Raises
    ------
    DeployError
        The party is not deployed, its database does not run, or a disk is full.
    """
    bundle = engine.bundle()
    folder = engine.home.path / ".backup"
    async with engine.lock():
        if not await engine.is_deployed():
            raise DeployError(f"party {engine.party} is not deployed at {engine.transport.place}: nothing to back up")
        await engine.transport.remove(folder)
        await engine.transport.make_folder(folder / "data")
        try:
            about = About(
                engine.party, bundle.federation, bundle.fingerprint, __version__,
                datetime.now(UTC).isoformat(timespec="seconds"),
            )  # fmt: skip
            await engine.transport.write(folder / _ABOUT, json.dumps(asdict(about), indent=1).encode())
            if DATABASE in bundle.services:
                tell("dumps the database")
                await engine.place.save_output(
                    compose.execute(bundle.containers[DATABASE], ("database", "dump")),
                    folder / "database.sql",
                    timeout_s=_TIMEOUT_S,
                )
            for service in _with_data(bundle):
                tell(f"copies the data of {service}")
                argv = await _once(engine, service, ("sh", "-c", _PACK, "sh", f"data/{service}"))
                await engine.place.save_output(argv, folder / "data" / f"{service}.tar", timeout_s=_TIMEOUT_S)
            for own in _own_folders(engine):
                if await engine.transport.listing(own):
                    copied = await engine.transport.run(Command(("cp", "-a", str(own), str(folder / own.name))))
                    copied.require(f"party {engine.party}: {own}")
            tell(f"fetches it to {file}")
            await engine.transport.fetch(
                Command(("tar", "-C", str(folder), "-czf", "-", ".")), file, timeout_s=_TIMEOUT_S
            )
        finally:
            await engine.transport.remove(folder)
        await engine.record(f"backed up to {file.name}")


async def restore(engine: DockerEngine, file: Path, tell: Tell) -> None:
    """Put a backup's data into a machine that has none of this party; the party is started by a deploy afterwards.

    Raises
    ------
    BundleError
        The file is no backup, or another party's or federation's.
    DeployError
        The machine has data of the party: it would be lost.
    """
    bundle, about = engine.bundle(), read_about(file)
    _require_same(about, bundle, file)
    folder = engine.home.path / ".restore"
    async with engine.lock():
        if found := await engine.place.belongings("volume"):
            raise DeployError(
                f"party {engine.party} has data at {engine.transport.place}, which a restore would replace: "
                f"{', '.join(found)}",
                hint=f"Give it up first: python deploy.py {engine.party} --delete --purge",
            )
        await engine.transport.make_folder(engine.home.path)
        try:
            await _unpack(engine, file, folder)
            await _put_own_folders_back(engine, folder)
            await engine.check()
            await engine.install(tell)
            await _put_data_back(engine, bundle, folder, tell)
        except BaseException:
            with suppress(DeployError):  # the first error counts; the next try names what is left
                await engine.place.remove_containers()
                await engine.place.remove_volumes()  # there were none: the next try begins where this one did
            with suppress(DeployError):
                await engine.transport.remove(folder)
            raise
        await engine.transport.remove(folder)
        await engine.record(f"restored from {file.name} of {about.created}")


async def _unpack(engine: DockerEngine, file: Path, folder: Path) -> None:
    archive = engine.home.path / ".restore.tar.gz"
    await engine.transport.send_file(file, archive, on_progress=None)
    try:
        await engine.transport.remove(folder)  # of a try before
        await engine.transport.make_folder(folder)
        command = Command(("tar", "-C", str(folder), "-xzf", str(archive)))
        unpacked = await engine.transport.run(command, timeout_s=_TIMEOUT_S)
        unpacked.require(f"party {engine.party}: the backup cannot be unpacked at {engine.transport.place}")
    finally:
        await engine.transport.remove(archive)


def _own_folders(engine: DockerEngine) -> tuple[Path, ...]:
    """Return what a party put into its home itself."""
    return (engine.home.keys, engine.home.policy)


async def _put_own_folders_back(engine: DockerEngine, folder: Path) -> None:
    """Put back what the party brought itself, where the home does not have it."""
    for own in _own_folders(engine):
        if await engine.transport.listing(folder / own.name) and not await engine.transport.listing(own):
            await engine.transport.remove(own)
            await engine.transport.rename(folder / own.name, own)
            await install.give(engine.transport, own, await engine.place.given_to())


async def _put_data_back(engine: DockerEngine, bundle: Bundle, folder: Path, tell: Tell) -> None:
    for service in _with_data(bundle):
        tell(f"puts back the data of {service}")
        unpack = ("tar", "-C", f"data/{service}", "-xpf", "-")
        await engine.place.feed(
            await _once(engine, service, unpack), folder / "data" / f"{service}.tar", timeout_s=_TIMEOUT_S
        )
    if DATABASE in bundle.services:
        tell("puts back the database")
        await engine.place.up(DATABASE)
        await watching.require_healthy(engine.place, DATABASE, START_TIMEOUT_S)
        argv = ("docker", "exec", "--interactive", bundle.containers[DATABASE], "database", "restore")
        await engine.place.feed(argv, folder / "database.sql", timeout_s=_TIMEOUT_S)


def read_about(file: Path) -> About:
    """Return what a backup says of itself.

    Raises
    ------
    BundleError
        It is no backup, or of a release with another form.
    """
    try:
        with tarfile.open(file, "r:gz") as archive:
            member = archive.extractfile(f"./{_ABOUT}")
            about = About(**json.load(member if member else io.BytesIO(b"")))
    except FileNotFoundError as exc:
        raise BundleError(f"{file}: there is no such file", hint="Say which backup to restore.") from exc
    except (tarfile.TarError, KeyError, ValueError, TypeError, EOFError) as exc:
        raise BundleError(
            f"{file}: is not a backup: {exc}", hint="Backups are made by: python deploy.py backup"
        ) from exc
    if about.format != _FORMAT:
        raise BundleError(f"{file}: its form is {about.format}, this release reads {_FORMAT}", hint="Use its release.")
    return about


def _require_same(about: About, bundle: Bundle, file: Path) -> None:
    if about.party != bundle.party:
        raise BundleError(f"{file}: is a backup of party {about.party}, not of {bundle.party}", hint="Take the other.")
    if about.fingerprint != bundle.fingerprint:
        raise BundleError(
            f"{file}: is of another federation: {about.federation} with the fingerprint {about.fingerprint}",
            hint="A party's data stay in its federation.",
        )


def _with_data(bundle: Bundle) -> Iterator[str]:
    """Return the services that have a volume; every job server has that of the first one."""
    return (service for service in bundle.services if service not in ("proxy", DATABASE, *bundle.flows[1:]))


async def _once(engine: DockerEngine, service: str, argv: tuple[str, ...]) -> tuple[str, ...]:
    return compose.run_once(engine.home.bundle, await engine.place.owner(), service, argv)
