"""Puts a bundle into a home, and takes it out again.

Owns the order in which files and folders change: a copy is checked before it counts, files of a running party are
replaced one by one by rename, live ones in an order that the proxy can follow. Starts and stops nothing.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fedparty.deploy.bundle import Bundle, Difference, compare
from fedparty.deploy.home import Home
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


async def install_bundle(transport: Transport, bundle: Bundle, home: Home) -> Difference:
    """Make the home's bundle equal to `bundle`; return what differed.

    Raises
    ------
    BundleError
        The copy does not pass its check.
    """
    difference = compare(bundle, home.bundle)
    if not difference:
        return difference
    await transport.upload(bundle.folder, home.staged)
    manifest.verify(home.staged, fingerprint=bundle.fingerprint)
    if difference.is_fresh:
        await transport.remove(home.bundle)
        home.staged.rename(home.bundle)
    else:
        # The folder itself stays: the running proxy watches it, not its name.
        await transport.replace(home.staged, home.bundle, difference.static + difference.live)
        for path in difference.gone:
            await transport.remove(home.bundle / path)
        await transport.remove(home.staged)
    return difference


async def push_live_files(transport: Transport, bundle: Bundle, home: Home) -> tuple[str, ...]:
    """Put the live files that differ in place, and the list that they are signed with; nothing else.

    The home keeps its static files until the next deploy, so the whole is right again only then if those differ too.
    """
    difference = compare(bundle, home.bundle)
    if difference.is_fresh or not difference.live:
        return ()
    lists = (manifest.MANIFEST, manifest.SIGNATURE)
    moved = difference.live if set(difference.static) - set(lists) else (*difference.live, *lists)
    await transport.upload(bundle.folder, home.staged)
    manifest.verify(home.staged, fingerprint=bundle.fingerprint)
    await transport.replace(home.staged, home.bundle, moved)
    await transport.remove(home.staged)
    return difference.live


async def prepare_folders(transport: Transport, bundle: Bundle, home: Home) -> None:
    """Make the home and its folders, and pin the federation that it belongs to."""
    make_private(home.path)
    make_private(home.logs)
    make_private(home.data)
    if await pinned_fingerprint(transport, home) is None:
        await transport.write(home.pinned_fingerprint, f"{bundle.fingerprint}\n".encode())


async def empty_home(transport: Transport, home: Home) -> None:
    """Remove all that was deployed; keys that a party brought itself stay."""
    if not home.keys.is_dir():
        await transport.remove(home.path)
        return
    for path in home.path.iterdir():
        if path != home.keys:
            await transport.remove(path)


def make_run_folder(home: Home) -> None:
    """Make the folder of the sockets, and the link to it where the home's path is too long for them.

    Raises
    ------
    DeployError
        Somebody else owns the folder.
    """
    make_private(home.short_run)
    if home.short_run == home.run:
        return
    if home.run.is_symlink():
        home.run.unlink()
    home.run.symlink_to(home.short_run)


def make_private(folder: Path) -> None:
    """Make a folder that only this user enters.

    Raises
    ------
    DeployError
        It exists and is a link, not a folder, or somebody else's.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise DeployError(f"{folder}: is not a folder of this user", hint="Look who made it; remove it.") from None
        folder.chmod(0o700)
