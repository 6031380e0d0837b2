"""The images in this machine's Docker.

Owns every call to Docker's SDK, which is loaded at the first of them, and the translation of its errors. Does not know
what an image is made of (`recipes`).
"""

from __future__ import annotations

import json
import os
import re
import socket
import tarfile
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fedparty.errors import DeployError

if TYPE_CHECKING:
    from docker import DockerClient

Tell = Callable[[str], None]
OnProgress = Callable[[int, int], None]
"""Bytes done, bytes in all."""

_TIMEOUT_S = 1800
_SHOWN_LINES = 25
_SHOWN_CHARACTERS = 100
_CHUNK_BYTES = 1 << 20
_STEP = re.compile(r"Step (\d+/\d+) : (.*)")
_COMMAND = re.compile(r"The command .* returned a non-zero code: (\d+)", re.DOTALL)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_SOCKET = "unix:///var/run/docker.sock"
_START_DOCKER = "Start Docker (systemctl start docker), or set DOCKER_HOST to one that this user may use."
_MAKE_ROOM = (
    "Make room there. For Docker's: docker system df shows what takes it, docker image prune removes what is unused."
)


@dataclass(frozen=True)
class Image:
    """One image as Docker has it."""

    name: str
    id: str
    size_bytes: int
    labels: Mapping[str, str]


class LocalImages:
    """This machine's images; every method but `identities` raises `DeployError` where there is no Docker."""

    def identities(self, names: Sequence[str]) -> Mapping[str, str]:
        """Return the ids of those images that are there, by name; none where there is no Docker."""
        try:
            found = {name: self.find(name) for name in names}
        except NoDockerError:
            return {}
        return {name: image.id for name, image in found.items() if image is not None}

    def size(self, names: Sequence[str]) -> int:
        """Return how many bytes these images take, uncompressed; what they share is counted with each."""
        return sum(self._require(name).size_bytes for name in names)

    def find(self, name: str) -> Image | None:
        """Return an image; None: it is not there."""
        with _connected(f"the image {name} cannot be looked up") as client:
            from docker.errors import ImageNotFound

            try:
                found = client.api.inspect_image(name)  # type: ignore[no-untyped-call]
            except ImageNotFound:
                return None
        return Image(name, found["Id"], found["Size"], found["Config"].get("Labels") or {})

    def build(
        self,
        name: str,
        context: IO[bytes],
        *,
        arguments: Mapping[str, str],
        labels: Mapping[str, str],
        tell: Tell,
        is_cached: bool = True,
    ) -> None:
        """Build an image.

        Parameters
        ----------
        context
            Tar archive with the Dockerfile.
        arguments
            Values of its ``ARG`` lines.
        tell
            Gets one line for each step.

        Raises
        ------
        DeployError
            A step failed: with the end of its output.
        """
        with _connected(f"{name} cannot be built") as client:
            events = client.api.build(
                fileobj=context, custom_context=True, encoding=None, tag=name, decode=True, rm=True, forcerm=True,
                nocache=not is_cached, buildargs=dict(arguments), labels=dict(labels),
            )  # fmt: skip
            follow_build(name, events, tell)

    def pull(self, name: str) -> None:
        """Bring an image from its registry."""
        repository, _, tag = name.rpartition(":")
        with _connected(f"{name} cannot be pulled") as client:
            for event in client.api.pull(repository, tag=tag, stream=True, decode=True):
                _require_success(f"{name} cannot be pulled", event)

    def make_base(self, name: str, archive: Path, changes: Sequence[str]) -> None:
        """Make an image of one layer.

        Parameters
        ----------
        archive
            Tar archive of the whole file system.
        changes
            Dockerfile instructions for its configuration.
        """
        repository, _, tag = name.rpartition(":")
        with _connected(f"{name} cannot be imported") as client:
            client.api.import_image_from_file(str(archive), repository, tag, changes=list(changes))

    def save(self, names: Sequence[str], file: Path, on_progress: OnProgress | None = None) -> None:
        """Write an archive of these images for ``docker load``: private, and under its name only when it is whole."""
        total = self.size(names)
        with _connected(f"{', '.join(names)} cannot be saved to {file}") as client:
            api = client.api
            answer = api.get(
                f"{api.base_url}/v{api.api_version}/images/get", params={"names": list(names)}, stream=True,
                timeout=_TIMEOUT_S,
            )  # fmt: skip
            answer.raise_for_status()
            _write(answer.iter_content(_CHUNK_BYTES), file, total, on_progress)

    def load(self, file: Path, on_progress: OnProgress | None = None) -> Sequence[str]:
        """Read the images of an archive into Docker and return their names.

        Raises
        ------
        DeployError
            It is no archive of images, or a part of one.
        """
        names = names_in(file)
        with file.open("rb") as source, _connected(f"{file} cannot be loaded") as client:
            total = file.stat().st_size
            content = _counted(iter(lambda: source.read(_CHUNK_BYTES), b""), total, on_progress)
            for event in client.api.load_image(content):  # type: ignore[no-untyped-call]
                _require_success(f"{file} cannot be loaded", event)
        return names

    def tag(self, name: str, other: str) -> None:
        """Give an image another name too."""
        repository, _, tag = other.rpartition(":")
        with _connected(f"{name} cannot be named {other}") as client:
            client.api.tag(name, repository, tag, force=True)

    def push(self, name: str) -> None:
        """Bring an image to the registry that its name begins with."""
        repository, _, tag = name.rpartition(":")
        hint = f"Log in with docker login {name.partition('/')[0]}, and see that this machine reaches it."
        with _connected(f"{name} cannot be pushed") as client:
            for event in client.api.push(repository, tag=tag, stream=True, decode=True):
                _require_success(f"{name} cannot be pushed", event, hint)

    def _require(self, name: str) -> Image:
        found = self.find(name)
        if found is None:
            raise DeployError(f"there is no image {name} on this machine", hint="Make it: make images.")
        return found


class NoDockerError(DeployError):
    """This machine has no Docker, or none that this user may use."""


def names_in(file: Path) -> Sequence[str]:
    """Return the names of the images in an archive.

    Raises
    ------
    DeployError
        It is no archive of images, or a part of one.
    """
    try:
        with tarfile.open(file) as archive:
            manifest = archive.extractfile("manifest.json")
            images = json.load(manifest) if manifest else []
            return [name for image in images for name in image["RepoTags"] or ()]
    except (tarfile.TarError, KeyError, ValueError, TypeError, EOFError) as exc:
        raise DeployError(
            f"{file}: is not a whole archive of images", hint="Give one that fedparty images save wrote; copy it again."
        ) from exc


@contextmanager
def _connected(what: str) -> Iterator[DockerClient]:
    """Give a connection to Docker, and turn what its SDK raises into a `DeployError`: the one place that knows how.

    Parameters
    ----------
    what
        What cannot be done where it fails.
    """
    try:
        import docker
        import docker.errors
        import requests
        import urllib3
    except ModuleNotFoundError as exc:
        raise NoDockerError(f"{what}: Docker's SDK is not installed", hint="Run: pip install docker") from exc
    _require_socket(what, os.environ.get("DOCKER_HOST") or _SOCKET)
    try:
        with closing(docker.DockerClient.from_env(timeout=_TIMEOUT_S)) as client:
            client.ping()
            yield client
    except docker.errors.APIError as exc:
        raise _failure(what, str(exc.explanation or exc)) from exc
    except docker.errors.DockerException as exc:
        raise NoDockerError(f"{what}: no Docker answers on this machine", hint=_START_DOCKER) from exc
    except requests.exceptions.HTTPError as exc:
        raise _failure(what, exc.response.text.strip()) from exc
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as exc:
        raise DeployError(f"{what}: Docker stopped answering", hint=_START_DOCKER) from exc
    except OSError as exc:
        raise _failure(what, exc.strerror or str(exc)) from exc


def _require_socket(what: str, address: str) -> None:
    """See that Docker's socket answers; the SDK tells less of why it does not, and leaves its own open."""
    if not address.startswith("unix://"):
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(address.removeprefix("unix://"))
        except PermissionError as exc:
            hint = "Run this with sudo, or join the group docker: sudo usermod -aG docker $USER, then log in again."
            raise NoDockerError(f"{what}: this user may not use Docker", hint=hint) from exc
        except OSError as exc:
            raise NoDockerError(f"{what}: no Docker answers on this machine", hint=_START_DOCKER) from exc


def _failure(what: str, why: str, hint: str = "") -> DeployError:
    if "no space left" in why.lower():
        return DeployError(f"{what}: the disk is full", hint=_MAKE_ROOM)
    return DeployError(f"{what}: {why}", hint=hint)


def _require_success(what: str, event: Mapping[str, Any], hint: str = "") -> None:
    if "error" in event:
        raise _failure(what, str(event["error"]).strip(), hint)


def follow_build(name: str, events: Iterable[Mapping[str, Any]], tell: Tell) -> None:
    """Tell each step; where one fails, raise it with the end of its output."""
    output: deque[str] = deque(maxlen=_SHOWN_LINES)
    step = ""
    for event in events:
        if "error" in event:
            what = f"{name} cannot be built" + (f", step {step[:_SHOWN_CHARACTERS]}" if step else "")
            raise _failure(what, "\n".join([_COMMAND.sub(r"ended with \1", str(event["error"]).strip()), *output]))
        for line in _COLOURS.sub("", str(event.get("stream", ""))).splitlines():
            if found := _STEP.match(line):
                step = f"{found[1]}: {found[2]}"
                tell(step)
                output.clear()
            elif line.strip() and not line.startswith((" --->", "Removing intermediate")):
                output.append(line)


def _counted(chunks: Iterable[bytes], total: int, on_progress: OnProgress | None) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        if on_progress:
            on_progress(done, total)


def _write(chunks: Iterable[bytes], file: Path, total: int, on_progress: OnProgress | None) -> None:
    """Write a private file, under its name only at the end."""
    descriptor, partial = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # 0600
    try:
        with os.fdopen(descriptor, "wb") as target:
            for chunk in _counted(chunks, total, on_progress):
                target.write(chunk)
            target.flush()
            os.fsync(descriptor)
        Path(partial).rename(file)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
