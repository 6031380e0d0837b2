"""Which Docker command, and what its answer means: pure functions over argv and JSON.

Owns the command lines of the docker engine and the reading of ``docker inspect``. Runs nothing; see
`fedparty.deploy.engine.docker`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fedparty.deploy.home import Owner

COMPOSE_FILE = "docker-compose.yml"
PEERS_NETWORK = "fedparty-peers"
"""The network that the proxies of parties with a loopback address share; belongs to no party."""

PROJECT_LABEL = "com.docker.compose.project"
FOLDER_LABEL = "com.docker.compose.project.working_dir"
_DEFINITION_LABEL = "com.docker.compose.config-hash"

ENGINE_FACTS = ("docker", "info", "--format", "{{json .}}")
COMPOSE_VERSION = ("docker", "compose", "version", "--short")


@dataclass(frozen=True)
class Container:
    """What the engine knows of a container.

    Attributes
    ----------
    image_id
        Of the image that it was made from.
    status
        Docker's word: ``running``, ``restarting``, ``exited``, ``created``, ``paused``, ``dead``.
    started
        Epoch second; 0: never.
    folder
        The folder of the Compose project that it belongs to.
    definition
        Compose's digest of what it was made from.
    published
        TCP ports of the machine that lead to it.
    """

    name: str
    identity: str
    image_id: str
    status: str
    exit_code: int
    restarts: int
    pid: int
    started: int
    is_out_of_memory: bool
    folder: str
    definition: str
    published: frozenset[int]

    @property
    def is_running(self) -> bool:
        """Whether a command can be run in it."""
        return self.status == "running"

    def describe_end(self) -> str:
        """Return why it does not run, for people."""
        if self.is_out_of_memory:
            return "it was killed: out of memory"
        if self.status == "paused":
            return "it is paused: docker unpause starts it again"
        if self.status == "created":
            return "it was never started"
        again = f", started again {self.restarts} times" if self.restarts else ""
        return f"its process ended with {self.exit_code}{again}"


def compose(bundle: Path, owner: Owner, *words: str) -> tuple[str, ...]:
    """Return a Compose command line for the bundle in this folder of the target."""
    return (
        *("env", f"FEDPARTY_UID={owner.uid}", f"FEDPARTY_GID={owner.gid}"),
        *("docker", "compose", "--progress", "quiet"),
        *("--project-directory", str(bundle), "--file", str(bundle / COMPOSE_FILE), *words),
    )


def up(bundle: Path, owner: Owner, *services: str, is_anew: bool = False) -> tuple[str, ...]:
    """Create and start what does not run as the file says; what does stays untouched, unless all is made `is_anew`."""
    everything = () if services else ("--remove-orphans",)
    anew = ("--force-recreate",) if is_anew else ()
    return compose(bundle, owner, "up", "--detach", "--no-build", *everything, *anew, *services)


def definitions(bundle: Path, owner: Owner) -> tuple[str, ...]:
    """Tell Compose's digest of each service's definition: by it, Compose decides what to create anew."""
    return compose(bundle, owner, "config", "--hash", "*")


def run_once(bundle: Path, owner: Owner, service: str, argv: Sequence[str]) -> tuple[str, ...]:
    """Run a program in a container of its own, with all that a service has, then remove it."""
    return compose(bundle, owner, "run", "--rm", "--no-deps", "--no-TTY", service, *argv)


def execute(container: str, argv: Sequence[str]) -> tuple[str, ...]:
    """Run a program in a running container."""
    return ("docker", "exec", container, *argv)


def healthy(container: str, *, timeout_s: float | None = None) -> tuple[str, ...]:
    """Ask a service for its state, with `timeout_s` until it is healthy; one JSON line a change."""
    wait = () if timeout_s is None else ("--wait", f"{timeout_s:g}")
    return execute(container, ("healthy", *wait))


def inspect(containers: Iterable[str]) -> tuple[str, ...]:
    """Tell all about these containers; ends with 1 if one of them is missing, and tells of the others."""
    return ("docker", "inspect", "--type", "container", *containers)


def logs(container: str, lines: int, *, follow: bool) -> tuple[str, ...]:
    """Show the end of a container's log, both streams in their order."""
    followed = ("--follow",) if follow else ()
    return ("sh", "-c", 'exec docker logs "$@" 2>&1', "sh", "--tail", str(lines), *followed, container)


def identities(images: Iterable[str]) -> tuple[str, ...]:
    """Tell the names and ids of these images; ends with 1 if one of them is missing, and tells of the others."""
    return ("docker", "image", "inspect", "--format", "{{json .RepoTags}} {{.Id}}", *images)


def networks(name: str) -> tuple[str, ...]:
    """Return the command that prints the ids of the networks of a name, of which Docker may have several."""
    return ("docker", "network", "ls", "--quiet", "--no-trunc", "--filter", f"name=^{name}$")


def belongings(kind: str, project: str) -> tuple[str, ...]:
    """Tell the names of a project's ``container``s, ``network``s or ``volume``s, whatever became of its file."""
    quiet = ("--all", "--quiet") if kind == "container" else ("--quiet",)
    return ("docker", kind, "ls", *quiet, "--filter", f"label={PROJECT_LABEL}={project}")


def parse_containers(output: str) -> dict[str, Container]:
    """Read the answer to `inspect`, by name."""
    return {each.name: each for each in map(_container, json.loads(output or "[]"))}


def parse_identities(output: str) -> dict[str, str]:
    """Read the answer to `identities`: image id by image name; one without a name goes by its id."""
    found: dict[str, str] = {}
    for line in filter(None, output.splitlines()):  # an image that is missing makes an empty one
        names, _, identity = line.rpartition(" ")
        found.update(dict.fromkeys(json.loads(names) or [identity], identity))
    return found


def parse_definitions(output: str) -> dict[str, str]:
    """Read the answer to `definitions`, by service."""
    return {words[0]: words[1] for words in map(str.split, output.splitlines()) if len(words) == 2}


def _container(record: dict[str, Any]) -> Container:
    state, labels = record["State"], record["Config"]["Labels"] or {}
    ports = record["HostConfig"]["PortBindings"] or {}
    return Container(
        name=record["Name"].lstrip("/"),
        identity=record["Id"],
        image_id=record["Image"],
        status=state["Status"],
        exit_code=state["ExitCode"],
        restarts=record["RestartCount"],
        pid=state["Pid"],
        started=_epoch(state["StartedAt"]),
        is_out_of_memory=bool(state.get("OOMKilled")),
        folder=labels.get(FOLDER_LABEL, ""),
        definition=labels.get(_DEFINITION_LABEL, ""),
        published=frozenset(
            int(each["HostPort"]) for bound in ports.values() for each in bound or () if each["HostPort"]
        ),
    )


def _epoch(text: str) -> int:
    """Return Docker's time, nanoseconds and all, as an epoch second; its zero time is 0."""
    seconds = datetime.fromisoformat(f"{text[:19]}+00:00").timestamp()
    return max(0, int(seconds))
