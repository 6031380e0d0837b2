"""``fedparty images``: also ``python deploy.py images``.

Owns its options, its lines, and what is meant by default. What happens is `fedparty.deploy.images`'s.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import click

from fedparty.config import Federation, load
from fedparty.config.images import NAMES, image_name
from fedparty.deploy.images import LocalImages
from fedparty.deploy.images.builder import BASE, Means, build
from fedparty.deploy.images.debian import Mirror
from fedparty.deploy.images.recipes import needed, recipes
from fedparty.deploy.images.wheelhouse import fill
from fedparty.errors import ConfigurationError

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_ALL = "all"
_CONF = Path("parties.conf")
_MIB = 1 << 20


@dataclass(frozen=True)
class Asked:
    """Which images are meant.

    Attributes
    ----------
    names
        Their short names.
    federation
        Of parties.conf; None: there is no such file.
    """

    names: tuple[str, ...]
    federation: Federation | None
    registry: str | None
    tag: str | None

    @property
    def full_names(self) -> list[str]:
        """Their full names."""
        return [image_name(name, registry=self.registry, tag=self.tag) for name in self.names]


def _selection(function: Decorated) -> Decorated:
    """Add what says which images are meant; the command gets it as ``asked``."""
    conf = click.option(
        "-c", "conf", type=click.Path(path_type=Path), default=_CONF, show_default=True,
        help="The federation's parties.conf: registry, tag, and what its sites need.",
    )  # fmt: skip
    registry = click.option("--registry", help="Registry in the images' names.  [default: parties.conf's]")
    tag = click.option("--tag", help="Tag of the images.  [default: parties.conf's, else this release]")
    return conf(registry(tag(function)))


def _names(function: Decorated) -> Decorated:
    return click.argument("names", nargs=-1, metavar="[all | NAME...]")(function)


@click.group()
def images() -> None:
    """Build the container images, and bring them where no registry is.

    NAME is proxy, party, worker-torch, mysql or site-<id>, the image with the requirements of that party. By default
    all that parties.conf needs are meant.
    """


@images.command("build")
@_names
@_selection
@click.option("--offline", "is_offline", is_flag=True, help="Ask no registry and no index.")
@click.option(
    "--wheelhouse", type=click.Path(file_okay=False, path_type=Path),
    help="Folder of wheels that are preferred to the index's.  [default: PIP_FIND_LINKS if it is a folder]",
)  # fmt: skip
@click.option("--pip-index", metavar="URL", help="Index of Python libraries.  [default: the public one]")
@click.option("--debian-mirror", metavar="URL", help="Mirror of Debian; URL-security has its security updates.")
@click.option(
    "--ca-bundle", type=click.Path(dir_okay=False, path_type=Path),
    help="Certificates that the builds trust; in no image.  [default: PIP_CERT, else SSL_CERT_FILE]",
)  # fmt: skip
@click.option("--base", default=BASE, show_default=True, help="Image of Debian to begin with.")
@click.option("--no-cache", "is_fresh", is_flag=True, help="Run every step again.")
def build_command(
    names: Sequence[str], conf: Path, registry: str | None, tag: str | None, is_offline: bool, wheelhouse: Path | None,
    pip_index: str | None, debian_mirror: str | None, ca_bundle: Path | None, base: str, is_fresh: bool,
) -> None:  # fmt: skip
    """Build images with this machine's Docker.

    Where no registry has the base image, it is made from a Debian mirror (as root, with debootstrap).
    """
    asked = _ask(names, conf, registry, tag)
    means = Means(
        base=base, is_offline=is_offline, wheelhouse=wheelhouse or _folder("PIP_FIND_LINKS"), pip_index=pip_index,
        mirror=Mirror.at(debian_mirror) if debian_mirror else None, is_cached=not is_fresh,
        ca_bundle=ca_bundle or _file("PIP_CERT") or _file("SSL_CERT_FILE"),
    )  # fmt: skip
    local, progress = LocalImages(), Progress()
    build(recipes(asked.names, asked.federation, registry=asked.registry, tag=asked.tag), means, local, progress.step)
    _show(asked, local)


@images.command("list")
@_names
@_selection
def list_command(names: Sequence[str], conf: Path, registry: str | None, tag: str | None) -> int:
    """Show which images are here; ends with 1 if one is missing."""
    return 0 if _show(_ask(names, conf, registry, tag), LocalImages()) else 1


@images.command("save")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_names
@_selection
def save_command(file: Path, names: Sequence[str], conf: Path, registry: str | None, tag: str | None) -> None:
    """Write images to one FILE, which installs a machine without any registry.

    There: fedparty images load FILE, or docker load -i FILE.
    """
    asked, progress = _ask(names, conf, registry, tag), Progress()
    LocalImages().save(asked.full_names, file, lambda done, total: progress.part(str(file), done, total))
    progress.step(str(file), f"{len(asked.names)} images, {file.stat().st_size / _MIB:,.0f} MiB")


@images.command("load")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def load_command(file: Path) -> None:
    """Read the images of a FILE into this machine's Docker."""
    progress = Progress()
    for name in LocalImages().load(file, lambda done, total: progress.part(str(file), done, total)):
        progress.step(name, "loaded")


@images.command("push")
@_names
@_selection
def push_command(names: Sequence[str], conf: Path, registry: str | None, tag: str | None) -> None:
    """Bring images to the registry of parties.conf; those that were built without it get its name first."""
    asked, progress, local = _ask(names, conf, registry, tag), Progress(), LocalImages()
    if asked.registry is None:
        raise ConfigurationError(f"{conf}: registry: is not set", hint="Set it there, or name one with --registry.")
    for name, full in zip(asked.names, asked.full_names, strict=True):
        if local.find(full) is None:
            local.tag(image_name(name, registry=None, tag=asked.tag), full)
        progress.step(full, "push")
        local.push(full)
    progress.step(asked.registry, f"has {len(asked.names)} images")


@images.command("wheelhouse")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@_names
@_selection
@click.option("--pip-index", metavar="URL", help="Index of Python libraries.  [default: pip's]")
def wheelhouse_command(
    folder: Path, names: Sequence[str], conf: Path, registry: str | None, tag: str | None, pip_index: str | None
) -> None:
    """Fetch into FOLDER the wheels that images are built from, for images build --offline."""
    asked, progress = _ask(names, conf, registry, tag), Progress()
    for recipe in recipes(asked.names, asked.federation, registry=asked.registry, tag=asked.tag):
        if recipe.requirements:
            progress.step(recipe.name, "fetch its wheels")
            fill(folder, recipe, index=pip_index)
    wheels = list(folder.glob("*.whl"))
    progress.step(str(folder), f"{len(wheels)} wheels, {sum(each.stat().st_size for each in wheels) / _MIB:,.0f} MiB")


class Progress:
    """Lines on the error stream, each with the time that passed."""

    def __init__(self) -> None:
        self._started = perf_counter()
        self._tenth = 0

    def step(self, what: str, text: str) -> None:
        """Tell what happens."""
        click.echo(f"{perf_counter() - self._started:6.1f}s  {what}: {text}"[:160], err=True)

    def part(self, what: str, done: int, total: int) -> None:
        """Tell each tenth part of a whole."""
        tenth = min(10 * done // max(total, 1), 10)
        if tenth > self._tenth:
            self._tenth = tenth
            self.step(what, f"{10 * tenth} %")


def _ask(names: Sequence[str], conf: Path, registry: str | None, tag: str | None) -> Asked:
    federation = load(conf).federation if conf != _CONF or conf.exists() else None
    meant = tuple(names) or needed(federation)
    if _ALL in meant:
        meant = tuple(dict.fromkeys((*NAMES, *needed(federation))))
    return Asked(
        meant,
        federation,
        registry or (federation.registry if federation else None),
        tag or (federation.tag if federation else None),
    )


def _show(asked: Asked, local: LocalImages) -> bool:
    """Print what is here of the images; whether it is all."""
    found = {name: local.find(name) for name in asked.full_names}
    width = max(map(len, found))
    for name, image in found.items():
        what = f"{image.size_bytes / _MIB:6.0f} MiB  {image.id[:19]}" if image else "is missing"
        click.echo(f"{name:{width}}  {what}")
    return all(found.values())


def _folder(variable: str) -> Path | None:
    given = os.environ.get(variable, "")
    return Path(given) if given and Path(given).is_dir() else None


def _file(variable: str) -> Path | None:
    given = os.environ.get(variable, "")
    return Path(given) if given and Path(given).is_file() else None
