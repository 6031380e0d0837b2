"""Why a machine refuses a command, and what its people do about it.

Owns these errors: the same words for every transport. Finds out nothing itself.
"""

from __future__ import annotations

from pathlib import PurePath

from fedparty.errors import DeployError

PASSWORD_REQUIRED = "a password is required"
"""What sudo -n says where it would ask."""

_PACKAGES = {
    "docker": "docker.io or docker-ce", "tar": "tar", "flock": "util-linux", "sudo": "sudo", "find": "findutils",
}  # fmt: skip


def not_installed(program: str, place: str) -> DeployError:
    """Return the error that a program is not on the machine's PATH."""
    package = _PACKAGES.get(program)
    hint = f"Install it there, e.g. apt-get install {package}." if package else "Install it there, or correct its path."
    return DeployError(f"{place}: {program} is not installed", hint=hint)


def no_folder(folder: PurePath | None, place: str) -> DeployError:
    """Return the error that a command's working directory cannot be entered."""
    return DeployError(f"{place}: {folder} is not there, or cannot be entered", hint="Deploy the party first.")


def not_root(program: str, place: str, said: str) -> DeployError:
    """Return the error that the user may not run a program as root."""
    what = said.strip().splitlines()[-1] if said.strip() else "sudo refused it"
    remedy = "Add the user to the docker group (sudo usermod -aG docker USER, then log in anew), or allow"
    return DeployError(
        f"{place}: {program} needs root here, and the user may not become it: {what}",
        hint=f"{remedy if program == 'docker' else 'Allow'} sudo without a password (NOPASSWD in /etc/sudoers.d).",
    )


def not_in_time(command: object, place: str, timeout_s: float | None) -> DeployError:
    """Return the error that a command was killed because its time was over."""
    return DeployError(f"{place}: {command} did not end within {timeout_s:g} s")
