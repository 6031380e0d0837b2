"""Brings images to machines that lack them: from a registry, or from the operator's own Docker.

Owns the comparison of what a bundle needs with what a machine has, and the one archive that several machines get. Does
not own how an image is built (`fedparty.deploy.images`).
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fedparty.deploy.commands import Command
from fedparty.deploy.containers import compose
from fedparty.deploy.transport import Transport
from fedparty.errors import DeployError

_LOOK_TIMEOUT_S = 30.0
_LOAD_TIMEOUT_S = 1800.0

Tell = Callable[[str], None]


class Store(Protocol):
    """The operator's own images."""

    def identities(self, names: Sequence[str]) -> Mapping[str, str]:
        """Return the ids of those images that are there, by name; none where there is no Docker."""

    def size(self, names: Sequence[str]) -> int:
        """Return how many bytes these images take, uncompressed."""

    def save(self, names: Sequence[str], file: Path) -> None:
        """Write an archive of these images for ``docker load``."""


@dataclass(frozen=True)
class Missing:
    """What a machine lacks.

    Attributes
    ----------
    pulled
        Images that it gets from their registry.
    named
        Images that it has under another name, with their ids.
    sent
        Images that it gets from the operator's machine, with their ids there.
    """

    pulled: tuple[str, ...] = ()
    named: Mapping[str, str] = field(default_factory=dict)
    sent: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.pulled or self.named or self.sent)

    def __str__(self) -> str:
        parts = (("pull", self.pulled), ("name", self.named), ("send", self.sent))
        return ", ".join(f"{word} {name}" for word, names in parts for name in sorted(names))


class Supply:
    """Gives images to machines; an archive is made once, and removed at the end.

    Parameters
    ----------
    store
        Where images come from that no registry has.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._identities: dict[tuple[str, ...], asyncio.Task[Mapping[str, str]]] = {}
        self._archives: dict[tuple[str, ...], asyncio.Task[Path]] = {}

    async def find_missing(
        self, transport: Transport, names: Sequence[str], *, pulled: Collection[str], is_root_needed: bool
    ) -> Missing:
        """Return which of the images a machine lacks, or has in another build than the operator.

        Parameters
        ----------
        pulled
            Those that a registry has.

        Raises
        ------
        DeployError
            One is nowhere to be had.
        """
        here = {} if transport.is_local else await self._own(tuple(names))
        # An id may be there under another name.
        command = Command(compose.identities([*names, *here.values()]), as_root=is_root_needed)
        there = compose.parse_identities((await transport.run(command, timeout_s=_LOOK_TIMEOUT_S)).output)
        differing = {name: here[name] for name in names if name in here and there.get(name) != here[name]}
        named = {name: identity for name, identity in differing.items() if identity in there.values()}
        sent = {name: differing[name] for name in differing if name not in named and name not in pulled}
        lacking = [name for name in names if name not in there or name in differing]
        absent = tuple(name for name in lacking if name not in named and name not in sent)
        if nowhere := [name for name in absent if name not in pulled]:
            raise DeployError(
                f"{transport.place}: there is no image {', '.join(nowhere)}, neither there nor on this machine",
                hint="Make the images: make images (or python deploy.py images load FILE); see tag in parties.conf.",
            )
        return Missing(absent, named, sent)

    def size(self, missing: Missing) -> int:
        """Return the room that the images to be sent need, bytes."""
        return self._store.size(sorted(missing.sent)) if missing.sent else 0

    async def bring(
        self, transport: Transport, missing: Missing, folder: Path, tell: Tell, *, is_root_needed: bool
    ) -> None:
        """Pull and send what is missing.

        Parameters
        ----------
        folder
            Where on the machine an archive lies until it is loaded; a transfer that broke off goes on there.

        Raises
        ------
        DeployError
            The registry does not have an image, or an archive does not arrive.
        """
        for name in missing.pulled:
            tell(f"pulls {name}")
            pulled = await transport.run(
                Command(("docker", "pull", "--quiet", name), as_root=is_root_needed), timeout_s=_LOAD_TIMEOUT_S
            )
            if pulled.code != 0:
                raise DeployError(
                    f"{transport.place}: {name} cannot be pulled: {pulled.last_lines()}",
                    hint="Bring it there: python deploy.py images push; or see that the machine reaches its registry.",
                )
        for name, identity in missing.named.items():
            command = Command(("docker", "tag", identity, name), as_root=is_root_needed)
            (await transport.run(command, timeout_s=_LOOK_TIMEOUT_S)).require(f"{transport.place}: {name}")
        if not missing.sent:
            return
        archive = await self._archive(missing.sent)
        target = folder / f"{archive.name}"
        shown = ", ".join(sorted(missing.sent))
        await transport.send_file(archive, target, on_progress=_percent(tell, shown))
        tell(f"loads {shown}")
        loaded = await transport.run(
            Command(("docker", "load", "--quiet", "--input", str(target)), as_root=is_root_needed),
            timeout_s=_LOAD_TIMEOUT_S,
        )
        await transport.remove(target)
        loaded.require(f"{transport.place}: the images cannot be loaded")

    def close(self) -> None:
        """Remove the archives."""
        if self._folder:
            self._folder.cleanup()

    async def _own(self, names: tuple[str, ...]) -> Mapping[str, str]:
        """Return the operator's images, asked for once."""
        if names not in self._identities:
            self._identities[names] = asyncio.create_task(asyncio.to_thread(self._store.identities, names))
        return await asyncio.shield(self._identities[names])

    async def _archive(self, images: Mapping[str, str]) -> Path:
        """Return the archive of these images, made once whoever asks first."""
        names = tuple(sorted(images))
        if names not in self._archives:
            identity = hashlib.sha256("\n".join(f"{name} {images[name]}" for name in names).encode()).hexdigest()[:16]
            self._folder = self._folder or tempfile.TemporaryDirectory(prefix="fedparty-images-")
            file = Path(self._folder.name) / f"images-{identity}.tar"
            self._archives[names] = asyncio.create_task(self._save(names, file))
        return await asyncio.shield(self._archives[names])

    async def _save(self, names: Sequence[str], file: Path) -> Path:
        await asyncio.to_thread(self._store.save, names, file)
        return file


def _percent(tell: Tell, what: str) -> Callable[[int, int], None]:
    """Return a listener that tells each tenth part of a transfer once."""
    told = -1

    def on_progress(done: int, total: int) -> None:
        nonlocal told
        tenth = 10 * done // max(total, 1)
        if tenth > told:
            told = tenth
            tell(f"sends {what}: {tenth * 10} % of {total / (1 << 20):,.0f} MiB")

    return on_progress
