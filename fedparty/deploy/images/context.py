"""The archive that Docker builds an image from.

Owns its layout: the recipe's files, and under ``build/`` what only build stages see. The same content makes the same
archive, so that Docker finds what it has built before.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from fedparty.deploy.images.recipes import Recipe, libraries, normalised

_TIME = 1_577_836_800
"""2020-01-01, the time of every file: wheels know none before 1980."""


def context(recipe: Recipe, *, wheelhouse: Path | None, ca_bundle: Path | None, sources: str) -> IO[bytes]:
    """Return the archive of a build, to be read from its beginning.

    Parameters
    ----------
    wheelhouse
        Folder of wheels; those that the recipe asks for go in.
    ca_bundle
        What build stages trust, besides what they bring.
    sources
        The text of apt's ``sources.list``; empty: the base image's own.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
    wheels = wheels_for(recipe, wheelhouse.iterdir()) if wheelhouse else []
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, path in sorted(recipe.files.items()):
            _add(archive, name, path)
        _add_text(archive, "build/sources.list", sources.encode())
        _add_text(archive, "build/ca.pem", ca_bundle.read_bytes() if ca_bundle else b"")
        _add_folder(archive, "build/wheelhouse")
        for wheel in wheels:
            _add(archive, f"build/wheelhouse/{wheel.name}", wheel)
    file.seek(0)
    return file


def wheels_for(recipe: Recipe, files: Iterable[Path]) -> list[Path]:
    """Return those of the files that are wheels or archives of libraries that a recipe names.

    A site's requirements may be ranges whose dependencies nobody wrote down: it gets every wheel.
    """
    wheels = sorted(path for path in files if path.suffix in (".whl", ".gz"))
    if recipe.parent is not None:
        return wheels
    wanted = libraries(recipe)
    return [path for path in wheels if normalised(path.name.partition("-")[0]) in wanted]


def _add(archive: tarfile.TarFile, name: str, path: Path) -> None:
    with path.open("rb") as source:
        info = _info(name, 0o755 if path.stat().st_mode & 0o100 else 0o644)
        info.size = path.stat().st_size
        archive.addfile(info, source)


def _add_text(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = _info(name, 0o644)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def _add_folder(archive: tarfile.TarFile, name: str) -> None:
    info = _info(name, 0o755)
    info.type = tarfile.DIRTYPE
    archive.addfile(info)


def _info(name: str, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = mode, _TIME
    return info
