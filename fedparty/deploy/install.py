"""Puts a bundle into a home, and takes it out again, on whatever machine the home is.

Owns the order in which files and folders change: a copy is checked before it counts, files of a running party are
replaced one by one by rename, live ones in an order that the proxy can follow. Starts and stops nothing.
"""

from __future__ import annotations

from pathlib import Path

from fedparty.deploy.bundle import Bundle
from fedparty.deploy.commands import Command
from fedparty.deploy.difference import Difference, compare, expected_files
from fedparty.deploy.home import Home, Owner
from fedparty.deploy.transport import Transport
from fedparty.errors import BundleError, DeployError
from fedparty.pki import manifest


async def check_bundle(transport: Transport, bundle: Bundle, home: Home) -> None:
    """Check the bundle's files and signature, and that the home belongs to the same federation.

    Raises
    ------
    BundleError
        Something differs; the message names it.
    """
    pinned = await pinned_fingerprint(transport, home)
    if pinned not in (None, bundle.fingerprint):
        raise BundleError(
            f"{home.path} belongs to the federation with the fingerprint {pinned},\n"
            f"but {bundle.folder} to the one with {bundle.fingerprint}",
            hint=f"To give the other up: python deploy.py {bundle.party} --delete --purge, then deploy again.",
        )
    manifest.verify(bundle.folder, fingerprint=pinned or bundle.fingerprint)


async def check_own_keys(transport: Transport, bundle: Bundle, home: Home) -> None:
    """Check that the keys which the party keeps to itself are where its services read them.

    Raises
    ------
    DeployError
        One is missing.
    """
    if missing := [path for path in bundle.own_keys if await transport.read(home.path / path) is None]:
        raise DeployError(
            f"party {bundle.party}: its own private keys are missing: {', '.join(str(home.path / p) for p in missing)}",
            hint="Copy them there, with mode 0600, then run this again.",
        )


async def pinned_fingerprint(transport: Transport, home: Home) -> str | None:
    """Return the fingerprint that the home was first deployed with."""
    content = await transport.read(home.pinned_fingerprint)
    return content.decode().strip() if content else None


async def difference_from(transport: Transport, bundle: Bundle, home: Home) -> Difference:
    """Return how the home's bundle differs from `bundle`; its files are hashed, not believed."""
    return compare(bundle, await transport.listing(home.bundle))


async def install_bundle(transport: Transport, bundle: Bundle, home: Home, *, owner: Owner | None = None) -> Difference:
    """Make the home's bundle equal to `bundle`; return what differed.

    Parameters
    ----------
    owner
        Whose the files are to be; None: whose they become by themselves.

    Raises
    ------
    BundleError
        The copy does not pass its check.
    """
    difference = await difference_from(transport, bundle, home)
    if not difference:
        return difference
    await _stage(transport, bundle, home, owner)
    if difference.is_fresh:
        await transport.remove(home.bundle)
        await transport.rename(home.staged, home.bundle)
    else:
        # The folder itself stays: the running proxy watches it, not its name.
        await transport.replace(home.staged, home.bundle, difference.static + difference.live)
        for path in difference.gone:
            await transport.remove(home.bundle / path)
        await transport.remove(home.staged)
    return difference


async def push_live_files(
    transport: Transport, bundle: Bundle, home: Home, *, owner: Owner | None = None
) -> tuple[str, ...]:
    """Put the live files that differ in place, and the list that they are signed with; nothing else.

    The home keeps its static files until the next deploy, so the whole is right again only then if those differ too.
    """
    difference = await difference_from(transport, bundle, home)
    if difference.is_fresh or not difference.live:
        return ()
    lists = (manifest.MANIFEST, manifest.SIGNATURE)
    moved = difference.live if set(difference.static) - set(lists) else (*difference.live, *lists)
    await _stage(transport, bundle, home, owner)
    await transport.replace(home.staged, home.bundle, moved)
    await transport.remove(home.staged)
    return difference.live


async def prepare_folders(transport: Transport, bundle: Bundle, home: Home) -> None:
    """Make the home and its folders, and pin the federation that it belongs to."""
    for folder in (home.path, home.logs, home.data):
        await transport.make_folder(folder)
    await pin_fingerprint(transport, bundle, home)


async def pin_fingerprint(transport: Transport, bundle: Bundle, home: Home) -> None:
    """From now on the home takes bundles of this federation only."""
    if await pinned_fingerprint(transport, home) is None:
        await transport.write(home.pinned_fingerprint, f"{bundle.fingerprint}\n".encode())


async def empty_home(transport: Transport, home: Home) -> None:
    """Remove all that was deployed; keys and a policy that a party brought itself stay."""
    if not await transport.listing(home.keys) and not await transport.listing(home.policy):
        await transport.remove(home.path)
        return
    others = ("-mindepth", "1", "-maxdepth", "1", "!", "-name", home.keys.name, "!", "-name", home.policy.name)
    command = Command(("find", str(home.path), *others, "-exec", "rm", "-rf", "--", "{}", "+"))
    (await transport.run(command)).require(f"{transport.place}: {home.path}")


async def make_run_folder(transport: Transport, home: Home) -> None:
    """Make the folder of the sockets on this machine, and the link to it where the home's path is too long for them.

    Raises
    ------
    DeployError
        Somebody else owns the folder.
    """
    await transport.make_folder(home.short_run)
    if home.short_run == home.run:
        return
    if home.run.is_symlink():
        home.run.unlink()
    home.run.symlink_to(home.short_run)


async def give(transport: Transport, folder: Path, owner: Owner | None) -> None:
    """Make a folder on the machine, with all that it holds, somebody's."""
    if owner is not None:
        command = Command(("chown", "-R", f"{owner.uid}:{owner.gid}", str(folder)))
        (await transport.run(command)).require(f"{transport.place}: {folder}")


async def _stage(transport: Transport, bundle: Bundle, home: Home, owner: Owner | None) -> None:
    """Copy the bundle beside the one that is in place, and check the copy where it lies."""
    await transport.upload(bundle.folder, home.staged)
    await give(transport, home.staged, owner)
    found, wanted = await transport.listing(home.staged) or {}, expected_files(bundle)
    if found != wanted:
        differing = sorted(path for path in found.keys() | wanted.keys() if found.get(path) != wanted.get(path))
        raise BundleError(
            f"{home.staged}: the copy at {transport.place} is not what was sent: {', '.join(differing[:5])}",
            hint="Run this again; if it stays, look at the disk of that machine.",
        )
