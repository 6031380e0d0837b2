"""Debian where no registry has it: the base image made from a mirror.

Owns the choice of the mirror and the making of the base image's archive. Does not own the base's name nor when it is
made (`builder`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedparty.errors import DeployError

SUITE = "bookworm"
_PUBLIC = "http://deb.debian.org/debian"
_SLIM = Path(__file__).resolve().parents[3] / "images" / "shared" / "slim.sh"
_SHOWN_LINES = 15


@dataclass(frozen=True)
class Mirror:
    """A mirror of Debian, and of its security updates."""

    main: str
    security: str

    @classmethod
    def at(cls, url: str) -> Mirror:
        """Return the mirror at a URL; as with Debian's own, security updates lie beside it."""
        url = url.rstrip("/")
        return cls(url, f"{url}-security")

    @property
    def sources(self) -> str:
        """The text of apt's ``sources.list``."""
        suites = ((self.main, SUITE), (self.main, f"{SUITE}-updates"), (self.security, f"{SUITE}-security"))
        return "".join(f"deb {url} {suite} main\n" for url, suite in suites)


def machines_mirror(apt: Path = Path("/etc/apt")) -> Mirror:
    """Return the mirror that this machine gets its own Debian packages from; where it is no Debian, the public one."""
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files if path.is_file()]
    return mirror_in(texts)


def mirror_in(texts: Iterable[str]) -> Mirror:
    """Return the mirror that apt's sources name, in either of their forms."""
    found: dict[str, str] = {}
    for url, suite in (entry for text in texts for entry in _entries(text)):
        found.setdefault(suite, url.rstrip("/"))
    main = found.get(SUITE, _PUBLIC)
    return Mirror(main, found.get(f"{SUITE}-security", Mirror.at(main).security))


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """Yield ``(URL, suite)`` of binary packages in ``main``."""
    for line in text.splitlines():
        if match := re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(?:.*\s)?main(?:\s|$)", line):
            yield match[1], match[2]
    for paragraph in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", paragraph, re.MULTILINE))
        if "deb" in fields.get("Types", "").split() and "main" in fields.get("Components", "").split():
            for url in fields.get("URIs", "").split()[:1]:
                yield from ((url, suite) for suite in fields.get("Suites", "").split())


def make_base(mirror: Mirror, folder: Path) -> Path:
    """Make the base image's archive with debootstrap.

    Parameters
    ----------
    folder
        Empty; takes the file system and its archive.

    Raises
    ------
    DeployError
        This user may not, debootstrap is not installed, or the mirror does not answer.
    """
    _require_means()
    system, archive = folder / "system", folder / "base.tar"
    _run(["debootstrap", "--variant=minbase", "--force-check-gpg", SUITE, str(system), mirror.main])
    shutil.copy(_SLIM, system / "slim.sh")
    _run(["chroot", str(system), "sh", "/slim.sh"])
    (system / "slim.sh").unlink()
    (system / "etc/apt/sources.list").write_text(mirror.sources, encoding="utf-8")
    _run(
        [
            "tar",
            "--create",
            "--numeric-owner",
            "--one-file-system",
            "--directory",
            str(system),
            "--file",
            str(archive),
            ".",
        ]
    )
    return archive


def _require_means() -> None:
    if shutil.which("debootstrap", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
        raise DeployError(
            "the base image is made with debootstrap, which is not installed",
            hint="Run: apt-get install debootstrap; or give another base image with --base.",
        )
    if os.geteuid() != 0:
        raise DeployError(
            "the base image is made with debootstrap, which takes root",
            hint="Run this with sudo, or give another base image with --base.",
        )


def _run(argv: Sequence[str]) -> None:
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = done.stdout.decode(errors="replace").splitlines()[-_SHOWN_LINES:]
        raise DeployError(
            "\n".join([f"the base image cannot be made: {argv[0]} failed", *said]),
            hint="See that the mirror answers, and name another with --debian-mirror.",
        )
