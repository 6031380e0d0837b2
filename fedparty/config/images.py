"""Names of the container images that the docker engine runs.

Owns which images there are and how registry and tag make a name. Does not build or look for any
(`fedparty.deploy.images`).
"""

from __future__ import annotations

from fedparty import __version__
from fedparty.config.model import Federation, Party

PROXY, PARTY, WORKER_TORCH, MYSQL = "proxy", "party", "worker-torch", "mysql"

NAMES = (PROXY, PARTY, WORKER_TORCH, MYSQL)
"""The images of a release; a later one may be built from an earlier one."""


def image_name(name: str, *, registry: str | None, tag: str | None) -> str:
    """Return the full name of an image.

    Parameters
    ----------
    name
        One of `NAMES`, or `site_image`.
    registry
        ``host``, ``host:port`` or ``host/folder``; None: images on the machine.
    tag
        None: this release.
    """
    path = f"fedparty/{name}:{tag or __version__}"
    return f"{registry}/{path}" if registry else path


def site_image(party: str) -> str:
    """Return the name of the image with a site's own requirements, for `image_name`."""
    return f"site-{party}"


def worker_image(federation: Federation, party: Party) -> str:
    """Return the full name of the image that a party's worker runs in."""
    if party.requirements is not None:
        return image_name(site_image(party.id), registry=federation.registry, tag=federation.tag)
    return worker_base(federation, party)


def worker_base(federation: Federation, party: Party) -> str:
    """Return the full name of what a party's requirements are added to."""
    if party.image is not None and party.image not in NAMES:
        return party.image
    return image_name(party.image or PARTY, registry=federation.registry, tag=federation.tag)
