"""What each image is built from.

Owns the list of images to build, their order, and the files of each build, as data. Does not build (`builder`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedparty.config.images import MYSQL, NAMES, PARTY, PROXY, WORKER_TORCH, image_name, site_image, worker_base
from fedparty.config.model import Federation
from fedparty.errors import DeployError

_REPOSITORY = Path(__file__).resolve().parents[3]
_SHARED = "shared"
_REQUIREMENTS = "requirements.txt"
_TITLES = {
    PROXY: "fedparty proxy: the only door of a party, and the exchange",
    PARTY: "fedparty party: the Python services of a party",
    WORKER_TORCH: "fedparty worker with PyTorch",
    MYSQL: "fedparty database: MariaDB for one party's metadata",
}


@dataclass(frozen=True)
class Recipe:
    """How one image is built.

    Attributes
    ----------
    name
        Full name of the image.
    title
        What it is, for people.
    files
        Files of the build by their path in it, the Dockerfile among them.
    requirements
        Texts of what pip installs in it.
    parent
        Full name of the image that it adds to; None: the Debian base.
    """

    name: str
    title: str
    files: dict[str, Path] = field(repr=False)
    requirements: tuple[str, ...] = field(repr=False)
    parent: str | None = None


def release_recipe(name: str, *, registry: str | None, tag: str | None) -> Recipe:
    """Return how an image of the release is built.

    Parameters
    ----------
    name
        One of `NAMES`.

    Raises
    ------
    DeployError
        The folder ``images`` is not there.
    """
    files = _files_of(name) | (_source() if name == PARTY else {})
    parent = image_name(PARTY, registry=registry, tag=tag) if name == WORKER_TORCH else None
    return Recipe(image_name(name, registry=registry, tag=tag), _TITLES[name], files, _texts(files), parent)


def site_recipe(federation: Federation, party: str) -> Recipe:
    """Return how the image with a site's own requirements is built.

    Raises
    ------
    DeployError
        Its file cannot be read.
    """
    site = next(each for each in federation.parties if each.id == party)
    if site.requirements is None:
        raise DeployError(f"party {party} asks for no requirements", hint="See requirements in parties.conf.")
    files = _files_of(WORKER_TORCH) | {_REQUIREMENTS: site.requirements}
    name = image_name(site_image(party), registry=federation.registry, tag=federation.tag)
    title = f"fedparty worker with the requirements of party {party}"
    return Recipe(name, title, files, _texts(files), worker_base(federation, site))


def needed(federation: Federation | None) -> tuple[str, ...]:
    """Return the names of the images that a federation needs, in the order of building; those of a site come last.

    Parameters
    ----------
    federation
        None: what any federation needs.
    """
    if federation is None:
        return (PROXY, PARTY, MYSQL)
    asked = {party.image for party in federation.parties if party.image is not None}
    sites = [site_image(party.id) for party in federation.parties if party.requirements is not None]
    return (*(name for name in NAMES if name in asked or name != WORKER_TORCH), *sites)


def recipes(
    names: Sequence[str], federation: Federation | None, *, registry: str | None, tag: str | None
) -> list[Recipe]:
    """Return how images are built, in an order in which each finds what it adds to.

    Parameters
    ----------
    names
        Names of the release's images and of the sites'.

    Raises
    ------
    DeployError
        There is no such image.
    """
    sites = {
        site_image(party.id): party.id for party in (federation.parties if federation else ()) if party.requirements
    }
    unknown = [name for name in names if name not in NAMES and name not in sites]
    if unknown:
        raise DeployError(f"there is no image {unknown[0]}", hint=f"Images: {', '.join([*NAMES, *sites])}.")
    release = [release_recipe(name, registry=registry, tag=tag) for name in NAMES if name in names]
    own = [site_recipe(federation, sites[name]) for name in sites if federation and name in names]
    return release + own


def libraries(recipe: Recipe) -> frozenset[str]:
    """Return the normalised names of the libraries that a recipe's requirements pin or ask for."""
    return frozenset(name for text in recipe.requirements for name in _names(text))


def normalised(name: str) -> str:
    """Return a library's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _names(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if found := re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", line):
            yield normalised(found[1])


def _texts(files: dict[str, Path]) -> tuple[str, ...]:
    return tuple(_read(path) for name, path in sorted(files.items()) if re.fullmatch(r"requirements[\w-]*\.txt", name))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise DeployError(f"{path}: cannot be read: {exc}", hint="See requirements in parties.conf.") from exc


def _files_of(name: str) -> dict[str, Path]:
    folder = _REPOSITORY / "images"
    if not (folder / name / "Dockerfile").is_file():
        raise DeployError(f"{folder / name}: is not there", hint="Run this from a clone of the project.")
    own = {str(path.relative_to(folder / name)): path for path in folder.joinpath(name).rglob("*") if path.is_file()}
    shared = {f"{_SHARED}/{path.name}": path for path in folder.joinpath(_SHARED).iterdir()}
    return own | shared


def _source() -> dict[str, Path]:
    """Return the package and what is needed to build it."""
    paths = [
        _REPOSITORY / name for name in ("pyproject.toml", "README.md", "LICENSE", "toy_example/run_toy_example.py")
    ]
    package = (path for path in (_REPOSITORY / "fedparty").rglob("*") if path.is_file())
    paths += sorted(path for path in package if path.suffix not in (".pyc", ".pyi"))
    return {f"source/{path.relative_to(_REPOSITORY)}": path for path in paths}
