"""Building images: the story.

Owns its steps and their order. Does not own what an image is made of (`recipes`), nor Docker (`local`).
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedparty import __version__
from fedparty.deploy.images import debian
from fedparty.deploy.images.context import context
from fedparty.deploy.images.local import LocalImages
from fedparty.deploy.images.recipes import Recipe
from fedparty.errors import DeployError

BASE = "debian:bookworm-slim"
_LABEL = "org.opencontainers.image"

Tell = Callable[[str, str], None]
"""Image, what is done to it."""


@dataclass(frozen=True, kw_only=True)
class Means:
    """What images are built with.

    Attributes
    ----------
    base
        Image of Debian that they begin with.
    is_offline
        Whether registries and the index of Python libraries are left alone.
    wheelhouse
        Folder of wheels; None: the index alone.
    pip_index
        URL of the index; None: the public one.
    mirror
        Of Debian; None: the base image's own.
    ca_bundle
        What build stages trust; in no image.
    is_cached
        Whether steps that were built before are kept.
    """

    base: str = BASE
    is_offline: bool = False
    wheelhouse: Path | None = None
    pip_index: str | None = None
    mirror: debian.Mirror | None = None
    ca_bundle: Path | None = None
    is_cached: bool = True


def build(recipes: Sequence[Recipe], means: Means, images: LocalImages, tell: Tell) -> None:
    """Build images, in this order.

    Raises
    ------
    DeployError
        Docker is not there, or a build failed.
    """
    _check(means)
    if any(recipe.parent is None for recipe in recipes):
        ensure_base(means, images, tell)
    for recipe in recipes:
        _require_parent(recipe, images)
        with context(
            recipe,
            wheelhouse=means.wheelhouse,
            ca_bundle=means.ca_bundle,
            sources=means.mirror.sources if means.mirror else "",
        ) as archive:
            images.build(
                recipe.name,
                archive,
                arguments=arguments(recipe, means),
                labels=labels(recipe, revision()),
                tell=lambda line, name=recipe.name: tell(name, line),  # type: ignore[misc]
                is_cached=means.is_cached,
            )


def ensure_base(means: Means, images: LocalImages, tell: Tell) -> None:
    """See that the base image is there: pulled, or made from a Debian mirror where no registry has it.

    Raises
    ------
    DeployError
        It is another than `BASE` and is not to be had, or it cannot be made.
    """
    if images.find(means.base) is not None:
        return
    why = "is not there, and no registry is asked"
    if not means.is_offline:
        tell(means.base, "pull")
        try:
            images.pull(means.base)
        except DeployError as exc:
            why = exc.message
        else:
            return
    if means.base != BASE:
        raise DeployError(f"{means.base}: {why}", hint="Load it into Docker, or leave out --base.")
    mirror = means.mirror or debian.machines_mirror()
    tell(means.base, f"make it from {mirror.main}: {why}")
    with tempfile.TemporaryDirectory(prefix="fedparty-base-") as folder:
        archive = debian.make_base(mirror, Path(folder))
        images.make_base(
            means.base, archive, ['CMD ["bash"]', f"LABEL {_LABEL}.title=debian {_LABEL}.version={debian.SUITE}"]
        )


def arguments(recipe: Recipe, means: Means) -> Mapping[str, str]:
    """Return the values of a Dockerfile's ``ARG`` lines."""
    first = {"PARTY": recipe.parent} if recipe.parent else {"BASE": means.base}
    return {**first, "PIP_INDEX": means.pip_index or "", "OFFLINE": "1" if means.is_offline else ""}


def labels(recipe: Recipe, revision: str | None) -> Mapping[str, str]:
    """Return the labels of an image, by the OCI image specification (annotations)."""
    told = {"title": recipe.title, "version": __version__, "licenses": "Apache-2.0", "revision": revision}
    return {f"{_LABEL}.{name}": value for name, value in told.items() if value}


def revision() -> str | None:
    """Return the commit that images are built from; None: it is not known."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def _check(means: Means) -> None:
    if means.is_offline and means.wheelhouse is None:
        raise DeployError(
            "without an index, images are built from a wheelhouse",
            hint="Fill one where there is an index: fedparty images wheelhouse FOLDER; give it with --wheelhouse.",
        )
    for path, flag in ((means.wheelhouse, "--wheelhouse"), (means.ca_bundle, "--ca-bundle")):
        if path is not None and not path.exists():
            raise DeployError(f"{path}: is not there", hint=f"Name another with {flag}.")


def _require_parent(recipe: Recipe, images: LocalImages) -> None:
    if recipe.parent is not None and images.find(recipe.parent) is None:
        raise DeployError(
            f"{recipe.name} adds to {recipe.parent}, which is not there",
            hint="Build or load that one first, e.g. fedparty images build party.",
        )
