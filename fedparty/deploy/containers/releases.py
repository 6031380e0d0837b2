"""The bundles that were healthy on a machine, kept there: what a failed deploy goes back to.

    releases/<time>/            a copy of the bundle
    releases/<time>.images      the ids of the images that it ran with, for the same name may mean another build later

Owns the copies and the way back from one. Starts nothing, and knows images by their names and ids only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from fedparty.deploy.commands import Command
from fedparty.deploy.home import Home
from fedparty.deploy.transport import Transport
from fedparty.pki.manifest import MANIFEST, SIGNATURE
from fedparty.pki.readers import live_rank

_KEPT = 3
_TRUST = ("ca/live/crl.pem", "proxy/live/sds_trust.json")
"""Never taken back: who was revoked stays revoked."""


async def keep(transport: Transport, home: Home, images: Mapping[str, str]) -> str:
    """Keep a copy of the bundle that is in place, if it differs from the newest one; return the newest one's name.

    Parameters
    ----------
    images
        The ids of the images that it runs with, by name.
    """
    if not await _is_first(transport, home) and not await differs_from_newest(transport, home, images):
        return (await _names(transport, home))[-1]
    name = _name_after(await newest_release(transport, home))
    await transport.make_folder(home.releases)
    await transport.write(_images_file(home, name), json.dumps(dict(images), sort_keys=True).encode())
    await _copy(transport, home.bundle, home.releases / name)
    for old in (await _names(transport, home))[:-_KEPT]:
        await transport.remove(home.releases / old)
        await transport.remove(_images_file(home, old))
    return name


async def newest_release(transport: Transport, home: Home) -> str | None:
    """Return the name of the newest copy; None: nothing was ever healthy here."""
    names = await _names(transport, home)
    return names[-1] if names else None


async def images_of(transport: Transport, home: Home, release: str) -> Mapping[str, str]:
    """Return the ids of the images that a kept release ran with, by name."""
    content = await transport.read(_images_file(home, release))
    images: dict[str, str] = json.loads(content) if content else {}
    return images


async def differs_from_newest(transport: Transport, home: Home, images: Mapping[str, str]) -> bool:
    """Return whether there is a copy to go back to, and it differs from what is in place now, or from its images."""
    newest = await newest_release(transport, home)
    if newest is None:
        return False
    is_same = await transport.listing(home.releases / newest) == await transport.listing(home.bundle)
    return not is_same or await images_of(transport, home, newest) != images


async def take_back(transport: Transport, home: Home) -> str:
    """Put the newest copy in place of the bundle, file by file, and return its name; what is revoked stays revoked."""
    name = await newest_release(transport, home)
    assert name is not None  # noqa: S101  # the caller asked `differs_from_newest`
    kept = await transport.listing(home.releases / name) or {}
    placed = await transport.listing(home.bundle) or {}
    await transport.remove(home.staged)
    await _copy(transport, home.releases / name, home.staged)
    differing = (path for path, state in kept.items() if placed.get(path) != state and path not in _TRUST)
    back = sorted(differing, key=live_rank)  # a proxy that runs on follows them one by one
    await transport.replace(home.staged, home.bundle, back)
    for path in placed.keys() - kept.keys():
        await transport.remove(home.bundle / path)
    await transport.remove(home.staged)
    return name


async def update_newest(transport: Transport, home: Home, names: Sequence[str]) -> None:
    """Take live files that were put in place since into the newest copy too, with their signed list."""
    newest = await newest_release(transport, home)
    if newest is None or not names:
        return
    script = (
        "from=$1 to=$2; shift 2; "
        'for name; do cp -p "$from/$name" "$to/$name.part"; mv "$to/$name.part" "$to/$name"; done'
    )
    moved = (*names, MANIFEST, SIGNATURE)
    command = Command(("sh", "-ec", script, "sh", str(home.bundle), str(home.releases / newest), *moved))
    (await transport.run(command)).require(f"{transport.place}: {home.releases / newest}")


def _name_after(newest: str | None) -> str:
    """Return the name of a copy made now, which sorts last: whoever made the newest one may have had a faster clock."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return now if newest is None or now > newest else f"{newest}+"


async def _is_first(transport: Transport, home: Home) -> bool:
    return await newest_release(transport, home) is None


def _images_file(home: Home, release: str) -> Path:
    return home.releases / f"{release}.images"


async def _names(transport: Transport, home: Home) -> list[str]:
    command = Command(("sh", "-c", 'ls -1 -- "$1" 2>/dev/null || true', "sh", str(home.releases)))
    names = (await transport.run(command)).output.split()
    return sorted(name for name in names if not name.endswith((".part", ".images")))


async def _copy(transport: Transport, source: Path, target: Path) -> None:
    """Copy a folder with modes and owners; the copy has its name only when it is whole."""
    part = target.with_name(f"{target.name}.part")
    await transport.remove(part)
    command = Command(("cp", "-a", str(source), str(part)))
    (await transport.run(command)).require(f"{transport.place}: {target}")
    await transport.rename(part, target)
