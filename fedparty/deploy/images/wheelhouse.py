"""A folder of wheels from which images are built without an index.

Owns what is fetched for it and for which platform. Does not own what needs it (`recipes`).
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fedparty.deploy.images.recipes import Recipe
from fedparty.errors import DeployError

_PYTHON = "3.11"
_GLIBC = (2, 36)
"""Both of Debian bookworm."""

_SHOWN_LINES = 15


def fill(folder: Path, recipe: Recipe, *, index: str | None, machine: str | None = None) -> None:
    """Fetch the wheels that an image is built from.

    Parameters
    ----------
    folder
        Is made if it is not there; wheels that it has stay.
    index
        URL of the index; None: pip's own.
    machine
        Processor of the image, as `platform.machine` names it; None: this one's.

    Raises
    ------
    DeployError
        One cannot be fetched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("\n".join(recipe.requirements))
        requirements.flush()
        done = subprocess.run(
            command(Path(requirements.name), folder, index=index, machine=machine or platform.machine()),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    if done.returncode:
        said = done.stdout.decode(errors="replace").splitlines()[-_SHOWN_LINES:]
        raise DeployError(
            "\n".join([f"the wheels of {recipe.name} cannot be fetched", *said]),
            hint="See that the index answers, and name another with --pip-index.",
        )


def command(requirements: Path, folder: Path, *, index: str | None, machine: str) -> Sequence[str]:
    """Return the command that fetches what a file asks for into a folder."""
    platforms = [f"manylinux_{_GLIBC[0]}_{minor}_{machine}" for minor in range(_GLIBC[1], 4, -1)]
    platforms += [f"manylinux{old}_{machine}" for old in ("2014", "2010", "1")]
    target = [word for name in platforms for word in ("--platform", name)]
    return (
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:",
        "--python-version", _PYTHON, "--implementation", "cp", *target, "--find-links", str(folder),
        *(["--index-url", index] if index else []), "--dest", str(folder), "--requirement", str(requirements),
    )  # fmt: skip
