"""``fedparty bundle``: what the receiver of a bundle does before starting it.

Owns its options and lines. The check is `fedparty.pki.manifest`'s.
"""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def bundle() -> None:
    """Check a bundle before it is started."""


@bundle.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--fingerprint", help="The federation's fingerprint as it was given out of band.")
def verify(folder: Path, fingerprint: str | None) -> None:
    """Check every file of a bundle, its signature and, if given, the federation's fingerprint.

    FOLDER is an unpacked bundle: tar -xzf confs-<id>.tar.gz
    """
    from fedparty.deploy.bundle import read_bundle
    from fedparty.pki import manifest

    manifest.verify(folder, fingerprint=fingerprint)
    found = read_bundle(folder)
    click.echo(f"{folder}: party {found.party} of {found.federation}: {len(found.files)} files as they were signed")
    advice = "" if fingerprint else ": compare it with the one given out of band"
    click.echo(f"fingerprint {found.fingerprint}{advice}")
